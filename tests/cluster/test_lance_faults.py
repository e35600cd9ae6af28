"""What an index in Lance does when its storage fails: object stores, full disks, changed bytes."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from s3_faults import no_fault

from index.store_support import build, content, create, put
from placerec.errors import Busy, NoRoom, NotFound, PlacerecError, StaleIndex
from placerec.index import open_index, verify
from placerec.index.lance import commit
from placerec.index.lance import writer as writer_module
from placerec.index.store import store_of

TOWN = Path("lance:s3://maps/town")
PHOTOS = {"a.jpg": 0, "b.jpg": 1}
DAMAGES = 200


def once(kind: str, part: str):
    """A fault of the first request that stores something under ``part``."""
    left = [kind]

    def fault(method: str, path: str) -> str:
        return left.pop() if left and method == "PUT" and part in path else ""

    return fault


def add(address: Path, name: str, seed: int) -> None:
    with store_of(address).change(address) as writer:
        put(writer, name, seed)


def test_an_index_in_an_object_store_is_built_changed_and_read(object_store):
    build(TOWN, PHOTOS)
    add(TOWN, "c.jpg", 2)
    assert content(TOWN) == {**PHOTOS, "c.jpg": 2}
    assert verify(TOWN) == []
    with open_index(TOWN) as reader:
        assert reader.info.root == Path("/photos")


@pytest.mark.parametrize("part", ["data/", "_versions/"])
@pytest.mark.parametrize("kind", ["refuse", "taken", "lost"])
def test_one_fault_of_the_object_store_is_got_over_or_changes_nothing(object_store, kind, part):
    build(TOWN, PHOTOS)
    object_store.fault = once(kind, part)
    try:
        add(TOWN, "c.jpg", 2)
    except (Busy, NoRoom):
        assert (kind, part) == ("taken", "data/")
        assert content(TOWN) == PHOTOS
    else:
        assert content(TOWN) == {**PHOTOS, "c.jpg": 2}
    assert verify(TOWN) == []


def test_a_commit_whose_acknowledgement_was_lost_counts(object_store):
    """The manifest is stored, its answer is lost, and it cannot be stored once more."""
    build(TOWN, PHOTOS)
    first = once("lost", "_versions/")

    def fault(method: str, path: str) -> str:
        return first(method, path) or ("refuse" if method == "PUT" and "_versions/" in path else "")

    writer = store_of(TOWN).change(TOWN)
    put(writer, "c.jpg", 2)
    object_store.fault = fault
    writer.commit()
    object_store.fault = no_fault
    writer.remove("a.jpg")  # on top of what was committed
    writer.commit()
    writer.close()
    assert content(TOWN) == {"b.jpg": 1, "c.jpg": 2}


def test_an_object_store_that_answers_nothing_is_out_of_reach(object_store):
    build(TOWN, PHOTOS)
    with open_index(TOWN) as reader:
        object_store.fault = lambda method, path: "refuse"
        with pytest.raises(NotFound, match="out of reach"):
            open_index(TOWN)
        with pytest.raises((StaleIndex, NotFound)):
            reader.patches(0)
    with pytest.raises(PlacerecError):
        add(TOWN, "c.jpg", 2)


def test_a_build_that_an_object_store_ends_is_not_an_index(object_store):
    writer = create(TOWN)
    put(writer, "a.jpg", 0)
    object_store.fault = lambda method, path: "refuse" if method == "PUT" else ""
    with pytest.raises(PlacerecError):
        writer.__exit__(None, None, None)
    object_store.fault = lambda method, path: ""
    with pytest.raises(NotFound):
        open_index(TOWN)
    assert content(build(TOWN, PHOTOS)) == PHOTOS


@contextmanager
def files_of_at_most(size: int):
    """No file of this process may grow beyond ``size``, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 700, 2500])
def test_a_full_disk_leaves_the_index_as_it_was(folder, size):
    index = build(Path(f"lance:{folder}/town"), PHOTOS)
    with files_of_at_most(size), pytest.raises(NoRoom):
        add(index, "c.jpg", 2)
    with files_of_at_most(size), pytest.raises(NoRoom):
        build(index, {"c.jpg": 2}, replace=True)
    assert content(index) == PHOTOS
    assert verify(index) == []
    add(index, "c.jpg", 2)
    assert content(index) == {**PHOTOS, "c.jpg": 2}


def test_a_first_build_on_a_full_disk_leaves_nothing(folder):
    with files_of_at_most(100), pytest.raises(NoRoom):
        build(Path(f"lance:{folder}/town"), PHOTOS)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("size", [0, 500, 1000])
def test_a_commit_on_a_full_disk_leaves_the_index_as_it_was(folder, size, monkeypatch):
    """The fragment is on the disk, and the version does not fit."""
    index, commit_it = build(Path(f"lance:{folder}/town"), PHOTOS), writer_module.committed

    def on_a_full_disk(*values, **options):
        with files_of_at_most(size):
            return commit_it(*values, **options)

    monkeypatch.setattr(writer_module, "committed", on_a_full_disk)
    with pytest.raises(NoRoom):
        add(index, "c.jpg", 2)
    assert content(index) == PHOTOS
    assert verify(index) == []


def test_changed_bytes_give_no_wrong_answer(folder):
    """An error or the same answer, 200 times, in a process of limited memory.

    Lance has no checksum of its own structures: a changed length in one of them can end the process
    when it asks for that much memory.
    """
    index = build(Path(f"lance:{folder}/town"), {f"{n}.jpg": n % 6 for n in range(8)})
    with store_of(index).change(index) as writer:
        put(writer, "8.jpg", 3)
        writer.remove("2.jpg")
    outcomes: list[str] = []
    while len(outcomes) < DAMAGES:
        words = [sys.executable, str(Path(__file__).with_name("change_bytes.py")), str(folder)]
        child = subprocess.run(
            [*words, str(len(outcomes)), str(DAMAGES)], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        outcomes += child.stdout.split()
        if len(outcomes) < DAMAGES:
            assert child.returncode == -signal.SIGABRT, child.stderr
            outcomes.append("ended")
    counts = Counter(outcomes)
    assert set(counts) <= {"same", "error", "ended"}, counts
    assert counts["ended"] <= 5
    assert min(counts["same"], counts["error"]) > 20


def test_a_reader_whose_files_are_gone_is_stale(folder):
    index = build(Path(f"lance:{folder}/town"), PHOTOS)
    with open_index(index) as reader:
        build(index, {"a.jpg": 0, "c.jpg": 2}, replace=True)
        for file in commit.lance().dataset(f"{folder}/town", version=2).get_fragments():
            for part in file.data_files():
                (folder / "town" / "data" / part.path).unlink()
        with pytest.raises(StaleIndex, match="open it again"):
            reader.patches(0)
        shutil.rmtree(folder / "town")
        assert reader.has_changed()
        with pytest.raises(StaleIndex):
            reader.patches(0)
