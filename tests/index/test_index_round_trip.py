# ruff: noqa: PT012 - what must raise is the end of a with block, so it belongs inside
from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from index_support import ABOUT, WEIGHTS, answers, build, create, edit, features, position, put

from placerec.errors import DamagedIndex, NotFound, StaleIndex, UsageError
from placerec.index import IndexReader, IndexWriter, verify
from placerec.index.presets import EXACT
from placerec.records import Features, Position


def test_what_was_put_is_read_back(tmp_path: Path) -> None:
    path = build(tmp_path / "town.plr")
    with IndexReader.open(path) as reader:
        assert [entry.name for entry in reader.entries] == [f"street/{i:03d}.jpg" for i in range(6)]
        assert [entry.position for entry in reader.entries] == [position(i) for i in range(6)]
        assert [int(entry.sha256, 16) for entry in reader.entries] == list(range(6))
        found = reader.global_descriptors()[:]
        wanted = np.stack([features(i).global_descriptor for i in range(6)])
        assert found.dtype == np.float32
        np.testing.assert_allclose((found * wanted).sum(axis=1), 1, atol=1e-3)
        for number in range(6):
            for back, given in zip(reader.patches(number), features(number).patches, strict=True):
                assert back.grid == given.grid
                np.testing.assert_allclose(back.descriptors, given.descriptors, atol=0.01)
        assert reader.weights() == WEIGHTS
        info = reader.info
    assert (info.photos, info.format, info.model) == (6, 7, "demo")
    assert (info.fingerprint, info.settings) == (ABOUT["fingerprint"], ABOUT["settings"])
    assert info.root == tmp_path.resolve() / "photos"
    assert info.bytes == path.stat().st_size
    numbers = features(0).global_descriptor.size
    numbers += sum(patches.descriptors.size for patches in features(0).patches)
    assert info.bytes_per_photo == numbers + 3 * 36  # int8; the model is not counted
    assert verify(path) == []


def test_an_exact_index_gives_every_bit_back_and_goes_on_so(tmp_path: Path) -> None:
    path = build(tmp_path / "town.plr", range(3), storage=EXACT)
    with IndexWriter.open(path) as writer:
        put(writer, 3)
        put(writer, 0)
    assert answers(path) == answers(build(tmp_path / "b.plr", range(4), storage=EXACT))
    assert verify(path) == []
    with IndexReader.open(path) as reader:
        assert reader.info.format == 8
        wanted = np.stack([features(i).global_descriptor for i in range(4)])
        np.testing.assert_array_equal(reader.global_descriptors()[:], wanted)
        for number in range(4):
            for back, given in zip(reader.patches(number), features(number).patches, strict=True):
                np.testing.assert_array_equal(back.descriptors, given.descriptors)
        numbers = wanted[0].size + sum(p.descriptors.size for p in features(0).patches)
        assert reader.info.bytes_per_photo == 4 * numbers + 3 * 36


def test_an_index_of_int8_stays_one_when_photos_are_added(tmp_path: Path) -> None:
    path = build(tmp_path / "town.plr", range(3))
    with IndexWriter.open(path) as writer:
        put(writer, 3)
    with IndexReader.open(path) as reader:
        assert reader.info.format == 7
    assert answers(path) == answers(build(tmp_path / "b.plr", range(4)))


def test_after_a_build_there_is_exactly_one_file(tmp_path: Path) -> None:
    build(tmp_path / "town.plr")
    with IndexWriter.open(tmp_path / "town.plr") as writer:
        put(writer, 9)
    assert [file.name for file in tmp_path.iterdir()] == ["town.plr"]


def test_a_copy_of_the_one_file_gives_the_same_answers(tmp_path: Path) -> None:
    path = build(tmp_path / "town.plr")
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(path, tmp_path / "elsewhere")
    assert answers(Path(copy)) == answers(path)


def test_index_and_photos_can_be_moved_together(tmp_path: Path) -> None:
    (tmp_path / "before" / "photos").mkdir(parents=True)
    build(tmp_path / "before" / "town.plr")
    (tmp_path / "before").rename(tmp_path / "after")
    with IndexReader.open(tmp_path / "after" / "town.plr") as reader:
        assert reader.info.root == (tmp_path / "after" / "photos").resolve()


def test_a_link_to_an_index_knows_the_same_root(tmp_path: Path) -> None:
    path = build(tmp_path / "town.plr")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "a.plr"
    link.symlink_to(path)
    with IndexReader.open(link) as reader:
        assert reader.info.root == (tmp_path / "photos").resolve()


