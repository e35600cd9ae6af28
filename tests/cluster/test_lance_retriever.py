"""An index in Lance with a retriever: what it stores and answers is what a file does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from index.index_support import colours, draw, features
from index.store_support import create
from placerec import PlaceRecognizer, add_photos, build_index, refit_index, refresh_index
from placerec.errors import DamagedIndex, UsageError
from placerec.index import open_index, speed_up, verify
from placerec.index.convert import convert_index
from placerec.index.lance.place import Place, lance
from placerec.index.lance.rows import RETRIEVAL, arrow_schema
from placerec.index.lance.speedup import LanceNeighbours
from placerec.index.schema import RetrieverRow
from placerec.index.update import remove_photos
from placerec.settings import Settings

SMALL = Settings(image_size=(120, 160))


@pytest.fixture(scope="module")
def one_folder(tmp_path_factory):
    """Six photos, and an index of them with the colours as retriever in each store."""
    folder = tmp_path_factory.mktemp("retriever")
    for place in range(6):
        draw(folder / "photos" / f"{place}.png", place)
    (folder / "nets").mkdir()
    net = colours(folder / "nets" / "colours.onnx")
    for index in (folder / "town.placerec", f"lance:{folder}/town"):
        build_index(index, folder / "photos", settings=SMALL, retriever=net)
    return folder


@pytest.fixture
def here(one_folder, folder) -> Path:
    return Path(shutil.copytree(one_folder, folder / "here"))


def both(here: Path) -> list[str]:
    return [str(here / "town.placerec"), f"lance:{here}/town"]


def answers(index: str, photo: Path) -> object:
    with PlaceRecognizer.open(index) as recognizer:
        return [(p.path, p.score, p.global_score) for p in recognizer.query(photo, 10).places]


def stored(index: str) -> dict[str, tuple[bytes, bytes]]:
    """The two descriptors of each photo."""
    with open_index(index) as reader:
        rows = zip(reader.global_descriptors(), reader.retrieval_descriptors(), strict=True)
        names = [entry.name for entry in reader.entries]
        return {n: (a.tobytes(), b.tobytes()) for n, (a, b) in zip(names, rows, strict=True)}


def test_the_shortlist_and_the_answers_are_those_of_a_file(here):
    file, town = both(here)
    for photo in sorted((here / "photos").iterdir()):
        assert answers(file, photo) == answers(town, photo)
    assert stored(file) == stored(town)
    with open_index(file) as first, open_index(town) as second:
        assert first.retriever == second.retriever
        for name in ("format", "retriever", "retriever_fingerprint", "retriever_source"):
            assert getattr(first.info, name) == getattr(second.info, name)
        assert second.info.retriever_source == "nets/colours.onnx"


def test_changes_keep_the_descriptors_of_the_retriever(here):
    indexes, photos = both(here), here / "photos"
    draw(here / "other" / "9.png", 9)
    shutil.copy(here / "other" / "9.png", photos / "9.png")
    assert [add_photos(index, photos).added for index in indexes] == [1, 1]
    (photos / "0.png").rename(photos / "sub.png")
    assert [refresh_index(index).moved for index in indexes] == [1, 1]
    assert stored(indexes[0]) == stored(indexes[1])
    for index in indexes:
        refit_index(index)
        remove_photos(index, "9.png")
        convert_index(index, f"{index}-compact", "compact")
    assert stored(indexes[0]) == stored(indexes[1])
    assert stored(f"{indexes[0]}-compact") == stored(f"{indexes[1]}-compact")
    assert verify(indexes[1]) == []


def test_index_and_network_can_be_moved_together_and_be_named_from_anywhere(here, monkeypatch):
    moved = here.rename(here.with_name("moved"))
    monkeypatch.chdir(moved / "photos")
    assert answers(f"lance:{moved}/town", moved / "photos" / "1.png")
    monkeypatch.chdir(moved)
    assert answers("lance:town", moved / "photos" / "1.png")


def test_a_speed_up_is_that_of_the_retriever(here):
    town = both(here)[1]
    before = answers(town, here / "photos" / "2.png")
    speed_up(town)
    with PlaceRecognizer.open(town) as recognizer:
        assert isinstance(recognizer.neighbours, LanceNeighbours)
    assert answers(town, here / "photos" / "2.png") == before


def without_column(address: Path, folder: Path) -> None:
    """Make of an index one as before there were retrievers: without their column."""
    dataset = lance().dataset(Place.of(address).uri)
    table = dataset.to_table().drop_columns([RETRIEVAL])
    shutil.rmtree(folder)
    lance().write_dataset(table, folder)


def test_an_index_without_the_column_is_read_changed_and_replaced(here):
    town, photos = f"lance:{here}/old", here / "photos"
    build_index(town, photos, settings=SMALL)
    without_column(Path(town), here / "old")
    assert verify(town) == []
    draw(photos / "9.png", 9)
    assert add_photos(town, photos).added == 1
    (photos / "9.png").rename(photos / "8.png")
    assert refresh_index(town).moved == 1
    assert RETRIEVAL not in lance().dataset(here / "old").schema.names
    build_index(town, photos, settings=SMALL, replace=True)
    net = here / "nets" / "colours.onnx"
    build_index(town, photos, settings=SMALL, replace=True, retriever=net)
    assert lance().dataset(here / "old").schema == arrow_schema()
    assert set(stored(town)) == {path.name for path in photos.iterdir()}
    build_index(town, photos, settings=SMALL, replace=True)
    with open_index(town) as reader:
        assert (reader.retriever, reader.retrieval_descriptors()) == (None, None)


def test_missing_descriptors_of_the_retriever_are_damage(here):
    town = both(here)[1]
    lance().dataset(here / "town").update({RETRIEVAL: "X'00'"}, where="name = X'302e706e67'")
    assert any("0.png" in finding for finding in verify(town))
    with open_index(town) as reader, pytest.raises(DamagedIndex):
        reader.retrieval_descriptors()
    without_column(Path(town), here / "town")
    with pytest.raises(DamagedIndex, match="descriptors of the retriever are missing"):
        open_index(town)


def test_photos_that_were_described_otherwise_are_refused(folder):
    row = RetrieverRow("megaloc", "0f", b"megaloc")
    writer = create(Path(f"lance:{folder}/town"), retriever=row)
    with pytest.raises(UsageError, match="this index has a retriever"):
        writer.put("a.jpg", "0", None, features(0))
    writer.close()
    with create(Path(f"lance:{folder}/town")) as writer:
        given = features(0, grid=2)
        object.__setattr__(given, "retrieval_descriptor", given.global_descriptor)
        with pytest.raises(UsageError, match="does not have a retriever"):
            writer.put("a.jpg", "0", None, given)
        writer.put("a.jpg", "0", None, features(0))


def test_in_an_object_store_the_network_has_its_whole_path(object_store, here):
    town, net = "lance:s3://maps/town", here / "nets" / "colours.onnx"
    build_index(town, here / "photos", settings=SMALL, retriever=net)
    with open_index(town) as reader:
        assert os.path.normpath(Path("/") / reader.info.retriever_source) == str(net.resolve())
    file = both(here)[0]
    photo = here / "photos" / "3.png"
    assert answers(town, photo) == answers(file, photo)
