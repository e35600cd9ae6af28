"""Photos inside the page: small JPEGs as data URIs, and matched points as lines over a pair."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from placerec.errors import NotFound, PhotoError
from placerec.evaluation.report.markup import Markup, element, number
from placerec.photos.decode import decode
from placerec.records import Array

LONG_SIDE = 320  # pixels
MOST_BYTES = 15_000  # of one JPEG: 72 photos in base64 stay below 1.5 MB
QUALITIES = (80, 65, 50, 35, 20)  # the first that is small enough
SHOWN_HEIGHT = 240  # units of a pair's view box
GAP = 6
MOST_LINES = 30


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A photo for the page; ``data`` is the JPEG, or empty, and ``reason`` says why."""

    width: int
    height: int
    data: bytes = field(repr=False)
    reason: str = ""

    @property
    def uri(self) -> Markup:
        """``data:image/jpeg;base64,...``."""
        return Markup("data:image/jpeg;base64," + base64.b64encode(self.data).decode("ascii"))

    @property
    def shown_width(self) -> float:
        """Its width at ``SHOWN_HEIGHT``; panoramas and slits are squeezed to a sensible one."""
        return SHOWN_HEIGHT * min(max(self.width / self.height, 0.4), 4.0)


def thumbnail(photo: Path) -> Thumbnail:
    """The photo, upright, at most 320 pixels long and about 15 kB; never raises."""
    try:
        pixels = decode(photo, shrink_to=(2 * LONG_SIDE, 2 * LONG_SIDE)).pixels
    except PhotoError as error:
        return Thumbnail(LONG_SIDE, SHOWN_HEIGHT, b"", error.reason)
    except NotFound:
        return Thumbnail(LONG_SIDE, SHOWN_HEIGHT, b"", "no such photo")
    image = Image.fromarray(pixels)
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    data = b""
    for quality in QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality, optimize=True)
        data = stream.getvalue()
        if len(data) <= MOST_BYTES:
            break
    return Thumbnail(image.width, image.height, data)


@dataclass(frozen=True, slots=True)
class Panel:
    """A photo with its role (query, answer) and its name."""

    role: str
    name: str
    photo: Thumbnail = field(repr=False)


def row(panels: Sequence[Panel], points: Array | None) -> Markup:
    """Three photos of one height; the first two are one drawing, joined by lines.

    ``points`` (M, 4) are matches of these two, x and y in each as fractions 0..1.
    """
    first, second, third = panels
    left, right = first.photo, second.photo
    offset = left.shown_width + GAP
    pair = _drawing(
        f"{first.role}: {first.name}. {second.role}: {second.name}.", offset + right.shown_width,
        _shown(left, 0.0), _shown(right, offset), _lines(points, left, right, offset),
        _role(first.role, 0.0), _role(second.role, offset),
    )  # fmt: skip
    single = _drawing(f"{third.role}: {third.name}.", third.photo.shown_width,
                      _shown(third.photo, 0.0), _role(third.role, 0.0))  # fmt: skip
    return element("div", pair, single, class_="photos")


def _drawing(title: str, width: float, *content: object) -> Markup:
    return element(
        "svg", element("title", title), content, role="img",
        viewBox=f"0 0 {number(width)} {SHOWN_HEIGHT}",
        style=f"flex-grow:{width / SHOWN_HEIGHT:.3f}",
    )  # fmt: skip


def _shown(photo: Thumbnail, left: float) -> Markup:
    """The photo, or a grey box with the reason."""
    width = photo.shown_width
    if photo.data:
        return element("image", href=photo.uri, x=left, y=0, width=width, height=SHOWN_HEIGHT,
                       preserveAspectRatio="none")  # fmt: skip
    box = element("rect", x=left, y=0, width=width, height=SHOWN_HEIGHT, class_="missing")
    words = [
        element("text", line, x=left + width / 2, y=110 + 18 * n, text_anchor="middle")
        for n, line in enumerate(_wrapped(photo.reason, int(width / 8)))
    ]
    return element("g", box, words)


def _role(role: str, left: float) -> Markup:
    """What the photo is, in its upper left corner."""
    tag = element("rect", x=left + 6, y=6, width=7.6 * len(role) + 14, height=22, rx=4)
    return element("g", tag, element("text", role, x=left + 13, y=21.5), class_="role")


def _lines(points: Array | None, left: Thumbnail, right: Thumbnail, offset: float) -> Markup | None:
    """Lines in colours that run from left to right in the query: ordered ones are a good sign."""
    if points is None or not len(points):
        return None
    known = points[np.isfinite(points).all(axis=1)]
    inside = np.clip(known.astype(np.float64), 0.0, 1.0)
    ordered = inside[np.lexsort(inside.T[::-1])]
    if len(ordered) > MOST_LINES:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MOST_LINES).round().astype(int)]
    drawn = []
    for x, y, u, v in ordered.tolist():
        red, green, blue = (round(255 * one) for one in colorsys.hsv_to_rgb(0.85 * x, 0.7, 1.0))
        drawn.append(element(
            "line", x1=x * left.shown_width, y1=y * SHOWN_HEIGHT,
            x2=offset + u * right.shown_width, y2=v * SHOWN_HEIGHT,
            stroke=f"#{red:02x}{green:02x}{blue:02x}",
        ))  # fmt: skip
    return element("g", drawn, class_="matches")


def _wrapped(words: str, width: int) -> list[str]:
    """At most four lines of about ``width`` letters."""
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()[:width]
    return lines[:4]
