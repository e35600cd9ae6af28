"""Pittsburgh 30k and Tokyo 24/7: photos by the lists of NetVLAD, positives within 25 m.

Sources: Arandjelovic et al., "NetVLAD", CVPR 2016; Torii et al., CVPR 2015. The lists are .mat
files (``dbstruct``). Alternatively, both sets in the form of G. Berton, with positions in file
names: ``images/{train,val,test}/{database,queries}/@...jpg``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from placerec.evaluation.dataset import Dataset, Protocol, Search
from placerec.evaluation.geometry import with_points, within
from placerec.evaluation.layouts.coordinates import RADIUS
from placerec.evaluation.layouts.dbstruct import find_mat, read_dbstruct
from placerec.evaluation.layouts.photo_lists import checked_name, listed_photos
from placerec.evaluation.layouts.utm_names import utm_sides

PITTSBURGH_QUERIES = "queries_real"
TOKYO_QUERIES = ("247query_subset_v2", "247query_v3")
CUT_OUTS = 12  # database photos of a Tokyo panorama, one every 30 degrees


def read_pittsburgh(part: str, folder: Path) -> Dataset:
    """Read the ``part`` (train, val or test) of Pittsburgh 30k."""
    name, mat = f"pitts30k-{part}", f"pitts30k_{part}.mat"
    return _read(folder, part, mat, (PITTSBURGH_QUERIES,), "Pittsburgh 30k", name)


def read_tokyo247(folder: Path) -> Dataset:
    """Read the 315 queries of Tokyo 24/7; only the best cut-out of a panorama is shortlisted."""
    mat, title = "tokyo247.mat", "Tokyo 24/7"
    return _read(folder, "test", mat, TOKYO_QUERIES, title, "tokyo247", CUT_OUTS)


def _read(
    folder: Path, part: str, mat: str, query_folders: Sequence[str], title: str, protocol: str,
    panorama: int = 1,
) -> Dataset:  # fmt: skip
    metres = RADIUS
    if (folder / "images" / part).is_dir():
        queries, database = utm_sides(folder / "images" / part)
    else:
        struct = read_dbstruct(find_mat(folder, mat))
        metres = struct.metres
        root = next((name for name in query_folders if (folder / name).is_dir()), query_folders[0])
        query_names = [f"{root}/{name}" for name in struct.queries]
        names = [_unpacked(folder, checked_name(name, struct.path)) for name in struct.database]
        queries = with_points(listed_photos(folder, query_names, struct.path), struct.query_points)
        database = with_points(listed_photos(folder, names, struct.path), struct.database_points)
    search = Search(title, queries, database, within(queries, database, metres))
    rule = f"at most {metres:g} m apart"
    return Dataset(title, Protocol(protocol, rule, panorama), (search,))


def _unpacked(folder: Path, name: str) -> str:
    """Return the name with .png if there is no .jpg: the list and archives of Tokyo differ."""
    png = name.removesuffix(".jpg") + ".png"
    return png if not (folder / name).is_file() and (folder / png).is_file() else name
