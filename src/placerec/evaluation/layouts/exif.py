"""``database/`` and ``queries/`` with photos that have GPS positions in their EXIF tags."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from placerec.errors import NotFound
from placerec.evaluation.dataset import Dataset, Photos
from placerec.evaluation.geometry import heading_values, on_the_sphere, with_points
from placerec.evaluation.layouts.coordinates import distance_dataset
from placerec.evaluation.layouts.overrides import Overrides
from placerec.evaluation.layouts.photo_lists import DATABASE, QUERIES, sides
from placerec.photos.find import find_photos
from placerec.photos.position import position_from_exif
from placerec.records import Position


def read_with_exif(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; the positions in its photos decide."""
    queries, database = map(with_exif, sides(folder))
    return distance_dataset("exif", folder.name, queries, database, overrides)


def with_exif(photos: Photos) -> Photos:
    """Return photos with the positions and, if they exist, the headings of their tags."""
    tags = [_position(path) for path in photos.paths]
    positions = [position for position in tags if position is not None]
    if len(positions) < len(photos):
        raise NotFound(
            photos.paths[tags.index(None)],
            f"no GPS position in its EXIF tags ({len(photos) - len(positions)} of {len(photos)} "
            "photos have none)",
            "tag it or remove it, or give all positions in coordinates.csv",
        )
    return with_points(photos, on_the_sphere(positions), heading_values(positions))


def has_exif(folder: Path) -> bool:
    """Return whether the first photo of both sides has a position in its tags."""
    roots = [folder / side for side in (QUERIES, DATABASE)]
    return all(
        _position(root / name) is not None for root in roots for name in find_photos(root)[:1]
    )


def _position(path: Path) -> Position | None:
    """Read only the head of the file, no pixels."""
    try:
        with Image.open(path) as image:
            return position_from_exif(image.getexif())
    except Exception:  # Pillow raises many types of errors for a damaged file
        return None
