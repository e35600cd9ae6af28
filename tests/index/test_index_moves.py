"""What a photo's row states besides its position, other names of photos, and another folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from index_support import answers, build, create, edit, features, put

from placerec.errors import DamagedIndex
from placerec.index import IndexReader, IndexWriter, verify
from placerec.index.presets import PRESETS


def test_the_facts_of_a_photo_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.plr"
    with create(path) as writer:
        writer.put("a", "0a", None, features(1), gps_damaged=True)
        writer.put("b", "0b", None, features(2), blank=True)
        writer.put("c", "0c", None, features(3))
    with IndexReader.open(path) as reader:
        facts = [(entry.gps_damaged, entry.blank) for entry in reader.entries]
    assert facts == [(True, False), (False, True), (False, False)]
    assert verify(path) == []


@pytest.mark.parametrize("fact", ["gps_damaged", "blank"])
def test_a_fact_that_was_edited_is_damage(tmp_path: Path, fact: str) -> None:
    path = build(tmp_path / "a.plr")
    edit(path, f"UPDATE photos SET {fact} = 1 WHERE id = 2")
    assert "001.jpg" in verify(path)[0]
    with pytest.raises(DamagedIndex):
        IndexReader.open(path)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_renamed_photo_keeps_its_descriptors(tmp_path: Path, preset: str) -> None:
    path = build(tmp_path / "a.plr", range(3), storage=PRESETS[preset])
    before = answers(path)
    with IndexWriter.open(path) as writer:
        assert writer.rename("street/001.jpg", "z/caf\udce9.jpg") is True
        assert writer.rename("street/001.jpg", "y.jpg") is False
    after = answers(path)
    assert [entry.name for entry in after[0]] == [
        "street/000.jpg", "street/002.jpg", "z/caf\udce9.jpg",
    ]  # fmt: skip
    assert (after[0][2].sha256, after[0][2].position) == (
        before[0][1].sha256,
        before[0][1].position,
    )
    assert after[2] == [*before[2][:2], *before[2][4:], *before[2][2:4]]  # two sizes per photo
    assert verify(path) == []


def test_a_rename_replaces_the_photo_of_that_name(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(3))
    with IndexWriter.open(path) as writer:
        assert writer.rename("street/001.jpg", "street/002.jpg") is True
        assert writer.rename("street/000.jpg", "street/000.jpg") is True
    with IndexReader.open(path) as reader:
        entries = [(entry.name, int(entry.sha256, 16)) for entry in reader.entries]
    assert entries == [("street/000.jpg", 0), ("street/002.jpg", 1)]
    assert verify(path) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE patches SET descriptors = zeroblob(400) WHERE photo = 2",
        "UPDATE patches SET ordinal = -1 WHERE photo = 2 AND ordinal = 0",
        "DELETE FROM patches WHERE photo = 2",
        "UPDATE photos SET descriptor = x'00' WHERE id = 2",
        "UPDATE photos SET blank = 1 WHERE id = 2",
    ],
)
def test_a_damaged_photo_is_not_renamed(tmp_path: Path, statement: str) -> None:
    path = build(tmp_path / "a.plr", range(3))
    edit(path, statement)
    before = path.read_bytes()
    with pytest.raises(DamagedIndex), IndexWriter.open(path) as writer:
        writer.rename("street/001.jpg", "y.jpg")
    assert path.read_bytes() == before


def test_an_index_can_be_pointed_to_another_folder(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(3))
    before = answers(path)
    with IndexWriter.open(path) as writer:
        writer.move_root(tmp_path / "elsewhere" / "photos")
    with IndexReader.open(path) as reader:
        assert reader.info.root == tmp_path / "elsewhere" / "photos"
    assert answers(path) == before
    assert verify(path) == []


def test_a_reader_sees_that_its_index_has_changed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = build(tmp_path / "a.plr", range(3))
    changes = [
        lambda writer: put(writer, 7),
        lambda writer: writer.remove("street/007.jpg"),
        lambda writer: writer.rename("street/001.jpg", "y.jpg"),
        lambda writer: writer.move_root(tmp_path / "elsewhere"),
    ]
    for change in changes:
        with IndexReader.open("a.plr") as reader:
            monkeypatch.chdir("/")
            assert reader.has_changed() is False
            with IndexWriter.open(path) as writer:
                change(writer)
                assert reader.has_changed() is False  # not yet committed
            assert reader.has_changed() is True
            monkeypatch.chdir(tmp_path)
    with IndexReader.open(path) as reader:
        build(path, range(3), replace=True)
        assert reader.has_changed() is True
    with IndexReader.open(path) as reader:
        path.unlink()
        assert reader.has_changed() is True
