"""The position in an XMP packet, which is in the photo or in a side-car file beside it.

XMP part 2, section 3.2 (the EXIF schema): an angle is "52,12.348N" or "52,12,20N", a direction is
a fraction. A program writes each as an attribute or as an element.
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
ANGLE = re.compile(r"(\d+),(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?([NSEW])", re.IGNORECASE)
NAMES = ("GPSLatitude", "GPSLongitude", "GPSImgDirection")
IN_IMAGE = ("xmp", "XML:com.adobe.xmp")  # the keys of Pillow
SUFFIXES = (".xmp", ".XMP", ".Xmp")


def packets(image: Image.Image, path: Path) -> Iterator[bytes]:
    """Yield the XMP packet in a loaded ``image``, then those of the side-cars of ``path``."""
    for key in IN_IMAGE:
        packet = image.info.get(key)
        if packet:
            yield packet.encode() if isinstance(packet, str) else packet
            break
    for suffix in SUFFIXES:
        for sidecar in (path.with_name(path.name + suffix), path.with_suffix(suffix)):
            try:
                if sidecar.is_file():  # a pipe would block
                    with sidecar.open("rb") as stream:
                        yield stream.read(MOST_BYTES + 1)
            except OSError:
                continue


def gps_from_xmp(packet: bytes) -> Gps:
    """Return the position in an XMP packet; a packet that is not XML has none."""
    try:
        root = parse(packet.strip(b" \r\n\t\0")) if len(packet) <= MOST_BYTES else None
    except MarkupError:
        root = None
    if root is None:
        return Gps()
    values = dict.fromkeys(NAMES, "")
    for element in root.iter():
        texts = {**element.attrib, element.tag: element.text or ""}
        for name in NAMES:
            values[name] = values[name] or texts.get(name, "").strip()
    (latitude, north), (longitude, east) = map(_parts, (values[name] for name in NAMES[:2]))
    return gps_from_parts(latitude, north, longitude, east, _fraction(values[NAMES[2]]))


def _parts(text: str) -> tuple[tuple[Any, ...], str]:
    """Return the numbers of an angle and its letter; another text gives one that is no number."""
    angle = ANGLE.fullmatch(text)
    if not angle:
        return (text,) if text else (), ""
    return tuple(part for part in angle.groups()[:3] if part), angle[4]


def _fraction(text: str) -> float | None:
    number, _, divisor = text.partition("/")
    top, bottom = finite(number), finite(divisor or 1)
    return top / bottom if top is not None and bottom else None
