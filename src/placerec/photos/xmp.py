"""The position in an XMP packet, which is in the photo or in a side-car file beside it.

XMP part 2, section 3.2 (the EXIF schema): an angle is "52,12.348N" or "52,12,20N", a direction is
a fraction. A program writes each as an attribute or as an element. Some write a decimal number, and
the letter in a tag of its own. Only the tags of the photo itself count: the structures inside may
say where the subject is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from placerec.photos.exif import Gps, gps_from_parts
from placerec.photos.markup import MarkupError, parse
from placerec.photos.tables import finite

MOST_BYTES = 1 << 24  # a larger packet is ignored
ANGLE = re.compile(r"(\d+(?:,\s*\d+){0,2}(?:\.\d+)?)\s*([NSEW]?)", re.IGNORECASE)
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
EXIF = "{http://ns.adobe.com/exif/1.0/}"
UTF_16_LE = b"\xff\xfe"  # the byte order mark; a NUL is half of its last character
IN_IMAGE = ("xmp", "XML:com.adobe.xmp")  # the keys of Pillow
SUFFIXES = (".xmp", ".XMP", ".Xmp")


def packets(image: Image.Image, path: Path) -> Iterator[bytes]:
    """Yield the XMP packet in a loaded ``image``, then those of the side-cars of ``path``."""
    for key in IN_IMAGE:
        packet = image.info.get(key)
        if packet:
            yield packet.encode() if isinstance(packet, str) else packet
            break
    for sidecar in sidecars(path):
        try:
            if sidecar.is_file():  # a pipe would block
                with sidecar.open("rb") as stream:
                    yield stream.read(MOST_BYTES + 1)
        except OSError:
            continue


def sidecars(photo: Path) -> list[Path]:
    """Return every path that a side-car of ``photo`` may have, in the order of reading."""
    names = (
        (photo.with_name(photo.name + suffix), photo.with_suffix(suffix)) for suffix in SUFFIXES
    )
    return [path for pair in names for path in pair]


def gps_from_xmp(packet: bytes) -> Gps:
    """Return the position in an XMP packet; a packet that is not XML has none."""
    try:
        text = packet if packet.startswith(UTF_16_LE) else packet.strip(b" \r\n\t\0")
        root = parse(text) if len(packet) <= MOST_BYTES else None
    except MarkupError:
        root = None
    if root is None:
        return Gps()
    photo = [part for rdf in root.iter(f"{RDF}RDF") for part in rdf.findall(f"{RDF}Description")]

    def value(name: str) -> str:
        texts = (part.get(EXIF + name) or part.findtext(EXIF + name) or "" for part in photo)
        return next(filter(None, map(str.strip, texts)), "")

    latitude, north = _parts(value("GPSLatitude"), value("GPSLatitudeRef"))
    longitude, east = _parts(value("GPSLongitude"), value("GPSLongitudeRef"))
    return gps_from_parts(latitude, north, longitude, east, _fraction(value("GPSImgDirection")))


def _parts(text: str, reference: str) -> tuple[tuple[Any, ...], str]:
    """Return the numbers of an angle and its letter; another text gives one that is no number."""
    angle = ANGLE.fullmatch(text)
    if not angle:
        return (text,) if text else (), ""
    return tuple(angle[1].split(",")), angle[2] or reference[:1]


def _fraction(text: str) -> float | None:
    number, _, divisor = text.partition("/")
    top, bottom = finite(number), finite(divisor or 1)
    return top / bottom if top is not None and bottom else None
