"""One door for a photo in any form: a path, a ``Photo``, an image of Pillow, or an array."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from placerec.errors import UsageError
from placerec.files import AnyPath, path_of
from placerec.photos.colour import to_rgb
from placerec.photos.decode import MAX_PIXELS, decode, pixels_of
from placerec.photos.prepare import require_pixels
from placerec.records import Array, Photo
from placerec.settings import require

AnyPhoto = AnyPath | Photo | Image.Image | Array
ACCEPTED = "(height, width, 3) uint8 RGB, (height, width) grey or (height, width, 4) RGBA"
CONVERSIONS = {  # of another type: its kind and bytes, or its kind -> what to write
    "u2": "for 16 bits write (array >> 8).astype('uint8')",
    "f": "for values in 0..1 write (255 * array).round().astype('uint8')",
    "b": "write (255 * array).round().astype('uint8')",
    "i": "for values in 0..255 write array.astype('uint8')",
    "u": "for values in 0..255 write array.astype('uint8')",
}


def photo_of(
    photo: AnyPhoto, *, bgr: bool = False, shrink_to: tuple[int, int] | None = None
) -> Photo:
    """Return a photo in any form as a ``Photo``: pixels (H, W, 3) uint8 RGB, contiguous.

    ``photo`` is a path, a ``Photo``, an image of Pillow in any mode, or a uint8 array: RGB
    (H, W, 3), grey (H, W) or (H, W, 1), RGBA (H, W, 4). ``bgr`` says that an array has the order of
    OpenCV: BGR or BGRA. Transparent parts become black. ``shrink_to`` as in ``decode``. The path of
    an array is empty. Raises ``UsageError`` for anything else, and what ``decode`` raises for a
    path.
    """
    require(isinstance(bgr, bool), "bgr", f"True or False, not {bgr!r:.60}")
    if isinstance(photo, np.ndarray):
        return Photo("", "", _rgb(photo, bgr=bgr))
    if bgr:
        raise UsageError(
            f"bgr: only an array can have the order of OpenCV, not a {type(photo).__name__}; give "
            f"bgr for arrays alone"
        )
    if isinstance(photo, Image.Image):
        photo = Photo(str(getattr(photo, "filename", "")), "", pixels_of(photo))
    if isinstance(photo, Photo):
        require_pixels(photo.pixels)
        return photo
    if isinstance(photo, bytes) or not isinstance(photo, str | os.PathLike):
        hint = "; numpy.asarray makes an array of it" * hasattr(photo, "__len__")
        raise UsageError(
            f"photo: {type(photo).__name__}; give a path, a Photo, an image of Pillow, or an array "
            f"{ACCEPTED}{hint}"
        )
    return decode(path_of(photo), str(photo), shrink_to)


def _rgb(array: Array, *, bgr: bool) -> Array:
    """Return an array as a new one, (H, W, 3) uint8 RGB."""
    array = np.asarray(array)  # of a matrix, which has always two dimensions
    channels = array.shape[2] if array.ndim == 3 else 1
    is_photo = array.dtype == np.uint8 and array.ndim in (2, 3) and array.size > 0
    if not is_photo or channels not in (1, 3, 4):
        raise _refused(array)
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise UsageError(
            f"photo: an array of shape {array.shape}; give at most {MAX_PIXELS} pixels"
        )
    pixels = array.reshape(*array.shape[:2], channels)
    if bgr and channels > 1:
        pixels = pixels[..., [2, 1, 0, 3][:channels]]
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if channels == 4:
        pixels = np.asarray(to_rgb(Image.fromarray(np.ascontiguousarray(pixels))))
    return np.array(pixels, np.uint8, order="C")


def _refused(array: Array) -> UsageError:
    """Return the error for an array that is no photo: what it is, and what to write."""
    kind, shape = array.dtype.kind, array.shape
    how = ""
    if array.dtype != np.uint8:
        how = CONVERSIONS.get(f"{kind}{array.dtype.itemsize}") or CONVERSIONS.get(kind, "")
    elif len(shape) == 3 and shape[0] in (1, 3, 4):
        how = "with the channels first write array.transpose(1, 2, 0)"
    elif len(shape) == 4:
        how = "give one photo at a time"
    return UsageError(
        f"photo: an array {array.dtype} of shape {shape}; give {ACCEPTED}" + f"; {how}" * bool(how)
    )
