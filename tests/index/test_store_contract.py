"""What every store of an index promises, as random histories and one by one: SQLite and Lance.

The tests of Lance need its extra: they are run by ``make test-cluster``.
"""

# ruff: noqa: PT012 - what must raise is the end of a with block, so it belongs inside
from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from index_support import ABOUT, features

from index.store_support import as_stored, build, content, create, put
from placerec.errors import NotAnIndex, NotFound, StaleIndex, UsageError
from placerec.index import open_index, verify
from placerec.index.presets import EXACT
from placerec.index.store import store_of
from placerec.method.confidence import Calibration

ADDRESSES = {"sqlite": "{}/town.placerec", "lance": "lance:{}/town"}
BOTH = [
    pytest.param("sqlite"),
    pytest.param("lance", marks=pytest.mark.cluster),
]
NAMES = ["a.jpg", "b.jpg", "sub/a.jpg", "../beside.jpg"]
names, seeds = st.sampled_from(NAMES), st.integers(0, 5)


def interrupt(now: bool) -> None:
    if now:
        raise KeyboardInterrupt


class Histories(RuleBasedStateMachine):
    """Batches of changes, builds and readers in any order, against a plain dict."""

    store = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.address = Path(ADDRESSES[self.store].format(self.home))
        self.expected = {"a.jpg": 0, "b.jpg": 1}
        build(self.address, self.expected)
        self.reader, self.seen = open_index(self.address), dict(self.expected)

    def teardown(self) -> None:
        self.reader.close()
        shutil.rmtree(self.home)

    @rule(
        changes=st.lists(
            st.one_of(
                st.tuples(st.just("put"), names, seeds),
                st.tuples(st.just("remove"), names),
                st.tuples(st.just("rename"), names, names),
                st.tuples(st.just("commit")),
            ),
            max_size=6,
        ),
        kept=st.booleans(),
    )
    def change(self, changes: list[tuple[object, ...]], kept: bool) -> None:
        batch, before = dict(self.expected), self.expected
        try:
            with store_of(self.address).change(self.address) as writer:
                for kind, *values in changes:
                    if kind == "commit":
                        writer.commit()
                        before = dict(batch)
                    elif kind == "put":
                        put(writer, *values)
                        batch[values[0]] = values[1]
                    elif kind == "remove":
                        assert writer.remove(values[0]) == (values[0] in batch)
                        batch.pop(values[0], None)
                    else:
                        assert writer.rename(*values) == (values[0] in batch)
                        if values[0] in batch:
                            batch[values[1]] = batch.pop(values[0])
                interrupt(not kept)
            before = batch
        except KeyboardInterrupt:
            pass
        except UsageError:  # no photo would remain
            assert not batch
        self.expected = before

    @rule(photos=st.dictionaries(names, seeds), kept=st.booleans())
    def build_again(self, photos: dict[str, int], kept: bool) -> None:
        try:
            with create(self.address, replace=True) as writer:
                for name, seed in photos.items():
                    put(writer, name, seed)
                interrupt(not kept)
        except KeyboardInterrupt:
            return
        except UsageError:
            assert not photos
            return
        self.expected = photos

    @rule()
    def open_again(self) -> None:
        self.reader.close()
        self.reader, self.seen = open_index(self.address), dict(self.expected)

    @invariant()
    def an_index_has_what_was_committed_and_a_reader_what_it_saw(self) -> None:
        assert verify(self.address) == []
        assert content(self.address) == self.expected
        assert {e.name: int(e.sha256, 16) for e in self.reader.entries} == self.seen
        if not self.reader.has_changed():
            assert self.seen == self.expected
        for number, entry in enumerate(self.reader.entries):
            seed = self.seen[entry.name]
            try:
                sets = [patches.descriptors.tobytes() for patches in self.reader.patches(number)]
            except StaleIndex:
                assert self.reader.has_changed()
                continue
            assert tuple(sets) == as_stored(seed)[1:]


class LanceHistories(Histories):
    store = "lance"


