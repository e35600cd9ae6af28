"""Extended CMU Seasons: drives through Pittsburgh over a year, in slices.

Source: Sattler et al., CVPR 2018; Badino et al., 2011; visuallocalization.net. A ``sliceN/`` has
``database/`` and ``query/``, ``ground-truth-database-images-sliceN.txt`` (name, quaternion world to
camera, camera place) and ``test-images-sliceN.txt`` (names). Of slices 7-12 and 22-25
``camera-poses/*.txt`` gives the queries' poses in the same form; the benchmark server keeps the
others. All slices are one search, as Patch-NetVLAD's authors did it; a photo of another slice is
never right.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from placerec.errors import BadTable, NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search, joined
from placerec.evaluation.layouts.names import listed, safe
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.poses import (
    DEGREES,
    METRES,
    from_centre,
    pose_positives,
    with_poses,
)
from placerec.photos.tables import numbers_in, read_lines
from placerec.records import Array

TEST_SLICES = (2, 3, 4, 5, 6, 13, 14, 15, 16, 17, 18, 19, 20, 21)
TRAIN_SLICES = (7, 8, 9, 10, 11, 12, 22, 23, 24, 25)
RULE = f"of one slice, at most {METRES:g} m apart, turned by at most {DEGREES:g} degrees"
CONDITIONS = {  # as the owners name the days of their drives
    date(2010, 9, 1): "sunny, foliage", date(2010, 9, 15): "sunny, foliage",
    date(2010, 10, 1): "cloudy, foliage", date(2010, 10, 19): "sunny, foliage",
    date(2010, 10, 28): "overcast, mixed foliage", date(2010, 11, 3): "low sun, mixed foliage",
    date(2010, 11, 12): "low sun, mixed foliage", date(2010, 11, 22): "cloudy, mixed foliage",
    date(2010, 12, 21): "low sun, no foliage, snow", date(2011, 3, 4): "low sun, foliage",
    date(2011, 4, 4): "sunny, no foliage", date(2011, 7, 28): "overcast, foliage",
}  # fmt: skip
MOMENT = re.compile(r"_(\d{16})us")


def read_test(folder: Path, _: Options) -> Dataset:
    """The slices whose truth the server keeps."""
    return _read(folder, "extended-cmu-seasons", TEST_SLICES, hidden=True)


def read_train(folder: Path, _: Options) -> Dataset:
    """The slices whose query poses are published."""
    return _read(folder, "extended-cmu-seasons-train", TRAIN_SLICES, hidden=False)


def _read(folder: Path, name: str, slices: tuple[int, ...], *, hidden: bool) -> Dataset:
    there = [number for number in slices if (folder / f"slice{number}").is_dir()]
    if not there:
        raise NotFound(
            folder / f"slice{slices[0]}", "no such folder", f"unpack a slice of {slices}"
        )
    queries, databases, positives = [], [], []
    before = 0
    for number in there:
        asked, known = _slice(folder, number, hidden=hidden)
        near = pose_positives(asked, known)
        positives += [frozenset(n + before for n in numbers) for numbers in near]
        queries.append(asked)
        databases.append(known)
        before += len(known)
    if len(there) < len(slices):
        name += f", {len(there)} of {len(slices)} slices"
    search = Search("Extended CMU Seasons", joined(queries), joined(databases), tuple(positives))
    return Dataset(
        "Extended CMU Seasons", Protocol(name, RULE, hidden=hidden, poses=True), (search,)
    )


def _slice(folder: Path, number: int, *, hidden: bool) -> tuple[Photos, Photos]:
    root = folder / f"slice{number}"
    table = root / f"ground-truth-database-images-slice{number}.txt"
    known = _posed(table)
    database = _photos(folder, f"slice{number}/database/", known, table)
    if hidden:
        table = root / f"test-images-slice{number}.txt"
        names = {safe(line, table): None for _, line in read_lines(table, "a list of query photos")}
        return _photos(folder, f"slice{number}/query/", names, table), database
    tables = sorted((root / "camera-poses").glob("*.txt"))
    if not tables:
        raise NotFound(root / "camera-poses", "no .txt file in it", "unpack the slice again")
    asked: dict[str, Array] = {}
    for one in tables:
        for name, pose in _posed(one).items():
            asked.setdefault(name, pose)
    return _photos(folder, f"slice{number}/query/", asked, tables[0]), database


def _photos(
    folder: Path, prefix: str, found: dict[str, Array] | dict[str, None], source: Path
) -> Photos:
    photos = listed(folder, [prefix + name for name in found], source)
    poses = {prefix + name: pose for name, pose in found.items() if pose is not None}
    conditions = tuple(_condition(name) for name in photos.names)
    return replace(with_poses(photos, poses), conditions=conditions)


def _posed(path: Path) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for line, text in read_lines(path, "a list name qw qx qy qz cx cy cz"):
        name, *values = text.split()
        name = safe(name, path)
        if name in found:
            raise BadTable(path, line, f"{name!r} stands twice")
        found[name] = from_centre(path, line, numbers_in(path, line, values, 7))
    return found


def _condition(name: str) -> str:
    """That of the drive nearest in time to the microseconds in the name."""
    moment = MOMENT.search(name)
    if moment is None:
        return ""
    day = datetime.fromtimestamp(int(moment[1]) / 1e6, UTC).date()
    return CONDITIONS[min(CONDITIONS, key=lambda drive: abs(drive - day))]
