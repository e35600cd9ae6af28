"""A disk that is full, fails, or loses power at any moment: P1, at every call that SQLite makes."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from sqlite_disk import AVAILABLE, Call, Failing, after_power_cut, watched

from index.index_support import answers, build, create, put
from placerec.errors import NoRoom, PlacerecError
from placerec.index import IndexWriter, verify

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="Python's SQLite is not a library of its own")

FIRST, BATCHES = range(3), (range(3, 5), range(4, 6))  # the second one replaces a photo


def update(path: Path, acknowledged: list[int] | None = None) -> None:
    """Put the batches, and note each that is stored."""
    with IndexWriter.open(path) as writer:
        for number, batch in enumerate(BATCHES, start=1):
            for seed in batch:
                put(writer, seed)
            writer.remove("street/000.jpg")
            writer.commit()
            if acknowledged is not None:
                acknowledged.append(number)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("start") / "a.plr", FIRST)


@pytest.fixture(scope="module")
def states(start, tmp_path_factory) -> list[object]:
    """What the index answers after 0, 1 and 2 batches: nothing else is legal."""
    path = Path(shutil.copy(start, tmp_path_factory.mktemp("states")))
    result = [answers(path)]
    for batch in BATCHES:
        with IndexWriter.open(path) as writer:
            for seed in batch:
                put(writer, seed)
            writer.remove("street/000.jpg")
        result.append(answers(path))
    return result


def test_a_watched_disk_sees_every_byte_that_sqlite_writes(start, states, tmp_path):
    path = Path(shutil.copy(start, tmp_path))
    calls: list[Call] = []
    with watched(lambda call: calls.append(call) or 0):
        update(path)
    assert answers(path) == states[-1]
    assert {call.kind for call in calls} >= {"create", "write", "sync", "delete"}
    without_loss = after_power_cut({path: start.read_bytes()}, calls, random.Random(0))
    assert without_loss == {path: path.read_bytes()}


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
def test_an_update_survives_the_failure_of_any_call(start, states, tmp_path, for_ever):
    path, number, failed = tmp_path / "a.plr", 0, set()
    while True:
        shutil.copy(start, path)
        disk, acknowledged, error = Failing(number, for_ever), [], None
        with watched(disk):
            try:
                update(path, acknowledged)
            except PlacerecError as caught:
                error = caught
        if not disk.failed:
            break
        failed.update(disk.failed[:1])
        assert isinstance(error, NoRoom | None), f"call {number}: {error!r}"
        assert verify(path) == [], f"call {number}"
        stored = states.index(answers(path))
        assert stored >= len(acknowledged), f"call {number}: a stored batch is lost"
        assert error or stored == len(BATCHES)
        with watched(lambda _: 0):
            update(path)
        assert answers(path) == states[-1]
        assert [file.name for file in tmp_path.iterdir()] == ["a.plr"]
        number += 2 if for_ever else 1
    assert failed >= {"create", "write", "sync", "delete"}


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
def test_a_build_survives_the_failure_of_any_call(start, tmp_path, for_ever):
    path, number = tmp_path / "a.plr", 0
    built = answers(build(tmp_path / "b.plr", range(5)))
    (tmp_path / "b.plr").unlink()
    before = shutil.copy(start, path).read_bytes()
    while True:
        disk = Failing(number, for_ever)
        try:
            with watched(disk), create(path, replace=True) as writer:
                for seed in range(5):
                    put(writer, seed)
                    writer.commit()
        except NoRoom:
            assert disk.failed
            assert path.read_bytes() == before
        else:
            assert answers(path) == built
            path.write_bytes(before)
        assert [file.name for file in tmp_path.iterdir()] == ["a.plr"]
        if not disk.failed:
            break
        number += 1
    assert number > 10


def power_cuts(start: Path, states: list[object], folder: Path, count: int) -> set[str]:
    """Cut the power of ``count`` updates at seeded places, and return what was seen."""
    path, chance, seen = folder / "a.plr", random.Random(17), set()
    shutil.copy(start, path)
    calls: list[Call] = []
    acknowledged: list[int] = []
    marks: list[int] = []  # how many batches were acknowledged before each call

    def note(call: Call) -> int:
        calls.append(call)
        marks.append(len(acknowledged))
        return 0

    with watched(note):
        update(path, acknowledged)
    marks.append(len(acknowledged))
    for _ in range(count):
        for file in folder.iterdir():
            file.unlink()
        cut = chance.randint(0, len(calls))
        left = after_power_cut({path: start.read_bytes()}, calls[:cut], chance)
        for file, content in left.items():
            file.write_bytes(content)
        seen.add("journal" if len(left) > 1 else "no journal")
        assert verify(path) == [], f"call {cut}"
        stored = states.index(answers(path))
        assert stored in (marks[cut], marks[cut] + 1), f"call {cut}: a stored batch is lost"
        seen.add(f"{stored} batches")
    return seen


def test_a_power_cut_leaves_whole_batches_and_every_acknowledged_one(start, states, tmp_path):
    seen = power_cuts(start, states, tmp_path, 150)
    assert seen == {"journal", "no journal", *(f"{count} batches" for count in range(3))}


@pytest.mark.slow
def test_5000_power_cuts(start, states, tmp_path):
    assert len(power_cuts(start, states, tmp_path, 5000)) == 5


def test_a_published_index_is_wholly_on_the_disk_before_its_rename(tmp_path):
    path, partial = tmp_path / "a.plr", tmp_path / "a.plr.partial"
    calls: list[Call] = []
    with watched(lambda call: calls.append(call) or 0):
        build(path, range(5))
    assert {call.path for call in calls} == {partial}
    assert calls[-1].kind == "sync"
    assert path.exists()
