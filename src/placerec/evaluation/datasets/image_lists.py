"""What Patch-NetVLAD's program takes: two image lists and a ground truth file.

``NAME_imageNames_index.txt`` (database) and ``NAME_imageNames_query.txt`` hold a path a line,
relative to the data folder. ``NAME*.npz`` holds ``utmQ`` (queries, 2), ``utmDb`` (database, 2), in
the order of the lists, and ``posDistThr``: how near is right. They lie in the data folder, or in
``dataset_imagenames/`` and ``dataset_gt_files/``. What the numbers are is up to the file: of
Nordland, they are no metres (docs/DATASETS.md).
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from placerec.errors import Damaged, NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.datasets.names import listed
from placerec.evaluation.datasets.options import Options
from placerec.evaluation.places import on_the_map, one_place, within
from placerec.photos.tables import read_lines
from placerec.records import Array

INDEX, QUERY = "_imageNames_index.txt", "_imageNames_query.txt"
LISTS, TRUTHS = "dataset_imagenames", "dataset_gt_files"


def read_image_lists(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder``; where there are several, the ground truth option tells which."""
    truth, index = _files(folder, options)
    values = _read(truth)
    database = _photos(folder, index, values["utmDb"], truth)
    asked = index.with_name(index.name.removesuffix(INDEX) + QUERY)
    queries = _photos(folder, asked, values["utmQ"], truth)
    radius = options.radius or float(values["posDistThr"].reshape(-1)[0])
    name = index.name.removesuffix(INDEX)
    protocol = Protocol(
        options.named("image-lists", truth.name, f"radius {radius:g}"),
        f"at most {radius:g} apart by the numbers of {truth.name}", options.panorama,
    )  # fmt: skip
    positives = within(queries, database, radius)
    return Dataset(name, protocol, (Search(name, queries, database, positives),))


def _files(folder: Path, options: Options) -> tuple[Path, Path]:
    """The ground truth and the list of the database that belongs to it."""
    lists = [path for part in (".", LISTS) for path in sorted((folder / part).glob(f"*{INDEX}"))]
    if not lists:
        raise NotFound(
            folder / f"NAME{INDEX}", "no such file", f"it and NAME{QUERY} list the photos"
        )
    truths = [path for part in (".", TRUTHS) for path in sorted((folder / part).glob("*.npz"))]
    if options.ground_truth is not None:
        truths = [options.file_in(folder, "")]
    pairs = [
        (truth, index)
        for truth in truths for index in lists
        if truth.name.startswith(index.name.removesuffix(INDEX))
    ]  # fmt: skip
    if not pairs:
        wanted = lists[0].name.removesuffix(INDEX) + ".npz"
        raise NotFound(folder / wanted, "no such file", "it holds utmQ, utmDb and posDistThr")
    if len(pairs) > 1:
        found = ", ".join(sorted({truth.name for truth, _ in pairs}))
        raise UsageError(f"{folder}: several ground truths ({found}); choose one of them")
    return pairs[0]


def _read(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise NotFound(path, "no such file", "it holds utmQ, utmDb and posDistThr")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            values = {name: np.asarray(archive[name]) for name in ("utmQ", "utmDb", "posDistThr")}
    except KeyError as error:
        raise Damaged(f"{path}: {error.args[0]}; it needs utmQ, utmDb and posDistThr") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        # the last one is zipfile's answer to a compression or version that it cannot read
        raise Damaged(f"{path}: no readable .npz file ({error}); take the original one") from error
    radius = values["posDistThr"]
    if radius.size != 1 or radius.dtype.kind not in "iuf" or not float(radius.reshape(-1)[0]) > 0:
        raise Damaged(f"{path}: posDistThr is no distance; take the original one")
    return values


def _photos(folder: Path, source: Path, points: Array, truth: Path) -> Photos:
    names = [line for _, line in read_lines(source, "a list of photos, a path a line")]
    if (
        points.shape != (len(names), 2)
        or points.dtype.kind not in "iuf"
        or not np.isfinite(points).all()
    ):
        raise Damaged(
            f"{truth}: {points.shape} values for the {len(names)} photos of {source.name}, not 2 "
            "finite numbers each; take the files that belong together"
        )
    positions = on_the_map(*points.T)
    return replace(listed(folder, names, source), positions=positions, places=one_place(positions))
