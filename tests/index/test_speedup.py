"""The cache that speeds up the search of a large index: right answers, and never trusted."""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from index_support import build, draw, put

from placerec.errors import MissingExtra, NoRoom, NotAnIndex, UsageError
from placerec.files import cache_folder
from placerec.index import IndexReader, IndexWriter, codec, speedup
from placerec.index.presets import EXACT
from placerec.index.speedup import Neighbours, cache_of, open_neighbours, speed_up
from placerec.index.update import add_photos, remove_photos
from placerec.recognise import PlaceRecognizer
from placerec.records import Features
from placerec.runtime import Runtime
from placerec.serve import ServedIndex

pytestmark = pytest.mark.usefixtures("own_cache_folder")


@pytest.fixture
def index(tmp_path):
    return build(tmp_path / "town.placerec")


def opened(path):
    """The neighbours for the index as it is now, and why there are none."""
    with IndexReader.open(path) as reader:
        return speedup.open_speedup(reader, path)


def test_an_index_is_sped_up_until_it_changes(index):
    assert opened(index) == (None, "")
    stages = []
    runtime = Runtime(progress=lambda *stage: stages.append(stage))
    assert speed_up(index, runtime=runtime) == cache_of(index)
    assert stages[-1] == ("neighbours", 6, 6)
    near, why = opened(index)
    assert (near.photos, why) == (6, "")
    with IndexWriter.open(index) as writer:
        put(writer, 6)
    near, why = opened(index)
    assert near is None
    assert "made before the index was changed" in why
    speed_up(index)
    assert opened(index)[0].photos == 7


@pytest.mark.parametrize(
    "other", [{"fingerprint": "cd34"}, {"settings": '{"sizes": [2]}'}, {"storage": EXACT}]
)
def test_a_cache_of_another_model_or_format_is_not_used(tmp_path, index, other):
    second = build(tmp_path / "second.placerec", **other)
    shutil.copy(speed_up(second), cache_of(index))
    near, why = opened(index)
    assert near is None
    assert "made before the index was changed" in why


def test_a_new_digest_is_a_new_mark_and_a_copy_of_the_index_has_the_same(tmp_path, index):
    cache = speed_up(index)
    (tmp_path / "moved").mkdir()
    copy = tmp_path / "moved" / "copy.placerec"
    shutil.copy(index, copy)
    shutil.copy(cache, cache_of(copy))
    assert opened(copy)[0].photos == 6
    with IndexWriter.open(index) as writer:
        assert writer.rename("street/001.jpg", "street/009.jpg")
    assert opened(index)[0] is None


def test_the_cache_of_a_link_lies_beside_the_index(tmp_path, index):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.placerec"
    link.symlink_to(index)
    assert speed_up(link) == index.with_name("town.placerec.speedup")
    assert opened(link)[0].photos == 6


def test_no_changed_byte_reaches_the_graph(index, monkeypatch):
    cache = speed_up(index)
    content = cache.read_bytes()
    with IndexReader.open(index) as reader:
        mark = speedup.mark_of(reader)
    monkeypatch.setattr(speedup, "_empty_graph", None)  # a call would be an error
    rng = np.random.default_rng(0)
    for place in rng.integers(len(content), size=200).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        cache.write_bytes(damaged)
        near, why = open_neighbours(index, mark)
        assert near is None, place
        assert "not used" in why, place


def test_a_cache_of_another_version_is_named_as_one_and_replaced(index):
    cache = speed_up(index)
    content = cache.read_bytes()
    cache.write_bytes(b"plrnear\x01" + content[8:])
    near, why = opened(index)
    assert near is None
    assert "another version of placerec has made it; make it again" in why
    assert speed_up(index).read_bytes() == content


@pytest.mark.parametrize("length", [0, 7, 40, 67, 68, 200, -1])
def test_a_truncated_cache_is_not_used_and_is_made_again(index, monkeypatch, length):
    cache = speed_up(index)
    content = cache.read_bytes()
    cache.write_bytes(content[:length])
    assert opened(index)[0] is None
    speed_up(index)
    assert cache.read_bytes() == content


def test_what_a_killed_writer_has_left_is_not_used_and_is_replaced(index):
    cache = speed_up(index)
    partial = cache.with_name(f"{cache.name}.partial")
    cache.rename(partial)
    assert opened(index) == (None, "")
    partial.write_bytes(partial.read_bytes()[:100])
    speed_up(index)
    assert opened(index)[0].photos == 6
    assert not partial.exists()


def test_a_longer_cache_is_not_used(index):
    cache = speed_up(index)
    cache.write_bytes(cache.read_bytes() + b"\0")
    assert opened(index)[0] is None


@pytest.mark.parametrize("secret", [None, b"", bytes(32)])
def test_a_cache_of_another_user_is_not_used(index, secret):
    speed_up(index)
    key = cache_folder() / "speedup.key"
    assert len(key.read_bytes()) == 32
    assert key.stat().st_mode & 0o077 == 0
    key.unlink()
    if secret is not None:
        key.write_bytes(secret)
    near, why = opened(index)
    assert near is None
    assert "another user or machine" in why


