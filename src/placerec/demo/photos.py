"""A folder of demo photos: a street by day, and the same places on a rainy night."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import astuple
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from placerec.demo.town import Pose, chance, render
from placerec.errors import UsageError
from placerec.files import writing
from placerec.records import Position

SPACING = 40.0  # metres from place to place; a correct answer is usually within 25 m
LATITUDE, LONGITUDE = 45.0, 30.0  # of x = y = 0; an invented place in the Black Sea
METRES_NORTH, METRES_EAST = 111_320.0, 78_715.0  # per degree at this latitude
DAY, NIGHT = "database/place", "queries/night"  # how the names of the photos begin
DRAWN = re.compile(rf"^((?:{DAY}|{NIGHT})_\d{{3,}}\.jpg),", re.MULTILINE)


def write_demo_photos(folder: Path, places: int = 24, seed: int = 0) -> None:
    """Write ``database/*.jpg`` (day), ``queries/*.jpg`` (night), ground_truth.csv and poses.csv.

    The same ``seed`` gives the same bytes; more ``places`` do not change the first photos. Photos
    of an earlier call for more places are removed; other files stay. Raises ``UsageError`` for
    fewer than 1 place and ``NoRoom`` if a file cannot be written.
    """
    if places < 1:
        raise UsageError(f"places: {places}; give 1 or more")
    poses = {
        f"{name}_{place:03}.jpg": demo_pose(seed, place, name == NIGHT)
        for place in range(places)
        for name in (DAY, NIGHT)
    }
    table = [",".join(map(str, (file, *astuple(pose)))) for file, pose in poses.items()]
    pairs = [f"night_{place:03}.jpg,place_{place:03}.jpg" for place in range(places)]
    with writing(folder):
        for part in ("database", "queries"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        _remove_others(folder, poses)
        # The tables come first, so that a folder is recognised after a killed call.
        _write_lines(folder / "poses.csv", ["image,x,y,z,yaw,pitch,roll", *table])
        _write_lines(folder / "ground_truth.csv", ["query,database", *pairs])
        for file, pose in poses.items():
            picture = Image.fromarray(render(seed, pose, file.startswith(NIGHT)))
            picture.save(folder / file, quality=90, exif=_exif(position_of(pose)))


def _remove_others(folder: Path, names: Container[str]) -> None:
    """Remove the photos that an earlier call drew and that are not among ``names``."""
    table = folder / "poses.csv"
    if table.is_file():
        for name in DRAWN.findall(table.read_text(encoding="utf-8", errors="replace")):
            if name not in names:
                (folder / name).unlink(missing_ok=True)


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def demo_pose(seed: int, place: int, night: bool) -> Pose:
    """Return the camera pose for a place (0, 1, ...); at night it is shifted and turned."""
    way, aside, sign, turn, shift, along = chance(seed, place, np.arange(6)).tolist()
    x, y, yaw = SPACING * place, -1.8, 60 + 60 * aside  # eastwards on the southern lane
    if night:
        x += 3 * along - 1.5
        y += 1.5 + 1.5 * shift
        yaw += (5 + 3 * turn) * (1 if sign < 0.5 else -1)
    if way < 0.5:  # westwards on the northern lane
        y, yaw = -y, yaw + 180
    return Pose(round(x, 3), round(y, 3), 1.8, round(yaw, 3), 5.0 if night else 7.0)


def position_of(pose: Pose) -> Position:
    """Return the position of a pose; the ground is flat, so degrees are proportional to metres."""
    return Position(LATITUDE + pose.y / METRES_NORTH, LONGITUDE + pose.x / METRES_EAST, pose.yaw)


def _exif(at: Position) -> Image.Exif:
    exif, tag = Image.Exif(), ExifTags.GPS
    exif[ExifTags.IFD.GPSInfo] = {
        tag.GPSLatitudeRef: "N",
        tag.GPSLatitude: (int(at.latitude), at.latitude % 1 * 60, 0.0),  # degrees, minutes, seconds
        tag.GPSLongitudeRef: "E",
        tag.GPSLongitude: (int(at.longitude), at.longitude % 1 * 60, 0.0),
        tag.GPSImgDirectionRef: "T",
        tag.GPSImgDirection: at.heading,
    }
    return exif
