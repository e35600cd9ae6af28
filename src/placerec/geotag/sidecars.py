"""Write a position into the XMP side-car of a photo, and read it back.

A new side-car is ``photo.jpg.xmp``. One that exists gets one more rdf:Description, and every other
byte of it stays. XMP part 2, section 3.2 (the EXIF schema): an angle is "52,12.348000N".
"""

from __future__ import annotations

import codecs
import os
import shutil
from pathlib import Path
from xml.etree.ElementTree import Element
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from placerec.errors import Damaged, NotFound, UsageError
from placerec.files import AnyPath, atomic_write, is_file, path_of
from placerec.photos import read_position
from placerec.photos.find import PHOTO_SUFFIXES
from placerec.photos.markup import MarkupError, parse
from placerec.photos.sphere import distance
from placerec.photos.xmp import EXIF, MOST_BYTES, RDF, gps_from_xmp, sidecars
from placerec.records import Position

NEW = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f'<rdf:RDF xmlns:rdf="{RDF[1:-1]}">\n</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>\n'
).encode()
ANGLES = ("GPSLatitude", "GPSLatitudeRef", "GPSLongitude", "GPSLongitudeRef")
METHOD = "placerec"  # of GPSProcessingMethod: how the position was made
MINUTE = 10**6  # an angle is rounded to a millionth of a minute: 2 mm
MOST_METRES = 0.01  # by which the position that is read back may differ


def write_sidecar(
    photo: AnyPath, position: Position, radius: float | None = None, *, merge: bool = False
) -> Path:
    """Write ``position`` into the side-car of ``photo``, and return the side-car's path.

    ``radius`` is how far off the position may be, in metres. The photo itself is only read. With
    ``merge`` a side-car that exists gets the position too, and keeps all that it has.

    Raises ``UsageError`` if the photo has a position, if it has a side-car (without ``merge``), or
    one that is a link, a folder, or another photo's too; ``Damaged`` if the side-car is not XMP or
    has GPS tags; ``NotFound`` and ``NoRoom``. Then nothing was changed.
    """
    photo = path_of(photo)
    if not is_file(photo):
        raise NotFound(photo, "no such photo")
    if read_position(photo):
        raise UsageError(f"{photo}: it has a position now, so no side-car was written")
    side = next(filter(os.path.lexists, sidecars(photo)), None)
    if side:
        _require_own(side, photo, merge=merge)
    target = side or sidecars(photo)[0]
    packet = _with_position(target, _content(side) if side else NEW, position, radius)
    with atomic_write(target) as partial:
        partial.write_bytes(packet)
        if side:
            shutil.copymode(side, partial)
    _require_near(target, read_position(photo), position)
    return target


def is_geotagged(photo: Path) -> bool:
    """Say whether a side-car of ``photo`` has a position that ``write_sidecar`` wrote."""
    for side in filter(is_file, sidecars(photo)):
        try:
            if _exif_tags(parse(_content(side))).get("GPSProcessingMethod", "").strip() == METHOD:
                return True
        except (MarkupError, NotFound):
            continue
    return False


def _require_own(side: Path, photo: Path, *, merge: bool) -> None:
    """Raise ``UsageError`` unless ``side`` may be changed for ``photo``."""
    if side.is_symlink() or not is_file(side):
        raise UsageError(f"{side}: a link or a folder, so it is left alone; rename it")
    if not merge:
        raise UsageError(f"{side}: the photo has this side-car; merge the position into it")
    if side.stem != photo.name:  # photo.xmp, not photo.jpg.xmp
        for other in side.parent.iterdir():
            alike = other.stem == photo.stem and other.suffix.lower() in PHOTO_SUFFIXES
            if alike and other.name != photo.name:
                remedy = f"rename it to {photo.name}{side.suffix} if it is meant for {photo.name}"
                raise UsageError(f"{side}: also the side-car of {other.name}; {remedy}")


def _content(side: Path) -> bytes:
    try:
        with side.open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except OSError as error:
        why = error.strerror or str(error)
        raise NotFound(side, f"cannot be read ({why})", "check its permissions") from error


def _with_position(path: Path, packet: bytes, position: Position, radius: float | None) -> bytes:
    """Return an XMP packet with one more rdf:Description, which has the position."""
    end, present = _look_into(path, packet)
    if present.keys() & set(ANGLES):
        raise _cannot(path, "it has GPS tags without a position; remove these tags first")
    tags = {
        "GPSVersionID": "2.3.0.0",
        "GPSMapDatum": "WGS-84",
        "GPSLatitude": _angle(position.latitude, "NS"),
        "GPSLongitude": _angle(position.longitude, "EW"),
        "GPSProcessingMethod": METHOD,
    }
    if radius is not None:
        tags["GPSHPositioningError"] = f"{round(radius * 10)}/10"
    attributes = "".join(
        f"\n  exif:{name}={quoteattr(value)}" for name, value in tags.items() if name not in present
    )
    spaces = f'xmlns:rdf="{RDF[1:-1]}" xmlns:exif="{EXIF[1:-1]}"'
    text = f' <rdf:Description rdf:about="" {spaces}{attributes}/>\n'
    with_position = packet[:end] + text.encode(_encoding(packet)) + packet[end:]
    _require_near(path, gps_from_xmp(with_position).position, position)
    return with_position


def _look_into(path: Path, packet: bytes) -> tuple[int, dict[str, str]]:
    """Return the offset of the tag that ends the RDF, and the EXIF tags of the photo."""
    if len(packet) > MOST_BYTES:
        raise _cannot(path, f"it has more than {MOST_BYTES} bytes")
    ends: list[int] = []
    parser = expat.ParserCreate(namespace_separator="}")

    def end(name: str) -> None:
        if name == f"{RDF[1:]}RDF":
            ends.append(parser.CurrentByteIndex)

    parser.EndElementHandler = end
    try:
        root = parse(packet)
        parser.Parse(packet, True)
    except (MarkupError, expat.ExpatError) as error:
        raise _cannot(path, str(error)) from error
    if len(ends) != 1 or not packet.startswith("</".encode(_encoding(packet)), ends[0]):
        raise _cannot(path, "it has no rdf:RDF, or several, or an empty one")
    return ends[0], _exif_tags(root)


def _exif_tags(root: Element) -> dict[str, str]:
    """Return the EXIF tags of the photo itself, and their texts."""
    tags: dict[str, str] = {}
    for part in root.iterfind(f".//{RDF}RDF/{RDF}Description"):
        texts = {**part.attrib, **{child.tag: child.text or "" for child in part}}
        tags |= {name[len(EXIF) :]: text for name, text in texts.items() if name.startswith(EXIF)}
    return tags


def _encoding(packet: bytes) -> str:
    """Return how text without accents is written in a packet of this encoding."""
    marks = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
    return marks.get(packet[:2], "ascii")


def _angle(degrees: float, letters: str) -> str:
    whole, rest = divmod(round(abs(degrees) * 60 * MINUTE), 60 * MINUTE)
    minutes, fraction = divmod(rest, MINUTE)
    return f"{whole},{minutes}.{fraction:06}{letters[degrees < 0]}"


def _require_near(path: Path, read: Position | None, position: Position) -> None:
    """Raise ``Damaged`` unless the position that was ``read`` is the one that was meant."""
    if read is None or distance(read, position) > MOST_METRES:
        where = f"{position.latitude:.6f},{position.longitude:.6f}"
        raise _cannot(path, f"the position {where} cannot be written as XMP and read back")


def _cannot(path: Path, why: str) -> Damaged:
    return Damaged(f"{path}: no position can be added ({why})", path)
