"""Several processes and threads with one index: P4; and nothing of the system is used up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import at_once
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

from index.index_support import answers, build, put
from placerec import add_photos
from placerec.errors import Busy
from placerec.index import IndexReader, IndexWriter, connection, verify
from placerec.recognise import PlaceRecognizer


def two_writers_and_five_readers(path: Path, seconds: float) -> None:
    build(path, range(2))
    roles = [("write", 1), ("write", 2), *[("read", 2)] * 5]
    program = [sys.executable, "-W", "error", at_once.__file__]
    processes = [
        subprocess.Popen(
            [*program, role, path, str(number), str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        for role, number in roles
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    wanted = {0, 1}
    for process, (role, number) in zip(processes, roles, strict=True):
        out, err = process.communicate(timeout=seconds + 60)
        assert (process.returncode, err) == (0, "")
        report = json.loads(out)
        if role == "read":
            assert report[0] > 0
            assert report[1] == ""
        else:
            assert report > 0, f"writer {number} had no turn"
            first = number * at_once.MOST
            wanted |= set(range(first, first + at_once.BATCH * report))
    assert {int(mark, 16) for mark in stored(path).values()} == wanted
    assert verify(path) == []
    assert files_in(path.parent) == [path.name]


def test_two_writers_and_five_readers(tmp_path):
    two_writers_and_five_readers(tmp_path / "a.plr", 1.5)


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


def place_values(answer):
    return [(place.path, place.score, place.global_score) for place in answer.places]
