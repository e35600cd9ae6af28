"""Positions in XMP: inside a photo, and in a side-car."""

import os

import numpy as np
import pytest
from photo_support import SMOOTH, encode, mutated
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from placerec.photos import read_position
from placerec.photos.exif import Gps
from placerec.photos.markup import MarkupError, parse
from placerec.photos.xmp import gps_from_xmp
from placerec.records import Position

HEAD = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
)
TAIL = "</rdf:RDF></x:xmpmeta>" + " " * 100 + '<?xpacket end="w"?>'


def packet(latitude="52,12.348N", longitude="0,7,18.48W", direction=None) -> bytes:
    tags = {"GPSLatitude": latitude, "GPSLongitude": longitude, "GPSImgDirection": direction}
    text = "".join(f' exif:{name}="{value}"' for name, value in tags.items() if value is not None)
    return f"{HEAD}{text}/>{TAIL}".encode()


HERE = Gps(Position(pytest.approx(52.2058), pytest.approx(-0.1218)))


def test_an_angle_may_have_two_or_three_parts_and_the_tags_may_be_elements():
    assert gps_from_xmp(packet()) == HERE
    elements = "<exif:GPSLatitude> 52,12.348N\n</exif:GPSLatitude>"
    elements += "<exif:GPSLongitude>0,7.308W</exif:GPSLongitude>"
    assert gps_from_xmp(f"{HEAD}>{elements}</rdf:Description>{TAIL}\0\0".encode()) == HERE
    for direction, heading in (("2705/10", 270.5), ("-90", 270.0), ("1/0", None), ("NW", None)):
        gps = gps_from_xmp(packet("33,55S", "151,12,0E", direction).replace(b"33,55S", b"33,55.0S"))
        assert gps.position == Position(pytest.approx(-33.916667), pytest.approx(151.2), heading)


def test_a_place_inside_a_structure_or_of_another_schema_is_not_that_of_the_camera():
    there = "<exif:GPSLatitude>10,0N</exif:GPSLatitude><exif:GPSLongitude>20,0E</exif:GPSLongitude>"
    shown = (
        '<i:LocationShown xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><rdf:Bag>'
        f'<rdf:li rdf:parseType="Resource">{there}</rdf:li></rdf:Bag></i:LocationShown>'
    )
    own = ' exif:GPSLatitude="52,12.348N" exif:GPSLongitude="0,7.308W"'
    assert gps_from_xmp(f"{HEAD}>{shown}</rdf:Description>{TAIL}".encode()) == Gps()
    assert gps_from_xmp(f"{HEAD}{own}>{shown}</rdf:Description>{TAIL}".encode()) == HERE
    assert gps_from_xmp(packet().replace(b"adobe.com/exif", b"other.org/exif")) == Gps()


def test_a_decimal_angle_with_its_letter_in_a_tag_and_utf_16_are_read():
    tags = (("Latitude", "52.2058", "N"), ("Longitude", "0.1218", "W"))
    text = "".join(
        f"<exif:GPS{name}>{angle}</exif:GPS{name}><exif:GPS{name}Ref>{letter}</exif:GPS{name}Ref>"
        for name, angle, letter in tags
    )
    assert gps_from_xmp(f"{HEAD}>{text}</rdf:Description>{TAIL}".encode()) == HERE
    for encoding, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        assert gps_from_xmp(mark + packet("52, 12.348 N").decode().encode(encoding)) == HERE


@pytest.mark.parametrize(
    "angles",
    [("52,75.0N", "0,7W"), ("52,12.3E", "0,7W"), ("91,0N", "0,7W"), ("52.2", "0,7W"),
     ("52,12N", None), ("52,12", "0,7W")],
)  # fmt: skip
def test_an_angle_that_cannot_be_right_is_damage(angles):
    assert gps_from_xmp(packet(*angles)) == Gps(None, damaged=True)


def test_no_fix_no_angles_and_no_xml_are_no_position():
    assert gps_from_xmp(packet("0,0.0N", "0,0,0E")) == Gps()
    assert gps_from_xmp(packet(None, None)) == Gps()
    assert gps_from_xmp(b"hello") == gps_from_xmp(b"") == gps_from_xmp(packet()[:-160]) == Gps()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused_in_every_encoding(encoding, tmp_path):
    (tmp_path / "secret").write_text("52,12.348N")
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9))
    for entities in (f'<!ENTITY e0 "x">{bomb}', f'<!ENTITY e8 SYSTEM "{tmp_path}/secret">'):
        text = f"<!DOCTYPE x [{entities}]><x>&e8;</x>"
        with pytest.raises(MarkupError, match="document type"):
            parse(text.encode(encoding))
        assert gps_from_xmp(text.encode(encoding)) == Gps()


