"""The input of a trunk: resized, normalised, float32."""

import numpy as np
import pytest
from PIL import Image

from placerec.errors import UsageError
from placerec.photos.prepare import OWN_SIZE, Preprocessing, prepare

PAPER = Preprocessing((480, 640), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
RNG = np.random.default_rng(0)


def test_values_are_those_of_the_formula_by_hand():
    pixels = np.array([[[0, 127, 255], [10, 20, 30]]], np.uint8)
    out = prepare(pixels, Preprocessing((0, 0), (127, 127, 127), (128, 128, 128)))
    assert out.shape == (1, 3, 1, 2)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert out[0, :, 0, 0].tolist() == [-127 / 128, 0.0, 1.0]
    assert out[0, :, 0, 1].tolist() == [-117 / 128, -107 / 128, -97 / 128]


def test_the_arithmetic_is_float32_subtraction_then_division():
    pixels = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    out = prepare(pixels, Preprocessing((5, 7), PAPER.mean, PAPER.std))
    for channel in range(3):
        mean, std = np.float32(PAPER.mean[channel]), np.float32(PAPER.std[channel])
        expected = (pixels[..., channel].astype(np.float32) - mean) / std
        assert np.array_equal(out[0, channel], expected)


def test_resizing_is_pillows_antialiased_bilinear_without_the_aspect_ratio():
    pixels = RNG.integers(0, 256, (313, 471, 3), dtype=np.uint8)
    out = prepare(pixels, Preprocessing((48, 20), (0, 0, 0), (1, 1, 1)))
    expected = Image.fromarray(pixels).resize((20, 48), Image.Resampling.BILINEAR)
    assert np.array_equal(out[0].transpose(1, 2, 0), np.asarray(expected, np.float32))


@pytest.mark.parametrize("size", [OWN_SIZE, (9, 11)])
def test_no_size_and_the_same_size_do_not_change_the_pixels(size):
    pixels = RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    out = prepare(pixels, Preprocessing(size, (0, 0, 0), (1, 1, 1)))
    assert np.array_equal(out[0].transpose(1, 2, 0), pixels)


@pytest.mark.parametrize("size", [(0, 640), (480, -1), (-1, -1), (0, -1)])
def test_no_resize_has_one_spelling(size):
    with pytest.raises(UsageError, match=r"two positive numbers, or \(0, 0\) for no resize"):
        Preprocessing(size, (0, 0, 0), (1, 1, 1))


def test_a_view_gives_what_its_copy_gives():
    pixels = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    view = pixels[::-1, ::2]
    assert np.array_equal(prepare(view, PAPER), prepare(view.copy(), PAPER))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_pixels_of_another_shape_or_type_are_refused(pixels):
    with pytest.raises(UsageError, match=r"give \(height, width, 3\) uint8 RGB"):
        prepare(pixels, PAPER)


@pytest.mark.parametrize("std", [(1, 0, 1), (1, float("nan"), 1), (-1, 1, 1)])
def test_a_deviation_that_is_not_positive_is_refused(std):
    with pytest.raises(UsageError, match="std"):
        Preprocessing((0, 0), (0, 0, 0), std)
