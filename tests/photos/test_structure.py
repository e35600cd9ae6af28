"""Which photos say nothing."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from placerec.photos import decode, find_photos, has_structure

X = np.linspace(-1, 1, 640)[None, :, None]
Y = np.linspace(-1, 1, 480)[:, None, None]
SMOOTH_LIGHT = {
    "even": 0 * (X + Y),
    "vignetting": 1 / (1 + (X**2 + Y**2) / 2) ** 2,
    "sloping": (X + Y + 2) / 4,
    "past a finger": np.exp(-((X - 0.3) ** 2 + (Y + 0.2) ** 2) / 0.5),
}


def covered(light, amplitude=0.0, noise=0.0, quality=None, seed=0):
    """A photo (480, 640, 3) through a covered lens: smooth light, noise, JPEG."""
    rng = np.random.default_rng(seed)
    values = 8 + amplitude * light + rng.normal(0, noise, (480, 640, 1))
    pixels = np.clip(np.round(np.repeat(values, 3, axis=2)), 0, 255).astype(np.uint8)
    if quality is None:
        return pixels
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (31, 400), (32, 32), (100, 75), (480, 640)])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 7)])
def test_one_colour_says_nothing(size, colour):
    assert not has_structure(np.full((*size, 3), colour, np.uint8))


@pytest.mark.parametrize("quality", [None, 90, 50])
@pytest.mark.parametrize("noise", [0, 2, 8])
@pytest.mark.parametrize("kind", SMOOTH_LIGHT)
def test_a_covered_lens_says_nothing(kind, noise, quality):
    for amplitude in (6, 60, 200):
        pixels = covered(SMOOTH_LIGHT[kind], amplitude, noise, quality)
        assert not has_structure(pixels), amplitude
    assert not has_structure(pixels[::2, ::2])
    assert not has_structure(np.ascontiguousarray(pixels[:100, :130]))


@pytest.fixture(scope="module")
def views(town):
    """The photos of a drawn town by day and by night."""
    views = [decode(town / name).pixels for name in find_photos(town)]
    assert len(views) == 12
    return views


def test_a_town_by_night_has_structure_in_any_size(views):
    for pixels in views:
        assert has_structure(pixels)
        small = Image.fromarray(pixels).resize((80, 60))
        assert has_structure(np.asarray(small))
        assert has_structure(pixels // 3)  # underexposed


def test_a_town_in_fog_and_out_of_focus_has_structure(views):
    for pixels in views:
        fog = (200 + (pixels.astype(int) - 128) * 0.15).astype(np.uint8)
        assert has_structure(fog)
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(pixels.shape[0] / 60))
        assert has_structure(np.asarray(blurred))


def test_one_lamp_in_the_dark_is_structure():
    pixels = covered(SMOOTH_LIGHT["even"], noise=3).copy()
    pixels[200:230, 300:330] = 255
    assert has_structure(pixels)
