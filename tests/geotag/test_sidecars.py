"""Side-cars: what is written, what an existing one keeps, and what is never touched."""

import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from placerec.errors import Damaged, NoRoom, UsageError
from placerec.geotag.sidecars import is_geotagged, write_sidecar
from placerec.photos import read_position
from placerec.records import Position

HERE = Position(-33.9123456, 151.2987654)
EXIF = "{http://ns.adobe.com/exif/1.0/}"
RATED = (
    '<?xml version="1.0" encoding="{encoding}"?>\n<!-- my own note </rdf:RDF> -->\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<r:Description r:about="uuid:1" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4" '
    'xmp:Label="d\xfcster"{more}/></r:RDF></x:xmpmeta>\n'
)
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'


def rated(more="", encoding="utf-8"):
    return RATED.format(more=more, encoding=encoding).encode(encoding)


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.new("RGB", (16, 16), "grey").save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


def files(photo):
    return {path.name: path.read_bytes() for path in photo.parent.iterdir()}


def test_a_new_side_car_is_read_back_and_the_photo_stays_as_it_is(photo):
    before, status = photo.read_bytes(), photo.stat()
    assert write_sidecar(photo, HERE, 12.4) == photo.with_name("a.jpg.xmp")
    assert photo.read_bytes() == before
    assert photo.stat().st_mtime_ns == status.st_mtime_ns
    back = read_position(photo)
    assert back.latitude == pytest.approx(HERE.latitude, abs=2e-8)
    assert back.longitude == pytest.approx(HERE.longitude, abs=2e-8)
    assert set(files(photo)) == {"a.jpg", "a.jpg.xmp"}
    (tags,) = ET.parse(photo.with_name("a.jpg.xmp")).iter(f"{RDF_NAME}Description")
    assert tags.get(f"{EXIF}GPSLatitude") == "33,54.740736S"
    assert tags.get(f"{EXIF}GPSLongitude") == "151,17.925924E"
    assert tags.get(f"{EXIF}GPSProcessingMethod") == "placerec"
    assert tags.get(f"{EXIF}GPSHPositioningError") == "124/10"


RDF_NAME = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


@pytest.mark.parametrize(
    ("position", "latitude", "longitude"),
    [
        (Position(59.99999999999, -0.5), "60,0.000000N", "0,30.000000W"),
        (Position(-90.0, 180.0), "90,0.000000S", "180,0.000000E"),
        (Position(1e-6, -179.99999999999), "0,0.000060N", "180,0.000000W"),
    ],
)
def test_an_angle_never_has_sixty_minutes(photo, position, latitude, longitude):
    text = write_sidecar(photo, position).read_text("utf-8")
    assert f'GPSLatitude="{latitude}"' in text
    assert f'GPSLongitude="{longitude}"' in text
    assert "GPSHPositioningError" not in text


@pytest.mark.parametrize("name", ["a.jpg.xmp", "a.xmp", "a.jpg.XMP", "a.XMP"])
def test_an_existing_side_car_is_kept_or_gets_the_position_and_keeps_all_else(photo, name):
    photo.with_name(name).write_bytes(rated())
    photo.with_name(name).chmod(0o640)
    before = files(photo)
    with pytest.raises(UsageError, match=rf"{name}: the photo has this side-car"):
        write_sidecar(photo, HERE)
    assert files(photo) == before
    assert write_sidecar(photo, HERE, merge=True) == photo.with_name(name)
    after = files(photo)
    assert set(after) == set(before)
    head, _, tail = before[name].rpartition(b"</r:RDF>")
    assert after[name].startswith(head)
    assert after[name].endswith(b"</r:RDF>" + tail)
    assert photo.with_name(name).stat().st_mode & 0o777 == 0o640
    assert read_position(photo).latitude == pytest.approx(HERE.latitude, abs=2e-8)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_side_car_of_another_encoding_keeps_it(photo, encoding):
    side = photo.with_name("a.jpg.xmp")
    side.write_bytes(rated(encoding=encoding))
    write_sidecar(photo, HERE, merge=True)
    assert "d\xfcster" in side.read_bytes().decode(encoding)
    assert read_position(photo).longitude == pytest.approx(HERE.longitude, abs=2e-8)


