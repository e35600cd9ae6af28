# ruff: noqa: PT012 - what must raise is the end of a with block, so it belongs inside
from __future__ import annotations

import random
import resource
import signal
import time
from pathlib import Path

import pytest
from index_support import (
    BATCH,
    answers,
    build,
    create,
    go,
    interrupt,
    journal_of,
    kill,
    put,
    start,
)

from placerec.errors import Busy, DamagedIndex, NoRoom, StaleIndex, UsageError
from placerec.index import IndexReader, IndexWriter, connection, verify


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.05)


def test_a_killed_writer_leaves_whole_batches_and_every_acknowledged_one(tmp_path: Path) -> None:
    chance = random.Random(7)
    path = build(tmp_path / "a.plr", range(2))
    legal = {0, 1}
    child = start(path, "add")
    for kills in range(10):
        acknowledged = go(child, batches=kills % 4)
        time.sleep(chance.uniform(0.0, 0.02))
        acknowledged += kill(child)
        assert child.returncode == -signal.SIGKILL
        with IndexReader.open(path) as reader:  # undoes a half batch first
            stored = {int(entry.sha256, 16) for entry in reader.entries}
        assert verify(path) == []
        last = max(acknowledged, default=99)
        legal |= set(range(100, last + 1))
        # The batch in flight may be there as well, but then wholly.
        in_flight = set(range(100, last + BATCH + 1 if acknowledged else 103))
        assert stored in (legal, legal | in_flight)
        legal = stored
        if kills < 9:
            child = start(path, "add")
    with IndexWriter.open(path) as writer:  # removes a journal that was begun and never needed
        put(writer, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.plr"]
    assert len(legal) >= 2 + 3 * BATCH


def test_a_killed_build_leaves_the_old_index_and_its_partial_is_replaced(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(2))
    before = path.read_bytes()
    for delay in (0, 0.02, 0.05):
        child = start(path, "create")
        go(child)
        time.sleep(delay)
        kill(child)
        assert path.read_bytes() == before
        assert (tmp_path / "a.plr.partial").exists()
    build(path, range(3), replace=True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.plr"]
    assert verify(path) == []


def test_a_cut_partial_is_stale_too(tmp_path: Path) -> None:
    partial = tmp_path / "a.plr.partial"
    content = build(tmp_path / "b.plr").read_bytes()
    for length in (0, 4096, 4097, len(content) - 1, len(content)):
        partial.write_bytes(content[:length])
        build(tmp_path / "a.plr", replace=True)
        assert not partial.exists()


def test_a_file_of_somebody_else_is_not_taken_for_a_stale_partial(tmp_path: Path) -> None:
    (tmp_path / "a.plr.partial").write_bytes(b"my notes" * 100)
    with pytest.raises(UsageError, match="move it away"):
        create(tmp_path / "a.plr")
    assert (tmp_path / "a.plr.partial").read_bytes() == b"my notes" * 100


def test_of_two_builds_at_once_the_second_is_told(tmp_path: Path) -> None:
    child = start(tmp_path / "a.plr", "create")
    with pytest.raises(Busy) as error:
        create(tmp_path / "a.plr")
    assert error.value.exit_code == 7
    kill(child)
    with create(tmp_path / "a.plr") as first:
        put(first, 1)
        with pytest.raises(Busy):  # in the same process too
            create(tmp_path / "a.plr")
        put(first, 2)
    with IndexReader.open(tmp_path / "a.plr") as reader:
        assert len(reader.entries) == 2


def test_of_two_writers_at_once_the_second_is_told(tmp_path: Path, impatient: None) -> None:
    path = build(tmp_path / "a.plr", range(2))
    child = start(path, "add")
    for attempt in (IndexWriter.open, lambda path: build(path, [1], replace=True)):
        with pytest.raises(Busy):
            attempt(path)
    kill(child)
    with IndexWriter.open(path) as first:
        put(first, 5)
        with pytest.raises(Busy):
            IndexWriter.open(path)
    with IndexWriter.open(path) as second:
        put(second, 6)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.plr"]
    assert len(answers(path)[0]) == 4


def test_two_writers_may_take_turns_by_batches(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(2))
    with IndexWriter.open(path) as first:
        put(first, 5)
        first.commit()
        with IndexWriter.open(path) as second:
            put(second, 6)
        put(first, 7)
    assert answers(path) == answers(build(tmp_path / "b.plr", [0, 1, 5, 6, 7]))


def test_a_writer_whose_index_was_replaced_stops(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(2))
    with pytest.raises(StaleIndex), IndexWriter.open(path) as writer:
        put(writer, 5)
        writer.commit()
        build(path, range(10, 13), replace=True)
        put(writer, 6)
        writer.commit()
    assert answers(path) == answers(build(tmp_path / "b.plr", range(10, 13)))


@pytest.mark.parametrize("command", [answers, verify, lambda path: IndexWriter.open(path).close()])
def test_whoever_comes_next_undoes_an_interrupted_update(tmp_path: Path, command) -> None:
    path, cut = build(tmp_path / "a.plr", range(40)), tmp_path / "b.plr"
    interrupt(path, cut)
    command(cut)
    assert not journal_of(cut).exists()
    assert answers(cut) == answers(path)
    assert verify(cut) == []


def test_a_reader_survives_the_death_of_a_writer(tmp_path: Path) -> None:
    path, cut = build(tmp_path / "a.plr", range(40)), tmp_path / "b.plr"
    build(cut, range(40))
    with IndexReader.open(cut) as reader:
        before = reader.global_descriptors()[:]
        interrupt(path, cut)
        assert (reader.global_descriptors() == before).all()


def test_a_left_journal_never_reaches_a_new_index(tmp_path: Path) -> None:
    path, cut = build(tmp_path / "a.plr", range(40)), tmp_path / "b.plr"
    interrupt(path, cut)
    cut.unlink()
    build(cut, range(3))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.plr", "b.plr"]
    assert answers(cut) == answers(build(tmp_path / "c.plr", range(3)))
    interrupt(path, cut)
    build(cut, range(3), replace=True)
    assert answers(cut) == answers(tmp_path / "c.plr")


def test_a_full_disk_ends_a_writer_with_the_committed_batches(tmp_path: Path) -> None:
    for room in (0, 1, 2, 3, 5, 9, 17):  # pages
        path = build(tmp_path / f"{room}.plr", range(2))
        kept = 2
        with pytest.raises(NoRoom, match="full"), IndexWriter.open(path) as writer:
            pages = path.stat().st_size // 4096
            writer._connection.execute(f"PRAGMA max_page_count={pages + room}")
            for seed in range(2, 400):
                put(writer, seed)
                writer.commit()
                kept = seed + 1
        assert answers(path) == answers(build(tmp_path / "same.plr", range(kept), replace=True))
        assert verify(path) == []


def test_a_file_size_limit_ends_a_build_without_a_trace(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(2))
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (1, 5_000, 30_000, 120_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(NoRoom), create(path, replace=True) as writer:
                for seed in range(200):
                    put(writer, seed)
                    writer.commit()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["a.plr"]


def test_a_file_size_limit_ends_an_update_with_the_committed_batches(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (1_000, 9_000, 50_000):
        path = build(tmp_path / f"{room}.plr", range(2))
        kept = 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, limits[1]))
        try:
            with pytest.raises(NoRoom), IndexWriter.open(path) as writer:
                for seed in range(2, 100):
                    put(writer, seed)
                    writer.commit()
                    kept = seed + 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert answers(path) == answers(build(tmp_path / "same.plr", range(kept), replace=True))


def test_a_writer_is_not_used_again_after_an_error(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(2))
    with pytest.raises(UsageError, match="earlier error"), IndexWriter.open(path) as writer:
        writer._connection.execute(f"PRAGMA max_page_count={path.stat().st_size // 4096}")
        with pytest.raises(NoRoom):
            for seed in range(2, 40):
                put(writer, seed)
        put(writer, 50)
    assert len(answers(path)[0]) == 2


def test_a_build_that_was_stored_wrongly_is_not_published(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(2))
    before = path.read_bytes()
    with pytest.raises(DamagedIndex, match="stored"), create(path, replace=True) as writer:
        put(writer, 1)
        writer._connection.execute("DELETE FROM patches WHERE id = 1")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.plr"]


def test_a_reader_is_not_locked_out_by_an_open_batch(tmp_path: Path, impatient: None) -> None:
    path = build(tmp_path / "a.plr", range(2))
    before = answers(path)
    with IndexWriter.open(path) as writer:
        for seed in range(2, 300):  # larger than SQLite's cache
            put(writer, seed)
        assert answers(path) == before
    assert len(answers(path)[0]) == 300
