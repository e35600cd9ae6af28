"""From a folder to upright pixels: the photos, their pixels, their positions, a trunk's input.

Reading order: ``find`` (a folder to the names of its photos), ``decode`` (one file to upright RGB
pixels) with ``colour``, ``exif`` and ``xmp`` (its position and its time), ``pixels`` (a photo in
any form to its pixels), ``video`` (a video to its frames), ``position`` (positions from a file)
with ``tables``, ``angles`` and ``track``, ``structure`` (photos that say nothing), and ``prepare``
(pixels to the normalised tensor that a trunk takes). docs/PHOTOS.md has the rules.
"""

from placerec.photos.decode import decode, read_position
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
    "prepare",
    "read_position",
    "read_positions",
]
