"""What Patch-NetVLAD's program takes: two image lists and a ground truth file.

``NAME_imageNames_index.txt`` (database) and ``NAME_imageNames_query.txt`` hold a path a line,
relative to the data folder. ``NAME*.npz`` holds ``utmQ`` (queries, 2), ``utmDb`` (database, 2), in
the order of the lists, and ``posDistThr``: how near is right. They lie in the data folder, or in
``dataset_imagenames/`` and ``dataset_gt_files/``. What the numbers are is up to the file: of
Nordland, they are no metres (docs/DATASETS.md). Of Tokyo 24/7 (``tokyo247``) only the best of a
panorama's 12 cut-outs stays on a shortlist, as in the program.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from placerec.errors import Damaged, NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import on_the_map, one_place, within
from placerec.evaluation.layouts.names import listed
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.tokyo247 import CUT_OUTS
from placerec.photos.tables import read_lines
from placerec.records import Array

INDEX, QUERY = "_imageNames_index.txt", "_imageNames_query.txt"
LISTS, TRUTHS = "dataset_imagenames", "dataset_gt_files"
PANORAMAS = {"tokyo247": CUT_OUTS}  # photos a panorama of the lists of this name


def read_image_lists(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder``; where there are several, the ground truth option tells which."""
    truth, index = _files(folder, options)
    values = _read(truth)
    database = _photos(folder, index, values["utmDb"], truth)
    name = _name(index)
    queries = _photos(folder, index.with_name(name + QUERY), values["utmQ"], truth)
    radius = options.radius or float(values["posDistThr"].reshape(-1)[0])
    if options.photos_a_panorama is None:
        options = replace(options, photos_a_panorama=PANORAMAS.get(name))
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
    given = options.truth_in(folder, TRUTHS)
    if given is not None:
        index = _list_of(given, lists)
        if index is None:
            known = ", ".join(map(_name, lists))
            raise UsageError(
                f"{given}: its name belongs to no list of {folder} ({known}); a ground truth is "
                "named LIST.npz or LIST_more.npz"
            )
        return given, index
    truths = [path for part in (".", TRUTHS) for path in sorted((folder / part).glob("*.npz"))]
    pairs = [(truth, index) for truth in truths if (index := _list_of(truth, lists)) is not None]
    if not pairs:
        wanted = folder / f"{_name(lists[0])}.npz"
        raise NotFound(wanted, "no such file", "it holds utmQ, utmDb and posDistThr")
    if len(pairs) > 1:
        found = ", ".join(sorted(truth.relative_to(folder).as_posix() for truth, _ in pairs))
        raise UsageError(f"{folder}: several ground truths ({found}); choose one of them")
    return pairs[0]


def _list_of(truth: Path, lists: Sequence[Path]) -> Path | None:
    """The list that a ground truth belongs to: its name, alone or followed by ``_`` and the like.

    So ``pitts30k_test.npz`` belongs to ``pitts30k``, though there may be a list ``pitts`` too.
    """
    ends = {index: truth.stem.removeprefix(_name(index)) for index in lists}
    mine = [i for i, end in ends.items() if end != truth.stem and not end[:1].isalnum()]
    return max(mine, key=lambda index: len(_name(index)), default=None)


def _name(index: Path) -> str:
    return index.name.removesuffix(INDEX)


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
