"""Nordland: a railway line in four seasons, frame by frame, in three published forms.

Source: Sünderhauf et al., "Are we there yet?", 2013; videos of NRK. Frame X of all seasons shows
the same place. The forms differ in frames, direction and tolerance:

* 27592 frames per season (Patch-NetVLAD; one per second, without stops and tunnels), winter
  searched in summer, 10 frames either side according to the paper. Its ground truth file also says
  "10", but there frame i is the point (i, i) of a map and 10 is a radius: 7 frames either side.
* 2760 queries, every tenth frame of summer, searched in 27592 of winter, 1 either side (VPR-Bench).
* 3450 frames per season (Olid et al., 2018, test part), winter searched in summer, 2 either side.

The first two also in the form of G. Berton:
``images/test/{database,queries}/@0@north@@@@@FRAME@...``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from placerec.errors import Damaged
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.layouts.frames import frame_numbers, windows
from placerec.evaluation.layouts.photo_lists import listed_photos, photos_below, sides
from placerec.evaluation.layouts.utm_names import IMAGES, PANORAMA, utm_fields
from placerec.photos.tables import read_lines
from placerec.records import Array

CLEAN = "cleanImageNames.txt"
PROGRAM_RADIUS = 10  # of the published .npz, on points (i, i)
PROGRAM_FRAMES = math.floor(PROGRAM_RADIUS / math.sqrt(2))
QUERY_STEP = 10  # every tenth frame is one of the 2760 queries


def read_27592(folder: Path) -> Dataset:
    """Read Patch-NetVLAD's frames with the tolerance of the paper."""
    return _full(folder, "nordland-27592", 10)


def read_27592_program(folder: Path) -> Dataset:
    """Read Patch-NetVLAD's frames with the tolerance of its program's ground truth file."""
    return _full(folder, "nordland-27592-program", PROGRAM_FRAMES)


def read_2760(folder: Path) -> Dataset:
    """Read VPR-Bench's form: folders ``query`` (summer) and ``ref`` (winter)."""
    if (folder / IMAGES).is_dir():
        return _utm_names(folder, "nordland-2760", 1)
    queries, database = _season(folder, "query"), _season(folder, "ref")
    frames = np.arange(len(queries)) * QUERY_STEP, np.arange(len(database))
    return _dataset("nordland-2760", 1, queries, database, *frames)


def read_3450(folder: Path) -> Dataset:
    """Read the test part of Olid et al.: ``test/SEASON_images_test/sectionN/FRAME.png``."""
    queries, database = (
        _season(folder, f"test/{season}_images_test") for season in ("winter", "summer")
    )
    frames = frame_numbers(queries), frame_numbers(database)
    return _dataset("nordland-3450", 2, queries, database, *frames)


def _full(folder: Path, name: str, tolerance: int) -> Dataset:
    if (folder / IMAGES).is_dir():
        return _utm_names(folder, name, tolerance)
    queries, database = _season(folder, "winter"), _season(folder, "summer")
    if (folder / CLEAN).is_file():
        clean = [line for _, line in read_lines(folder / CLEAN, "a list of file names")]
        queries, database = (
            listed_photos(folder, [f"{season}/{photo}" for photo in clean], folder / CLEAN)
            for season in ("winter", "summer")
        )
    names = [[path.name for path in photos.paths] for photos in (queries, database)]
    if names[0] != names[1]:
        single = min(set(names[0]).symmetric_difference(names[1]))
        raise Damaged(f"{folder}: only one of summer/ and winter/ has {single}; unpack both again")
    frames = np.arange(len(queries))
    return _dataset(name, tolerance, queries, database, frames, frames)


def _utm_names(folder: Path, name: str, tolerance: int) -> Dataset:
    queries, database = sides(folder / IMAGES)
    frames = _frame_fields(queries), _frame_fields(database)
    return _dataset(name, tolerance, queries, database, *frames)


def _season(folder: Path, season: str) -> Photos:
    photos = photos_below(folder, season, f"{season}/")
    return photos.select(np.argsort(frame_numbers(photos), kind="stable").tolist())


def _frame_fields(photos: Photos) -> Array:
    frames = []
    for path in photos.paths:
        fields = utm_fields(path)
        if len(fields) <= PANORAMA or not fields[PANORAMA].isdecimal():
            raise Damaged(f"{path}: field {PANORAMA} of its name is not a frame; rename it")
        frames.append(int(fields[PANORAMA]))
    return np.array(frames, np.int64)


def _dataset(
    name: str, tolerance: int, queries: Photos, database: Photos,
    query_frames: Array, database_frames: Array,
) -> Dataset:  # fmt: skip
    positives = windows(query_frames, database_frames, tolerance)
    protocol = Protocol(name, f"at most {tolerance} frames apart")
    return Dataset("Nordland", protocol, (Search("Nordland", queries, database, positives),))
