"""How many untagged photos of the drawn town ``geotag`` locates, and how far off they are.

    python benchmarks/geotag.py

The index has the town by day. Asked are its night photos without a position, and as many photos of
another town by night and by day, which are not in the map. They are one walk, a photo each 30
seconds. It runs for about two minutes.

Writes results/geotag.csv, the table in docs/GEOTAG.md and the picture docs/geotag.png.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec import PlaceRecognizer, build_index
from placerec.demo import demo_pose, position_of, render, write_demo_photos
from placerec.demo.photos import LATITUDE, LONGITUDE, METRES_EAST, METRES_NORTH, SPACING
from placerec.geotag import GeoTag, geotag_photos
from placerec.geotag.locate import LOCATED, OUTSIDE, REVIEW
from placerec.photos.sphere import distance
from placerec.records import Position

RESULTS, PAGE = ROOT / "results" / "geotag.csv", ROOT / "docs" / "GEOTAG.md"
PICTURE = ROOT / "docs" / "geotag.png"
COLUMNS = ("photos", "times", "asked", "located", "within_25_m", "median_metres", "largest_metres",
           "radius_holds", "review", "outside")  # fmt: skip
PLACES, TOWN, OTHER_TOWN, STEP = 60, 0, 7, timedelta(seconds=30)
WALK = {  # the kinds of photos that are asked: the town, and whether by night
    "the town by night": (TOWN, True),
    "another town by night": (OTHER_TOWN, True),
    "another town by day": (OTHER_TOWN, False),
}
ROWS, METRE, HEIGHT, MARGIN = 4, 2, 90, 24  # of the picture: strips of street, pixels
GREY, GREEN, ORANGE, RED, BLACK = "#b8bec4", "#16803c", "#d97706", "#c02626", "#222222"


def draw_photos(folder: Path, *, times: bool) -> dict[Path, Position | None]:
    """Draw the photos that are asked; return each with its true position, ``None`` elsewhere.

    They are in a folder for each kind of ``WALK``.
    """
    truth: dict[Path, Position | None] = {}
    taken = datetime(2024, 5, 1, 21)
    for kind, (town, night) in WALK.items():
        (folder / kind).mkdir(parents=True)
        for place in range(PLACES):
            pose, path = demo_pose(town, place, night), folder / kind / f"{place:03}.jpg"
            taken += STEP
            tags = {ExifTags.Base.DateTimeOriginal: f"{taken:%Y:%m:%d %H:%M:%S}"}
            exif = Image.Exif()
            exif[ExifTags.IFD.Exif] = tags if times else {}
            Image.fromarray(render(town, pose, night)).save(path, quality=90, exif=exif)
            truth[path] = position_of(pose) if town == TOWN else None
    return truth


def row(
    photos: str, times: str, tags: Sequence[GeoTag], truth: dict[Path, Position | None]
) -> dict[str, object]:
    """Return the counts of one kind of photo."""
    located = [tag for tag in tags if tag.status == LOCATED and tag.position]
    errors = [distance(tag.position, at) for tag in located if (at := truth[tag.photo])]
    held = [error <= tag.radius for tag, error in zip(located, errors, strict=False) if tag.radius]
    return {
        "photos": photos, "times": times, "asked": len(tags), "located": len(located),
        "within_25_m": sum(error <= 25 for error in errors),
        "median_metres": f"{np.median(errors):.1f}" if errors else "",
        "largest_metres": f"{max(errors):.1f}" if errors else "",
        "radius_holds": f"{np.mean(held):.2f}" if held else "",
        "review": sum(tag.status == REVIEW for tag in tags),
        "outside": sum(tag.status == OUTSIDE for tag in tags),
    }  # fmt: skip


def draw_map(tags: Iterable[GeoTag], truth: dict[Path, Position | None]) -> None:
    """Draw the street in strips: indexed photos, new positions with their radius, true ones."""
    metres = PLACES * SPACING / ROWS
    size = (round(metres * METRE) + 2 * MARGIN, (ROWS + 1) * HEIGHT)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)

    def pixel(at: Position) -> tuple[float, float]:
        east, north = at.longitude - LONGITUDE, at.latitude - LATITUDE
        strip, along = divmod(east * METRES_EAST + SPACING / 2, metres)
        return MARGIN + along * METRE, (strip + 0.5) * HEIGHT - north * METRES_NORTH * METRE

    def dot(at: Position, radius: float, **colours: str) -> None:
        draw.circle(pixel(at), radius, **colours)

    for strip in range(ROWS):
        y = (strip + 0.5) * HEIGHT
        draw.line((MARGIN, y, size[0] - MARGIN, y), GREY, 1)
    for place in range(PLACES):
        dot(position_of(demo_pose(TOWN, place, False)), 5, fill=GREY)
    for tag in tags:
        true = truth[tag.photo]
        if tag.status == LOCATED and tag.position:
            colour = GREEN if true else RED
            if tag.radius:
                dot(tag.position, min(tag.radius, metres) * METRE, outline=colour)
            dot(tag.position, 4, fill=colour)
            if true:
                draw.line((*pixel(tag.position), *pixel(true)), GREEN, 2)
        elif true:
            dot(true, 6, outline=ORANGE if tag.status == REVIEW else RED)
        if true:
            dot(true, 2, fill=BLACK)
    legend = {"indexed photo": GREY, "new position, circle: 95 %": GREEN, "true position": BLACK,
              "for review": ORANGE, "wrong": RED}  # fmt: skip
    x, y = MARGIN, (ROWS + 0.5) * HEIGHT
    font = ImageFont.load_default(16)
    for text, colour in legend.items():
        draw.circle((x, y), 6, fill=colour)
        draw.text((x + 12, y), text, BLACK, font, anchor="lm")
        x += 40 + draw.textlength(text, font)
    picture.quantize(64).save(PICTURE, optimize=True)


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table of docs/GEOTAG.md."""
    head = ("photos", "capture times", "asked", "located", "within 25 m", "median, metres",
            "largest, metres", "within its radius", "for review", "not in the map")  # fmt: skip
    return page_table(head, ([row[name] or "-" for name in COLUMNS] for row in rows))


def main() -> None:
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_demo_photos(folder / "town", PLACES, TOWN)
        build_index(folder / "town.placerec", folder / "town" / "database")
        with PlaceRecognizer.open(folder / "town.placerec") as recognizer:
            for times in ("no", "yes"):
                truth = draw_photos(folder / times, times=times == "yes")
                tags = geotag_photos(recognizer, list(truth)).tags
                for kind in WALK:
                    asked = [tag for tag in tags if tag.photo.parent.name == kind]
                    rows.append(row(kind, times, asked, truth))
        draw_map(tags, truth)
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, rows)
    write_page(PAGE, "geotag", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
