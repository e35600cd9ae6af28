"""``database/``, ``queries/`` and ``coordinates.csv``: a photo near by answers a query.

Source of the rule: Arandjelovic et al., "NetVLAD", CVPR 2016 (25 m, any heading). With ``degrees``
both must look the same way too.
"""

from __future__ import annotations

from pathlib import Path

from placerec.errors import NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import within
from placerec.evaluation.layouts.folder import DATABASE, QUERIES, sides
from placerec.evaluation.layouts.overrides import RADIUS, Options
from placerec.evaluation.layouts.positions import COORDINATES, put, read_coordinates


def read_with_coordinates(folder: Path, options: Options) -> Dataset:
    """The data set in ``folder``, judged by distance and, if wished, heading."""
    queries, database = sides(folder)
    source = folder / COORDINATES
    table = read_coordinates(source)
    known = [f"{QUERIES}{name}" for name in queries.names]
    known += [f"{DATABASE}{name}" for name in database.names]
    for name in known:
        if name not in table:
            raise NotFound(folder / name, f"it has no row in {source}", "add one, or remove it")
    for name in set(table).difference(known):
        if name.startswith((QUERIES, DATABASE)):
            raise NotFound(folder / name, f"no such photo, but {COORDINATES} lists it")
    queries, database = put(queries, table, QUERIES), put(database, table, DATABASE)
    return near("coordinates", folder.name, queries, database, options)


def near(protocol: str, name: str, queries: Photos, database: Photos, options: Options) -> Dataset:
    """One search among photos with positions: within the radius, and turned by at most so much."""
    metres, degrees = options.radius or RADIUS, options.degrees
    parts, rule = [f"{metres:g} m"], f"at most {metres:g} m apart"
    if degrees is not None:
        if queries.headings is None or database.headings is None:
            raise UsageError(
                f"degrees {degrees:g}: no heading is known in {name}; give a radius alone, or "
                "add the headings"
            )
        parts.append(f"{degrees:g} degrees")
        rule += f", headings at most {degrees:g} degrees"
    positives = within(queries, database, metres, degrees)
    kept = Protocol(options.named(protocol, *parts), rule, options.panorama)
    return Dataset(name, kept, (Search(name, queries, database, positives),))
