"""Passes along one route: the frames near the number of a query are its positives.

Nordland is a railway line in four seasons (Sünderhauf et al., "Are we there yet?", 2013; videos of
NRK). docs/DATASETS.md describes its published forms: 27592 frames per season (Patch-NetVLAD), 2760
queries (VPR-Bench) and 3450 frames (Olid et al., 2018).
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from placerec.errors import Damaged, UsageError
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.layouts.general import Overrides
from placerec.evaluation.layouts.photo_lists import listed_photos, photos_below, sides
from placerec.evaluation.layouts.utm_names import IMAGES, PANORAMA, utm_fields
from placerec.photos.tables import read_lines
from placerec.records import Array

CLEAN = "cleanImageNames.txt"
# Frames either side. The program's ground truth file has radius 10 on points (i, i): 7 frames.
TOLERANCES = {"nordland-27592": 10, "nordland-27592-program": math.floor(10 / math.sqrt(2)),
              "nordland-2760": 1, "nordland-3450": 2}  # fmt: skip
QUERY_STEP = 10  # every tenth frame is one of the 2760 queries


def read_frames(folder: Path, overrides: Overrides) -> Dataset:
    """Read ``database/`` and ``queries/``; the distance in frames decides."""
    if overrides.frames is None:
        raise UsageError("frames: give a number; published protocols use 1, 2, 7 and 10")
    queries, database = sides(folder)
    positives = windows(frame_numbers(queries), frame_numbers(database), overrides.frames)
    rule = f"at most {overrides.frames} frames apart"
    protocol = Protocol(f"frames, {overrides.frames} either side", rule)
    return Dataset(folder.name, protocol, (Search(folder.name, queries, database, positives),))


def frame_numbers(photos: Photos) -> Array:
    """Return the frames (n,) int64: the last number in each file name, without repetition."""
    paths: dict[int, Path] = {}
    for path in photos.paths:
        numbers = re.findall(r"\d+", path.stem, re.ASCII)
        if not numbers or len(numbers[-1]) > 18:
            raise Damaged(f"{path}: no frame number in its name; rename it, or remove it")
        first = paths.setdefault(int(numbers[-1]), path)
        if first != path:
            raise Damaged(f"{path}: the same frame number as {first}; rename one of them")
    return np.array(list(paths), np.int64)


def windows(queries: Array, database: Array, frames: int) -> tuple[frozenset[int], ...]:
    """Return for each query frame the rows of the database frames at most ``frames`` away."""
    order = np.argsort(database, kind="stable")
    ordered = database[order]
    first = np.searchsorted(ordered, queries - frames, side="left")
    last = np.searchsorted(ordered, queries + frames, side="right")
    return tuple(
        frozenset(order[a:b].tolist()) for a, b in zip(first.tolist(), last.tolist(), strict=True)
    )


def read_nordland(folder: Path, name: str) -> Dataset:
    """Read the form of a protocol of ``TOLERANCES``; the distance in frames decides."""
    if name == "nordland-3450":
        queries, database = (
            _season(folder, f"test/{season}_images_test") for season in ("winter", "summer")
        )
        frames = frame_numbers(queries), frame_numbers(database)
    elif (folder / IMAGES).is_dir():
        queries, database = sides(folder / IMAGES)
        frames = _frame_fields(queries), _frame_fields(database)
    elif name == "nordland-2760":
        queries, database = _season(folder, "query"), _season(folder, "ref")
        frames = np.arange(len(queries)) * QUERY_STEP, np.arange(len(database))
    else:
        queries, database = _seasons_without_stops(folder)
        frames = np.arange(len(queries)), np.arange(len(database))
    positives = windows(*frames, TOLERANCES[name])
    protocol = Protocol(name, f"at most {TOLERANCES[name]} frames apart")
    return Dataset("Nordland", protocol, (Search("Nordland", queries, database, positives),))


def _seasons_without_stops(folder: Path) -> tuple[Photos, Photos]:
    """Return winter and summer; ``CLEAN`` lists the frames, or the owner removed the others."""
    queries, database = _season(folder, "winter"), _season(folder, "summer")
    if (folder / CLEAN).is_file():
        clean = [line for _, line in read_lines(folder / CLEAN, "a list of file names")]
        queries, database = (
            listed_photos(folder, [f"{season}/{photo}" for photo in clean], folder / CLEAN)
            for season in ("winter", "summer")
        )
    winter, summer = ([path.name for path in photos.paths] for photos in (queries, database))
    if winter != summer:
        single = min(set(winter).symmetric_difference(summer))
        raise Damaged(f"{folder}: only one of summer/ and winter/ has {single}; unpack both again")
    return queries, database


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
