from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from index_support import answers, build, create, edit, put

from placerec.errors import DamagedIndex, ModelMismatch, NoRoom, NotAnIndex, NotFound, PlacerecError
from placerec.index import IndexReader, IndexWriter, verify
from placerec.index.presets import PRESETS
from placerec.recognise import PlaceRecognizer
from placerec.trunks import TRUNKS, open_trunk

COMMANDS = [IndexReader.open, IndexWriter.open, verify]


def jpeg(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40)


def other_database(path: Path) -> None:
    edit(path, "CREATE TABLE photos (name TEXT)", "INSERT INTO photos VALUES ('a')")


def other_wal_database(path: Path) -> None:
    edit(path, "PRAGMA journal_mode=WAL", "CREATE TABLE photos (name TEXT)")


STRANGERS = {
    "an empty file": Path.touch,
    "one byte": lambda path: path.write_bytes(b"S"),
    "only a magic": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "a JPEG": jpeg,
    "zeros": lambda path: path.write_bytes(bytes(9000)),
    "another database": other_database,
    "another database with a WAL": other_wal_database,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", STRANGERS)
def test_a_file_that_is_no_index_is_refused_and_left_alone(tmp_path: Path, kind, command) -> None:
    path = tmp_path / "stranger"
    STRANGERS[kind](path)
    before, files = path.read_bytes(), sorted(tmp_path.iterdir())
    with pytest.raises(NotAnIndex) as error:
        command(path)
    assert error.value.exit_code == 3
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize("command", COMMANDS)
def test_folders_pipes_and_dangling_links_are_refused_at_once(tmp_path: Path, command) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name, error in (("folder", NotAnIndex), ("pipe", NotAnIndex), ("link", NotFound)):
        with pytest.raises(error):
            command(tmp_path / name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "link", "pipe"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["town.plr", "no/such/town.plr", "a\0b", "x" * 300])
def test_a_mistyped_path_creates_nothing(tmp_path: Path, command, name: str) -> None:
    with pytest.raises(NotFound):
        command(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["a b", "a?mode=rwc", "a#b", "a%41b", "a\nb", "it's", 'quo"te', "\u5730\u56f3 \u00e9",
     "x" * 200, os.fsdecode(b"caf\xe9"), "-rf", "a;b&c=d"],
)  # fmt: skip
def test_any_path_gives_the_same_answers_as_a_plain_one(tmp_path: Path, name: str) -> None:
    plain = answers(build(tmp_path / "plain.plr"))
    odd = tmp_path / name
    odd.mkdir()
    path = build(odd / name)
    with IndexWriter.open(path) as writer:
        put(writer, 3)
    assert answers(path) == plain
    assert [file.name for file in odd.iterdir()] == [name]


def test_a_relative_path_is_meant_from_here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(Path("town.plr"))
    with IndexReader.open("town.plr") as reader:
        assert reader.info.root == tmp_path.resolve() / "photos"


@pytest.mark.parametrize("version", [0, 1, 4, 5, 6, 15, 99])
def test_another_format_is_refused_with_both_versions_and_a_remedy(tmp_path, version: int) -> None:
    path = build(tmp_path / "a.plr")
    edit(path, f"PRAGMA user_version={version}")
    for command in (IndexReader.open, IndexWriter.open):
        with pytest.raises(
            ModelMismatch, match=rf"format {version}.*format 7 to 14; (update|delete it and build)"
        ):
            command(path)
    assert "format" in verify(path)[0]
    build(path, range(2), replace=True)
    assert verify(path) == []


@pytest.mark.parametrize("model", ["auto", "efficientnet-lite0"])
def test_an_index_of_another_version_says_so_and_what_to_do(
    quick_index, monkeypatch, model
) -> None:
    newer = open_trunk("efficientnet-lite0")
    old, newer.sha256 = newer.sha256, "0" * 64
    monkeypatch.setitem(TRUNKS, newer.name, lambda _: newer)
    with pytest.raises(ModelMismatch) as refused:
        PlaceRecognizer.open(quick_index, model=model)
    assert str(refused.value) == (
        f"{quick_index}: made by another version of placerec, with the trunk efficientnet-lite0 "
        f"{old[:12]}, but asked for efficientnet-lite0 000000000000, the trunk of this version; "
        f"delete it and build it again from the photos: placerec index build INDEX FOLDER"
    )


@pytest.mark.parametrize(
    ("preset", "claimed"),
    [("int8", 8), ("exact", 7), ("int8", 11), ("default", 13), ("compact", 11)],
)
def test_descriptors_that_are_not_stored_as_the_format_says_are_damage(
    tmp_path, preset: str, claimed: int
) -> None:
    path = build(tmp_path / "a.plr", storage=PRESETS[preset])
    edit(path, f"PRAGMA user_version={claimed}")
    with IndexReader.open(path) as reader:
        for ask in (reader.global_descriptors, lambda: reader.patches(0)):
            with pytest.raises(DamagedIndex, match=r"instead of (VECTOR|PATCHES)"):
                ask()
    assert any("instead of VECTOR" in finding for finding in verify(path))
    with pytest.raises(PlacerecError), IndexWriter.open(path) as writer:
        put(writer, 9)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW spy AS SELECT * FROM photos",
        "CREATE TRIGGER spy AFTER INSERT ON photos BEGIN DELETE FROM patches; END",
        "CREATE TABLE spy (a)",
        "CREATE INDEX spy ON photos (sha256)",
        "ALTER TABLE photos ADD COLUMN spy TEXT",
        "ALTER TABLE photos ADD COLUMN spy TEXT GENERATED ALWAYS AS (upper(display)) VIRTUAL",
        "DROP TABLE patches",
        'CREATE TABLE "<img src=x onerror=alert(1)>" (a)',
    ],
)
def test_a_foreign_schema_is_refused_before_a_row_is_read(tmp_path: Path, statement: str) -> None:
    path = build(tmp_path / "a.plr")
    edit(path, statement)
    before = path.read_bytes()
    for command in (IndexReader.open, IndexWriter.open):
        with pytest.raises(DamagedIndex, match="tables"):
            command(path)
    assert "tables" in verify(path)[0]
    assert path.read_bytes() == before


