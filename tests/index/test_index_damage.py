from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from index_support import answers, build, rows

from placerec.errors import Damaged, DamagedIndex, NotAnIndex
from placerec.index import IndexWriter, verify
from placerec.index.presets import PRESETS

FLIPS = 200
SMALL = 1000  # bytes at the beginning: header and schema, flipped more often than by chance


@pytest.fixture(scope="module", params=PRESETS)
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(
        tmp_path_factory.mktemp("sound") / "a.plr", range(12), storage=PRESETS[request.param]
    )


def findings(path: Path) -> list[str]:
    try:
        return verify(path)
    except NotAnIndex as error:
        return [str(error)]


def read(path: Path) -> object:
    """What the index answers, or None when it refuses to."""
    try:
        return answers(path)
    except (Damaged, NotAnIndex):
        return None


def stored(path: Path) -> object:
    """All rows as SQLite gives them, or None when it gives none."""
    try:
        return rows(path)
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def test_every_flipped_bit_that_changes_a_row_is_found_and_none_changes_an_answer(
    sound: Path, tmp_path: Path
) -> None:
    content, chance = sound.read_bytes(), random.Random(11)
    good_rows, good_answers = rows(sound), answers(sound)
    path, changed = tmp_path / "a.plr", 0
    for number in range(FLIPS):
        place = chance.randrange(8 * (SMALL if number % 5 == 0 else len(content)))
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert read(path) in (None, good_answers), f"bit {place} changed an answer"
        now = stored(path)
        if now != good_rows:
            changed += 1
            assert findings(path), f"bit {place} was not found"
    assert changed > FLIPS / 8  # the test has tested something


def test_a_writer_does_not_change_a_photo_whose_row_is_damaged(sound: Path, tmp_path: Path) -> None:
    content, path = sound.read_bytes(), tmp_path / "a.plr"
    path.write_bytes(content.replace(b"0" * 63 + b"5", b"0" * 63 + b"4"))
    with pytest.raises(DamagedIndex), IndexWriter.open(path) as writer:
        writer.remove("street/005.jpg")


def test_table_definitions_that_are_no_text_are_refused(sound: Path, tmp_path: Path) -> None:
    content, path = sound.read_bytes(), tmp_path / "a.plr"
    for word in (b"CREATE TABLE photos", b"descriptor BLOB", b"STRICT", b"sqlite_autoindex"):
        path.write_bytes(content.replace(word, bytes([word[0] | 0x80]) + word[1:], 1))
        assert read(path) is None
        assert findings(path)


def test_a_file_of_any_other_length_is_refused(sound: Path, tmp_path: Path) -> None:
    content, chance = sound.read_bytes(), random.Random(12)
    whole, page = len(content), 4096
    lengths = {0, 1, 15, 16, 99, 100, 511, 512, page - 1, page, page + 1, whole - page, whole - 1}
    lengths |= {round(whole * 0.999), whole // 2, whole + 1, whole + page, 2 * whole}
    lengths |= {chance.randrange(whole) for _ in range(60)}
    path = tmp_path / "a.plr"
    for length in sorted(lengths):
        path.write_bytes(content[:length].ljust(length, b"\0"))
        before = path.read_bytes()
        assert read(path) is None, f"{length} of {whole} bytes were read"
        assert findings(path), f"{length} of {whole} bytes were not found"
        assert path.read_bytes() == before


@pytest.mark.parametrize("filling", ["zeros", "noise", "another page"])
def test_an_overwritten_page_is_found_and_never_answered(
    sound: Path, tmp_path: Path, filling: str
) -> None:
    content, chance = sound.read_bytes(), random.Random(13)
    good_rows, good_answers = rows(sound), answers(sound)
    pages = [content[at : at + 4096] for at in range(0, len(content), 4096)]
    path = tmp_path / "a.plr"
    for number in range(len(pages)):
        other = {
            "zeros": bytes(4096),
            "noise": chance.randbytes(4096),
            "another page": pages[(number + 1 + chance.randrange(len(pages) - 1)) % len(pages)],
        }[filling]
        path.write_bytes(b"".join([*pages[:number], other, *pages[number + 1 :]]))
        assert read(path) in (None, good_answers), f"page {number} changed an answer"
        if stored(path) != good_rows:
            assert findings(path), f"page {number} was not found"
