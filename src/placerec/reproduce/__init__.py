"""Every table and figure of the paper as a command, on any data set in the evaluation format.

``reproduce(NAME, folders, out, options)`` is one page: options checked, then for each set the rows,
then the table, its notes and its plot. Reading order: ``options``, ``folder`` (what is written,
and how it resumes), ``subject`` (what ``--model`` is), ``maps`` (trunk maps, computed once),
``matches`` (the engine), ``scores``, ``study`` (one data set), then a file a table. Adding a table
is one file and one line in ``TABLES``. Which command makes what: docs/REPRODUCE.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from placerec.errors import MissingExtra, UsageError
from placerec.reproduce import (
    ablation,
    grid,
    k_patch,
    methods,
    pictures,
    robustness,
    sizes,
    speed,
)
from placerec.reproduce.folder import ResultFolder, Row
from placerec.reproduce.opened_model import open_subject
from placerec.reproduce.parameters import Options
from placerec.reproduce.plots import draw
from placerec.reproduce.study import open_study, read_set
from placerec.reproduce.table import OF, Table
from placerec.runtime import Progress, no_progress
from placerec.workers import single_threaded_blas

PACKAGES = ("cv2", "matplotlib")  # RANSAC, and the plots
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


def reproduce(
    name: str,
    folders: Sequence[Path],
    out: Path,
    options: Options,
    progress: Progress = no_progress,
) -> ResultFolder:
    """Write the table ``name`` of the data sets ``folders`` to ``out``: csv, md and png.

    They are written anew after each set. A run that was killed goes on where it was; rows of a
    finished set are not computed again. All that can be wrong with the command is found before
    anything is written. Raises ``UsageError`` where ``out`` has this table with other options.
    """
    if name not in TABLES:
        raise UsageError(f"table {name!r}: choose one of {', '.join(TABLES)}")
    table, sets = TABLES[name], [folder.resolve().name for folder in folders]
    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra(f"reproduce {name}", "paper")
    options.check_sets(sets)
    read = [read_set(folder, options) for folder in folders]
    rows: list[Row] = []
    with single_threaded_blas():
        subject = open_subject(options, table.sizes, table.published)
        result = ResultFolder(out, name, options.as_json(), sets, options.threads)
        for set_name, data in read:
            study = open_study(set_name, data, options, result, subject, progress)
            rows += result.once(study.name, partial(table.rows, study))
            result.write((*OF, *table.columns), rows, table.notes)
            draw(out / f"{name}.png", result.rows(), table.panel)
    return result
