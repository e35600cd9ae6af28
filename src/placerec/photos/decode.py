"""Decode one photo file to upright RGB pixels, or raise one error that gives the reason.

The file is read once, so the sha256 is that of the decoded bytes. The first bytes decide the
format; the file name does not. A photo that Pillow decodes only partly is an error. Pillow raises
many types of error on damaged bytes (Pillow issue 9814); all of them are translated here.
``decode`` may be called from several threads; they share only a filter for Pillow's warnings.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.Image import Transpose

from placerec.errors import (
    LimitReached,
    MissingExtra,
    NotAPhoto,
    NotFound,
    PhotoError,
    PhotoTooLarge,
    TruncatedPhoto,
    import_extra,
)
from placerec.photos.colour import to_rgb
from placerec.photos.exif import Gps, gps_from_exif, time_from_exif
from placerec.photos.find import CAMERA_RAW_SUFFIXES
from placerec.photos.xmp import gps_from_xmp, packets
from placerec.records import Array, Photo, Position

MAX_PIXELS = 89_478_485  # 256 MiB of RGB; Pillow warns of more
MACHINE_FAULTS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # of no photo: the next has them too
MAX_BYTES = 1 << 30  # twice the size of MAX_PIXELS as uncompressed 16-bit RGB
SIGNATURES = {  # Pillow's name of each supported format, and the first bytes of its files
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "BMP": rb"BM",
    "GIF": rb"GIF8[79]a",
    "PPM": rb"P[1-6]\s",
    "AVIF": rb"....ftyp(?:....)*avi[fs]",  # one of the brands in the first box
    "HEIC": rb"....ftyp(hei|hev|mif|msf)",  # Pillow reads it through an extra
}
UNSUPPORTED = {
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "camera raw (CR3)": rb"....ftypcrx",
}
ORIENTATION_TAG = 0x0112
UPRIGHT = {  # EXIF orientation -> the operation that turns the stored picture upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def decode(path: Path, name: str | None = None, shrink_to: tuple[int, int] | None = None) -> Photo:
    """Decode the photo at ``path``: pixels (H, W, 3) uint8 RGB, upright and contiguous.

    ``name`` becomes ``Photo.path`` (default: the path itself). ``shrink_to`` is a sufficient
    (height, width): a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, but not below
    ``shrink_to``, which saves time and memory. Raises ``NotFound``, or a ``PhotoError`` whose
    ``reason`` describes the problem.
    """
    return decode_bytes(_read(path), path, name, shrink_to)


def decode_bytes(
    data: bytes, path: Path, name: str | None = None, shrink_to: tuple[int, int] | None = None
) -> Photo:
    """Decode the content of a photo file, as ``decode`` does; ``path`` is not opened."""
    with _photo_errors(path):
        return _decode(path, data, name or str(path), shrink_to)


def pixels_of(image: Image.Image) -> Array:
    """Return the pixels (H, W, 3) uint8 RGB of an opened image, upright as ``decode`` gives them.

    Raises a ``PhotoError`` if the image cannot be loaded.
    """
    with _photo_errors(Path(getattr(image, "filename", "") or "image")):
        image.load()
        return _upright(image, _exif(image))


@contextmanager
def _photo_errors(path: Path) -> Iterator[None]:
    """Translate everything that Pillow raises."""
    try:
        with _quiet_pillow():
            yield
    except PhotoError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise PhotoTooLarge(path, f"too large to decode ({error})") from error
    except Exception as error:
        raise TruncatedPhoto(path, f"damaged or cut off ({error})") from error


def read_position(path: Path) -> Position | None:
    """Return the position in the EXIF or XMP tags of a photo, without decoding its pixels.

    ``None`` if there is none, or if the photo cannot be read.
    """
    try:
        with _quiet_pillow():
            image = _open(path, _read(path))
            return _gps(image, _exif(image), path).position
    except Exception:  # Pillow raises many types of error for a damaged file
        return None


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise NotAPhoto(path, "not a file")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size  # read() takes this much memory at once
            if size > MAX_BYTES:
                raise PhotoTooLarge(path, f"more than {MAX_BYTES} bytes")
            data = stream.read(size + 1)
    except FileNotFoundError as error:
        raise NotFound(path, "no such photo") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
            raise LimitReached(path, error) from error
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise PhotoError(path, f"cannot be read ({reason})") from error
    if len(data) != size:
        raise PhotoError(path, "it changed while it was read")
    return data


def _decode(path: Path, data: bytes, name: str, shrink_to: tuple[int, int] | None) -> Photo:
    image = _open(path, data)
    _shrink(image, shrink_to)
    image.load()
    if image.format == "PNG" and b"IEND" not in data:  # Pillow does not detect this cut
        raise TruncatedPhoto(path, "cut off (no end mark)")
    exif = _exif(image)
    pixels = _upright(image, exif)
    gps, digest = _gps(image, exif, path), hashlib.sha256(data).hexdigest()
    return Photo(name, digest, pixels, gps.position, time_from_exif(exif), gps.damaged)


def _upright(image: Image.Image, exif: Image.Exif) -> Array:
    rgb, orientation = to_rgb(image), exif.get(ORIENTATION_TAG)
    if isinstance(orientation, int) and orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])  # Pillow itself does this for TIFF
    return np.array(rgb, dtype=np.uint8, order="C")


def _gps(image: Image.Image, exif: Image.Exif, path: Path) -> Gps:
    """Return the position in the EXIF tags, or else in XMP."""
    gps = gps_from_exif(exif)
    for packet in packets(image, path) if gps.position is None else ():
        other = gps_from_xmp(packet)
        if other.position:
            return other
        gps = Gps(damaged=gps.damaged or other.damaged)
    return gps


def _open(path: Path, data: bytes) -> Image.Image:
    """Recognise the format by the first bytes and read the header, but no pixels."""
    if not data:
        reason = "empty file (0 bytes): a placeholder whose content is in a cloud?"
        raise NotAPhoto(path, reason)
    unsupported = _recognise(data, UNSUPPORTED)
    kind = _recognise(data, SIGNATURES)
    if kind == "TIFF" and path.suffix.lower() in CAMERA_RAW_SUFFIXES:
        unsupported = "camera raw"  # a TIFF file whose first picture is a thumbnail
    if unsupported:
        raise NotAPhoto(path, f"{unsupported} is not supported: convert it to JPEG")
    if kind is None:
        raise NotAPhoto(path, f"not an image of a known kind ({', '.join(SIGNATURES)})")
    try:
        image = _open_as(kind, path, data)
    except (UnidentifiedImageError, SyntaxError) as error:
        reason = f"begins like {kind}, but the header is cut off, damaged or unusual"
        raise TruncatedPhoto(path, reason) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PhotoTooLarge(path, f"{width} x {height} is more than {MAX_PIXELS} pixels")
    return image


def _open_as(kind: str, path: Path, data: bytes) -> Image.Image:
    if kind == "AVIF" and not features.check("avif"):
        raise NotAPhoto(path, "AVIF needs Pillow 11.3 or newer: pip install -U pillow")
    if kind != "HEIC":
        return Image.open(io.BytesIO(data), formats=[kind])
    try:
        heif = import_extra("pillow_heif", "a HEIC photo", "heif")
    except MissingExtra as error:
        raise NotAPhoto(path, str(error)) from error
    image: Image.Image = heif.HeifImageFile(io.BytesIO(data))
    return image


def _recognise(data: bytes, kinds: dict[str, bytes]) -> str | None:
    head = data[:64]
    return next((kind for kind, sign in kinds.items() if re.match(sign, head, re.DOTALL)), None)


def _shrink(image: Image.Image, shrink_to: tuple[int, int] | None) -> None:
    """Make the JPEG decoder scale down while it decodes; other formats cannot do this."""
    if image.format not in ("JPEG", "MPO") or shrink_to is None or min(shrink_to) < 1:
        return
    height, width = shrink_to
    sideways = _exif(image).get(ORIENTATION_TAG) in (5, 6, 7, 8)
    image.draft(None, (height, width) if sideways else (width, height))


def _exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF tags, or no tags if they are damaged: the pixels may still be valid."""
    try:
        return image.getexif()
    except Exception:
        return Image.Exif()


_lock = threading.Lock()
_decoding = 0
_filters = warnings.catch_warnings()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignore Pillow's warnings (and no others) while at least one photo is being decoded.

    All threads share one list of filters in ``warnings``. So the first thread that enters sets the
    filter, and the last one that leaves restores the list.
    """
    global _decoding, _filters
    with _lock:
        _decoding += 1
        if _decoding == 1:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if _decoding == 0:
                _filters.__exit__(None, None, None)
