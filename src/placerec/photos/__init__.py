"""From a folder to upright pixels: the photos, their pixels, their positions, a trunk's input.

Read in this order:

1. ``find``      a folder -> the names of its photos, always in the same order
2. ``decode``    one file -> upright RGB pixels and its sha256, or one error with a reason
3. ``colour``    how each colour mode becomes 8-bit RGB
4. ``position``  EXIF tags, or a CSV file -> latitude, longitude, heading
5. ``tables``    CSV files and lists that name photos, row by row
6. ``prepare``   pixels -> the normalised tensor that a trunk takes
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