def test_the_order_and_batches_of_putting_do_not_matter(tmp_path: Path) -> None:
    seeds = list(range(20))
    straight = build(tmp_path / "a.plr", seeds)
    random.Random(3).shuffle(seeds)
    with create(tmp_path / "b.plr") as writer:
        for number, seed in enumerate(seeds):
            put(writer, seed)
            if number % 3 == 0:
                writer.commit()
    assert answers(tmp_path / "b.plr") == answers(straight)


def test_photos_added_later_equal_photos_of_one_go(tmp_path: Path) -> None:
    build(tmp_path / "a.plr", range(3))
    with IndexWriter.open(tmp_path / "a.plr") as writer:
        for seed in (5, 4, 3):
            put(writer, seed)
            writer.commit()
        put(writer, 4)
        put(writer, 17)
        assert writer.remove("street/017.jpg") is True
        assert writer.remove("street/017.jpg") is False
    assert answers(tmp_path / "a.plr") == answers(build(tmp_path / "b.plr"))
    assert verify(tmp_path / "a.plr") == []


def test_putting_a_name_again_replaces_the_photo(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(3))
    with IndexWriter.open(path) as writer:
        writer.put(
            "street/001.jpg", "ff", Position(1.0, 2.0), Features(features(8).global_descriptor)
        )
    with IndexReader.open(path) as reader:
        assert len(reader.entries) == 3
        assert (reader.entries[1].sha256, reader.entries[1].position) == ("ff", Position(1.0, 2.0))
        assert reader.patches(1) == ()
    assert verify(path) == []


def test_opening_for_changes_and_changing_nothing_leaves_the_bytes(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr")
    before = path.read_bytes()
    with IndexWriter.open(path) as writer:
        writer.remove("no such photo")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "raw",
    [
        b"caf\xe9.jpg", "caf\u00e9.jpg".encode(), "cafe\u0301.jpg".encode(), b"a\nb\t.jpg", b"-rf",
        b"%s%41?#.jpg", b"<script>'\".jpg", b"a/1.jpg", b"b/1.jpg", b"../beside/1.jpg", b"x" * 255,
    ],
)  # fmt: skip
def test_any_file_name_is_found_again(tmp_path: Path, raw: bytes) -> None:
    name = os.fsdecode(raw)
    with create(tmp_path / "a.plr") as writer:
        put(writer, 1)
        writer.put(name, "0f", None, features(2))
    with IndexReader.open(tmp_path / "a.plr") as reader:
        names = [entry.name for entry in reader.entries]
        assert sorted(names, key=os.fsencode) == names
        assert os.fsencode(names[names.index(name)]) == raw
        assert len(reader.patches(names.index(name))) == 2
    assert verify(tmp_path / "a.plr") == []


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a//b", "a/../b", "..", "a/.", "a\0b", "./a"])
def test_a_name_that_is_no_plain_relative_path_is_refused(tmp_path: Path, name: str) -> None:
    with create(tmp_path / "a.plr") as writer:
        put(writer, 1)
        with pytest.raises(UsageError):
            writer.put(name, "0f", None, features(2))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_position_that_is_no_number_is_refused_and_the_batch_goes_on(
    tmp_path: Path, bad: float
) -> None:
    with create(tmp_path / "a.plr") as writer:
        put(writer, 1)
        for place in (Position(bad, 0), Position(0, bad), Position(0, 0, bad)):
            with pytest.raises(UsageError, match="degrees"):
                writer.put("b.jpg", "0f", place, features(2))
    with IndexReader.open(tmp_path / "a.plr") as reader:
        assert len(reader.entries) == 1


def test_zero_minus_zero_and_numpy_numbers_are_positions(tmp_path: Path) -> None:
    with create(tmp_path / "a.plr") as writer:
        writer.put("a", "0f", Position(-0.0, np.float32(1.5), np.int64(7)), features(2))
    with IndexReader.open(tmp_path / "a.plr") as reader:
        assert reader.entries[0].position == Position(0.0, 1.5, 7.0)
    assert verify(tmp_path / "a.plr") == []


