"""Make every table and figure of the paper on any data set in the evaluation format.

``reproduce(NAME, folders, out, parameters)`` checks the parameters, computes the rows of each data
set, and writes the table, its notes and its plot. Reading order: ``parameters``, ``folder`` (what
is written, and how a run resumes), ``matches`` (stored matches and their scores), ``study`` (one
data set), ``table``, then one file per table. To add a table, add one file and one line in
``TABLES``. docs/REPRODUCE.md lists the tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from placerec.errors import MissingExtra, UsageError
from placerec.files import paths_of
from placerec.reproduce import ablation, grid, k_patch, methods, pictures, robustness, sizes, speed
from placerec.reproduce.folder import ResultFolder, Row
from placerec.reproduce.parameters import Parameters, open_for_table
from placerec.reproduce.plots import draw
from placerec.reproduce.study import Study, read_search
from placerec.reproduce.table import LABEL_COLUMNS, Table
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.workers import single_threaded_blas

PACKAGES = ("cv2", "matplotlib")  # for RANSAC and for the plots
TABLES: dict[str, Table] = {
    "ablation": ablation.TABLE,
    "sizes": sizes.TABLE,
    "speed": speed.TABLE,
    "methods": methods.TABLE,
    "pictures": pictures.TABLE,
    "grid": grid.TABLE,
    "robustness": robustness.TABLE,
    "k-patch": k_patch.TABLE,
}


def table_named(name: str) -> Table:
    """Return the table ``name``; raise ``UsageError`` for an unknown name."""
    if name not in TABLES:
        raise UsageError(f"table {name!r}: choose one of {', '.join(TABLES)}")
    return TABLES[name]


def reproduce(
    name: str,
    folders: str | Path | Iterable[str | Path],
    out: str | Path,
    parameters: Parameters,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> ResultFolder:
    """Write the table ``name`` of the data sets ``folders`` to ``out``: csv, md and png.

    The files are written again after each data set. A stopped run resumes, and does not compute
    the rows of a finished data set again. All arguments are checked before anything is written.
    Raises ``UsageError`` if ``out`` holds this table with other parameters.
    """
    table, folders, out = table_named(name), paths_of(folders), Path(out)
    sets = [folder.resolve().name for folder in folders]
    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra(f"reproduce {name}", "paper")
    parameters.check_sets(sets)
    searches = [read_search(folder, parameters) for folder in folders]
    rows: list[Row] = []
    with single_threaded_blas():
        opened = open_for_table(parameters, table.sizes, table.published, runtime)
        options = parameters.as_json() | ({"device": runtime.device} if runtime.on_gpu else {})
        result = ResultFolder(out, name, options, sets, runtime.cores)
        for set_name, search in zip(sets, searches, strict=True):
            study = Study(set_name, search, parameters, result, opened, runtime)
            rows += result.once(set_name, partial(table.rows, study))
            result.write((*LABEL_COLUMNS, *table.columns), rows, table.notes)
            draw(out / f"{name}.png", result.rows(), table.panel)
    return result
