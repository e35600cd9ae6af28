"""The search by the cache of a large index: the photos of a full search, in their order."""

import numpy as np
import pytest
from index_support import unit

from placerec.index.packing import Dtype, pack
from placerec.index.speedup import open_neighbours, write_neighbours
from placerec.index.vectors import Vectors, collected
from placerec.method.ranking import shortlist
from placerec.workers import map_in_order

pytestmark = pytest.mark.usefixtures("own_cache_folder")
PHOTOS, COLUMNS, PLACES, MARK = 3000, 256, 100, b"m" * 16


def exact(rows):
    """These rows (N, D) as the vectors of an index."""
    return Vectors(rows, np.ones(len(rows), np.float32), rows.shape[1], Dtype.FLOAT32)


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
    noise = unit(rng.normal(size=(40, COLUMNS)))
    return unit(vectors[:: PHOTOS // 40] + 0.2 * noise)


@pytest.fixture(scope="module")
def near(vectors, tmp_path_factory):
    path = tmp_path_factory.mktemp("near") / "a"
    write_neighbours(path, vectors, MARK)
    found, why = open_neighbours(path, MARK)
    assert why == ""
    return found


def test_the_graph_finds_what_a_full_search_finds(near, vectors, queries):
    shares = []
    for query in queries:
        rows, similar = near.shortlist(query, vectors, 20)
        wanted, true = shortlist(query, vectors[:], 20)
        assert rows[0] == wanted[0]
        assert (np.diff(similar) <= 0).all()
        assert np.isin(similar[np.isin(rows, wanted)], true).all()  # bit for bit
        shares.append(np.isin(wanted, rows).mean())
    assert np.mean(shares) >= 0.99


def test_few_photos_are_compared_with_the_query(near, vectors, queries):
    class Counted:
        rows = 0

        def best_of(self, rows, *asked):
            self.rows += len(rows)
            return vectors.best_of(rows, *asked)

    counted = Counted()
    near.shortlist(queries[0], counted, 20)
    assert counted.rows == 200
    near.shortlist(queries[0], counted, 100)
    assert counted.rows == 200 + 500


def test_equal_photos_are_in_the_order_of_a_full_search(tmp_path, vectors, queries):
    twice = exact(np.concatenate((vectors[:500], vectors[:100])))
    preferred = np.arange(len(twice)) >= 500
    write_neighbours(tmp_path / "a", twice, MARK)
    near, _ = open_neighbours(tmp_path / "a", MARK)
    rows, _ = near.shortlist(vectors[7], twice, 2, preferred)
    assert rows.tolist() == [507, 7]
    rows, _ = near.shortlist(vectors[7], twice, 2)
    assert rows.tolist() == [7, 507]


def test_many_blank_photos_hide_no_other_one(tmp_path, vectors):
    rows = exact(np.concatenate((np.zeros((2000, COLUMNS), np.float32), vectors[:400])))
    write_neighbours(tmp_path / "a", rows, MARK)
    near, _ = open_neighbours(tmp_path / "a", MARK)
    assert all(near.shortlist(rows[n], rows, 20)[0][0] == n for n in range(2000, 2400, 10))


def test_thousands_of_copies_hide_no_other_photo_and_are_found(tmp_path, vectors):
    copied = np.concatenate((np.repeat(vectors[:2], 1500, axis=0), vectors[:400]))
    rows = exact(copied)
    write_neighbours(tmp_path / "a", rows, MARK)
    near, _ = open_neighbours(tmp_path / "a", MARK)
    assert len(near.copies) == 3000
    assert len(near.graph) == 400
    for n in range(3002, 3400, 10):
        assert near.shortlist(rows[n], rows, 20)[0][0] == n
    for query in (vectors[0], vectors[200]):
        found, wanted = near.shortlist(query, rows, 20), rows.shortlist(query, 20)
        assert found[0].tolist() == wanted[0].tolist()


@pytest.mark.parametrize("kind", [Dtype.ONE_BIT, Dtype.HALF_SIGNS])
def test_a_query_of_a_photo_with_thousands_of_copies_finds_them_by_signs(tmp_path, kind):
    rng = np.random.default_rng(3)
    once = unit(rng.normal(size=(300, COLUMNS)))
    packed = [pack(row[None], kind, "rows") for row in once]
    numbers = np.concatenate((np.repeat(np.arange(3), 1500), np.arange(3, 300)))
    each = ((packed[n][0][0], COLUMNS, packed[n][1]) for n in numbers)
    rows = collected(each, len(numbers), kind)
    write_neighbours(tmp_path / "a", rows, MARK)
    near, _ = open_neighbours(tmp_path / "a", MARK)
    for n in range(3):
        query = unit(once[n : n + 1] + 0.3 * unit(rng.normal(size=(1, COLUMNS))))[0]
        found = near.shortlist(query, rows, 20)[0]
        assert found.tolist() == list(range(1500 * n, 1500 * n + 20))


def test_a_small_index_is_searched_in_full(tmp_path, vectors, queries):
    few = vectors.first(150)
    write_neighbours(tmp_path / "a", few, MARK)
    near, _ = open_neighbours(tmp_path / "a", MARK)
    for found, wanted in zip(
        near.shortlist(queries[3], few, 20), shortlist(queries[3], few[:], 20), strict=True
    ):
        assert found.tolist() == wanted.tolist()


def test_signs_make_a_cache_and_it_is_always_the_same(tmp_path, vectors, queries):
    rows = unit(vectors[:500] - vectors[:500].mean(axis=0))
    packed = (pack(row[None], Dtype.ONE_BIT, "rows") for row in rows)
    few = collected(((one[0], COLUMNS, scale) for one, scale in packed), 500, Dtype.ONE_BIT)
    first = write_neighbours(tmp_path / "a", few, MARK).read_bytes()
    assert write_neighbours(tmp_path / "b", few, MARK).read_bytes() == first
    near, _ = open_neighbours(tmp_path / "a", MARK)
    assert near.shortlist(rows[5], few, 1)[0].tolist() == [5]


def test_threads_that_share_the_graph_get_the_answers_of_one(near, vectors, queries):
    def found(query):
        return near.shortlist(query, vectors, 20)[0].tolist()

    assert list(map_in_order(found, queries, 4)) == [found(query) for query in queries]
