"""Extended CMU Seasons: drives through Pittsburgh during a year, in slices.

Source: Sattler et al., CVPR 2018; Badino et al., 2011; visuallocalization.net. A ``sliceN/`` has
``database/`` and ``query/``, ``ground-truth-database-images-sliceN.txt`` (name, quaternion world to
camera, camera centre) and ``test-images-sliceN.txt`` (names). For slices 7-12 and 22-25
``camera-poses/*.txt`` has the poses of the queries in the same form; only the benchmark server has
the others. All slices are one search, as Patch-NetVLAD's authors evaluate it; a photo of another
slice is never a positive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from placerec.errors import NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search, joined
from placerec.evaluation.layouts.photo_lists import by_name, checked_name, listed_photos
from placerec.evaluation.layouts.poses import RULE, from_centre, pose_positives, with_poses
from placerec.photos.tables import numbers_in, read_lines
from placerec.records import Array

TEST_SLICES = (2, 3, 4, 5, 6, 13, 14, 15, 16, 17, 18, 19, 20, 21)
TRAIN_SLICES = (7, 8, 9, 10, 11, 12, 22, 23, 24, 25)
CONDITIONS = {  # the names of the owners for the days of their drives
    date(2010, 9, 1): "sunny, foliage", date(2010, 9, 15): "sunny, foliage",
    date(2010, 10, 1): "cloudy, foliage", date(2010, 10, 19): "sunny, foliage",
    date(2010, 10, 28): "overcast, mixed foliage", date(2010, 11, 3): "low sun, mixed foliage",
    date(2010, 11, 12): "low sun, mixed foliage", date(2010, 11, 22): "cloudy, mixed foliage",
    date(2010, 12, 21): "low sun, no foliage, snow", date(2011, 3, 4): "low sun, foliage",
    date(2011, 4, 4): "sunny, no foliage", date(2011, 7, 28): "overcast, foliage",
}  # fmt: skip
MOMENT = re.compile(r"_(\d{16})us")


def read_test(folder: Path) -> Dataset:
    """Read the slices whose ground truth only the server has."""
    return _read(folder, "extended-cmu-seasons", TEST_SLICES, hidden=True)


def read_train(folder: Path) -> Dataset:
    """Read the slices whose query poses are published."""
    return _read(folder, "extended-cmu-seasons-train", TRAIN_SLICES, hidden=False)


def _read(folder: Path, name: str, slices: tuple[int, ...], *, hidden: bool) -> Dataset:
    numbers = [number for number in slices if (folder / f"slice{number}").is_dir()]
    if not numbers:
        wanted = folder / f"slice{slices[0]}"
        raise NotFound(wanted, "no such folder", f"unpack a slice of {slices}")
    pairs = [_slice(folder, number, hidden=hidden) for number in numbers]
    positives: list[frozenset[int]] = []
    before = 0
    for queries, database in pairs:
        positives += [
            frozenset(row + before for row in rows) for rows in pose_positives(queries, database)
        ]
        before += len(database)
    if len(numbers) < len(slices):
        name += f", {len(numbers)} of {len(slices)} slices"
    queries, database = map(joined, zip(*pairs, strict=True))
    search = Search("Extended CMU Seasons", queries, database, tuple(positives))
    protocol = Protocol(name, f"of one slice, {RULE}", hidden=hidden, poses=True)
    return Dataset("Extended CMU Seasons", protocol, (search,))


def _slice(folder: Path, number: int, *, hidden: bool) -> tuple[Photos, Photos]:
    root = folder / f"slice{number}"
    table = root / f"ground-truth-database-images-slice{number}.txt"
    poses = by_name(table, _posed(table, f"slice{number}/database/"))
    database = with_poses(_photos(folder, poses, table), poses)
    prefix = f"slice{number}/query/"
    if hidden:
        table = root / f"test-images-slice{number}.txt"
        lines = read_lines(table, "a list of query photos")
        names = dict.fromkeys(prefix + checked_name(line, table) for _, line in lines)
        return _photos(folder, names, table), database
    tables = sorted((root / "camera-poses").glob("*.txt"))
    if not tables:
        raise NotFound(root / "camera-poses", "no .txt file in it", "unpack the slice again")
    poses = {}
    for table in tables:
        for name, pose in by_name(table, _posed(table, prefix)).items():
            poses.setdefault(name, pose)
    return with_poses(_photos(folder, poses, tables[0]), poses), database


def _photos(folder: Path, names: Iterable[str], source: Path) -> Photos:
    photos = listed_photos(folder, list(names), source)
    return replace(photos, conditions=tuple(map(_condition, photos.names)))


def _posed(path: Path, prefix: str) -> Iterator[tuple[int, str, Array]]:
    for line, text in read_lines(path, "a list name qw qx qy qz cx cy cz"):
        name, *values = text.split()
        pose = from_centre(path, line, numbers_in(path, line, values, 7))
        yield line, prefix + checked_name(name, path), pose


def _condition(name: str) -> str:
    """Return the condition of the drive closest in time to the microseconds in the name."""
    moment = MOMENT.search(name)
    if moment is None:
        return ""
    day = datetime.fromtimestamp(int(moment[1]) / 1e6, UTC).date()
    return CONDITIONS[min(CONDITIONS, key=lambda drive: abs(drive - day))]
