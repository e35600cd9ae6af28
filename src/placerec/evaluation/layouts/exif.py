"""``database/`` and ``queries/`` with photos that know where they were taken: EXIF GPS tags."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from placerec.errors import NotFound
from placerec.evaluation.dataset import Dataset, Photos
from placerec.evaluation.layouts.coordinates import near
from placerec.evaluation.layouts.folder import DATABASE, QUERIES, sides
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.positions import on_earth, put
from placerec.photos.find import find_photos
from placerec.photos.position import position_from_exif
from placerec.records import Position


def read_with_exif(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder``, judged by the positions in its photos."""
    queries, database = (with_exif(photos) for photos in sides(folder))
    return near("exif", folder.name, queries, database, options)


def with_exif(photos: Photos) -> Photos:
    """Photos with the positions, and headings where there are some, of their tags."""
    known: dict[str, Position] = {}
    missing = []
    for name, path in zip(photos.names, photos.paths, strict=True):
        position = _position(path)
        if position is None:
            missing.append(path)
        else:
            known[name] = position
    if missing:
        raise NotFound(
            missing[0],
            f"no GPS position in its EXIF tags ({len(missing)} of {len(photos)} photos have none)",
            "tag it or remove it, or give all positions in coordinates.csv",
        )
    return put(photos, on_earth(known))


def has_exif(folder: Path) -> bool:
    """Whether the first photo of either side has a position in its tags."""
    roots = [folder / side for side in (QUERIES, DATABASE)]
    return all(
        _position(root / name) is not None for root in roots for name in find_photos(root)[:1]
    )


def _position(path: Path) -> Position | None:
    """Only the head of the file is read, no pixel."""
    try:
        with Image.open(path) as image:
            return position_from_exif(image.getexif())
    except Exception:  # Pillow raises nearly anything on a damaged file
        return None
