"""Several processes at one index in Lance: writers, a reader, and some that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from index.store_support import build, content, put
from placerec.errors import Busy, NotFound, StaleIndex
from placerec.index import open_index, verify
from placerec.index.store import store_of

PHOTOS = {"a.jpg": 0, "b.jpg": 1}


@pytest.fixture
def index(folder) -> Path:
    return build(Path(f"lance:{folder}/town"), PHOTOS)


def start(index: Path, mode: str, prefix: str, batches: int) -> subprocess.Popen[str]:
    script = str(Path(__file__).with_name("write_lance.py"))
    child = subprocess.Popen(
        [sys.executable, script, str(index), mode, prefix, str(batches)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    return child


def go(*children: subprocess.Popen[str]) -> None:
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()


def after(prefix: str, batches: int) -> dict[str, int]:
    """The photos of a writer after so many batches."""
    photos = {f"{prefix}{n}b.jpg": n % 6 for n in range(batches)}
    return photos | {f"{prefix}{n}a.jpg": n % 6 for n in range(max(0, batches - 2), batches)}


def test_two_writers_and_a_reader_each_see_whole_batches(index):
    batches = 25
    writers = [start(index, "add", prefix, batches) for prefix in "xy"]
    go(*writers)
    seen = 0
    while any(writer.poll() is None for writer in writers):
        photos = content_of_now(index)
        for prefix in "xy":
            count = sum(name.startswith(prefix) and name.endswith("b.jpg") for name in photos)
            assert {k: v for k, v in photos.items() if k[0] == prefix} == after(prefix, count)
        seen += 1
    outputs = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], outputs
    assert content(index) == PHOTOS | after("x", batches) | after("y", batches)
    assert verify(index) == []
    assert seen > 3


def content_of_now(index: Path) -> dict[str, int]:
    while True:
        try:
            return content(index)
        except StaleIndex:  # a photo was removed between the names and the descriptors
            continue


def test_writers_of_different_photos_both_win_and_of_one_photo_the_first(index):
    first, second = store_of(index).change(index), store_of(index).change(index)
    put(first, "c.jpg", 2)
    put(second, "d.jpg", 3)
    first.commit()
    second.commit()
    assert content(index) == {**PHOTOS, "c.jpg": 2, "d.jpg": 3}
    put(first, "a.jpg", 4)
    second.remove("a.jpg")
    second.commit()
    with pytest.raises(Busy):
        first.commit()
    assert content(index) == {"b.jpg": 1, "c.jpg": 2, "d.jpg": 3}
    assert verify(index) == []


def test_of_two_builds_the_second_is_busy(index, folder):
    def race(address: Path) -> None:
        from index.store_support import create

        first, second = create(address, replace=True), create(address, replace=True)
        put(first, "c.jpg", 2)
        put(second, "d.jpg", 3)
        first.__exit__(None, None, None)
        with pytest.raises(Busy):
            second.__exit__(None, None, None)
        assert content(address) == {"c.jpg": 2}
        assert verify(address) == []

    race(index)
    race(Path(f"lance:{folder}/new"))


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_leaves_whole_batches(index, seed):
    child = start(index, "add", "x", 10000)
    go(child)
    time.sleep(random.Random(seed).uniform(0.1, 0.8))
    child.send_signal(signal.SIGKILL)
    stored = [line for line in child.communicate()[0].split("\n")[:-1] if line != "busy"]
    photos = content(index)
    batches = sum(name.startswith("x") and name.endswith("b.jpg") for name in photos)
    assert photos == PHOTOS | after("x", batches)
    assert len(stored) <= batches <= len(stored) + 1
    assert verify(index) == []
    with store_of(index).change(index) as writer:
        put(writer, "c.jpg", 2)
    assert content(index) == photos | {"c.jpg": 2}


@pytest.mark.parametrize("old", [True, False], ids=["replaced", "new"])
def test_a_killed_build_leaves_the_old_index_or_none(folder, old):
    index = Path(f"lance:{folder}/town")
    if old:
        build(index, PHOTOS)
    child = start(index, "build", "x", 100000)
    go(child)
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    assert child.communicate()[0] == ""
    if old:
        assert content(index) == PHOTOS
    else:
        with pytest.raises(NotFound):
            open_index(index)
    build(index, {"c.jpg": 2}, replace=old)
    assert content(index) == {"c.jpg": 2}
