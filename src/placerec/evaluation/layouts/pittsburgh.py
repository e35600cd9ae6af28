"""Pittsburgh 30k: photo lists and map coordinates from the ``dbStruct`` of its .mat files.

Source: Arandjelovic et al., "NetVLAD", CVPR 2016. ``pitts30k_{train,val,test}.mat`` lie in the data
folder or below it, such as in ``datasets/``; database photos lie relative to the data folder
(``000/...jpg``), queries relative to its ``queries_real/``. Or G. Berton's form, with positions in
file names: ``images/{train,val,test}/{database,queries}/@...jpg``.
"""

from __future__ import annotations

from pathlib import Path

from placerec.evaluation.dataset import Dataset, Protocol, Search
from placerec.evaluation.geometry import within
from placerec.evaluation.layouts.dbstruct import find_mat, placed, read_dbstruct
from placerec.evaluation.layouts.names import listed
from placerec.evaluation.layouts.overrides import RADIUS, Options
from placerec.evaluation.layouts.utm_names import utm_sides

QUERIES = "queries_real"


def read_train(folder: Path, _: Options) -> Dataset:
    """The training part, as something to search."""
    return _read("train", folder)


def read_val(folder: Path, _: Options) -> Dataset:
    """The validation part."""
    return _read("val", folder)


def read_test(folder: Path, _: Options) -> Dataset:
    """The test part, which papers report."""
    return _read("test", folder)


def _read(part: str, folder: Path) -> Dataset:
    metres = RADIUS
    if (folder / "images" / part).is_dir():
        queries, database = utm_sides(folder / "images" / part)
    else:
        struct = read_dbstruct(find_mat(folder, f"pitts30k_{part}.mat"))
        metres = struct.metres
        asked = [f"{QUERIES}/{name}" for name in struct.queries]
        queries = placed(listed(folder, asked, struct.path), struct.query_points)
        database = placed(listed(folder, struct.database, struct.path), struct.database_points)
    search = Search("Pittsburgh 30k", queries, database, within(queries, database, metres))
    rule = f"at most {metres:g} m apart"
    return Dataset("Pittsburgh 30k", Protocol(f"pitts30k-{part}", rule), (search,))
