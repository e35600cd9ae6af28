"""Photos that are only in memory become photos of the index and of its folder."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from index_support import Collection
from PIL import Image

from placerec import PlaceRecognizer, add_photos, refresh_index
from placerec.demo import demo_pose, render
from placerec.errors import Busy, FolderGone, NoRoom, PlacerecError, UsageError
from placerec.files import new_file
from placerec.index import IndexReader, connection
from placerec.photos.decode import decode
from placerec.records import Position


def frame(place: int) -> np.ndarray:
    return render(1, demo_pose(1, place, False), size=(120, 160))


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_pixels_become_a_photo_of_the_folder_and_of_the_index(collection: Collection) -> None:
    table = collection.folder / "where.csv"
    table.write_text("image,latitude,longitude\nwalk/7.png,1,2\n")
    frames = {"walk/7.png": frame(7)[..., ::-1], "8.PNG": frame(8)[..., 1]}
    report = add_photos(collection.index, frames, bgr=True, positions=table)
    assert (report.added, report.located, report.notices) == (2, 1, [])
    assert np.array_equal(decode(collection.photos / "walk" / "7.png").pixels, frame(7))
    with IndexReader.open(collection.index) as reader:
        entries = {entry.name: entry.position for entry in reader.entries}
    assert entries["walk/7.png"] == Position(1, 2)
    with PlaceRecognizer.open(collection.index) as recognizer:
        assert recognizer.query(frame(7)).best.path == "walk/7.png"
        assert recognizer.query(frame(8)[..., 1]).best.path == "8.PNG"
    again = refresh_index(collection.index)
    assert (again.unchanged, again.added, again.removed) == (6, 0, 0)


def test_an_image_of_pillow_and_a_photo_are_frames_too(collection: Collection) -> None:
    (collection.folder / "other").mkdir()
    Image.fromarray(frame(7)).save(collection.folder / "other" / "a.jpg")
    photo = decode(collection.folder / "other" / "a.jpg")
    assert add_photos(collection.index, {"a.png": photo, "b.png": Image.new("CMYK", (64, 48))})
    assert np.array_equal(decode(collection.photos / "a.png").pixels, photo.pixels)
    assert decode(collection.photos / "b.png").pixels.tolist() == np.full((48, 64, 3), 255).tolist()


def test_the_same_frames_once_more_change_nothing(collection: Collection) -> None:
    frames = {"walk/7.png": frame(7)}
    assert add_photos(collection.index, frames).added == 1
    before = content(collection.photos)
    report = add_photos(collection.index, frames)
    assert (report.added, report.unchanged) == (0, 1)
    assert content(collection.photos) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/tmp/a.png", "relative"),
        ("../a.png", "relative"),
        ("a/../../b.png", "relative"),
        ("./a.png", "relative"),
        ("a//b.png", "relative"),
        ("", "relative"),
        (3, "name"),
        (Path("a.png"), "name"),
        ("a\0.png", "relative"),
        ("a" * 300 + ".png", "File name too long"),
        ("a.jpg", r"\.png"),
        ("a", r"\.png"),
        (".a.png", "hidden files"),
        (".a/b.png", "hidden folders"),
        ("@eaDir/a.png", "thumbnail folders"),
        ("link/a.png", "linked folders"),
        ("0.png", "other content"),
        ("sub/2.png", "other content"),
        ("sub.png", "pipes and devices"),
    ],
)
def test_a_name_that_cannot_be_a_new_photo_is_refused_before_anything_is_written(
    name, message, collection: Collection
) -> None:
    (collection.photos / "link").symlink_to(collection.folder)
    (collection.photos / "sub.png").mkdir()
    before, index = content(collection.photos), collection.index.read_bytes()
    with pytest.raises(PlacerecError, match=message):
        add_photos(collection.index, {"first.png": frame(7), name: frame(8)})
    assert content(collection.photos) == before
    assert collection.index.read_bytes() == index


@pytest.mark.parametrize("photo", [frame(8) / 255, None, "a.png", Path("a.png")])
def test_a_frame_that_has_no_pixels_is_refused_with_its_name(photo, collection) -> None:
    before = content(collection.photos)
    with pytest.raises(UsageError, match=r"second\.png: "):
        add_photos(collection.index, {"first.png": frame(7), "second.png": photo})
    assert content(collection.photos) == before


def test_the_order_of_opencv_is_for_arrays(collection: Collection) -> None:
    with pytest.raises(UsageError, match="bgr"):
        add_photos(collection.index, collection.photos / "0.png", bgr=True)


def test_without_the_folder_of_the_index_nothing_is_written(collection: Collection) -> None:
    shutil.rmtree(collection.photos)
    with pytest.raises(FolderGone):
        add_photos(collection.index, {"a.png": frame(7)})
    assert not collection.photos.exists()


def test_a_full_disk_leaves_no_frame(collection: Collection, monkeypatch) -> None:
    save, saved = Image.Image.save, []

    def fail_second(image, path, *words, **options):
        save(image, path, *words, **options)
        saved.append(path)
        if len(saved) == 2:
            raise OSError(28, "No space left on device")

    before = content(collection.photos)
    monkeypatch.setattr(Image.Image, "save", fail_second)
    with pytest.raises(NoRoom, match="No space left"):
        add_photos(collection.index, {"walk/a.png": frame(7), "b.png": frame(8)})
    assert content(collection.photos) == before


def test_after_a_busy_index_the_same_call_adds_the_frames(
    collection: Collection, monkeypatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.05)
    other = sqlite3.connect(collection.index, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy):
        add_photos(collection.index, {"a.png": frame(7)})
    other.close()
    assert add_photos(collection.index, {"a.png": frame(7)}).added == 1


def test_of_two_frames_with_one_name_at_the_same_time_one_is_kept(tmp_path: Path) -> None:
    def write() -> None:
        with new_file(tmp_path / "a.png") as partial:
            partial.write_bytes(b"late")
            (tmp_path / "a.png").write_bytes(b"early")

    with pytest.raises(UsageError, match="already there"):
        write()
    assert content(tmp_path) == {"a.png": b"early"}


def test_what_the_user_has_beside_a_frame_stays(collection: Collection, monkeypatch) -> None:
    def out_of_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (collection.photos / "u.png.partial").write_bytes(b"mine")
    (collection.photos / "empty" / "deep").mkdir(parents=True)
    add_photos(collection.index, {"u.png": frame(7)})
    monkeypatch.setattr(Image.Image, "save", out_of_space)
    with pytest.raises(NoRoom):
        add_photos(collection.index, {"empty/deep/new/a.png": frame(8)})
    assert (collection.photos / "u.png.partial").read_bytes() == b"mine"
    assert (collection.photos / "empty" / "deep").is_dir()
    assert not any((collection.photos / "empty" / "deep").iterdir())
