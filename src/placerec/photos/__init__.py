"""From a folder to upright pixels: the photos, their pixels, their positions, a trunk's input.

Reading order: ``find`` (a folder to the names of its photos), ``decode`` (one file to upright RGB
pixels) with ``colour``, ``position`` (EXIF tags or a CSV file to latitude, longitude, heading) with
``tables``, and ``prepare`` (pixels to the normalised tensor that a trunk takes).
"""

from placerec.photos.decode import decode
from placerec.photos.exif import position_from_exif
from placerec.photos.find import Found, find_photos, look_through
from placerec.photos.position import Positions, read_positions
from placerec.photos.prepare import Preprocessing, prepare
from placerec.photos.structure import has_structure

__all__ = [
    "Found",
    "Positions",
    "Preprocessing",
    "decode",
    "find_photos",
    "has_structure",
    "look_through",
    "position_from_exif",
    "prepare",
    "read_positions",
]
