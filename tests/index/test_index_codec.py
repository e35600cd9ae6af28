from __future__ import annotations

import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_support import unit

from placerec.errors import DamagedIndex, UsageError
from placerec.index import codec
from placerec.records import Grid, PatchSet

WHERE = Path("town.plr")
KEY = b"key"


@st.composite
def patch_sets(draw: st.DrawFn) -> PatchSet:
    rows, columns = draw(st.integers(0, 9)), draw(st.integers(1, 9))
    depth, seed = draw(st.integers(1, 40)), draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    descriptors = unit(random.normal(size=(rows * columns, depth)))
    descriptors[random.random(len(descriptors)) < 0.2] = 0
    size = (draw(st.integers(1, 65535)), draw(st.integers(1, 9)))
    return PatchSet(Grid(size, rows, columns, draw(st.integers(1, 65535))), descriptors)


@settings(max_examples=60, deadline=None)
@given(patch_sets())
def test_a_patch_set_comes_back_with_its_grid_and_within_half_a_code(patches: PatchSet) -> None:
    back = codec.decode_patches(codec.encode_patches(patches, KEY), KEY, WHERE)
    assert back.grid == patches.grid
    assert back.descriptors.dtype == np.float32
    assert back.descriptors.shape == patches.descriptors.shape
    lengths = np.linalg.norm(back.descriptors, axis=1)
    blank = ~patches.descriptors.any(axis=1)
    np.testing.assert_array_equal(lengths[blank], 0)
    np.testing.assert_allclose(lengths[~blank], 1, atol=1e-6)
    # Half a code in each of D places, then brought to unit length: at most twice that off.
    step = np.abs(patches.descriptors).max(initial=0) / 127
    worst = step * np.sqrt(patches.descriptors.shape[1])
    off = np.linalg.norm(back.descriptors - patches.descriptors, axis=1)
    assert (off <= worst + 1e-6).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_storing_what_was_read_gives_the_same_bytes(width: int, seed: int) -> None:
    vector = unit(np.random.default_rng(seed).normal(size=width))
    blob = codec.encode_vector(vector, KEY)
    again = codec.encode_vector(codec.decode_vector(blob, KEY, WHERE), KEY)
    ours, theirs = (np.frombuffer(b[codec.HEADER.size :], np.int8) for b in (blob, again))
    np.testing.assert_array_equal(ours, theirs)


def test_an_all_zero_vector_and_an_empty_grid_are_legal() -> None:
    vector = codec.decode_vector(codec.encode_vector(np.zeros(7, np.float32), KEY), KEY, WHERE)
    np.testing.assert_array_equal(vector, np.zeros(7))
    empty = PatchSet(Grid((9, 9), 0, 4, 1), np.zeros((0, 5), np.float32))
    back = codec.decode_patches(codec.encode_patches(empty, KEY), KEY, WHERE)
    assert back.descriptors.shape == (0, 5)


@settings(max_examples=60, deadline=None)
@given(patch_sets())
def test_float32_comes_back_bit_for_bit(patches: PatchSet) -> None:
    exact = codec.Dtype.FLOAT32
    patches = replace(patches, descriptors=patches.descriptors * np.float32(1.001))  # not unit
    back = codec.decode_patches(codec.encode_patches(patches, KEY, exact), KEY, WHERE, exact)
    assert back.grid == patches.grid
    assert back.descriptors.dtype == np.float32
    np.testing.assert_array_equal(back.descriptors, patches.descriptors)
    for vector in patches.descriptors[:1]:
        blob = codec.encode_vector(vector, KEY, exact)
        assert len(blob) == codec.HEADER.size + 4 * len(vector)
        np.testing.assert_array_equal(codec.decode_vector(blob, KEY, WHERE, exact), vector)