def test_another_file_under_the_name_of_the_cache_stays(index):
    cache_of(index).write_bytes(b"a photo")
    with pytest.raises(UsageError, match="not a cache of placerec"):
        speed_up(index)
    assert cache_of(index).read_bytes() == b"a photo"
    near, why = opened(index)
    assert near is None
    assert "not a cache of placerec" in why


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_under_the_name_of_the_cache_is_only_named(index, make):
    make(cache_of(index))
    with pytest.raises(UsageError, match="not a cache of placerec"):
        speed_up(index)
    assert "cannot be read" in opened(index)[1]


def test_without_permission_nothing_is_left_and_the_answer_is_exact(index, monkeypatch):
    opening = Path.open

    def refusing(path, *mode, **more):
        if path.name.endswith(".speedup.partial"):
            raise PermissionError(13, "Permission denied", str(path))
        return opening(path, *mode, **more)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(NoRoom, match=r"speedup: cannot write \(Permission denied\)"):
        speed_up(index)
    assert not list(index.parent.glob("*.speedup*"))
    assert opened(index) == (None, "")


def test_a_sped_up_query_gives_the_answer_and_the_index_that_changed_is_searched_in_full(
    quick_index, town, tmp_path, monkeypatch
):
    index = tmp_path / "quick.placerec"
    shutil.copy(quick_index, index)
    monkeypatch.setattr(speedup, "FEWEST_ROWS", 1)
    monkeypatch.setattr(speedup, "OVERSAMPLING", 1)
    photo, asked = town / "database" / "place_000.jpg", []
    search = Neighbours.shortlist
    monkeypatch.setattr(
        Neighbours, "shortlist", lambda *given: asked.append(given[3]) or search(*given)
    )
    with PlaceRecognizer.open(index, candidates=3) as recognizer:
        exact = recognizer.query(photo, top=3)
        assert (asked, recognizer.slower) == ([], "")
    speed_up(index)
    with PlaceRecognizer.open(index, candidates=3) as recognizer:
        found = recognizer.query(photo, top=3)
        assert asked == [3]
        assert found.best.path == exact.best.path
        remove_photos(index, found.places[-1].path)
        with recognizer.reload() as reloaded:
            assert "made before the index was changed" in reloaded.slower
            with ServedIndex.open(index) as served:
                assert served.slower == reloaded.slower
            assert reloaded.query(photo, top=3).best.path == exact.best.path
            assert asked == [3]


def test_without_the_extra_the_command_names_it_and_the_search_is_exact(index, monkeypatch):
    speed_up(index)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    near, why = opened(index)
    assert near is None
    assert "placerec[large]" in why
    with pytest.raises(MissingExtra, match=r"placerec\[large\]"):
        speed_up(index)


def test_a_query_says_that_the_cache_is_not_used(collection, command):
    cache_of(collection.index).write_bytes(b"damaged")
    code, out, err = command("query", collection.index, collection.photos / "0.png")
    assert code == 0
    assert "0.png" in out
    assert f"{cache_of(collection.index)}: not used, so the search takes longer: not a" in err
    assert err.endswith(f"make it again: placerec index speedup {collection.index}\n")


def test_only_an_index_is_sped_up(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"no index")
    with pytest.raises(NotAnIndex):
        speed_up(tmp_path / "photo.jpg")


def test_a_change_of_the_index_says_that_the_search_is_slower(collection):
    draw(collection.photos / "4.png", 4)
    speed_up(collection.index)
    cache = cache_of(collection.index)
    before = cache.read_bytes()
    report = add_photos(collection.index, collection.photos / "4.png")
    (notice,) = (notice for notice in report.notices if notice.kind == "slower")
    assert notice.names == ("town.placerec.speedup",)
    assert "make it again" in notice.text
    assert cache.read_bytes() == before
    assert opened(collection.index)[0] is None
    again = add_photos(collection.index, collection.photos / "4.png")
    assert [notice.kind for notice in again.notices].count("slower") == 1
    speed_up(collection.index)
    assert not add_photos(collection.index, collection.photos / "4.png").notices


def test_adding_a_photo_costs_the_same_for_any_number_of_photos(collection, monkeypatch):
    """No descriptor of another photo is read, and one photo is described and stored."""
    calls = Counter()

    def counted(owner, name):
        real = getattr(owner, name)

        def call(*args, **more):
            calls[name] += 1
            return real(*args, **more)

        monkeypatch.setattr(owner, name, call)

    def cost_of_adding(place):
        draw(collection.photos / f"{place}.png", place)
        calls.clear()
        assert add_photos(collection.index, collection.photos / f"{place}.png").added == 1
        return dict(calls)

    counted(codec, "_open_blob")
    counted(codec, "_seal_blob")
    counted(IndexWriter, "put")
    counted(speedup, "write_neighbours")
    few = cost_of_adding(5)
    assert few == {"_open_blob": 1, "_seal_blob": 2, "put": 1}  # the model; vector and patches
    with IndexReader.open(collection.index) as reader:
        stored = [reader.patches(0), reader.global_descriptors()[0]]
    with IndexWriter.open(collection.index) as writer:
        for number in range(60):
            features = Features(stored[1], stored[0])
            writer.put(f"n/{number}.png", f"{number:064x}", None, features, restored=True)
    assert cost_of_adding(6) == few


def test_the_command_makes_the_cache_and_says_so(index, command):
    code, out, err = command("index", "speedup", index)
    assert code == 0
    assert "neighbours" in err
    assert out == f"{cache_of(index)}: {cache_of(index).stat().st_size / 1000:.3g} kB\n"
    assert opened(index)[0].photos == 6
