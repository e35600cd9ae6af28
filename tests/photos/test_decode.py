"""Decoding: every kind of photo gives the same upright RGB."""

import hashlib
import struct
import zlib

import numpy as np
import pytest
from photo_support import SMOOTH, encode, png_claiming, turned
from PIL import Image, ImageCms

from placerec.photos import decode


def test_a_photo_has_its_name_its_hash_and_its_pixels(decoded, tmp_path):
    data = encode(SMOOTH)
    photo = decoded(data, name="x.png")
    assert photo.path == str(tmp_path / "x.png")
    assert photo.sha256 == hashlib.sha256(data).hexdigest()
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.flags.c_contiguous
    assert np.array_equal(photo.pixels, SMOOTH)
    assert photo.position is None
    assert decode(tmp_path / "x.png", name="a/x.png").path == "a/x.png"


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_lossless_formats_give_the_exact_pixels_with_any_suffix(decoded, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decoded(encode(SMOOTH, kind, **options)).pixels, SMOOTH)


def test_the_first_of_several_pictures_is_decoded(decoded):
    frames = [Image.fromarray(SMOOTH), Image.fromarray(255 - SMOOTH)]
    for kind in ("TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert np.array_equal(decoded(data).pixels, SMOOTH), kind
    for kind in ("GIF", "MPO"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(decoded(data).pixels.astype(int) - SMOOTH).mean() < 16, kind


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


@pytest.mark.parametrize(
    ("picture", "kind", "expected"),
    [
        (Image.fromarray(GREY), "PNG", GREY),
        (Image.fromarray(GREY).convert("P"), "PNG", GREY),
        (Image.fromarray(GREY > 100), "PNG", np.where(GREY > 100, 255, 0)),
        (Image.fromarray(GREY.astype(np.uint16) << 8), "PNG", GREY),
        (Image.fromarray((GREY.astype(np.uint16) << 8) + 255), "PNG", GREY),
        (Image.fromarray(GREY.astype(np.uint16) << 8), "TIFF", GREY),
        (Image.fromarray(GREY.astype(np.int32) << 8), "TIFF", GREY),
        (Image.fromarray((GREY / 255).astype(np.float32)), "TIFF", GREY),
        (Image.fromarray(GREY.astype(np.float32) - 100), "TIFF", np.round(GREY * (255 / 252))),
        (Image.fromarray(GREY.astype(np.int32) * 999_999), "TIFF", np.round(GREY * (255 / 252))),
    ],
)
def test_grey_of_every_depth_gives_the_same_grey(decoded, picture, kind, expected):
    pixels = decoded(encode(picture, kind)).pixels
    assert pixels.shape == (8, 8, 3)
    assert np.array_equal(pixels, np.repeat(expected[..., None], 3, axis=2))


def test_big_endian_16_bit_and_pgm_are_not_clipped(decoded):
    deep = (GREY.astype(np.uint16) << 8).astype(">u2")
    assert np.array_equal(decoded(b"P5 8 8 65535\n" + deep.tobytes()).pixels[..., 0], GREY)
    big = Image.frombytes("I;16B", (8, 8), deep.tobytes())
    assert np.array_equal(decoded(encode(big, "TIFF")).pixels[..., 1], GREY)


def test_nan_and_infinity_in_floats_are_black_and_white(decoded):
    values = np.array([[0, 0.5, 1], [np.nan, np.inf, -np.inf]], np.float32)
    pixels = decoded(encode(Image.fromarray(values), "TIFF")).pixels
    assert pixels[..., 0].tolist() == [[0, 128, 255], [0, 255, 0]]
    blank = decoded(encode(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF"))
    assert not blank.pixels.any()


def test_every_kind_of_transparency_is_laid_over_black(decoded):
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:, :4] = 255
    grey = np.where(alpha, 200, 77).astype(np.uint8)
    expected = np.repeat(np.where(alpha, 200, 0)[..., None], 3, axis=2)
    layers = [Image.fromarray(grey)] * 3
    rgba = Image.merge("RGBA", [*layers, Image.fromarray(alpha)])
    files = {
        "RGBA": encode(rgba),
        "LA": encode(Image.merge("LA", [layers[0], Image.fromarray(alpha)])),
        "P": encode(rgba.quantize(8)),
        "P, one colour": encode(Image.fromarray(grey).convert("P"), transparency=77),
        "L": encode(layers[0], transparency=77),
        "RGB": encode(Image.merge("RGB", layers), transparency=(77, 77, 77)),
        "WebP": encode(rgba, "WEBP", lossless=True, exact=True),
    }
    for name, data in files.items():
        assert np.array_equal(decoded(data).pixels, expected), name


def test_cmyk_is_not_inverted(decoded):
    cmyk = Image.fromarray(SMOOTH).convert("CMYK")
    for kind, allowed in (("TIFF", 2), ("JPEG", 12)):
        difference = decoded(encode(cmyk, kind)).pixels.astype(int) - SMOOTH
        assert np.abs(difference).mean() < allowed


def test_lab_and_16_bit_colour_are_the_same_colours(decoded):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.profileToProfile(Image.fromarray(SMOOTH), srgb, lab, outputMode="LAB")
    pixels = decoded(encode(picture, "TIFF")).pixels
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 2
    deep = ((SMOOTH.astype(np.uint16) << 8) + 255).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in deep)
    png = png_claiming(96, 64, depth=16, pixels=lines)
    assert np.array_equal(decoded(png).pixels, SMOOTH)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_extreme_shapes_are_valid(decoded, size):
    pixels = decoded(encode(Image.new("RGB", size, (9, 8, 7)))).pixels
    assert pixels.shape == (size[1], size[0], 3)
    assert (pixels == (9, 8, 7)).all()


# --- orientation -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_eight_orientations_give_identical_pixels(decoded, orientation, kind, options):
    photo = decoded(turned(orientation, kind=kind, **options))
    assert np.array_equal(photo.pixels, SMOOTH)
    assert photo.pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_turned_too(decoded, orientation):
    pixels = decoded(turned(orientation, kind="JPEG", quality=95)).pixels
    assert pixels.shape == SMOOTH.shape
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 4


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack("<HIHH", 3, 1, 0, 0),
        struct.pack("<HIHH", 3, 1, 9, 0),
        struct.pack("<HIHH", 3, 1, 65535, 0),
        struct.pack("<HI4s", 2, 2, b"6"),  # text
        struct.pack("<HIf", 11, 1, 6.5),
        struct.pack("<HII", 5, 1, 9999),  # a fraction at an offset outside the file
        struct.pack("<HII", 99, 1, 6),  # a type that does not exist
    ],
)
def test_a_nonsense_orientation_is_ignored(decoded, entry):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01" + entry + b"\0\0\0\0"
    assert np.array_equal(decoded(encode(SMOOTH, exif=exif)).pixels, SMOOTH)


