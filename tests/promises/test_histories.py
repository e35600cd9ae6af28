"""Random histories of an index, against a plain dict: P1, P2, P5.

A history draws, changes, spoils, renames and deletes photos of a folder, and builds, adds, removes
and refreshes. Any of these may be killed at a random call to the disk, meet a full disk, or be
interrupted between two photos. In between the index file is damaged and restored.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from PIL import Image
from promise_support import SETTINGS, MeanColours, files_in, pixels, small_index, stored
from sqlite_disk import AVAILABLE, Failing, watched

from index.index_support import answers, rows
from placerec import add_photos, build_index, refresh_index, remove_photos
from placerec.errors import Damaged, NoRoom, NotAnIndex, NotFound, PhotoError, UsageError
from placerec.index import build as build_module
from placerec.index import update, verify
from placerec.recognise import PlaceRecognizer

INDEX, BATCH = "a.placerec", 2  # photos per batch: two, so that small histories have several


def png(seed: int) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(pixels(seed)).save(file, "PNG")
        return file.getvalue()


PHOTOS = [png(seed) for seed in range(8)]
SPOILT = b"\x89PNG\r\n\x1a\n and no more"
NAMES = [f"{letter}.png" for letter in "abcde"] + ["sub/a.png"]

names = st.sampled_from(NAMES)
some_names = st.lists(names, min_size=1, max_size=4)
kinds = st.sampled_from(["build", "add", "remove", "refresh"])
places = st.integers(0, 40)  # of a call to the disk, or of a photo, within one change


@dataclass
class Change:
    """A change of the index: how it is made, and what the index may have afterwards.

    ``legal`` are the states after 0, 1, ... batches; without an accident it has the last one.
    ``error`` is the error that ends it without a change.
    """

    make: Callable[[MeanColours], object]
    legal: list[dict[str, str]]
    error: type[Exception] | None = None


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.index, self.folder = self.home / "here" / INDEX, self.home / "photos"
        self.index.parent.mkdir()
        self.disk: dict[str, bytes] = {}
        for module in (build_module, update):
            module.BATCH = BATCH
        for number, name in enumerate(NAMES[:3]):
            self.draw(name, number)
        small_index(self.index, self.folder)
        self.expected, self.partial = self.readable(), False

    def teardown(self) -> None:
        for module in (build_module, update):
            module.BATCH = 32
        shutil.rmtree(self.home)

    # What is on the disk.

    @rule(name=names, number=st.integers(0, len(PHOTOS) - 1))
    def draw(self, name: str, number: int) -> None:
        self.write(name, PHOTOS[number])

    @rule(name=names)
    def spoil(self, name: str) -> None:
        self.write(name, SPOILT)

    @rule(name=names)
    def delete(self, name: str) -> None:
        if self.disk.pop(name, None):
            (self.folder / name).unlink()

    @rule(old=names, new=names)
    def rename(self, old: str, new: str) -> None:
        if old in self.disk and new != old:
            content = self.disk[old]
            self.delete(old)
            self.write(new, content)

    def write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.disk[name] = content

    def readable(self) -> dict[str, str]:
        return {
            name: hashlib.sha256(content).hexdigest()
            for name, content in self.disk.items()
            if content != SPOILT
        }

    # What the program does.

    def change(self, kind: str, chosen: list[str]) -> Change:
        before, readable = self.expected, self.readable()
        if kind == "build":
            error = None if readable else PhotoError if self.disk else NotFound
            make = lambda trunk: build_index(  # noqa: E731
                self.index, self.folder, model=trunk, settings=SETTINGS, replace=True
            )
            return Change(make, [before, readable or before], error)
        if kind == "remove":
            error = NotFound if set(chosen) - set(before) else None
            after = {name: mark for name, mark in before.items() if name not in chosen}
            error = error or (None if after else UsageError)
            make = lambda _: remove_photos(self.index, chosen)  # noqa: E731
            return Change(make, [before, before if error else after], error)
        if kind == "add":
            paths = [self.folder / name for name in chosen]
            make = lambda trunk: add_photos(self.index, paths, model=trunk)  # noqa: E731
            if set(chosen) - set(self.disk):
                return Change(make, [before], NotFound)
            return Change(make, self.batches(list(dict.fromkeys(chosen)), before))
        make = lambda trunk: refresh_index(self.index, model=trunk)  # noqa: E731
        state, legal = dict(before), [before]
        moves = self.moves()
        for number, (old, new) in enumerate(moves.items(), start=1):
            state[new] = state.pop(old)
            if number % BATCH == 0:
                legal.append(dict(state))
        kept = {name: mark for name, mark in state.items() if name in self.disk}
        legal += self.batches(sorted(self.disk), kept)[1:]
        return Change(make, legal if legal[-1] else [before], None if legal[-1] else UsageError)

    def moves(self) -> dict[str, str]:
        """The photos that a refresh finds under another name: old name, new name."""
        readable, moves = self.readable(), {}
        new = [name for name in sorted(self.disk) if name not in self.expected]
        for old in sorted(set(self.expected) - set(self.disk)):
            same = [name for name in new if readable.get(name) == self.expected[old]]
            if same:
                moves[old] = same[0]
                new.remove(same[0])
        return moves

    def batches(self, names: list[str], start: dict[str, str]) -> list[dict[str, str]]:
        """The states while photos are added to ``start``; the last state comes always."""
        readable, state, legal = self.readable(), dict(start), [start]
        for name in names:
            if name in readable and start.get(name) != readable[name]:
                state = {**state, name: readable[name]}
                legal.append(state)
        return [legal[0], *legal[BATCH::BATCH], state]

    @rule(kind=kinds, chosen=some_names)
    def do(self, kind: str, chosen: list[str]) -> None:
        change = self.change(kind, chosen)
        if change.error:
            with pytest.raises(change.error):
                change.make(MeanColours())
        else:
            report = change.make(MeanColours())
            looked_at = {"remove": 0, "add": len(set(chosen))}.get(kind, len(self.disk))
            indexed = report.added + report.changed + report.moved + report.unchanged
            assert indexed + len(report.skipped) == looked_at
            self.partial &= kind != "build"  # it replaces what a killed one has left
        self.expected = change.legal[-1]

    @rule()
    def move_the_folder(self) -> None:
        new = self.folder.with_name(f"{self.folder.name}+")
        self.folder.rename(new)
        readable = self.readable()
        same = [name for name, mark in self.expected.items() if readable.get(name) == mark]
        expected = self.change("refresh", []).legal[-1]
        if same or self.moves():
            refresh_index(self.index, folder=new, model=MeanColours())
            self.folder, self.expected = new, expected
        else:
            with pytest.raises(UsageError, match="none of its"):
                refresh_index(self.index, folder=new, model=MeanColours())
            new.rename(self.folder)

    @precondition(lambda _: AVAILABLE)
    @rule(kind=kinds, chosen=some_names, place=places)
    def kill(self, kind: str, chosen: list[str], place: int) -> None:
        change, left, calls = self.change(kind, chosen), None, 0

        def before(_: object) -> int:
            nonlocal left, calls
            if calls == place:
                left = {path: path.read_bytes() for path in self.index.parent.iterdir()}
            calls += 1
            return 0

        with watched(before), contextlib.suppress(PhotoError, NotFound, UsageError):
            change.make(MeanColours())
        if left is None:
            self.settle(change)
            return
        for path in self.index.parent.iterdir():
            path.unlink()
        for path, content in left.items():
            path.write_bytes(content)
        self.partial |= kind == "build"
        self.settle(change)

    @precondition(lambda _: AVAILABLE)
    @rule(kind=kinds, chosen=some_names, place=places, for_ever=st.booleans())
    def meet_a_full_disk(self, kind: str, chosen: list[str], place: int, for_ever: bool) -> None:
        change, disk = self.change(kind, chosen), Failing(place, for_ever)
        with watched(disk):
            try:
                change.make(MeanColours())
            except NoRoom:
                assert disk.failed
            except (PhotoError, NotFound, UsageError):
                assert change.error
        self.settle(change)

    @rule(kind=kinds, chosen=some_names, place=st.integers(0, 6))
    def interrupt(self, kind: str, chosen: list[str], place: int) -> None:
        change, trunk = self.change(kind, chosen), Interrupted(place)
        with contextlib.suppress(KeyboardInterrupt, PhotoError, NotFound, UsageError):
            change.make(trunk)
        self.settle(change)

    def settle(self, change: Change) -> None:
        """After an accident the index has one of the legal states; go on from that one."""
        assert verify(self.index) == []
        self.expected = stored(self.index)
        assert self.expected in change.legal

    @rule(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def damage(self, place: float, bit: int) -> None:
        content = self.index.read_bytes()
        good_rows, good_answers = rows(self.index), answers(self.index)
        damaged = bytearray(content)
        damaged[int(place * len(content))] ^= 1 << bit
        self.index.write_bytes(damaged)
        with contextlib.suppress(Damaged, NotAnIndex):
            assert answers(self.index) == good_answers
        if raw_rows(self.index) != good_rows:
            with contextlib.suppress(NotAnIndex):
                assert verify(self.index)
        self.index.write_bytes(content)

    @rule(number=st.integers(0, len(PHOTOS) - 1))
    def ask(self, number: int) -> None:
        with PlaceRecognizer.open(self.index, model=MeanColours()) as recognizer:
            places = recognizer.query(pixels(number)).places
        assert len(places) == min(5, len(self.expected))
        assert {place.path for place in places} <= set(self.expected)
        assert all(a.score >= b.score for a, b in itertools.pairwise(places))

    @invariant()
    def the_index_has_what_is_expected_and_is_one_file(self) -> None:
        assert verify(self.index) == []
        assert stored(self.index) == self.expected
        partial = {f"{INDEX}.partial"} if self.partial else set()
        assert {INDEX} <= set(files_in(self.index.parent)) <= {INDEX, *partial}


class Interrupted(MeanColours):
    """A trunk at whose photo number ``last`` somebody presses Ctrl-C."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last

    def __call__(self, image):
        if self.photos == self.last:
            raise KeyboardInterrupt
        return super().__call__(image)


def raw_rows(path: Path) -> object:
    try:
        return rows(path)
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def histories(count: int, steps: int) -> settings:
    return settings(
        max_examples=count, stateful_step_count=steps, deadline=None, derandomize=True,
        database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip


TestHistories = Histories.TestCase
TestHistories.settings = histories(15, 15)


@pytest.mark.slow
class TestManyHistories(Histories.TestCase):
    settings = histories(300, 30)