def histories(count: int) -> settings:
    return settings(
        max_examples=count, stateful_step_count=8, deadline=None, derandomize=True,
        database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip


TestHistories = Histories.TestCase
TestHistories.settings = histories(5)


@pytest.mark.cluster
class TestLanceHistories(LanceHistories.TestCase):
    settings = histories(12)


@pytest.fixture(params=BOTH)
def address(request, tmp_path) -> Path:
    return Path(ADDRESSES[request.param].format(tmp_path))


@pytest.fixture
def index(address) -> Path:
    return build(address, {"a.jpg": 0, "b.jpg": 1})


def test_an_index_states_what_it_was_given(address, tmp_path):
    build(address, {"a.jpg": 3}, root=tmp_path / "photos")
    with open_index(address) as reader:
        info = reader.info
        assert reader.photo_path("a.jpg") == tmp_path / "photos" / "a.jpg"
    assert (info.photos, info.model, info.format, info.retriever) == (1, "demo", 7, "")
    assert (info.fingerprint, info.settings) == (ABOUT["fingerprint"], ABOUT["settings"])
    assert info.root == tmp_path / "photos"
    assert info.bytes > info.bytes_per_photo > 0


def test_an_exact_index_gives_every_bit_back(address):
    build(address, {"a.jpg": 0}, storage=EXACT)
    with store_of(address).change(address) as writer:
        put(writer, "b.jpg", 1)
    with open_index(address) as reader:
        assert reader.info.format == 8
        wanted = np.stack([features(seed, grid=2).global_descriptor for seed in (0, 1)])
        np.testing.assert_array_equal(reader.global_descriptors(), wanted)
        for seed in (0, 1):
            for back, given in zip(reader.patches(seed), features(seed, 2).patches, strict=True):
                np.testing.assert_array_equal(back.descriptors, given.descriptors)


def test_a_reader_sees_its_own_photos_and_says_that_there_are_others(index):
    with open_index(index) as reader:
        with store_of(index).change(index) as writer:
            put(writer, "c.jpg", 4)
        assert reader.has_changed()
        assert [entry.name for entry in reader.entries] == ["a.jpg", "b.jpg"]
        assert len(list(reader.read_patches([1, 0]))) == 2
    with open_index(index) as reader:
        assert not reader.has_changed()
        assert len(reader.entries) == 3


@pytest.mark.parametrize("kind", ["removed", "changed", "renamed"])
def test_a_photo_that_is_no_longer_there_is_stale(index, kind):
    with open_index(index) as reader:
        with store_of(index).change(index) as writer:
            if kind == "removed":
                writer.remove("a.jpg")
            elif kind == "changed":
                put(writer, "a.jpg", 5)
            else:
                writer.rename("a.jpg", "c.jpg")
        with pytest.raises(StaleIndex, match="open it again"):
            reader.patches(0)
        assert len(reader.patches(1)) == 2


def test_a_closed_reader_and_an_ended_writer_say_so(index):
    reader = open_index(index)
    reader.close()
    with pytest.raises(UsageError, match="closed"):
        reader.patches(0)
    writer = store_of(index).change(index)
    writer.close()
    for call in (writer.commit, lambda: put(writer, "c.jpg", 1), lambda: writer.remove("a.jpg")):
        with pytest.raises(UsageError, match="closed"):
            call()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a//b", "a/../b", "..", "a\0b", "./a"])
def test_a_name_that_is_no_plain_relative_path_is_refused(index, name):
    with store_of(index).change(index) as writer:
        for call in (lambda: put(writer, name, 1), lambda: writer.rename("a.jpg", name)):
            with pytest.raises(UsageError):
                call()
    assert content(index) == {"a.jpg": 0, "b.jpg": 1}


def test_descriptors_of_another_model_are_refused_and_the_batch_goes_on(index):
    with store_of(index).change(index) as writer:
        with pytest.raises(UsageError, match="one model"):
            writer.put("c.jpg", "0f", None, features(2, width=33))
        put(writer, "c.jpg", 2)
    assert content(index) == {"a.jpg": 0, "b.jpg": 1, "c.jpg": 2}


def test_a_build_is_not_visible_before_its_end(address):
    with create(address) as writer:
        put(writer, "a.jpg", 0)
        writer.commit()
        with pytest.raises(NotFound):
            open_index(address)
        assert not store_of(address).exists(address)
    assert content(address) == {"a.jpg": 0}
    assert store_of(address).exists(address)


def test_a_build_that_fails_leaves_nothing_or_the_old_index(address, tmp_path):
    def fail(**changes: object) -> None:
        with pytest.raises(KeyboardInterrupt), create(address, **changes) as writer:
            put(writer, "c.jpg", 3)
            writer.commit()
            interrupt(now=True)

    fail()
    assert list(tmp_path.iterdir()) == []
    build(address, {"a.jpg": 0})
    with open_index(address) as reader:
        fail(replace=True)
        assert not reader.has_changed()
    assert content(address) == {"a.jpg": 0}
    assert verify(address) == []


def test_an_index_is_replaced_only_on_request_and_readers_keep_theirs(index):
    with pytest.raises(UsageError, match="already exists"):
        create(index)
    with open_index(index) as reader:
        build(index, {"c.jpg": 2}, replace=True)
        assert reader.has_changed()
        assert len(reader.entries) == 2
    assert content(index) == {"c.jpg": 2}


def test_a_calibration_sees_the_photos_of_the_build(address):
    with create(address) as writer:
        put(writer, "a.jpg", 0)
        put(writer, "b.jpg", 1)

        def calibrate(reader) -> Calibration:
            assert len(reader.entries) == len(reader.global_descriptors()) == 2
            assert len(reader.patches(1)) == 2
            return Calibration(photos=2, reason="seen")

        writer.calibrate(calibrate)
    with open_index(address) as reader:
        assert reader.info.calibration == Calibration(photos=2, reason="seen")


def test_a_folder_of_photos_can_be_moved(index, tmp_path):
    with store_of(index).change(index) as writer:
        writer.move_root(tmp_path / "elsewhere")
    with open_index(index) as reader:
        assert reader.info.root == tmp_path / "elsewhere"


def test_an_index_without_a_photo_is_never_made(address, tmp_path):
    with pytest.raises(UsageError, match="no photo"), create(address):
        pass
    assert list(tmp_path.iterdir()) == []
    build(address, {"a.jpg": 0})
    with (
        pytest.raises(UsageError, match="delete"),
        store_of(address).change(address) as writer,
    ):
        writer.remove("a.jpg")
    assert content(address) == {"a.jpg": 0}


def test_what_is_no_index_is_refused_and_not_replaced(address, tmp_path):
    with pytest.raises(NotFound):
        open_index(address)
    assert list(tmp_path.iterdir()) == []
    other = tmp_path / Path(str(address).removeprefix("lance:")).name
    other.mkdir()
    (other / "diary.txt").write_text("mine")
    with pytest.raises(NotAnIndex):
        open_index(address)
    with pytest.raises(UsageError, match="choose another"):
        create(address, replace=True)
    assert (other / "diary.txt").read_text() == "mine"
