"""One door for photos in every form: paths, photos, images and arrays."""

from pathlib import Path

import numpy as np
import pytest
from photo_support import SMOOTH, turned
from PIL import Image

from placerec.errors import NotFound, UsageError
from placerec.photos.decode import decode
from placerec.photos.pixels import photo_of
from placerec.records import Photo

GREY = SMOOTH[..., 1]
ALPHA = np.dstack([SMOOTH, np.full(GREY.shape, 255, np.uint8)])
THREE = np.dstack([GREY] * 3)


def half_transparent():
    """Pixels with their left half invisible, and how they look over black."""
    pixels, expected = ALPHA.copy(), SMOOTH.copy()
    pixels[:, :48, 3] = 0
    expected[:, :48] = 0
    return pixels, expected


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (SMOOTH, SMOOTH),
        (GREY, THREE),
        (GREY[..., None], THREE),
        (ALPHA, SMOOTH),
        half_transparent(),
        (SMOOTH[::-1, ::-2], SMOOTH[::-1, ::-2]),
        (SMOOTH.astype(np.uint8, order="F"), SMOOTH),
    ],
    ids=["RGB", "grey", "grey, one channel", "RGBA", "transparent", "a view", "columns first"],
)
def test_an_array_of_each_kind_becomes_rgb(array, expected):
    photo = photo_of(array)
    assert np.array_equal(photo.pixels, expected)
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.flags.c_contiguous
    assert (photo.path, photo.sha256, photo.position, photo.taken) == ("", "", None, None)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (SMOOTH[..., ::-1], SMOOTH),
        (ALPHA[..., [2, 1, 0, 3]], SMOOTH),
        (GREY, THREE),
        (GREY[..., None], THREE),
    ],
    ids=["BGR", "BGRA", "grey", "grey, one channel"],
)
def test_the_order_of_opencv_is_said_and_not_guessed(array, expected):
    assert np.array_equal(photo_of(array, bgr=True).pixels, expected)


def test_an_array_that_is_changed_later_changes_no_photo():
    array = SMOOTH.copy()
    photo = photo_of(array)
    array[:] = 0
    assert np.array_equal(photo.pixels, SMOOTH)


def test_a_path_a_photo_and_an_image_are_one_photo(tmp_path):
    (tmp_path / "a.png").write_bytes(turned(6))
    read = decode(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        forms = [tmp_path / "a.png", str(tmp_path / "a.png"), read, image]
        photos = [photo_of(form) for form in forms]
    assert [photo.path for photo in photos] == [str(tmp_path / "a.png")] * 4
    assert all(np.array_equal(photo.pixels, SMOOTH) for photo in photos)
    assert photos[0] == photos[2] == read


def test_a_path_is_decoded_no_larger_than_needed(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.jpg")
    assert photo_of(tmp_path / "a.jpg", shrink_to=(100, 100)).pixels.shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (SMOOTH / 255, r"float64 of shape \(64, 96, 3\).*\(255 \* array\)\.round\(\)"),
        (SMOOTH.astype(np.float16), r"float16 .*astype\('uint8'\)"),
        (SMOOTH.astype(np.uint16), r"uint16 .*\(array >> 8\)\.astype\('uint8'\)"),
        (SMOOTH > 9, r"bool of shape .*\(255 \* array\)\.round\(\)"),
        (SMOOTH.astype(np.int64), r"int64 of shape .*array\.astype\('uint8'\)"),
        (SMOOTH.transpose(2, 0, 1), r"shape \(3, 64, 96\).*array\.transpose\(1, 2, 0\)"),
        (SMOOTH[None], r"shape \(1, 64, 96, 3\).*one photo at a time"),
        (SMOOTH[..., :2], r"shape \(64, 96, 2\).*\(height, width, 3\)"),
        (SMOOTH[:0], r"shape \(0, 96, 3\)"),
        (SMOOTH[0, 0], r"shape \(3,\)"),
        (np.array(3, np.uint8), r"shape \(\)"),
        (np.array([None, "a"]), "object of shape"),
        (Image.new("RGB", (0, 0)), r"shape \(0, 0, 3\)"),
        (Photo("a", "", SMOOTH / 255), "float64"),
        (None, "NoneType"),
        (3, "int"),
        ([[1, 2, 3]], r"list.*numpy\.asarray"),
        (b"a.jpg", "bytes"),
    ],
)  # fmt: skip
def test_what_is_no_photo_is_refused_with_what_is_accepted(photo, message):
    with pytest.raises(UsageError, match=message) as error:
        photo_of(photo)
    assert "uint8 RGB" in str(error.value)


@pytest.mark.parametrize(
    "photo", ["a.png", Path("a.png"), Image.new("RGB", (9, 9)), Photo("a", "", SMOOTH)]
)
def test_only_arrays_have_the_order_of_opencv(photo):
    with pytest.raises(UsageError, match="bgr: only an array"):
        photo_of(photo, bgr=True)


def test_bgr_is_true_or_false():
    with pytest.raises(UsageError, match="bgr: must be True or False"):
        photo_of(SMOOTH, bgr="yes")


def test_a_path_that_is_not_there_is_a_named_error(tmp_path):
    with pytest.raises(NotFound, match="no such photo"):
        photo_of(tmp_path / "a.png")