def test_descriptors_of_another_model_are_refused_and_the_batch_goes_on(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", [1])
    with IndexWriter.open(path) as writer:
        with pytest.raises(UsageError, match="one model"):
            writer.put("b.jpg", "0f", None, features(2, width=33))
        put(writer, 2)
    assert verify(path) == []


def test_an_index_without_a_photo_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no photo"), create(tmp_path / "a.plr"):
        pass
    assert list(tmp_path.iterdir()) == []
    path = build(tmp_path / "a.plr", [1])
    with pytest.raises(UsageError, match="delete"), IndexWriter.open(path) as writer:
        writer.remove("street/001.jpg")
    with IndexReader.open(path) as reader:
        assert len(reader.entries) == 1


def test_threads_read_the_same_as_one_after_another(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(12))
    with IndexReader.open(path) as reader:
        wanted = [[p.descriptors.tobytes() for p in reader.patches(i)] for i in range(12)]
        wrong: list[int] = []

        def read(seed: int) -> None:
            for i in random.Random(seed).choices(range(12), k=40):
                if [p.descriptors.tobytes() for p in reader.patches(i)] != wanted[i]:
                    wrong.append(i)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


FORK = """
import os, sys
from placerec.index import IndexReader
from placerec.errors import UsageError
with IndexReader.open(sys.argv[1]) as reader:
    child = os.fork()
    if child == 0:
        try:
            reader.patches(0)
        except UsageError as error:
            os._exit(10 if "fork" in str(error) else 11)
        os._exit(12)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
    assert len(reader.patches(0)) == 2
"""


def test_a_reader_used_after_a_fork_says_so_and_goes_on_in_the_parent(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", FORK, str(path)], check=True, env=environment)


@pytest.mark.parametrize("nothing", ["model", "fingerprint", "settings", "weights"])
def test_an_index_without_a_model_is_refused_before_a_file_is_made(tmp_path, nothing: str) -> None:
    with pytest.raises(UsageError):
        create(tmp_path / "a.plr", **{nothing: b"" if nothing == "weights" else ""})
    assert list(tmp_path.iterdir()) == []


def test_a_closed_reader_or_writer_says_so(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr")
    with IndexReader.open(path) as reader:
        pass
    with pytest.raises(UsageError, match="closed"):
        reader.weights()
    with IndexWriter.open(path) as writer:
        pass
    with pytest.raises(UsageError, match="closed"):
        put(writer, 1)


def test_a_reader_goes_on_while_photos_are_added(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(3))
    before = answers(path)
    with IndexReader.open(path) as reader:
        with IndexWriter.open(path) as writer:
            for seed in range(3, 9):
                put(writer, seed)
                assert len(reader.patches(1)) == 2  # inside an open batch, and between batches
                writer.commit()
        assert reader.entries == before[0]
        assert reader.global_descriptors()[:].tobytes() == before[1]


def test_a_photo_changed_since_opening_is_named_and_never_mixed(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(3))
    with IndexReader.open(path) as reader:
        with IndexWriter.open(path) as writer:
            writer.put("street/001.jpg", "ff", None, features(7))
        assert len(reader.patches(0)) == 2
        with pytest.raises(StaleIndex, match=r"001\.jpg.*open it again"):
            reader.patches(1)
        with pytest.raises(StaleIndex):
            reader.global_descriptors()


def test_a_missing_row_in_an_unchanged_index_is_damage(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(3))
    with IndexReader.open(path) as reader:
        edit(path, "DELETE FROM patches WHERE id = 3")
        with pytest.raises(DamagedIndex, match=r"001\.jpg"):
            reader.patches(1)


def test_an_open_reader_finishes_on_the_old_index_after_a_rebuild(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(3))
    before = answers(path)
    with IndexReader.open(path) as reader:
        build(path, range(10, 14), replace=True)
        assert reader.global_descriptors()[:].tobytes() == before[1]
        assert len(reader.patches(2)) == 2
    assert len(answers(path)[0]) == 4
    assert [file.name for file in tmp_path.iterdir()] == ["a.plr"]


def test_a_build_that_fails_keeps_the_old_index_and_leaves_nothing(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(3))
    before = path.read_bytes()
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), create(path, replace=True) as writer:
            put(writer, 1)
            writer.commit()
            assert sorted(file.name for file in tmp_path.iterdir()) == ["a.plr", "a.plr.partial"]
            raise error
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["a.plr"]


def test_an_exception_drops_the_open_batch_and_keeps_the_committed_ones(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(3))
    with pytest.raises(RuntimeError), IndexWriter.open(path) as writer:
        put(writer, 3)
        writer.commit()
        put(writer, 4)
        raise RuntimeError
    with IndexReader.open(path) as reader:
        assert len(reader.entries) == 4
    assert verify(path) == []


def test_an_existing_path_is_refused_without_replace(tmp_path: Path) -> None:
    path = build(tmp_path / "a.plr", range(3))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="replace"):
        create(path)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8 precious")
    with pytest.raises(UsageError, match="not replaced"):
        create(tmp_path / "photo.jpg", replace=True)
    assert (tmp_path / "photo.jpg").read_bytes() == b"\xff\xd8 precious"
    with pytest.raises(NotFound):
        create(tmp_path / "no folder" / "a.plr", root=tmp_path)
    assert path.read_bytes() == before
