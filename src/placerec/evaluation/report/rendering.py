"""Fill in the templates: escaping, numbers and units.

Jinja2 escapes every value. Before that, ``text.printable`` shows control characters. So a photo
name, a label or an error message can never open a tag, end an attribute or change the reading
direction of the rest of the page.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from placerec.evaluation.scoring.intervals import Estimate
from placerec.records import Array
from placerec.text import printable

UNKNOWN = "–"
UNITS = {  # rows of (smallest value, divisor, decimals, unit)
    "milliseconds": ((10_000, 1000, 1, "s"), (10, 1, 0, "ms"), (0, 1, 1, "ms")),
    "bytes": ((1e6, 1e6, 1, "MB"), (1000, 1000, 1, "kB"), (0, 1, 0, "bytes")),
    "metres": ((10_000, 1000, 0, "km"), (1000, 1000, 1, "km"), (10, 1, 0, "m"), (0, 1, 1, "m")),
}


@cache
def environment() -> Environment:
    """Return the Jinja2 environment of the report; an undefined name is an error."""
    created = Environment(
        autoescape=True, loader=PackageLoader("placerec.evaluation.report"),
        undefined=StrictUndefined, finalize=as_written, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    created.filters |= {"percent": percent, "interval": interval, "quantity": quantity}
    return created


def render(template: str, **data: object) -> str:
    """Return the text of ``templates/{template}``, filled in with ``data``."""
    return environment().get_template(template).render(data)


def as_written(value: object) -> object:
    """Return ``value`` as the templates write it: a float as a coordinate, other text printable.

    Markup stays unchanged.
    """
    if isinstance(value, Markup):
        return value
    if isinstance(value, float):
        number = f"{value:.2f}".rstrip("0").rstrip(".")
        return "0" if number == "-0" else number
    return printable(value)


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with one decimal, ``93.5``."""
    return UNKNOWN if value is None else f"{100 * value:.1f}"


def interval(estimate: Estimate) -> str:
    """Return ``90.1–96.2``, or an empty text if the estimate has no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{percent(estimate.low)}–{percent(estimate.high)}"


def quantity(value: object, kind: str) -> str:
    """Return ``value`` with its unit: ``0.4 ms``, ``152 ms``, ``31.6 kB``, ``25 m``, ``1.2 km``.

    ``kind`` is a key of ``UNITS``. A kB is 1000 bytes.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNKNOWN
    _, divisor, digits, unit = next(row for row in UNITS[kind] if value >= row[0] or row[0] == 0)
    number = f"{value / divisor:.{digits}f}"
    return f"{number.removesuffix('.0') if kind == 'metres' else number} {unit}"


def evenly(rows: Array, at_most: int) -> Array:
    """Return ``rows`` (n, k), or ``at_most`` of them at equal steps, first and last included."""
    if len(rows) <= at_most:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, at_most).round().astype(int)])
