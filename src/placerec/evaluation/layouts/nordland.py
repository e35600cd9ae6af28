"""Nordland: a railway line in four seasons, frame by frame, in the three forms in use.

Source: Sünderhauf et al., "Are we there yet?", 2013; videos of NRK. Frame X of one season shows the
place of frame X of any other. The forms differ in frames, direction and tolerance:

* 27592 frames a season (Patch-NetVLAD; one a second, without stops and tunnels), winter searched in
  summer, 10 frames either side as the paper says. Its ground truth file says "10" too, but gives
  every frame i the point (i, i) of a map, so that 10 is a radius: 7 frames either side.
* 2760 queries, every tenth frame of summer, searched in 27592 of winter, 1 either side (VPR-Bench).
* 3450 frames a season (Olid et al., 2018, test part), winter searched in summer, 2 either side.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from placerec.errors import Damaged, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.layouts.folder import sides
from placerec.evaluation.layouts.frames import frame_numbers, windows
from placerec.evaluation.layouts.names import listed
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.utm_names import PANORAMA, utm_fields
from placerec.photos.find import find_photos
from placerec.photos.tables import read_lines
from placerec.records import Array

CLEAN = "cleanImageNames.txt"
PROGRAM_RADIUS = 10  # of the published .npz, on points (i, i)
PROGRAM_FRAMES = math.floor(PROGRAM_RADIUS / math.sqrt(2))
QUERY_STEP = 10  # every tenth frame is a query of the form with 2760


def read_27592(folder: Path, _: Options) -> Dataset:
    """Patch-NetVLAD's frames with the paper's tolerance."""
    return _full(folder, "nordland-27592", 10)


def read_27592_program(folder: Path, _: Options) -> Dataset:
    """Patch-NetVLAD's frames with the tolerance that its program's ground truth file has."""
    return _full(folder, "nordland-27592-program", PROGRAM_FRAMES)


def read_2760(folder: Path, _: Options) -> Dataset:
    """VPR-Bench's form: folders ``query`` (summer) and ``ref`` (winter)."""
    if (folder / "images" / "test").is_dir():
        queries, database, asked, known = _of_berton(folder)
    else:
        queries, database = _season(folder, "query"), _season(folder, "ref")
        asked, known = np.arange(len(queries)) * QUERY_STEP, np.arange(len(database))
    return _dataset("nordland-2760", 1, queries, database, asked, known)


def read_3450(folder: Path, _: Options) -> Dataset:
    """The test part of Olid et al.: ``test/SEASON_images_test/sectionN/FRAME.png``."""
    queries, database = (
        _season(folder / "test", f"{season}_images_test", f"test/{season}_images_test/")
        for season in ("winter", "summer")
    )
    asked, known = frame_numbers(queries), frame_numbers(database)
    return _dataset("nordland-3450", 2, queries, database, asked, known)


def _full(folder: Path, name: str, frames: int) -> Dataset:
    if (folder / "images" / "test").is_dir():
        queries, database, asked, known = _of_berton(folder)
    else:
        queries, database = _season(folder, "winter"), _season(folder, "summer")
        if (folder / CLEAN).is_file():
            clean = [line for _, line in read_lines(folder / CLEAN, "a list of file names")]
            queries, database = (
                listed(folder, [f"{season}/{one}" for one in clean], folder / CLEAN)
                for season in ("winter", "summer")
            )
        names = [[path.name for path in photos.paths] for photos in (queries, database)]
        if names[0] != names[1]:
            odd = sorted(set(names[0]).symmetric_difference(names[1]))[0]
            raise Damaged(
                f"{folder}: {odd} is in one of summer/ and winter/ only; unpack both again"
            )
        asked = known = np.arange(len(queries))
    return _dataset(name, frames, queries, database, asked, known)


def _season(root: Path, season: str, prefix: str | None = None) -> Photos:
    if not (root / season).is_dir():
        raise NotFound(root / season, "no such folder", "docs/DATASETS.md shows the forms")
    names = find_photos(root / season)
    if not names:
        raise NotFound(root / season, "no photo in it", "unpack the data set again")
    before = f"{season}/" if prefix is None else prefix
    photos = Photos(
        tuple(before + name for name in names), tuple(root / season / name for name in names)
    )
    return photos.chosen(np.argsort(frame_numbers(photos), kind="stable").tolist())


def _of_berton(folder: Path) -> tuple[Photos, Photos, Array, Array]:
    """``images/test/{database,queries}/@0@north@@@@@FRAME@...``, and the frames of both."""
    queries, database = sides(folder / "images" / "test")
    return queries, database, _fields(queries), _fields(database)


def _fields(photos: Photos) -> Array:
    frames = []
    for path in photos.paths:
        fields = utm_fields(path)
        if len(fields) <= PANORAMA or not fields[PANORAMA].isdecimal():
            raise Damaged(f"{path}: field {PANORAMA} of its name is no frame number; rename it")
        frames.append(int(fields[PANORAMA]))
    return np.array(frames, np.int64)


def _dataset(
    name: str, frames: int, queries: Photos, database: Photos, asked: Array, known: Array
) -> Dataset:
    search = Search("Nordland", queries, database, windows(asked, known, frames))
    return Dataset("Nordland", Protocol(name, f"at most {frames} frames apart"), (search,))
