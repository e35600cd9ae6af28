"""The files of Patch-NetVLAD's program: two image lists and a ground truth.

``NAME_imageNames_{index,query}.txt`` list the database and the queries. ``NAME*.npz`` has, in the
order of the lists, ``utmDb`` (n, 2), ``utmQ`` (n, 2) and the radius ``posDistThr``. The unit of
the numbers depends on the file; for Nordland it is not metres (docs/DATASETS.md). For the lists
``tokyo247`` only the best of a panorama's 12 cut-outs stays on a shortlist, as in the program.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from placerec.errors import Damaged, NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import with_points, within
from placerec.evaluation.layouts.general import TRUTHS, Overrides
from placerec.evaluation.layouts.netvlad_sets import (
    CUT_OUTS,
    REMEDY,
    checked_points,
    checked_radius,
)
from placerec.evaluation.layouts.photo_lists import listed_photos
from placerec.photos.tables import read_lines
from placerec.records import Array

INDEX, QUERY = "_imageNames_index.txt", "_imageNames_query.txt"
LISTS = "dataset_imagenames"
CONTENT = "it needs utmQ, utmDb and posDistThr"


def read_image_lists(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; ``ground_truth`` selects one of several sets."""
    truth, index = _files(folder, overrides.ground_truth)
    values = _read(truth)
    name = _name(index)
    database, queries = (
        _photos(folder, index.with_name(name + ending), truth, field, values[field])
        for ending, field in ((INDEX, "utmDb"), (QUERY, "utmQ"))
    )
    radius = overrides.radius or checked_radius(truth, "posDistThr", values["posDistThr"])
    protocol = Protocol(
        f"image-lists, {truth.name}, radius {radius:g}",
        f"at most {radius:g} apart by the numbers of {truth.name}",
        CUT_OUTS if name == "tokyo247" else 1,
    )
    positives = within(queries, database, radius)
    return Dataset(name, protocol, (Search(name, queries, database, positives),))


def _files(folder: Path, given: Path | None) -> tuple[Path, Path]:
    """Return a ground truth, that is ``given`` or in ``folder``, and its list of database photos.

    The name of the list is that of the ground truth, or begins it: ``LIST.npz``, ``LIST_more.npz``.
    If several lists fit, the longest name: ``pitts30k_test.npz`` belongs to ``pitts30k``, not
    ``pitts``.
    """
    lists = [path for part in (".", LISTS) for path in sorted((folder / part).glob(f"*{INDEX}"))]
    if not lists:
        raise NotFound(folder / f"NAME{INDEX}", "no such file", f"add it and NAME{QUERY}")
    truths = [path for part in (".", TRUTHS) for path in sorted((folder / part).glob("*.npz"))]
    pairs = []
    for truth in [given] if given else truths:
        endings = {index: truth.stem.removeprefix(_name(index)) for index in lists}
        fitting = [i for i, end in endings.items() if end != truth.stem and not end[:1].isalnum()]
        if fitting:
            pairs.append((truth, max(fitting, key=lambda index: len(_name(index)))))
    if given and not pairs:
        names = ", ".join(map(_name, lists))
        raise UsageError(
            f"{given}: its name belongs to no list of {folder} ({names}); name a ground truth "
            "LIST.npz or LIST_more.npz"
        )
    if not pairs:
        raise NotFound(folder / f"{_name(lists[0])}.npz", "no such file", CONTENT)
    if len(pairs) > 1:
        names = ", ".join(sorted(truth.relative_to(folder).as_posix() for truth, _ in pairs))
        raise UsageError(f"{folder}: several ground truths ({names}); set ground_truth")
    return pairs[0]


def _name(index: Path) -> str:
    return index.name.removesuffix(INDEX)


def _read(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            values = {name: np.asarray(archive[name]) for name in ("utmQ", "utmDb", "posDistThr")}
    except KeyError as error:
        raise Damaged(f"{path}: {error.args[0]}; {CONTENT}") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        # zipfile raises NotImplementedError for an unknown compression
        raise Damaged(f"{path}: not a readable .npz file ({error}); {REMEDY}") from error
    return values


def _photos(folder: Path, source: Path, truth: Path, name: str, values: Array) -> Photos:
    names = [line for _, line in read_lines(source, "a list of photos, one path per line")]
    points = checked_points(truth, name, values.T, len(names))
    return with_points(listed_photos(folder, names, source), points)
