"""Curves as inline SVG: axes with ticks, a line and its interval for each ranking, a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from placerec.evaluation.report.markup import Markup, element, number
from placerec.records import Array

WIDTH, HEIGHT = 460, 330  # units of the view box; text is 13 units high
LEFT, RIGHT, TOP, BOTTOM = 48, 24, 34, 46  # what surrounds the plot
MOST_POINTS = 600  # of a line: more than there are pixels


@dataclass(frozen=True, slots=True)
class Line:
    """``points`` (n, 2) float64 x and y; ``interval`` (n, 2): lowest and highest y, or ``None``.

    ``kind`` is the class that gives it a colour: ``global`` or ``final``.
    """

    label: str
    kind: str
    points: Array = field(repr=False)
    interval: Array | None = field(default=None, repr=False)
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``low`` to ``high``, with ``ticks`` as (value, what is written)."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def share(self, values: Array) -> Array:
        """How far along the axis (n,) float64 0..1 the ``values`` lie; beyond an end: at it."""
        low, high, at = self.low, self.high, np.asarray(values, np.float64)
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), np.log(np.maximum(at, self.low))
        clipped: Array = np.clip((at - low) / (high - low), 0.0, 1.0)
        return clipped


def percent_axis(label: str, values: Sequence[float]) -> Axis:
    """An axis of shares up to 100 % that begins at the tenth below the least of ``values``.

    It begins at 0 where they reach into the lower half.
    """
    known = [value for value in values if math.isfinite(value)]
    low = math.floor(10 * min(known, default=0.0) + 1e-9) / 10
    low = 0.0 if low < 0.5 else min(low, 0.9)
    step = 0.2 if low < 0.5 else 0.1 if low < 0.8 else 0.05 if low < 0.9 else 0.02
    count = round((1 - low) / step)
    ticks = tuple((low + n * step, f"{100 * (low + n * step):.0f} %") for n in range(count + 1))
    return Axis(label, low, 1.0, ticks)


def chart(title: str, description: str, lines: Sequence[Line], x: Axis, y: Axis) -> Markup:
    """One SVG with ``lines``; ``title`` and ``description`` are what a screen reader says."""
    return element(
        "svg", element("title", title), element("desc", description),
        _grid(x, y), [_band(line, x, y) for line in lines], [_curve(line, x, y) for line in lines],
        _legend(lines),
        class_="chart", role="img", viewBox=f"0 0 {WIDTH} {HEIGHT}",
    )  # fmt: skip


def path(points: Array, closed: bool = False) -> str:
    """The ``d`` of an SVG path through ``points`` (n, 2)."""
    steps = "L".join(f"{number(x)} {number(y)}" for x, y in points.tolist())
    return f"M{steps}{'Z' if closed else ''}"


def _places(points: Array, x: Axis, y: Axis) -> Array:
    """Values (n, 2) as units of the view box (n, 2)."""
    across = LEFT + x.share(points[:, 0]) * (WIDTH - LEFT - RIGHT)
    down = TOP + (1 - y.share(points[:, 1])) * (HEIGHT - TOP - BOTTOM)
    return np.stack((across, down), axis=-1)


def _grid(x: Axis, y: Axis) -> Markup:
    parts = []
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for value, label in x.ticks:
        (at, _), *_ = _places(np.array([[value, y.low]]), x, y).tolist()
        parts.append(element("line", x1=at, x2=at, y1=bottom, y2=bottom + 5, class_="axis"))
        parts.append(element("text", label, x=at, y=bottom + 20, text_anchor="middle"))
    for value, label in y.ticks:
        (_, at), *_ = _places(np.array([[x.low, value]]), x, y).tolist()
        parts.append(element("line", x1=LEFT, x2=right, y1=at, y2=at, class_="grid"))
        parts.append(element("text", label, x=LEFT - 8, y=at + 4, text_anchor="end"))
    parts.append(element("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    middle = (LEFT + right) / 2
    parts.append(element("text", x.label, x=middle, y=HEIGHT - 6, text_anchor="middle"))
    parts.append(element("text", y.label, x=4, y=14))
    return element("g", parts)


def _band(line: Line, x: Axis, y: Axis) -> Markup | None:
    if line.interval is None or not np.isfinite(line.interval).all():
        return None
    across = line.points[:, 0]
    low, high = (np.stack((across, edge), axis=-1) for edge in line.interval.T)
    outline = _places(np.concatenate((high, low[::-1])), x, y)
    return element("path", d=path(outline, closed=True), class_=f"band {line.kind}")


def _curve(line: Line, x: Axis, y: Axis) -> Markup | None:
    points = line.points[np.isfinite(line.points).all(axis=1)]
    if not len(points):
        return None
    drawn = _places(points, x, y)
    if len(drawn) > MOST_POINTS:
        drawn = drawn[np.linspace(0, len(drawn) - 1, MOST_POINTS).round().astype(int)]
    dots = drawn.tolist() if line.dots or len(drawn) == 1 else []
    return element(
        "g", element("path", d=path(drawn), class_="curve"),
        [element("circle", cx=across, cy=down, r=3.5) for across, down in dots],
        class_=line.kind,
    )  # fmt: skip


def _legend(lines: Sequence[Line]) -> Markup:
    """From the right edge leftwards, in the line above the plot."""
    parts, right = [], float(WIDTH - RIGHT)
    for line in reversed(lines):
        parts.append(element("text", line.label, x=right, y=14, text_anchor="end"))
        right -= 7.2 * len(line.label) + 8  # a letter is about 7 units wide
        parts.append(element("path", d=f"M{number(right - 22)} 10H{number(right)}",
                             class_=f"curve {line.kind}"))  # fmt: skip
        right -= 40
    return element("g", parts)
