"""From a folder to upright pixels: the photos, their pixels, their positions, a trunk's input.

Reading order: ``find`` (a folder to the names of its photos), ``decode`` (one file to upright RGB
pixels) with ``colour``, ``position`` (EXIF tags or a CSV file to latitude, longitude, heading) with
``tables``, and ``prepare`` (pixels to the normalised tensor that a trunk takes).
"""

from placerec.photos.decode import decode
from placerec.photos.find import find_photos
from placerec.photos.position import position_from_exif, read_positions
from placerec.photos.prepare import Preprocessing, prepare

__all__ = [
    "Preprocessing",
    "decode",
    "find_photos",
    "position_from_exif",
    "prepare",
    "read_positions",
]
