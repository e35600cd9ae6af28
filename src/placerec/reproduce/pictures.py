"""Pictures of answers: above the query and NetVLAD's answer, below the query and our answer.

Patches have three sizes and 512 dimensions, and displacement orders the candidates. A few wins
(NetVLAD wrong, ours right) and a few failures (ours wrong) are drawn; a seed chooses them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from placerec.evaluation.query_lists import SEED
from placerec.files import atomic_write
from placerec.photos.decode import decode
from placerec.recognise.picture import draw_match
from placerec.records import Array, Match, Place
from placerec.reproduce.folder import Row, TextRow, file_name
from placerec.reproduce.plots import Axes, bars, series_of
from placerec.reproduce.study import Study
from placerec.reproduce.table import MULTI, Table

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
    "A picture joins the agreeing patches of one size; parallel lines of ordered colours are a "
    "good sign. A seed chooses the wins and losses, not a person."
)


def rows(study: Study) -> list[Row]:
    """One row per query that has a positive; the drawn ones name their picture."""
    dim, names = study.dim, study.search.database.names
    matches = study.matches([(MULTI, dim, SCORER)])
    orders = matches.orders(MULTI, dim, SCORER)
    table: list[Row] = []
    for number, (query, correct) in enumerate(study.search.answers.items()):
        if correct:
            netvlad, ours = (names[lists[number][0]] for lists in (matches.lists, orders))
            outcome = OUTCOMES[netvlad in correct, ours in correct]
            table.append({**study.label, "query": query, "netvlad": netvlad, "ours": ours,
                          "outcome": outcome, "number": number})  # fmt: skip
    drawn = []
    for outcome, most in DRAWN.items():
        same = [row for row in table if row["outcome"] == outcome]
        order = np.random.default_rng(SEED).permutation(len(same))[:most]
        drawn += [same[i] for i in sorted(order.tolist())]
    for done, row in enumerate(drawn, start=1):
        number = row["number"]
        by_size = [matches.scored(SCORER, (size, dim), number)[1] for size in MULTI]
        listed = [names[i] for i in matches.lists[number]]
        scored = [tuple(match for (match,) in sizes) for sizes in zip(*by_size, strict=True)]
        row["picture"] = _draw(study, row, dict(zip(listed, scored, strict=True)))
        study.runtime.progress("drawing pictures", done, len(drawn))
    return table


def _draw(study: Study, row: Row, matches: dict[str, tuple[Match, ...]]) -> str:
    """Write the picture of a row and return its path in the result folder."""
    database, number = study.search.database, row["number"]
    query = decode(study.search.queries.paths[number]).pixels
    strips = []
    for column, answer in (("netvlad", "NetVLAD's answer"), ("ours", "ours")):
        name = row[column]
        right = "right" if name in study.search.answers[row["query"]] else "wrong"
        pixels = decode(database.paths[database.names.index(name)]).pixels
        place = Place(1, name, 0.0, 0.0, None, matches[name])
        strips.append(_strip(query, pixels, place, f"query  |  {answer}: {right}"))
    width = max(strip.width for strip in strips)
    padded = [ImageOps.expand(strip, (0, 0, width - strip.width, 0), DARK) for strip in strips]
    canvas = Image.fromarray(np.concatenate([np.asarray(strip) for strip in padded]))
    name = file_name(f"{study.name}-{row['outcome']}-{row['query']}.png")
    with atomic_write(study.result.path / "pictures" / name) as partial:
        canvas.save(partial, "PNG")
    return f"pictures/{name}"


def _strip(query: Array, database: Array, place: Place, caption: str) -> Image.Image:
    """Draw a match below its caption."""
    with tempfile.TemporaryDirectory(prefix="placerec-") as scratch:
        path = Path(scratch) / "match.png"
        draw_match(query, database, place, path)
        with Image.open(path) as match:
            strip = ImageOps.expand(match.convert("RGB"), (0, CAPTION_HEIGHT, 0, 0), DARK)
    font = ImageFont.load_default(CAPTION_HEIGHT - 10)
    ImageDraw.Draw(strip).text((8, 4), caption, fill=LIGHT, font=font)
    return strip


def _counts(rows: list[TextRow]) -> dict[str, int]:
    outcomes = [row["outcome"] for row in rows]
    return {outcome: outcomes.count(outcome) for outcome in OUTCOMES.values()}


def notes(written: list[TextRow]) -> list[str]:
    """Explain the pictures, and count the outcomes."""
    lines = [NOTE]
    for name, rows in series_of(written, "set").items():
        counts = ", ".join(f"{outcome} {count}" for outcome, count in _counts(rows).items())
        lines.append(f"{name}: {counts} of {len(rows)} queries that have a positive.")
    return lines


def panel(axes: Axes, rows: list[TextRow]) -> None:
    """The number of queries per outcome."""
    counts = _counts(rows)
    bars(axes, list(counts), {"queries": list(counts.values())},
         "first answer of NetVLAD and ours", "queries", top=len(rows))  # fmt: skip


TABLE = Table(("query", "netvlad", "ours", "outcome", "picture"), rows, notes, panel, MULTI)
