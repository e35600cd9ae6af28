"""What EXIF says: where and when a photo was taken."""

import math

import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from placerec.photos.exif import Gps, gps_from_exif, position_from_exif
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
    assert position_from_exif(exif_of()) == Position(48.51, -2.25, 270.5)
    south_east = exif_of(GPSLatitudeRef="S\0", GPSLongitudeRef=b"e")
    assert position_from_exif(south_east) == Position(-48.51, 2.25, 270.5)


ZERO = (IFDRational(0), IFDRational(0), IFDRational(0))


@pytest.mark.parametrize("letters", [{}, {"GPSLatitudeRef": None, "GPSLongitudeRef": "\0"}])
def test_zero_north_zero_east_is_a_camera_without_a_fix(letters):
    tags = exif_of(GPSLatitude=ZERO, GPSLongitude=ZERO, **letters)
    assert gps_from_exif(tags) == Gps(None, damaged=False)
    on_the_equator = exif_of(GPSLatitude=ZERO)
    assert position_from_exif(on_the_equator) == Position(0.0, -2.25, 270.5)


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
    assert position_from_exif(exif_of(**changes)) is None


@pytest.mark.parametrize("changes", [{"GPSImgDirectionRef": None}, {"GPSImgDirectionRef": "Q"},
                                     {"GPSImgDirection": IFDRational(1, 0)}])  # fmt: skip
def test_an_invalid_direction_removes_only_the_heading(changes):
    assert position_from_exif(exif_of(**changes)) == Position(48.51, -2.25, None)


def test_magnetic_headings_count_and_360_becomes_0():
    magnetic = exif_of(GPSImgDirectionRef="M", GPSImgDirection=IFDRational(360))
    assert position_from_exif(magnetic) == Position(48.51, -2.25, 0.0)


def test_tags_without_an_angle_are_no_position_and_no_damage():
    neither = exif_of(GPSLatitude=None, GPSLongitude=None)
    assert gps_from_exif(neither) == gps_from_exif(Tags({})) == Gps(None, damaged=False)


def test_missing_and_damaged_exif_give_no_position():
    assert gps_from_exif(Image.Exif()) == Gps(None, damaged=False)
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = 12345  # an offset into nothing
    assert position_from_exif(exif) is None
