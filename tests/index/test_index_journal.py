"""A journal that a killed program left beside an index: undone, removed, or named."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

import pytest
from index_support import answers, build, go, interrupt, journal_of, kill, put, start

from placerec.errors import NoRoom
from placerec.index import IndexReader, IndexWriter, verify


def begun(path: Path) -> None:
    """Leave the journal of a writer that was killed before it changed the file (a zero header)."""
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE photos SET sha256 = 'never written'")
        content = journal_of(path).read_bytes()
    finally:
        writer.close()
    assert content[:8] == bytes(8)
    journal_of(path).write_bytes(content)


def empty(path: Path) -> None:
    journal_of(path).touch()


def cut_in_the_header(path: Path) -> None:
    begun(path)
    os.truncate(journal_of(path), 100)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def open_for_writing(path: Path) -> None:
    IndexWriter.open(path).close()


def open_for_reading(path: Path) -> None:
    IndexReader.open(path).close()


@pytest.mark.parametrize("command", [verify, open_for_writing, open_for_reading])
@pytest.mark.parametrize("leave", [begun, empty, cut_in_the_header])
def test_a_journal_that_is_not_needed_is_removed_by_whoever_comes_next(
    tmp_path: Path, leave, command
) -> None:
    path = build(tmp_path / "a.plr")
    before = path.read_bytes()
    leave(path)
    command(path)
    assert names(tmp_path) == ["a.plr"]
    assert path.read_bytes() == before


def test_after_a_kill_at_any_moment_verify_leaves_exactly_one_file(tmp_path: Path) -> None:
    path, chance = build(tmp_path / "a.plr", range(2)), random.Random(11)
    for _ in range(4):
        child = start(path, "add")
        go(child)
        time.sleep(chance.uniform(0.0, 0.03))
        kill(child)
        assert verify(path) == []
        assert names(tmp_path) == ["a.plr"]


def test_a_link_to_an_index_leaves_no_journal_either(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "b.plr"
    link.symlink_to(path)
    begun(path)
    assert verify(link) == []
    assert names(tmp_path) == ["a.plr", "links"]


def test_the_journal_of_a_writer_at_work_is_never_touched(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(2))
    with IndexWriter.open(path) as writer:
        put(writer, 2)
        before = journal_of(path).read_bytes()
        assert verify(path) == []
        open_for_reading(path)
        assert journal_of(path).read_bytes() == before
        put(writer, 3)
    assert len(answers(path)[0]) == 4
    assert names(tmp_path) == ["a.plr"]


def test_the_journal_of_another_program_at_work_is_never_touched(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(2))
    child = start(path, "add")
    go(child, batches=1)
    for _ in range(5):
        open_for_reading(path)
        assert verify(path) == []
    acknowledged = kill(child)
    stored = {int(entry.sha256, 16) for entry in answers(path)[0]}
    assert set(range(100, max([102, *acknowledged]) + 1)) <= stored


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else for a while")
@pytest.mark.parametrize("leave", [begun, empty])
def test_in_a_read_only_folder_a_journal_is_named(leave) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        path = build(folder / "a.plr")
        wanted = answers(path)
        leave(path)
        folder.chmod(0o555)
        os.seteuid(65534)
        try:
            assert (answers(path), verify(path)) == (wanted, [])
            with IndexReader.open(path) as reader:
                assert reader.info.leftovers == ("a.plr-journal",)
        finally:
            os.seteuid(0)
        assert names(folder) == ["a.plr", "a.plr-journal"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else for a while")
def test_in_a_read_only_folder_an_interrupted_update_asks_for_both_files() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = build(folder / "a.plr", range(40))
        cut = folder / "b.plr"
        interrupt(path, cut)
        folder.chmod(0o555)
        os.seteuid(65534)
        try:
            with pytest.raises(NoRoom, match=r"b\.plr-journal.*copy both files"):
                verify(cut)
        finally:
            os.seteuid(0)
        folder.chmod(0o755)
        (folder / "copy").mkdir()
        for file in (cut, journal_of(cut)):
            shutil.copy(file, folder / "copy")
        assert answers(folder / "copy" / "b.plr") == answers(path)
        assert names(folder / "copy") == ["b.plr"]


def test_the_partial_file_of_a_killed_build_is_named(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr")
    with IndexReader.open(path) as reader:
        assert reader.info.leftovers == ()
    kill(start(path, "create"))
    with IndexReader.open(path) as reader:
        assert reader.info.leftovers == ("a.plr.partial",)