GPS = ' xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:{}'


@pytest.mark.parametrize(
    "content",
    [
        b"", b"hello", rated()[:-40], b"<x/>", f"<rdf:RDF {RDF}/>".encode(),
        b"<!DOCTYPE x>" + rated()[60:], rated() + b" " * (1 << 24),
        rated(GPS.format('GPSLatitude="95,0N"')), rated(GPS.format('GPSLongitudeRef="W"')),
    ],
    ids=["empty", "text", "cut off", "other XML", "no description", "document type", "huge",
         "an angle that cannot be right", "half a position"],
)  # fmt: skip
def test_what_cannot_be_merged_is_named_and_stays(photo, content):
    photo.with_name("a.jpg.xmp").write_bytes(content)
    before = files(photo)
    with pytest.raises(Damaged, match=r"a\.jpg\.xmp: "):
        write_sidecar(photo, HERE, merge=True)
    assert files(photo) == before


def test_a_tag_that_is_there_is_not_written_twice(photo):
    side = photo.with_name("a.jpg.xmp")
    side.write_bytes(rated(GPS.format('GPSMapDatum="WGS-84" exif:GPSVersionID="2.0.0.0"')))
    write_sidecar(photo, HERE, merge=True)
    text = side.read_text("utf-8")
    assert text.count("GPSMapDatum") == text.count("GPSVersionID") == 1
    assert read_position(photo) is not None


def test_a_side_car_of_two_photos_a_link_and_a_folder_are_left_alone(photo):
    photo.with_name("a.xmp").write_bytes(rated())
    photo.with_name("a.CR2").write_bytes(b"raw")
    with pytest.raises(UsageError, match=r"a\.xmp: also the side-car of a\.CR2"):
        write_sidecar(photo, HERE, merge=True)
    photo.with_name("a.CR2").unlink()
    photo.with_name("other").write_bytes(rated())
    side = photo.with_name("a.jpg.xmp")
    for make in (lambda: side.symlink_to("other"), lambda: side.symlink_to("nowhere"), side.mkdir):
        make()
        with pytest.raises(UsageError, match=r"a\.jpg\.xmp: a link or a folder"):
            write_sidecar(photo, HERE, merge=True)
        side.rmdir() if side.is_dir() and not side.is_symlink() else side.unlink()
    assert photo.with_name("other").read_bytes() == photo.with_name("a.xmp").read_bytes() == rated()


def test_a_photo_that_has_a_position_by_now_keeps_it(photo):
    write_sidecar(photo, HERE)
    before = files(photo)
    for merge in (False, True):
        with pytest.raises(UsageError, match=r"a\.jpg: it has a position"):
            write_sidecar(photo, Position(1.0, 2.0), merge=merge)
    assert files(photo) == before


def test_a_side_car_says_that_placerec_wrote_the_position(photo):
    side = photo.with_name("a.jpg.xmp")
    for content in (None, b"hello", rated(), rated(GPS.format('GPSProcessingMethod="GPS"'))):
        if content:
            side.write_bytes(content)
        assert not is_geotagged(photo)
    side.write_bytes(rated())
    write_sidecar(photo, HERE, merge=True)
    assert is_geotagged(photo)
    element = "<exif:GPSProcessingMethod>placerec</exif:GPSProcessingMethod>"
    more = f"{GPS.split(' exif:')[0]}>{element}</r:Description"
    side.write_bytes(rated(more).replace(b"</r:Description/>", b"</r:Description>"))
    assert is_geotagged(photo)


def test_what_cannot_be_written_or_read_leaves_nothing(photo, monkeypatch):
    with pytest.raises(Damaged, match="cannot be written as XMP"):
        write_sidecar(photo, Position(0.0, 0.0))  # in a photo it means: no fix

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoRoom, match="No space left"):
        write_sidecar(photo, HERE)
    assert set(files(photo)) == {"a.jpg"}