def test_a_deep_and_a_large_packet_do_no_harm():
    deep = b"<a>" * 100_000 + b"</a>" * 100_000
    assert gps_from_xmp(deep) == Gps()
    assert gps_from_xmp(packet() + b" " * (1 << 24)) == Gps()


# --- beside and inside a photo -----------------------------------------------------------------
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_a_packet_in_a_photo_is_read(decoded, kind):
    options = {"tiffinfo": {700: packet()}} if kind == "TIFF" else {"xmp": packet()}
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet().decode())
        options = {"pnginfo": info}
    photo = decoded(encode(SMOOTH, kind, **options))
    assert photo.position == HERE.position
    assert not photo.gps_damaged


@pytest.mark.parametrize("name", ["IMG_1.xmp", "IMG_1.XMP", "IMG_1.jpg.xmp", "IMG_1.jpg.XMP"])
def test_a_side_car_is_read(decoded, tmp_path, name):
    (tmp_path / name).write_bytes(packet())
    assert decoded(encode(SMOOTH, "JPEG"), "IMG_1.jpg").position == HERE.position
    assert decoded(encode(SMOOTH, "JPEG"), "IMG_11.jpg").position is None


def exif_at(*latitude):
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: latitude, 3: "E", 4: (7.0, 0.0, 0.0)})
    return exif


def test_exif_goes_first_then_the_packet_then_the_side_car(decoded, tmp_path):
    (tmp_path / "1.xmp").write_bytes(packet("3,0.0N", "7,0.0E"))
    for exif, xmp, latitude in (
        (exif_at(1.0, 0.0, 0.0), packet("2,0.0N", "7,0.0E"), 1.0),
        (exif_at(1.0, 75.0, 0.0), packet("2,0.0N", "7,0.0E"), 2.0),
        (None, packet("2,75.0N", "7,0.0E"), 3.0),
        (exif_at(1.0, 75.0, 0.0), b"", 3.0),
    ):
        options = {"exif": exif} if exif is not None else {}
        photo = decoded(encode(SMOOTH, "JPEG", xmp=xmp, **options), "1.jpg")
        assert photo.position.latitude == latitude
        assert not photo.gps_damaged


def test_damage_is_kept_if_nothing_else_has_a_position(decoded, tmp_path):
    assert decoded(encode(SMOOTH, "JPEG", xmp=packet("2,75.0N", "7,0.0E")), "1.jpg").gps_damaged
    (tmp_path / "2.xmp").write_bytes(packet(None, None))
    assert decoded(encode(SMOOTH, "JPEG", exif=exif_at(1.0, 75.0, 0.0)), "2.jpg").gps_damaged


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_side_car_that_is_no_file_is_ignored(decoded, tmp_path):
    os.mkfifo(tmp_path / "1.xmp")
    (tmp_path / "1.jpg.xmp").mkdir()
    (tmp_path / "1.XMP").symlink_to(tmp_path / "1.XMP")
    assert decoded(encode(SMOOTH, "JPEG"), "1.jpg").position is None


def test_damaged_tags_never_cost_the_picture(decoded):
    exif = exif_at(1.0, 2.0, 3.0)
    exif.get_ifd(0x8769).update({0x9003: "2024:05:01 12:30:45", 0x9011: "+02:00"})
    exif[0x010F] = "camera"
    rng, size = np.random.default_rng(1), 0
    for _ in range(300):
        tags = mutated(exif.tobytes(), rng)
        options = {"exif": tags, "xmp": mutated(packet(), rng)}
        size += decoded(encode(SMOOTH[:16, :16], "JPEG", **options)).pixels.size
    assert size == 300 * 16 * 16 * 3


# --- without the pixels ------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIC"])
def test_a_position_is_read_without_the_pixels(tmp_path, kind):
    exif = exif_at(1.0, 0.0, 0.0)
    exif[0x010F] = "camera"
    data = encode(SMOOTH, kind, exif=exif)
    (tmp_path / "1.jpg").write_bytes(data)
    assert read_position(tmp_path / "1.jpg") == Position(1.0, 7.0)
    (tmp_path / "2.jpg").write_bytes(encode(SMOOTH, kind))
    assert read_position(tmp_path / "2.jpg") is None
    (tmp_path / "2.xmp").write_bytes(packet())
    assert read_position(tmp_path / "2.jpg") == HERE.position


def test_a_photo_that_cannot_be_read_has_no_position(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"hello")
    assert read_position(tmp_path / "1.jpg") is None
    assert read_position(tmp_path / "none.jpg") is None