def test_the_tables_take_no_value_of_another_type(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr")
    connection = sqlite3.connect(path)
    try:
        for statement in (
            "UPDATE photos SET latitude = 'north'",
            "UPDATE photos SET sha256 = x'00'",
            "UPDATE photos SET name = 'text'",
            "UPDATE photos SET patch_sets = 1.5",
            "UPDATE photos SET sha256 = NULL",
            "INSERT INTO weights VALUES (2, x'00')",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)
    finally:
        connection.close()


EDITS = {
    "fingerprint": "UPDATE collection SET fingerprint = 'cd34'",
    "settings": "UPDATE collection SET settings = '{}'",
    "root": "UPDATE collection SET root = x'2f'",
    "count": "UPDATE collection SET photos = 5",
    "digest": "UPDATE collection SET digest = x'00'",
    "no collection": "DELETE FROM collection",
    "name": "UPDATE photos SET name = x'61' WHERE id = 2",
    "sha256": "UPDATE photos SET sha256 = '00' WHERE id = 2",
    "position": "UPDATE photos SET latitude = latitude + 1e-9 WHERE id = 2",
    "photo gone": "DELETE FROM photos WHERE id = 2",
    "photo number": "UPDATE photos SET id = 70 WHERE id = 2",
    "weights number": "PRAGMA ignore_check_constraints=ON; UPDATE weights SET id = 3",
    "weights gone": "DELETE FROM weights",
    "patches gone": "DELETE FROM patches WHERE id = 4",
    "patches swapped": "UPDATE patches SET ordinal = CASE ordinal WHEN 0 THEN 8 ELSE 9 END",
    "patches of another": "UPDATE patches SET descriptors = "
    "(SELECT descriptors FROM patches WHERE id = 1) WHERE id = 3",
    "descriptor of another": "UPDATE photos SET descriptor = "
    "(SELECT descriptor FROM photos WHERE id = 1) WHERE id = 3",
    "extra patches": "INSERT INTO patches VALUES (99, 99, 0, x'00')",
    "all photos gone": "DELETE FROM photos",
}


@pytest.mark.parametrize("what", EDITS)
def test_a_row_edited_by_hand_is_found_and_never_answered(tmp_path: Path, what: str) -> None:
    path = build(tmp_path / "a.plr")
    before = answers(path)
    edit(path, *EDITS[what].split("; "))
    assert verify(path)
    if what == "extra patches":  # belongs to no photo, so it changes no answer
        assert answers(path) == before
    else:
        with pytest.raises(DamagedIndex):
            answers(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else for a while")
def test_a_read_only_file_in_a_read_only_folder_is_read_by_anyone() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        path = build(folder / "a.plr")
        wanted = answers(path)
        path.chmod(0o444)
        folder.chmod(0o555)
        os.seteuid(65534)
        try:
            assert (answers(path), verify(path)) == (wanted, [])
            with pytest.raises(NoRoom):
                IndexWriter.open(path)
            with pytest.raises(NoRoom):
                create(folder / "b.plr")
        finally:
            os.seteuid(0)
        assert [file.name for file in folder.iterdir()] == ["a.plr"]


def test_every_refusal_is_one_of_ours(tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / str(number)
        path.write_bytes(b"SQLite format 3\0" + os.urandom(4080))
        with pytest.raises(PlacerecError):
            IndexReader.open(path)
