"""Pictures of answers: query and NetVLAD's answer above, query and ours with its matches below.

Patches of three sizes at 512 dimensions, ordered by displacement. A few wins (NetVLAD wrong, ours
right) and a few failures (ours wrong), chosen by a seed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from placerec.files import atomic_write
from placerec.photos.decode import decode
from placerec.recognise.picture import draw_match
from placerec.records import Match, Place
from placerec.reproduce.folder import Row, file_name
from placerec.reproduce.parameters import LIST_SEED
from placerec.reproduce.plots import TextRow, bars
from placerec.reproduce.scores import MULTI
from placerec.reproduce.study import Study
from placerec.reproduce.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORER = "displacement"
OUTCOMES = {  # (NetVLAD right, ours right)
    (False, True): "win",
    (True, False): "loss",
    (False, False): "both wrong",
    (True, True): "both right",
}
DRAWN = {"win": 3, "loss": 3, "both wrong": 2}
CAPTION_HEIGHT = 28  # pixels
DARK, LIGHT = (24, 24, 28), (235, 235, 235)

NOTE = (
    "In a picture the agreeing patches of one size are joined; parallel lines of ordered colours "
    "are a good sign. Wins and losses are chosen by a seed, not by eye."
)


def rows(study: Study) -> list[Row]:
    """A row a query that has a positive; the drawn ones name their picture."""
    dim = study.dim
    scores = study.scores([(size, dim) for size in MULTI])
    orders = scores.orders(SCORER, MULTI, dim)
    found = []
    for number, name in enumerate(study.queries):
        correct = study.data.answers[name]
        if not correct:
            continue
        first = [study.database[rows[number][0]] for rows in (scores.lists, orders)]
        outcome = OUTCOMES[first[0] in correct, first[1] in correct]
        found.append({**study.label(), "query": name, "netvlad": first[0], "ours": first[1],
                      "outcome": outcome, "number": number})  # fmt: skip
    drawn = []
    for outcome, most in DRAWN.items():
        some = [row for row in found if row["outcome"] == outcome]
        order = np.random.default_rng(LIST_SEED).permutation(len(some))[:most]
        drawn += [some[i] for i in sorted(order.tolist())]
    for done, row in enumerate(drawn, start=1):
        number = row["number"]
        matches = scores.matches(SCORER, MULTI, dim, number)
        listed = [study.database[i] for i in scores.lists[number]]
        row["picture"] = _draw(study, row, dict(zip(listed, matches, strict=True)))
        study.progress("drawing pictures", done, len(drawn))
    return found


def _draw(study: Study, row: Row, matches: dict[str, tuple[Match, ...]]) -> str:
    folder = study.result.path / "pictures"
    folder.mkdir(exist_ok=True)
    query = decode(study.query_photos[row["query"]]).pixels
    strips = []
    for who, told in (("netvlad", "NetVLAD's answer"), ("ours", "ours")):
        name = row[who]
        right = "right" if name in study.data.answers[row["query"]] else "wrong"
        place = Place(1, name, 0.0, 0.0, None, matches[name])
        pixels = decode(study.photos[name]).pixels
        strips.append((f"query  |  {told}: {right}", _strip(query, pixels, place)))
    width = max(strip.width for _, strip in strips)
    height = sum(strip.height + CAPTION_HEIGHT for _, strip in strips)
    canvas, top = Image.new("RGB", (width, height), DARK), 0
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(CAPTION_HEIGHT - 10)
    for caption, strip in strips:
        pen.text((8, top + 4), caption, fill=LIGHT, font=font)
        canvas.paste(strip, (0, top + CAPTION_HEIGHT))
        top += CAPTION_HEIGHT + strip.height
    named = file_name(f"{study.name}-{row['outcome']}-{row['query']}.png")
    with atomic_write(folder / named) as partial:
        canvas.save(partial, "PNG")
    return f"pictures/{named}"


def _strip(query: np.ndarray, database: np.ndarray, place: Place) -> Image.Image:
    with tempfile.TemporaryDirectory(prefix="placerec-") as scratch:
        path = Path(scratch) / "match.png"
        draw_match(query, database, place, path)
        with Image.open(path) as drawn:
            return drawn.convert("RGB")


def notes(written: list[TextRow]) -> list[str]:
    """What is drawn, and how often each outcome comes."""
    told = [NOTE]
    for name in dict.fromkeys(row["set"] for row in written):
        mine = [row["outcome"] for row in written if row["set"] == name]
        counts = ", ".join(f"{one} {mine.count(one)}" for one in OUTCOMES.values())
        told.append(f"{name}: {counts} of {len(mine)} queries that have a positive.")
    return told


def panel(axes: Axes, mine: list[TextRow]) -> None:
    """How often each outcome comes."""
    found = [row["outcome"] for row in mine]
    bars(axes, list(OUTCOMES.values()),
         {"queries": [found.count(one) for one in OUTCOMES.values()]}, "queries",
         top=len(found))  # fmt: skip
    axes.set_xlabel("first answer of NetVLAD and ours")


TABLE = Table(("query", "netvlad", "ours", "outcome", "picture"), rows, notes, panel, MULTI)
