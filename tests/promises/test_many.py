"""The slow lane of kills and damage: hundreds where the fast tests have tens. P1, P2."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

import pytest
from promise_support import files_in, stored

from index.index_support import BATCH, answers, build, go, kill, rows, start
from placerec.errors import Damaged, NotAnIndex
from placerec.index import verify
from placerec.index.presets import PRESETS

pytestmark = pytest.mark.slow


def test_200_kills_leave_whole_batches_and_every_acknowledged_one(tmp_path):
    chance, path = random.Random(23), build(tmp_path / "a.plr", range(2))
    legal = {0, 1}
    for number in range(200):
        child = start(path, "add")
        acknowledged = go(child, batches=number % 5)
        time.sleep(chance.uniform(0.0, 0.03))
        acknowledged += kill(child)
        assert child.returncode == -signal.SIGKILL
        assert verify(path) == []
        assert files_in(tmp_path) == ["a.plr"]
        last = max(acknowledged, default=99)
        legal |= set(range(100, last + 1))
        in_flight = set(range(100, last + BATCH + 1 if acknowledged else 103))
        kept = {int(mark, 16) for mark in stored(path).values()}
        assert kept in (legal, legal | in_flight)
        legal = kept
        if number % 20 == 19:  # begin again with a small file
            path.unlink()
            build(path, range(2))
            legal = {0, 1}


def damaged_contents(content: bytes, count: int):
    """Yield damaged versions of a file: flipped bits, cuts, and pages in the place of others."""
    chance = random.Random(29)
    for number in range(count):
        damaged = bytearray(content)
        kind = number % 4
        if kind < 2:
            for _ in range(1 + 2 * kind):
                place = chance.randrange(8 * (1000 if number % 5 == 0 else len(content)))
                damaged[place // 8] ^= 1 << place % 8
        elif kind == 2:
            del damaged[chance.randrange(len(content)) :]
        else:
            first, second = (4096 * chance.randrange(len(content) // 4096) for _ in range(2))
            other = [content[second : second + 4096], bytes(4096), chance.randbytes(4096)]
            damaged[first : first + 4096] = other[chance.randrange(3)]
        if damaged != content:
            yield bytes(damaged)


@pytest.mark.parametrize("preset", PRESETS)
def test_4000_damaged_files_are_found_and_never_answered(tmp_path: Path, preset: str):
    path = build(tmp_path / "a.plr", range(12), storage=PRESETS[preset])
    content, good_rows, good_answers = path.read_bytes(), rows(path), answers(path)
    changed = 0
    for damaged in damaged_contents(content, 2000):
        path.write_bytes(damaged)
        with suppress(Damaged, NotAnIndex):
            assert answers(path) == good_answers
        try:
            same = rows(path) == good_rows
        except (sqlite3.Error, UnicodeDecodeError):
            same = False
        if not same:
            changed += 1
            with suppress(NotAnIndex):
                assert verify(path)
        assert path.read_bytes() == damaged
    assert changed > 500
