"""The formats of telephones: HEIC and AVIF."""

import io
import struct
import sys
from datetime import datetime

import numpy as np
import pillow_heif
import pytest
from photo_support import SMOOTH, encode, mutated, turned
from PIL import ExifTags, Image, features

from placerec.errors import NotAPhoto, PhotoError, PhotoTooLarge, TruncatedPhoto
from placerec.photos import decode, find_photos
from placerec.records import Position

KINDS = pytest.mark.parametrize("kind", ["HEIC", "AVIF"])


@KINDS
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright_exactly_once(decoded, kind, orientation):
    pixels = decoded(turned(orientation, kind=kind, quality=95)).pixels
    assert pixels.shape == SMOOTH.shape
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 4


@KINDS
def test_the_first_bytes_decide_and_every_suffix_is_listed(tmp_path, kind):
    names = ["1.HEIC", "2.heif", "3.hif", "4.avif", "5.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(encode(SMOOTH, kind))
    assert find_photos(tmp_path) == names
    sums = {decode(tmp_path / name).pixels.sum() for name in names}
    assert len(sums) == 1
    assert "HEIF" not in Image.OPEN  # other users of Pillow see no new format


def test_an_avif_file_of_the_general_brand_is_avif(decoded):
    data = encode(SMOOTH, "AVIF")
    general = data[:8] + b"mif1" + data[12:]
    assert b"avif" in general[16:40]
    assert np.array_equal(decoded(general).pixels, decoded(data).pixels)


@KINDS
def test_position_and_time_are_read(decoded, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "telephone"
    exif.get_ifd(ExifTags.IFD.Exif)[0x9003] = "2024:05:01 12:30:45"
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps.update({1: "S", 2: (1.0, 30.0, 0.0), 3: "E", 4: (2.0, 0.0, 0.0)})
    photo = decoded(encode(SMOOTH, kind, exif=exif))
    assert photo.position == Position(-1.5, 2.0)
    assert photo.taken == datetime(2024, 5, 1, 12, 30, 45)
    packet = (
        b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description '
        b'xmlns:a="http://ns.adobe.com/exif/1.0/" a:GPSLatitude="1,30.0N" a:GPSLongitude="2,0.0W"/>'
        b"</r:RDF>"
    )
    assert decoded(encode(SMOOTH, kind, xmp=packet)).position == Position(1.5, -2.0)


def test_more_than_8_bits_become_8_bits(decoded):
    deep = SMOOTH.astype(np.uint16) << 8
    data = pillow_heif.from_bytes("RGB;16", SMOOTH.shape[1::-1], deep.tobytes())
    stream = io.BytesIO()
    data.save(stream, quality=95)
    pixels = decoded(stream.getvalue()).pixels
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 4


@KINDS
def test_transparency_is_laid_over_black(decoded, kind):
    alpha = np.zeros(SMOOTH.shape[:2], np.uint8)
    alpha[:, :48] = 255
    layers = [*Image.fromarray(SMOOTH).split(), Image.fromarray(alpha)]
    pixels = decoded(encode(Image.merge("RGBA", layers), kind, quality=95)).pixels
    assert pixels[:, 50:].max() < 8
    assert np.abs(pixels[:, :46].astype(int) - SMOOTH[:, :46]).mean() < 4


# --- what cannot be read -----------------------------------------------------------------------
@KINDS
def test_a_cut_of_any_length_is_an_error(decoded, kind):
    data = encode(SMOOTH, kind)
    for length in (len(data) - 1, len(data) - 20, len(data) // 2, len(data) // 4, 24):
        with pytest.raises(TruncatedPhoto):
            decoded(data[:length])


@KINDS
def test_the_size_is_checked_before_pixels_are_decoded(decoded, kind, monkeypatch):
    data = encode(SMOOTH, kind)
    old, new = (struct.pack(">II", *size) for size in ((96, 64), (12_000, 12_000)))
    assert old in data
    monkeypatch.setattr(Image.core, "new", lambda *_: pytest.fail("pixels were allocated"))
    with pytest.raises(PhotoTooLarge, match="12000 x 12000 is more than"):
        decoded(data.replace(old, new))


@KINDS
def test_changed_bytes_raise_only_photo_errors(decoded, kind, capfd):
    data, rng, outcomes = encode(SMOOTH[::2, ::2], kind), np.random.default_rng(5), set()
    for _ in range(60):
        try:
            outcomes.add(decoded(mutated(data, rng)).pixels.ndim)
        except PhotoError as error:
            outcomes.add(type(error).__name__)
    assert len(outcomes) > 1
    assert capfd.readouterr() == ("", "")


def test_heic_without_its_package_names_the_extra(decoded, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(NotAPhoto, match=r'a HEIC photo needs an extra: .*"placerec\[heif\]"'):
        decoded(encode(SMOOTH, "HEIC"), "1.heic")


def test_avif_without_a_decoder_names_the_remedy(decoded, monkeypatch):
    data = encode(SMOOTH, "AVIF")
    monkeypatch.setattr(features, "check", lambda _: False)
    with pytest.raises(NotAPhoto, match=r"AVIF needs Pillow 11\.3 or newer: pip install"):
        decoded(data, "1.avif")
