"""Rows of numbers as few bytes, and the search among packed vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from index_support import unit

from placerec.errors import DamagedIndex
from placerec.index import codec
from placerec.index.packing import Dtype, pack, unpack
from placerec.index.vectors import BLOCK_BYTES, Vectors, collected
from placerec.method.displacement import displacement_scores, with_global
from placerec.method.matching import mutual_nearest
from placerec.method.ranking import nearest, shortlist
from placerec.records import Grid, PatchSet

BITS = (Dtype.ONE_BIT, Dtype.TWO_BITS, Dtype.HALF_SIGNS)
KEY, WHERE = b"key", Path("a.plr")


def rows(count: int = 400, depth: int = 64, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, depth)))


def vectors_of(values: np.ndarray, dtype: Dtype) -> Vectors:
    packed = (pack(row[None], dtype, "rows") for row in values)
    return collected(((s[0], values.shape[1], scale) for s, scale in packed), len(values), dtype)


@pytest.mark.parametrize(
    ("dtype", "items"), [(Dtype.ONE_BIT, 8), (Dtype.TWO_BITS, 16), (Dtype.HALF_SIGNS, 4)]
)
def test_rows_of_bits_have_so_many_bytes(dtype: Dtype, items: int):
    stored, _ = pack(rows(3), dtype, "rows")
    assert stored.shape == (3, items)
    assert stored.dtype == np.uint8


def test_the_signs_of_one_bit_are_those_of_the_numbers():
    values = rows(5, 20)
    stored, scale = pack(values, Dtype.ONE_BIT, "rows")
    assert np.array_equal(np.sign(unpack(stored, 20, Dtype.ONE_BIT, scale)), np.sign(values))


def test_two_bits_tell_small_numbers_from_large_ones():
    values = unit(np.array([[0.1, -0.1, 2.0, -2.0]]))
    stored, scale = pack(values, Dtype.TWO_BITS, "rows")
    small, less, large, least = unpack(stored, 4, Dtype.TWO_BITS, scale)[0]
    assert (small, large) == (-less, -least)
    assert large / small == pytest.approx(1.510 / 0.4528)


@pytest.mark.parametrize(("dtype", "expected"), [(Dtype.ONE_BIT, 0.8), (Dtype.TWO_BITS, 0.94)])
def test_the_scale_is_the_mean_cosine_with_the_numbers(dtype: Dtype, expected: float):
    values = rows()
    stored, scale = pack(values, dtype, "rows")
    cosines = np.einsum("ij,ij->i", unit(unpack(stored, 64, dtype, scale)), values)
    assert scale == pytest.approx(cosines.mean(), abs=1e-6)
    assert scale == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("dtype", BITS)
def test_products_with_a_query_are_right_on_average(dtype: Dtype):
    values, noise = rows(), rows(seed=1)
    queries = unit(values + 0.8 * noise)
    stored, scale = pack(values, dtype, "rows")
    wanted = np.einsum("ij,ij->i", queries, values).mean()
    given = np.einsum("ij,ij->i", queries, unpack(stored, 64, dtype, scale)).mean()
    assert given == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("dtype", [Dtype.ONE_BIT, Dtype.TWO_BITS])
def test_bits_of_restored_rows_have_the_scale_of_the_first_numbers(dtype: Dtype):
    values = rows()
    stored, scale = pack(values, Dtype.TWO_BITS, "rows")
    again, second = pack(unpack(stored, 64, Dtype.TWO_BITS, scale), dtype, "rows", restored=True)
    direct, wanted = pack(values, dtype, "rows")
    assert np.array_equal(again, direct)
    assert second == pytest.approx(wanted, abs=0.01)


def test_half_signs_are_those_of_the_first_32_of_64_numbers():
    values = rows(2, 100)
    stored, scale = pack(values, Dtype.HALF_SIGNS, "rows")
    kept = np.r_[0:32, 64:96]
    restored = unpack(stored, 100, Dtype.HALF_SIGNS, scale)
    assert stored.shape == (2, 8)
    assert np.array_equal(np.sign(restored[:, kept]), np.sign(values[:, kept]))
    assert np.count_nonzero(restored) == 2 * 64


@pytest.mark.parametrize("dtype", BITS)
def test_patches_of_bits_keep_their_blank_rows(dtype: Dtype):
    values = rows(12)
    values[[0, 5, 11]] = 0
    blob = codec.encode_patches(PatchSet(Grid((2, 2), 3, 4, 2), values), KEY, dtype)
    decoded = codec.decode_patches(blob, KEY, WHERE, dtype).descriptors
    assert decoded.any(axis=1).tolist() == values.any(axis=1).tolist()
    full = codec.encode_patches(PatchSet(Grid((2, 2), 3, 4, 2), rows(12)), KEY, dtype)
    assert len(full) - len(blob) == 3 * dtype.items(64)


@pytest.mark.parametrize("dtype", BITS)
def test_a_blank_vector_stays_blank(dtype: Dtype):
    blob = codec.encode_vector(np.zeros(128, np.float32), KEY, dtype)
    assert not codec.decode_vector(blob, KEY, WHERE, dtype).any()
    vectors = vectors_of(np.stack([np.zeros(128, np.float32), *rows(2, 128)]), dtype)
    assert vectors.blank().tolist() == [True, False, False]


def test_a_set_of_blank_patches_cannot_claim_memory():
    blob = codec.encode_patches(
        PatchSet(Grid((2, 2), 2, 4, 2), np.zeros((8, 64), np.float32)), KEY, Dtype.ONE_BIT
    )
    header = codec.Header(*codec.HEADER.unpack_from(blob)[1:])._replace(columns=2**31)
    forged = codec._seal_blob(header, blob[codec.HEADER.size :], KEY)
    with pytest.raises(DamagedIndex, match="8 rows of 2147483648 numbers"):
        codec.decode_patches(forged, KEY, WHERE, Dtype.ONE_BIT)


@pytest.mark.parametrize("dtype", [Dtype.FLOAT32, Dtype.INT8, *BITS])
def test_vectors_are_ranked_as_their_unpacked_rows(dtype: Dtype):
    values = rows(900, 128)
    vectors, query = vectors_of(values, dtype), unit(values[7] + 0.9 * rows(1, 128, 3)[0])
    wanted = shortlist(query, vectors[:], 15)
    found = vectors.shortlist(query, 15)
    assert found[0][0] == 7
    if dtype in (Dtype.ONE_BIT, Dtype.HALF_SIGNS):  # equal signs choose 80 photos first
        assert len(set(found[0].tolist()) & set(wanted[0].tolist())) >= 12
    else:
        assert np.array_equal(found[0], wanted[0])
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-6)
    np.testing.assert_allclose(found[1], vectors[found[0]] @ query, rtol=1e-5)


def test_equal_vectors_with_a_position_come_first_also_among_signs():
    values = np.repeat(rows(4, 64), 200, axis=0)
    vectors, preferred = vectors_of(values, Dtype.ONE_BIT), np.zeros(800, bool)
    preferred[[150, 199]] = True
    found, cosines = vectors.shortlist(values[0], 5, preferred)
    assert found.tolist() == [150, 199, 0, 1, 2]
    assert len(set(cosines.tolist())) == 1


@pytest.mark.parametrize("dtype", [Dtype.FLOAT32, Dtype.INT8, Dtype.ONE_BIT, Dtype.HALF_SIGNS])
def test_equal_vectors_have_equal_cosines_in_any_block(dtype: Dtype):
    columns = 12288
    rng = np.random.default_rng(2)
    one, query = unit(rng.normal(size=(2, columns)))
    packed, scale = pack(one[None], dtype, "vectors")
    count = BLOCK_BYTES // (4 * columns) + 1  # so the last one is alone in its block
    vectors = collected([(packed[0], columns, scale)] * count, count, dtype)
    cosines = vectors.cosines(query)
    assert np.unique(cosines).tolist() == vectors.cosines(query, np.array([3])).tolist()
    assert nearest(cosines, 2).tolist() == [0, 1]


def test_a_row_of_vectors_is_one_vector_and_a_slice_several():
    vectors = vectors_of(rows(5), Dtype.TWO_BITS)
    assert vectors[2].shape == (64,)
    assert np.array_equal(vectors[1:4], vectors[np.array([1, 2, 3])])
    assert len(list(vectors)) == 5


def test_a_checkered_set_scores_like_the_whole_one():
    grid = Grid((2, 2), 9, 12, 1)
    patches = PatchSet(grid, rows(108))
    alike, checkered = (mutual_nearest(patches, one) for one in (patches, patches.checkered()))
    (whole,), (half,) = displacement_scores([alike]), displacement_scores([checkered])
    assert np.count_nonzero(patches.checkered().descriptors.any(axis=1)) == 54
    assert (half.score, len(half.pairs)) == (pytest.approx(whole.score), 54)


def test_a_stored_photo_has_the_score_of_a_copy_with_itself():
    patches = PatchSet(Grid((2, 2), 15, 20, 2), rows(300))
    blob = codec.encode_patches(patches, KEY, Dtype.TWO_BITS)
    stored = codec.decode_patches(blob, KEY, WHERE, Dtype.TWO_BITS)
    assert np.einsum("ij,ij->i", stored.descriptors, stored.descriptors).mean() > 1.1
    (match,) = displacement_scores([mutual_nearest(stored, stored)])
    assert match.score == pytest.approx(1.0)
    assert with_global(np.ones((1, 1)), np.array([1.6]))[0, 0] == pytest.approx(1.0, abs=0.02)
