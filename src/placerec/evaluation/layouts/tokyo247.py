"""Tokyo 24/7: phone photos by day, at sunset and by night, searched in street view cut-outs.

Source: Torii et al., CVPR 2015; lists of Arandjelovic et al., "NetVLAD", CVPR 2016.
``tokyo247.mat`` lies in the data folder or below it; database photos lie relative to the data
folder (``03814/...png``, though the list says .jpg), queries in ``247query_subset_v2/`` or
``247query_v3/``, of which the list names 315. Every panorama is 12 cut-outs, and only the best one
of each stays on a shortlist. Or G. Berton's form: ``images/test/{database,queries}/@...jpg``.
"""

from __future__ import annotations

from pathlib import Path

from placerec.errors import NotFound
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import within
from placerec.evaluation.layouts.dbstruct import find_mat, placed, read_dbstruct
from placerec.evaluation.layouts.names import listed, safe
from placerec.evaluation.layouts.overrides import RADIUS, Options
from placerec.evaluation.layouts.utm_names import utm_sides

QUERY_FOLDERS = ("247query_subset_v2", "247query_v3")
CUT_OUTS = 12  # database photos of one panorama, one every 30 degrees


def read_tokyo247(folder: Path, _: Options) -> Dataset:
    """The 315 queries."""
    metres = RADIUS
    if (folder / "images" / "test").is_dir():
        queries, database = utm_sides(folder / "images" / "test")
    else:
        struct = read_dbstruct(find_mat(folder, "tokyo247.mat"))
        metres = struct.metres
        queries = placed(_queries(folder, struct.queries, struct.path), struct.query_points)
        cut_outs = [_as_unpacked(folder, safe(name, struct.path)) for name in struct.database]
        database = placed(listed(folder, cut_outs, struct.path), struct.database_points)
    search = Search("Tokyo 24/7", queries, database, within(queries, database, metres))
    protocol = Protocol("tokyo247", f"at most {metres:g} m apart", CUT_OUTS)
    return Dataset("Tokyo 24/7", protocol, (search,))


def _queries(folder: Path, names: tuple[str, ...], source: Path) -> Photos:
    for part in QUERY_FOLDERS:
        if (folder / part).is_dir():
            return listed(folder, [f"{part}/{name}" for name in names], source)
    raise NotFound(
        folder / QUERY_FOLDERS[0],
        "no such folder",
        f"unpack the queries, or {QUERY_FOLDERS[1]}",
    )


def _as_unpacked(folder: Path, name: str) -> str:
    """The list says .jpg; the archives hold .png."""
    other = name.removesuffix(".jpg") + ".png"
    return other if name.endswith(".jpg") and not (folder / name).is_file() else name
