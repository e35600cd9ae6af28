"""Pittsburgh 30k and Tokyo 24/7: photos by the lists of NetVLAD, positives within 25 m.

Sources: Arandjelovic et al., "NetVLAD", CVPR 2016; Torii et al., CVPR 2015. Each .mat file
(``dbstruct``) is in the data folder or below it, for example in ``datasets/``; the database photos
are relative to the data folder.

Alternatively, both sets in the form of G. Berton, with positions in file names:
``images/{train,val,test}/{database,queries}/@...jpg``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from placerec.errors import NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import with_points, within
from placerec.evaluation.layouts.coordinates import RADIUS
from placerec.evaluation.layouts.dbstruct import DbStruct, find_mat, read_dbstruct
from placerec.evaluation.layouts.photo_lists import checked_name, listed_photos
from placerec.evaluation.layouts.utm_names import utm_sides

PITTSBURGH_QUERIES = "queries_real"
TOKYO_QUERIES = ("247query_subset_v2", "247query_v3")
CUT_OUTS = 12  # database photos of a Tokyo panorama, one every 30 degrees


def read_pittsburgh(part: str, folder: Path) -> Dataset:
    """Read the ``part`` (train, val or test) of Pittsburgh 30k."""

    def listed(struct: DbStruct) -> tuple[Photos, Photos]:
        queries = [f"{PITTSBURGH_QUERIES}/{name}" for name in struct.queries]
        return (
            listed_photos(folder, queries, struct.path),
            listed_photos(folder, struct.database, struct.path),
        )

    name = f"pitts30k-{part}"
    return _read(folder, part, f"pitts30k_{part}.mat", listed, "Pittsburgh 30k", name, 1)


def read_tokyo247(folder: Path) -> Dataset:
    """Read the 315 queries of Tokyo 24/7.

    A panorama has 12 cut-outs; only the best of them stays on a shortlist.
    """

    def listed(struct: DbStruct) -> tuple[Photos, Photos]:
        root = next((name for name in TOKYO_QUERIES if (folder / name).is_dir()), None)
        if root is None:
            raise NotFound(
                folder / TOKYO_QUERIES[0], "no such folder",
                f"unpack the queries, or {TOKYO_QUERIES[1]}",
            )  # fmt: skip
        queries = [f"{root}/{name}" for name in struct.queries]
        database = [_unpacked(folder, checked_name(name, struct.path)) for name in struct.database]
        return (
            listed_photos(folder, queries, struct.path),
            listed_photos(folder, database, struct.path),
        )

    return _read(folder, "test", "tokyo247.mat", listed, "Tokyo 24/7", "tokyo247", CUT_OUTS)


def _read(
    folder: Path, part: str, mat: str, listed: Callable[[DbStruct], tuple[Photos, Photos]],
    title: str, protocol: str, panorama: int,
) -> Dataset:  # fmt: skip
    metres = RADIUS
    if (folder / "images" / part).is_dir():
        queries, database = utm_sides(folder / "images" / part)
    else:
        struct = read_dbstruct(find_mat(folder, mat))
        metres = struct.metres
        queries, database = listed(struct)
        queries = with_points(queries, struct.query_points)
        database = with_points(database, struct.database_points)
    search = Search(title, queries, database, within(queries, database, metres))
    rule = f"at most {metres:g} m apart"
    return Dataset(title, Protocol(protocol, rule, panorama), (search,))


def _unpacked(folder: Path, name: str) -> str:
    """Return the name with .png for .jpg if necessary: the list and the archives differ."""
    png = name.removesuffix(".jpg") + ".png"
    return png if name.endswith(".jpg") and not (folder / name).is_file() else name