@pytest.mark.parametrize("stored", [codec.Dtype.INT8, codec.Dtype.FLOAT32])
def test_descriptors_of_another_dtype_than_asked_for_are_damage(stored: codec.Dtype) -> None:
    asked = next(d for d in (codec.Dtype.INT8, codec.Dtype.FLOAT32) if d is not stored)
    patches = PatchSet(Grid((2, 2), 2, 2, 1), np.eye(4, dtype=np.float32))
    with pytest.raises(DamagedIndex, match="instead of PATCHES"):
        codec.decode_patches(codec.encode_patches(patches, KEY, stored), KEY, WHERE, asked)
    with pytest.raises(DamagedIndex, match="instead of VECTOR"):
        codec.decode_vector(codec.encode_vector(np.eye(4)[0], KEY, stored), KEY, WHERE, asked)


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from([codec.Dtype.INT8, codec.Dtype.FLOAT32]))
def test_every_changed_bit_is_refused(data: st.DataObject, dtype: codec.Dtype) -> None:
    blob = bytearray(codec.encode_vector(unit(np.arange(1.0, 20.0)), KEY, dtype))
    place = data.draw(st.integers(0, 8 * len(blob) - 1))
    blob[place // 8] ^= 1 << place % 8
    with pytest.raises(DamagedIndex):
        codec.decode_vector(bytes(blob), KEY, WHERE, dtype)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_of_anything_else_are_refused(noise: bytes) -> None:
    for decode in (codec.decode_vector, codec.decode_patches, codec.decode_bytes):
        with pytest.raises(DamagedIndex):
            decode(noise, KEY, WHERE)
        with pytest.raises(DamagedIndex):
            decode(codec.MAGIC + noise, KEY, WHERE)


@pytest.mark.parametrize("value", [None, 3, 1.5, "text"])
def test_a_value_that_is_no_blob_is_refused(value: object) -> None:
    with pytest.raises(DamagedIndex):
        codec.decode_vector(value, KEY, WHERE)


def forged(rows: int, columns: int, grid: tuple[int, int], data: bytes, **other: float) -> bytes:
    """A blob with a right checksum and any claims."""
    fields = {"kind": 2, "dtype": 1, "stride": 1, "scale": 0.1, "height": 2, "width": 2, **other}
    start = struct.pack(
        "<4sBBHIIfHHII", codec.MAGIC, fields["kind"], fields["dtype"], fields["stride"], rows,
        columns, fields["scale"], fields["height"], fields["width"], *grid,
    )  # fmt: skip
    crc = zlib.crc32(data, zlib.crc32(start, zlib.crc32(KEY)))
    return start + struct.pack("<I", crc) + data


def test_a_forged_blob_of_right_claims_is_read() -> None:
    patches = codec.decode_patches(forged(6, 2, (2, 3), bytes([3] * 12)), KEY, WHERE)
    assert patches.descriptors.shape == (6, 2)


@pytest.mark.parametrize(
    "blob",
    [
        forged(2**31, 2**31, (2**31, 1), bytes(12)),
        forged(2**32 - 1, 1, (1, 2**32 - 1), bytes(12)),
        forged(0, 0, (0, 0), b""),
        forged(6, 0, (2, 3), b""),
        forged(6, 2, (2, 2), bytes(12)),
        forged(6, 2, (2, 3), bytes(11)),
        forged(6, 2, (2, 3), bytes(13)),
        forged(6, 2, (2, 3), bytes(12), scale=float("nan")),
        forged(6, 2, (2, 3), bytes(12), scale=-1.0),
        forged(6, 2, (2, 3), bytes(12), stride=0),
        forged(6, 2, (2, 3), bytes(12), width=0),
        forged(6, 2, (2, 3), bytes(12), dtype=2),
        forged(6, 2, (2, 3), bytes(48), dtype=3),
        forged(6, 2, (2, 3), bytes(12), dtype=79),
        forged(6, 2, (2, 3), bytes(12), kind=1),
        forged(6, 2, (2, 3), bytes(12), kind=0),
    ],
)
def test_claims_that_do_not_add_up_are_refused_without_memory_for_them(blob: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DamagedIndex):
            codec.decode_patches(blob, KEY, WHERE)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_sound_blob_under_another_key_is_damage() -> None:
    blob = codec.encode_bytes(b"model", KEY)
    assert codec.decode_bytes(blob, KEY, WHERE) == b"model"
    with pytest.raises(DamagedIndex, match="checksum"):
        codec.decode_bytes(blob, b"other", WHERE)


@pytest.mark.parametrize(
    "vector",
    [
        np.full(4, np.nan, np.float32),
        np.array([np.inf, 0], np.float32),
        np.ones(4, np.float32),
        np.ones(1, np.int64),
        np.zeros(0, np.float32),
        np.zeros((2, 2), np.float32),
        np.array(["a"], dtype=object),
    ],
)
def test_a_vector_that_is_not_of_unit_length_or_zero_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(UsageError):
        codec.encode_vector(vector, KEY)


@pytest.mark.parametrize(
    "changed", [{"rows": 3}, {"rows": -2, "columns": -2}, {"stride": 0}, {"size": (0, 2)}]
)
def test_a_patch_set_that_contradicts_itself_is_refused(changed: dict[str, object]) -> None:
    given_ = {"size": (2, 2), "rows": 2, "columns": 2, "stride": 1}
    with pytest.raises(UsageError):
        codec.encode_patches(PatchSet(Grid(**{**given_, **changed}), np.eye(4)), KEY)


def test_bytes_are_kept_and_nothing_is_refused() -> None:
    with pytest.raises(UsageError):
        codec.encode_bytes(b"", KEY)
