"""A folder that changes while it is read, clocks that lie, and work that is stopped: P1, P5, P7."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from promise_support import (
    SETTINGS,
    MeanColours,
    draw,
    draw_folder,
    files_in,
    sha256,
    small_index,
    stored,
)

from index.index_support import answers
from placerec import add_photos, build_index, refresh_index
from placerec.errors import PhotoError
from placerec.index import build, verify
from placerec.recognise import PlaceRecognizer
from placerec.runtime import Runtime

ONE_THREAD = Runtime(threads=1)


class Meanwhile(MeanColours):
    """A trunk that does something else when it sees its photo number ``number``."""

    def __init__(self, act: Callable[[], object], number: int = 0) -> None:
        super().__init__()
        self.act, self.number = act, number

    def __call__(self, image):
        if self.photos == self.number:
            self.act()
        return super().__call__(image)


@pytest.fixture
def folder(tmp_path) -> Path:
    return draw_folder(tmp_path / "photos", 5)


def half_written(path: Path, seed: int) -> Path:
    """A photo of which a camera or a copy has written the first half."""
    content = draw(path, seed).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


CHANGES = {
    "deleted": lambda path: path.unlink(),
    "half written": lambda path: half_written(path, 9),
    "emptied": lambda path: path.write_bytes(b""),
    "a folder now": lambda path: (path.unlink(), path.mkdir()),
    "a broken link now": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a pipe now": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_photo_that_is_gone_when_its_turn_comes_is_skipped_with_a_reason(folder, tmp_path, what):
    trunk = Meanwhile(lambda: CHANGES[what](folder / "003.png"))
    path = tmp_path / "a.placerec"
    report = build_index(path, folder, model=trunk, settings=SETTINGS, runtime=ONE_THREAD)
    assert report.added == 4
    (error,) = report.skipped
    assert str(error).startswith("003.png: ")
    assert error.reason
    assert stored(path) == {f"00{n}.png": sha256(folder / f"00{n}.png") for n in (0, 1, 2, 4)}
    assert verify(path) == []


@pytest.mark.parametrize(
    "moment", range(8)
)  # while a model is fitted, and while photos are described
def test_a_photo_replaced_in_mid_build_is_never_a_mixture(folder, tmp_path, moment):
    old = sha256(folder / "003.png")
    trunk = Meanwhile(lambda: draw(folder / "003.png", 77), moment)
    path = tmp_path / "a.placerec"
    build_index(path, folder, model=trunk, settings=SETTINGS, runtime=ONE_THREAD)
    new = sha256(draw(tmp_path / "new.png", 77))
    kept = stored(path)["003.png"]
    assert kept in (old, new)
    draw(folder / "003.png", 3 if kept == old else 77)
    with PlaceRecognizer.open(path, model=MeanColours()) as recognizer:
        wanted = recognizer.model.describe(recognizer.read(folder / "003.png").pixels)
        found = recognizer.global_descriptors[3]
    assert found @ wanted.global_descriptor > 0.999  # the descriptor of the photo with that sha256
    assert refresh_index(path, model=MeanColours()).unchanged == 5


def test_a_photo_that_was_still_growing_is_added_by_the_next_refresh(folder, tmp_path):
    half_written(folder / "new.png", 8)
    path = tmp_path / "a.placerec"
    report = build_index(path, folder, model=MeanColours(), settings=SETTINGS)
    assert [str(error.path) for error in report.skipped] == ["new.png"]
    draw(folder / "new.png", 8)
    report = refresh_index(path, model=MeanColours())
    assert (report.added, report.unchanged, report.skipped) == (1, 5, [])


def test_photos_that_come_while_an_index_is_built_are_added_by_the_next_refresh(folder, tmp_path):
    path = tmp_path / "a.placerec"
    trunk = Meanwhile(lambda: draw(folder / "000_new.png", 8))
    assert build_index(path, folder, model=trunk, settings=SETTINGS).added == 5
    assert refresh_index(path, model=MeanColours()).added == 1


def test_a_folder_that_vanishes_in_mid_build_leaves_no_index(folder, tmp_path):
    path = tmp_path / "a.placerec"
    trunk = Meanwhile(lambda: shutil.rmtree(folder))
    report = build_index(path, folder, model=trunk, settings=SETTINGS, runtime=ONE_THREAD)
    assert (report.added, len(report.skipped)) == (1, 4)
    shutil.rmtree(folder, ignore_errors=True)
    with pytest.raises(PhotoError, match="none of its 2 photos"):
        build_index(
            path, tmp_path, names=["photos/000.png", "photos/001.png"], model=MeanColours(),
            settings=SETTINGS, replace=True,
        )  # fmt: skip
    assert len(stored(path)) == 1


@pytest.mark.parametrize("when", [0, -2_208_988_800, 4_070_908_800], ids=["1970", "1900", "2099"])
def test_content_counts_and_not_the_time_of_a_file(folder, tmp_path, when):
    for photo in folder.iterdir():
        os.utime(photo, (when, when))
    path = small_index(tmp_path / "a.placerec", folder)
    draw(folder / "001.png", 50)
    os.utime(folder / "001.png", (when, when))
    os.utime(folder / "002.png", (1e9, 1e9))
    report = refresh_index(path, model=MeanColours())
    assert (report.changed, report.unchanged) == (1, 4)
    assert stored(path)["001.png"] == sha256(folder / "001.png")


def test_a_clock_that_goes_back_changes_nothing(folder, tmp_path, monkeypatch):
    undisturbed = answers(small_index(tmp_path / "a.placerec", folder))
    (tmp_path / "a.placerec").unlink()
    now = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    assert answers(small_index(tmp_path / "a.placerec", folder)) == undisturbed


def test_an_add_that_is_stopped_after_any_photo_goes_on_and_ends_the_same(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(build, "BATCH", 3)
    path = small_index(tmp_path / "a.placerec", folder)
    start, more = path.read_bytes(), draw_folder(tmp_path / "more", 8)
    add_photos(path, [more], model=MeanColours())
    undisturbed = answers(path)

    def stop() -> None:
        raise KeyboardInterrupt

    for photos in range(8):
        path.write_bytes(start)
        trunk = Meanwhile(stop, photos)
        with pytest.raises(KeyboardInterrupt):
            add_photos(path, [more], model=trunk, runtime=ONE_THREAD)
        assert len(stored(path)) == 5 + photos - photos % 3
        again = MeanColours()
        add_photos(path, [more], model=again)
        assert again.photos == 8 - (photos - photos % 3)  # what was stored is not described again
        assert answers(path) == undisturbed
    assert files_in(tmp_path) == ["a.placerec", "more", "photos"]


def test_a_build_that_runs_out_of_memory_leaves_the_old_index(folder, tmp_path):
    path = small_index(tmp_path / "a.placerec", folder)
    before = path.read_bytes()

    def fail() -> None:
        raise MemoryError

    for photo in (0, 3):
        trunk = Meanwhile(fail, photo)
        with pytest.raises(MemoryError):
            build_index(path, folder, model=trunk, settings=SETTINGS, replace=True)
        assert path.read_bytes() == before
        assert files_in(tmp_path) == ["a.placerec", "photos"]
