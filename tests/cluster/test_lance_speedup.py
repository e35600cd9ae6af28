"""The speed-up of an index in Lance: the photos of a full search, and never trusted."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from index.index_support import WEIGHTS, unit
from index.store_support import build, put
from placerec import PlaceRecognizer, build_index
from placerec.index import open_index, speed_up
from placerec.index.lance import speedup as cache
from placerec.index.packing import Dtype, pack
from placerec.index.speedup import open_speedup, size_of, stale_speedup
from placerec.index.store import store_of
from placerec.index.vectors import Vectors, collected
from placerec.settings import Settings
from placerec.workers import map_in_order

PHOTOS, COLUMNS, PLACES, MARK = 3000, 256, 100, b"m" * 16


def exact(rows):
    """These rows (N, D) as the vectors of an index."""
    return Vectors(rows, np.ones(len(rows), np.float32), rows.shape[1], Dtype.FLOAT32)


def made(address, vectors):
    """The neighbours in a new cache."""
    cache.write_speedup(address, vectors, MARK)
    near, why = cache.open_speedup(address, MARK)
    assert why == ""
    return near


@pytest.fixture(scope="module")
def vectors():
    """3000 photos of 100 places, with a common part: all values of a descriptor are positive."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(PLACES, COLUMNS))
    each = places[np.arange(PHOTOS) % PLACES] + 0.7 * rng.normal(size=(PHOTOS, COLUMNS))
    return exact(unit(np.exp(each / 3)))


