"""G. Berton's form of the published sets: ``images/test/{database,queries}/@east@north@...``.

His tools write all sets so, and nothing in the folder says which one it is. What can be seen: how
many photos there are; that the points are Nordland's frames (east 0, and a frame number); that the
database is made of panoramas of 12 cut-outs, of which Tokyo 24/7 counts only the best. Where none
of this holds, the positions are all there is, and they judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from placerec.evaluation.layouts.folder import DATABASE, QUERIES, sides
from placerec.evaluation.layouts.tokyo247 import CUT_OUTS
from placerec.evaluation.layouts.utm_names import EAST, IMAGES, NORTH, PANORAMA, has_utm

OF_FRAMES = ("nordland-27592", "nordland-27592-program", "nordland-2760")
OF_PANORAMAS = ("pitts30k-test", "tokyo247")
OF_ANY = "utm-names"


def protocols_that_fit(
    folder: Path, counts: Mapping[str, tuple[int, int] | None]
) -> tuple[str, ...]:
    """The protocols by which ``folder`` may be read; none where it has not this form.

    ``counts``: queries and database photos of each protocol's whole set.
    """
    if not all((folder / IMAGES / side).is_dir() for side in (QUERIES, DATABASE)):
        return ()
    photos = sides(folder / IMAGES)
    if not all(has_utm(side.paths[0]) for side in photos):
        return ()
    asked, known = ([path.name.split("@") for path in side.paths] for side in photos)
    size = len(asked), len(known)
    whole = tuple(name for name in (*OF_FRAMES, *OF_PANORAMAS) if counts[name] == size)
    if whole:
        return (*whole, OF_ANY)
    if all(_is_a_frame(fields[0]) for fields in (asked, known)):
        return (*OF_FRAMES, OF_ANY)
    if _are_panoramas(known):
        return (*OF_PANORAMAS, OF_ANY)
    return (OF_ANY,)


def _is_a_frame(fields: Sequence[str]) -> bool:
    return len(fields) > PANORAMA and not fields[EAST].strip("0.") and fields[PANORAMA].isdecimal()


def _are_panoramas(fields: Sequence[Sequence[str]]) -> bool:
    """Whether the photos, in their order, are groups of 12 at one point each."""
    points = [tuple(one[EAST : NORTH + 1]) for one in fields]
    groups = (points[n : n + CUT_OUTS] for n in range(0, len(points), CUT_OUTS))
    return len(points) % CUT_OUTS == 0 and all(len(set(group)) == 1 for group in groups)