def test_damaged_exif_costs_neither_the_picture_nor_a_warning(decoded):
    good = turned(6)
    start = good.index(b"eXIf") + 4
    for junk in (b"\xff" * 12, b"II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0\xff\xff"):
        data = bytearray(good)
        length = struct.unpack(">I", data[start - 8 : start - 4])[0]
        data[start : start + length] = junk.ljust(length, b"\xff")[:length]
        data[start + length : start + length + 4] = struct.pack(
            ">I", zlib.crc32(data[start - 4 : start + length])
        )
        assert decoded(bytes(data)).pixels.size == SMOOTH.size


# --- a smaller JPEG ----------------------------------------------------------------------------
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_shrunk_jpeg_is_close_to_the_full_one_and_never_too_small(decoded, orientation):
    upright = np.asarray(Image.fromarray(SMOOTH).resize((1280, 960), 3))
    data = turned(orientation, upright, "JPEG", quality=95)
    full = Image.fromarray(decoded(data).pixels)
    for height, width, shape in ((240, 320, (240, 320)), (241, 320, (480, 640)),
                                 (100, 640, (480, 640)), (2000, 10, (960, 1280))):  # fmt: skip
        small = decoded(data, shrink_to=(height, width)).pixels
        assert small.shape[:2] == shape
        expected = np.asarray(full.resize(small.shape[1::-1], Image.Resampling.BOX), int)
        assert np.abs(small - expected).mean() < 1.5


def test_shrinking_by_nothing_and_other_formats_change_nothing(decoded):
    jpeg, png = encode(SMOOTH, "JPEG"), encode(SMOOTH)
    assert np.array_equal(decoded(jpeg, shrink_to=(0, 64)).pixels, decoded(jpeg).pixels)
    assert np.array_equal(decoded(png, shrink_to=(8, 8)).pixels, SMOOTH)