@pytest.fixture(scope="module")
def queries(vectors):
    rng = np.random.default_rng(1)
    return unit(vectors[:: PHOTOS // 40] + 0.2 * unit(rng.normal(size=(40, COLUMNS))))


@pytest.fixture(scope="module")
def near(vectors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("near")
    yield made(Path(f"lance:{folder}/a"), vectors)
    shutil.rmtree(folder)


def test_lance_proposes_what_a_full_search_finds(near, vectors, queries):
    shares = []
    for query in queries:
        rows, similar = near.shortlist(query, vectors, 20)
        wanted, true = vectors.shortlist(query, 20)
        assert rows[0] == wanted[0]
        assert (np.diff(similar) <= 0).all()
        assert np.isin(similar[np.isin(rows, wanted)], true).all()  # bit for bit
        shares.append(np.isin(wanted, rows).mean())
    assert np.mean(shares) >= 0.97


def test_few_photos_are_compared_with_the_query(near, vectors, queries):
    class Counted:
        rows = 0

        def best_of(self, rows, *asked):
            self.rows += len(rows)
            return vectors.best_of(rows, *asked)

    counted = Counted()
    near.shortlist(queries[0], counted, 20)
    assert counted.rows == 200


def test_long_vectors_of_signs_are_projected_and_found(folder):
    rng = np.random.default_rng(4)
    once = unit(rng.normal(size=(600, 4100)))
    assert cache.projected(once).shape == (600, 512)
    products = cache.projected(once) @ cache.projected(once).T
    assert np.abs(products - once @ once.T).mean() < 0.05
    packed = [pack(row[None], Dtype.ONE_BIT, "rows") for row in once]
    rows = collected(((one[0], 4100, scale) for one, scale in packed), 600, Dtype.ONE_BIT)
    signs = made(Path(f"lance:{folder}/a"), rows)
    asked = unit(once + 0.5 * unit(rng.normal(size=once.shape)))
    assert [int(signs.shortlist(asked[n], rows, 5)[0][0]) for n in range(40)] == list(range(40))


def test_equal_and_blank_photos_hide_no_other_one(folder, vectors):
    blank, copies = np.zeros((500, COLUMNS), np.float32), np.repeat(vectors[:2], 700, axis=0)
    rows = exact(np.concatenate((blank, copies, vectors[:400])))
    mixed = made(Path(f"lance:{folder}/a"), rows)
    for query in (vectors[0], vectors[1], vectors[300]):
        rows_and_cosines, wanted = mixed.shortlist(query, rows, 20), rows.shortlist(query, 20)
        assert rows_and_cosines[0][0] == wanted[0][0]
    located = np.arange(len(rows)) % 2 == 0
    first = mixed.shortlist(vectors[0], rows, 20, located)[0].tolist()
    assert first == rows.shortlist(vectors[0], 20, located)[0].tolist()
    zero = np.zeros(COLUMNS, np.float32)
    assert mixed.shortlist(zero, rows, 5)[0].tolist() == rows.shortlist(zero, 5)[0].tolist()


def test_few_photos_and_a_closed_cache_give_the_search_without_one(folder):
    rng = np.random.default_rng(5)
    packed = [pack(row[None], Dtype.ONE_BIT, "rows") for row in unit(rng.normal(size=(400, 256)))]
    rows = collected(((one[0], 256, scale) for one, scale in packed), 400, Dtype.ONE_BIT)
    asked = unit(rng.normal(size=(20, 256)))
    few = made(Path(f"lance:{folder}/few"), rows.first(150))
    closed = cache.LanceNeighbours(400, few.place, None, few.probes)
    for query in asked:
        for near, some in ((few, rows.first(150)), (closed, rows)):
            ours, without = near.shortlist(query, some, 20), some.shortlist(query, 20)
            assert [part.tolist() for part in ours] == [part.tolist() for part in without]


def test_only_blank_photos_make_a_cache(folder):
    rows = exact(np.zeros((300, COLUMNS), np.float32))
    blank = made(Path(f"lance:{folder}/a"), rows)
    assert len(blank.shortlist(unit(np.ones(COLUMNS)), rows, 5)[0]) == 5


def test_threads_that_share_the_cache_get_the_answers_of_one(near, vectors, queries):
    def rows_of(query):
        return near.shortlist(query, vectors, 20)[0].tolist()

    assert list(map_in_order(rows_of, queries, 4)) == [rows_of(query) for query in queries]


def state_of(address):
    with open_index(address) as reader:
        return open_speedup(reader, address), stale_speedup(reader, address)


def test_an_index_is_sped_up_until_it_changes(folder):
    address = build(Path(f"lance:{folder}/town"), {f"{n}.jpg": n for n in range(6)})
    assert state_of(address) == ((None, ""), [])
    made_at = speed_up(address)
    assert str(made_at) == f"lance:{folder}/town/_speedup.lance"
    assert size_of(made_at) > 0
    (near, why), stale = state_of(address)
    assert (near.photos, why, stale) == (6, "", [])
    with store_of(address).change(address) as writer:
        put(writer, "6.jpg", 6)
    (near, why), stale = state_of(address)
    assert (near, stale) == (None, ["_speedup.lance"])
    assert "made before the index was changed; make it again: placerec index speedup" in why
    speed_up(address)
    assert state_of(address)[0][0].photos == 7
    assert store_of(address).verify(address) == []


def test_a_cache_that_is_not_complete_or_of_another_version_is_not_used(folder, monkeypatch):
    address = build(Path(f"lance:{folder}/town"), {f"{n}.jpg": n for n in range(6)})
    monkeypatch.setattr(cache, "VERSION", 2)
    speed_up(address)
    monkeypatch.undo()
    assert "another version of placerec" in state_of(address)[0][1]
    versions = folder / "town" / "_speedup.lance" / "_versions"
    newest = min(versions.iterdir())  # Lance counts versions down
    newest.unlink()
    assert "it is not complete" in state_of(address)[0][1]
    shutil.rmtree(versions)
    assert "it is not complete" in state_of(address)[0][1]
    speed_up(address)
    assert state_of(address)[0][1] == ""


def test_changed_bytes_and_deleted_files_give_exact_cosines(folder, vectors, queries):
    address = Path(f"lance:{folder}/a")
    cache.write_speedup(address, vectors, MARK)
    rng = np.random.default_rng(0)
    files = [file for file in (folder / "a").rglob("*") if file.suffix in (".idx", ".lance")]
    contents = {file: file.read_bytes() for file in files if file.is_file()}
    for file, content in contents.items():
        for place in rng.integers(len(content) * 4 // 5, size=10).tolist():  # not in the footer
            file.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
            near, why = cache.open_speedup(address, MARK)
            assert (near is None) == bool(why)
            if near:
                rows, similar = near.shortlist(queries[0], vectors, 20)
                assert similar.tolist() == vectors.cosines(queries[0], rows).tolist()
        file.write_bytes(content)
    near, _ = cache.open_speedup(address, MARK)
    shutil.rmtree(folder / "a")
    rows, _ = near.shortlist(queries[0], vectors, 20)
    assert rows.tolist() == vectors.shortlist(queries[0], 20)[0].tolist()


def test_rows_that_are_no_photos_are_not_used(folder, vectors, queries):
    few = vectors.first(400)
    near = made(Path(f"lance:{folder}/a"), vectors)
    smaller = cache.LanceNeighbours(400, near.place, near.dataset, near.probes)
    rows, _ = smaller.shortlist(queries[39], few, 20)
    assert rows.tolist() == few.shortlist(queries[39], 20)[0].tolist()


def test_a_forked_process_compares_all_photos(near, vectors, queries):
    other = cache.LanceNeighbours(PHOTOS, near.place, None, near.probes, os.getpid() + 1)
    rows, _ = other.shortlist(queries[0], vectors, 20)
    assert rows.tolist() == vectors.shortlist(queries[0], 20)[0].tolist()


def test_a_cache_in_an_object_store(object_store, folder):
    address = Path("lance:s3://maps/town")
    build(address, {f"{n}.jpg": n for n in range(6)})
    assert state_of(address) == ((None, ""), [])
    assert size_of(speed_up(address)) > 0
    assert size_of(speed_up(address)) > 0
    (near, why), stale = state_of(address)
    assert (near.photos, why, stale) == (6, "", [])
    with open_index(address) as reader:
        assert reader.weights() == WEIGHTS
    build(address, {"new.jpg": 1}, replace=True)
    assert state_of(address)[1] == ["_speedup.lance"]


def test_the_commands_make_and_use_it(many_photos, folder, command):
    index = f"lance:{folder}/town"
    build_index(index, many_photos, settings=Settings(image_size=(120, 160)))
    photo = many_photos / "007.png"
    before = command("query", index, photo, "--json")[1]
    code, out, error = command("index", "speedup", index)
    assert code == 0, error
    assert out.startswith(f"{index}/_speedup.lance: ")
    assert command("query", index, photo, "--json")[1] == before
    with PlaceRecognizer.open(index) as recognizer:
        assert isinstance(recognizer.neighbours, cache.LanceNeighbours)
        assert recognizer.slower == ""
    shutil.copy(many_photos / "001.png", folder / "new.png")
    code, _, error = command("index", "add", index, folder / "new.png")
    assert "made before this change" in error
    with PlaceRecognizer.open(index) as recognizer:
        assert recognizer.neighbours is None
    assert json.loads(command("query", index, photo, "--json")[1])[0]["places"]
