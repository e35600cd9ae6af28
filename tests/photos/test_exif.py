"""What EXIF says: where and when a photo was taken."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from photo_support import SMOOTH, encode
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from placerec.photos.exif import Gps, gps_from_exif, time_from_exif
from placerec.records import Position

TAG = ExifTags.GPS


def exif_of(**changes):
    """Return tags of 48°30'36" N, 2°15'0" W, heading 270.5°; ``None`` removes a tag."""
    gps = {
        "GPSLatitudeRef": "N",
        "GPSLatitude": (IFDRational(48), IFDRational(30), IFDRational(360, 10)),
        "GPSLongitudeRef": "W",
        "GPSLongitude": (IFDRational(2), IFDRational(15), IFDRational(0)),
        "GPSImgDirectionRef": "T",
        "GPSImgDirection": IFDRational(541, 2),
    } | changes
    return Tags({TAG[k]: v for k, v in gps.items() if v is not None})


class Tags(Image.Exif):
    """Tags that may have values that no file can contain."""

    def __init__(self, gps):
        super().__init__()
        self.gps = gps

    def get_ifd(self, tag):
        return self.gps if tag == ExifTags.IFD.GPSInfo else {}


def test_degrees_minutes_seconds_and_hemispheres_are_read():
    assert gps_from_exif(exif_of()).position == Position(48.51, -2.25, 270.5)
    south_east = exif_of(GPSLatitudeRef="S\0", GPSLongitudeRef=b"e")
    assert gps_from_exif(south_east).position == Position(-48.51, 2.25, 270.5)


ZERO = (IFDRational(0), IFDRational(0), IFDRational(0))


@pytest.mark.parametrize("letters", [{}, {"GPSLatitudeRef": None, "GPSLongitudeRef": "\0"}])
def test_zero_north_zero_east_is_a_camera_without_a_fix(letters):
    tags = exif_of(GPSLatitude=ZERO, GPSLongitude=ZERO, **letters)
    assert gps_from_exif(tags) == Gps(None, damaged=False)
    on_the_equator = exif_of(GPSLatitude=ZERO)
    assert gps_from_exif(on_the_equator).position == Position(0.0, -2.25, 270.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"GPSLatitudeRef": None},
        {"GPSLongitudeRef": "X"},
        {"GPSLongitudeRef": ""},
        {"GPSLatitude": None},
        {"GPSLatitude": (IFDRational(48), IFDRational(30), IFDRational(1, 0))},
        {"GPSLatitude": (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))},
        {"GPSLatitude": (IFDRational(91), IFDRational(0), IFDRational(0))},
        {"GPSLatitude": (IFDRational(-4), IFDRational(0), IFDRational(0))},
        {"GPSLongitude": (IFDRational(180), IFDRational(0), IFDRational(1))},
        {"GPSLongitude": (math.nan, 0.0, 0.0)},
        {"GPSLongitude": "east of here"},
        {"GPSLongitude": ()},
        {"GPSLatitude": (IFDRational(52), IFDRational(75), IFDRational(0))},
        {"GPSLatitude": (IFDRational(52), IFDRational(0), IFDRational(60))},
        {"GPSLatitude": (IFDRational(52), IFDRational(-1), IFDRational(0))},
    ],
)
def test_tags_that_cannot_be_right_give_no_position_and_are_damaged(changes):
    assert gps_from_exif(exif_of(**changes)) == Gps(None, damaged=True)


@pytest.mark.parametrize("changes", [{"GPSImgDirectionRef": None}, {"GPSImgDirectionRef": "Q"},
                                     {"GPSImgDirection": IFDRational(1, 0)}])  # fmt: skip
def test_an_invalid_direction_removes_only_the_heading(changes):
    assert gps_from_exif(exif_of(**changes)).position == Position(48.51, -2.25, None)


def test_magnetic_headings_count_and_360_becomes_0():
    magnetic = exif_of(GPSImgDirectionRef="M", GPSImgDirection=IFDRational(360))
    assert gps_from_exif(magnetic).position == Position(48.51, -2.25, 0.0)


def test_tags_without_an_angle_are_no_position_and_no_damage():
    neither = exif_of(GPSLatitude=None, GPSLongitude=None)
    assert gps_from_exif(neither) == gps_from_exif(Tags({})) == Gps(None, damaged=False)


def test_missing_and_damaged_exif_give_no_position():
    assert gps_from_exif(Image.Exif()) == Gps(None, damaged=False)
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = 12345  # an offset into nothing
    assert gps_from_exif(exif).position is None


# --- the capture time --------------------------------------------------------------------------
def taken(original, fraction=None, offset=None):
    exif = Image.Exif()
    tags = {0x9003: original, 0x9291: fraction, 0x9011: offset}
    exif.get_ifd(ExifTags.IFD.Exif).update({k: v for k, v in tags.items() if v is not None})
    return time_from_exif(exif)


def test_the_capture_time_has_a_zone_only_if_the_camera_stored_one():
    assert taken("2024:05:01 12:30:45") == datetime(2024, 5, 1, 12, 30, 45)
    assert taken("2024:05:01 12:30:45\0", "25 ") == datetime(2024, 5, 1, 12, 30, 45, 250_000)
    aware = taken("2024:05:01 00:30:45", "5", "+02:00")
    assert aware.isoformat() == "2024-05-01T00:30:45.500000+02:00"
    assert aware == datetime(2024, 4, 30, 22, 30, 45, 500_000, UTC)
    assert taken("2024:05:01 12:30:45", None, "-03:30").utcoffset() == timedelta(hours=-3.5)


@pytest.mark.parametrize(
    "original", [None, "", "    :  :     :  :  ", "0000:00:00 00:00:00", "2024:13:01 00:00:00", 7]
)
def test_a_time_that_cannot_be_right_is_none(original):
    assert taken(original) is None


@pytest.mark.parametrize("fraction", ["12e9", "-1", "x", "²", b"\xff"])
def test_a_fraction_that_is_no_digits_and_an_unknown_zone_are_ignored(fraction):
    assert taken("2024:05:01 12:30:45", fraction, "local") == datetime(2024, 5, 1, 12, 30, 45)


def test_a_photo_has_the_time_the_position_and_the_damage_of_its_tags(decoded):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "camera"  # Pillow writes no tags if the first directory is empty
    exif.get_ifd(ExifTags.IFD.Exif)[0x9003] = "2024:05:01 12:30:45"
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps.update({1: "N", 2: (52.0, 75.0, 0.0), 3: "E", 4: (0.0, 7.0, 0.0)})
    for kind in ("JPEG", "PNG", "WEBP", "AVIF", "HEIC"):
        photo = decoded(encode(SMOOTH, kind, exif=exif))
        assert (photo.taken, photo.position) == (datetime(2024, 5, 1, 12, 30, 45), None), kind
        assert photo.gps_damaged, kind
    gps[2] = (52.0, 15.0, 36.0)
    photo = decoded(encode(SMOOTH, "JPEG", exif=exif))
    assert photo.position == Position(pytest.approx(52.26), pytest.approx(7 / 60))
    assert not photo.gps_damaged
