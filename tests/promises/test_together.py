"""Several processes and threads with one index: P4; and nothing of the system is used up."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path

import pytest
from promise_support import (
    MeanColours,
    draw,
    draw_folder,
    files_in,
    pixels,
    small_index,
    stored,
)

from index.index_support import answers, build, features, put
from placerec.errors import Busy, PlacerecError
from placerec.index import IndexReader, IndexWriter, connection, verify
from placerec.index.build import add_photos
from placerec.recognise import PlaceRecognizer

BATCH = 3  # photos
spawn = multiprocessing.get_context("spawn")


def write_batches(path: Path, first: int, start, seconds: float, results) -> None:
    """Put batches of new photos until the time is over; say how many were stored."""
    stored_batches = 0
    start.wait()
    end = time.monotonic() + seconds
    with IndexWriter.open(path) as writer:
        while time.monotonic() < end:
            for seed in range(BATCH):
                put(writer, first + BATCH * stored_batches + seed)
            writer.commit()
            stored_batches += 1
            time.sleep(0.01)  # the other writer's turn
    results.put(("writer", first, stored_batches))


def read_again_and_again(path: Path, firsts: tuple[int, ...], start, seconds: float, results):
    """Open the index until the time is over; say how often, and what was wrong."""
    wrong, opened = [], 0
    start.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end and not wrong:
        try:
            with IndexReader.open(path) as reader:
                seeds = {int(entry.sha256, 16) for entry in reader.entries}
                found = reader.global_descriptors()
                chosen = len(seeds) // 2
                wanted = features(int(reader.entries[chosen].sha256, 16)).global_descriptor
                if found[chosen] @ wanted < 0.99:
                    wrong.append("a photo with the descriptor of another")
        except PlacerecError as error:
            wrong.append(f"{error!r}")
            break
        for first in firsts:
            own = {seed for seed in seeds if first <= seed < first + 100_000}
            if own != set(range(first, first + len(own))) or len(own) % BATCH:
                wrong.append(f"no state of writer {first}: {sorted(own)[-5:]}")
        opened += 1
    results.put(("reader", opened, wrong))


def two_writers_and_five_readers(path: Path, seconds: float) -> None:
    build(path, range(2))
    firsts = (100_000, 200_000)
    start, results = spawn.Barrier(7), spawn.Queue()
    processes = [
        spawn.Process(target=write_batches, args=(path, first, start, seconds, results))
        for first in firsts
    ] + [
        spawn.Process(target=read_again_and_again, args=(path, firsts, start, seconds, results))
        for _ in range(5)
    ]
    for process in processes:
        process.start()
    reports = [results.get(timeout=seconds + 60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    wanted = {0, 1}
    for role, first, detail in reports:
        if role == "reader":
            assert detail == []
            assert first > 0
        else:
            assert detail > 0, f"writer {first} had no turn"
            wanted |= set(range(first, first + BATCH * detail))
    assert {int(mark, 16) for mark in stored(path).values()} == wanted
    assert verify(path) == []
    assert files_in(path.parent) == [path.name]


def test_two_writers_and_five_readers(tmp_path):
    two_writers_and_five_readers(tmp_path / "a.plr", 2)


@pytest.mark.slow
def test_two_writers_and_five_readers_for_30_seconds(tmp_path):
    two_writers_and_five_readers(tmp_path / "a.plr", 30)


def test_two_adds_at_once_give_one_legal_order_or_say_busy(tmp_path, monkeypatch):
    folder = draw_folder(tmp_path / "photos", 3)
    path = small_index(tmp_path / "a.placerec", folder)
    more = [draw(tmp_path / "more" / f"{seed}.png", seed) for seed in range(10, 16)]
    results: list[object] = []

    def add(photos):
        start.wait()
        try:
            results.append(add_photos(path, photos, model=MeanColours()).added)
        except Busy as error:
            results.append(error)

    for patience, photos in ((5.0, more[:3]), (5.0, more[3:]), (0.0, more)):
        monkeypatch.setattr(connection, "BUSY_SECONDS", patience)
        start = threading.Barrier(2)
        threads = [threading.Thread(target=add, args=(photos[n::2],)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if patience:
            assert results == [len(photos[0::2]), len(photos[1::2])] or sorted(results) == [1, 2]
            results.clear()
    assert len(stored(path)) == 9
    assert verify(path) == []
    assert files_in(tmp_path) == ["a.placerec", "more", "photos"]


def test_an_open_recogniser_answers_from_the_old_index_after_a_rebuild(tmp_path):
    folder = draw_folder(tmp_path / "photos", 4)
    path = small_index(tmp_path / "a.placerec", folder)
    with PlaceRecognizer.open(path, model=MeanColours()) as old:
        before = place_values(old.query(pixels(2)))
        (folder / "002.png").unlink()
        small_index(path, folder, replace=True)
        assert place_values(old.query(pixels(2))) == before
        with PlaceRecognizer.open(path, model=MeanColours()) as new:
            assert "002.png" not in {place.path for place in new.query(pixels(2)).places}
    assert files_in(tmp_path) == ["a.placerec", "photos"]


def test_an_idle_reader_neither_stops_a_writer_nor_makes_the_file_grow(tmp_path):
    path = build(tmp_path / "a.plr", range(12))
    before = answers(path)
    with IndexReader.open(path) as reader:
        size = path.stat().st_size
        for _ in range(15):
            with IndexWriter.open(path) as writer:
                for seed in range(12):
                    put(writer, seed)
        assert path.stat().st_size <= 2 * size
        assert reader.entries == before[0]
    assert answers(path) == before


def test_threads_that_ask_at_once_get_the_answers_of_one(tmp_path):
    folder = draw_folder(tmp_path / "photos", 8)
    path = small_index(tmp_path / "a.placerec", folder)
    with PlaceRecognizer.open(path, model=MeanColours()) as recognizer:
        wanted = [place_values(recognizer.query(pixels(seed))) for seed in range(8)]
        wrong: list[int] = []

        def ask(first: int) -> None:
            for number in range(12):
                seed = (first + number) % 8
                if place_values(recognizer.query(pixels(seed))) != wanted[seed]:
                    wrong.append(seed)

        threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def ask_in_another_process(path: Path, results) -> None:
    with PlaceRecognizer.open(path, model=MeanColours()) as recognizer:
        results.put([place_values(recognizer.query(pixels(seed))) for seed in range(6)])


def place_values(answer):
    return [(place.path, place.score, place.global_score) for place in answer.places]


def test_processes_that_ask_at_once_get_equal_answers(tmp_path):
    path = small_index(tmp_path / "a.placerec", draw_folder(tmp_path / "photos", 6))
    results = spawn.Queue()
    processes = [
        spawn.Process(target=ask_in_another_process, args=(path, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    with PlaceRecognizer.open(path, model=MeanColours()) as recognizer:
        wanted = [place_values(recognizer.query(pixels(seed))) for seed in range(6)]
    assert [results.get(timeout=60) for _ in processes] == [wanted, wanted]
    for process in processes:
        process.join()
        assert process.exitcode == 0
