"""How many untagged photos of the drawn town ``geotag`` locates, and how far off they are.

    python benchmarks/geotag.py

The index has the town by day. Asked are its night photos without a position, and as many photos of
another town by night and by day, which are not in the map. They are one walk, a photo each 30
seconds. It runs for a few minutes.

Writes results/geotag.csv, the table in docs/GEOTAG.md and the picture docs/geotag.jpg.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec import PlaceRecognizer, build_index
from placerec.demo import demo_pose, position_of, render, write_demo_photos
from placerec.geotag import GeoTag
from placerec.geotag.locate import LOCATED, OUTSIDE, REVIEW, decide, look_at
from placerec.method.travel import Travel
from placerec.photos.sphere import distance
from placerec.records import Position

RESULTS, PAGE = ROOT / "results" / "geotag.csv", ROOT / "docs" / "GEOTAG.md"
PICTURE = ROOT / "docs" / "geotag.jpg"
COLUMNS = ("photos", "times", "asked", "located", "within_25_m", "median_metres", "largest_metres",
           "review", "outside")  # fmt: skip
PLACES, TOWN, OTHER_TOWN, STEP = 60, 0, 7, timedelta(seconds=30)
WALK = {  # the kinds of photos that are asked: the town, and whether by night
    "the town by night": (TOWN, True),
    "another town by night": (OTHER_TOWN, True),
    "another town by day": (OTHER_TOWN, False),
}
THUMBNAIL = 280, 210
GREEN, ORANGE, RED = "#16803c", "#d97706", "#c02626"


def draw_photos(folder: Path) -> dict[Path, Position | None]:
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
            exif = Image.Exif()
            exif[ExifTags.IFD.Exif] = {ExifTags.Base.DateTimeOriginal: f"{taken:%Y:%m:%d %H:%M:%S}"}
            Image.fromarray(render(town, pose, night)).save(path, quality=90, exif=exif)
            truth[path] = position_of(pose) if town == TOWN else None
    return truth


def row(
    photos: str, times: str, tags: Sequence[GeoTag], truth: dict[Path, Position | None]
) -> dict[str, object]:
    """Return the counts of one kind of photo."""
    located = [tag for tag in tags if tag.status == LOCATED and tag.position]
    errors = [distance(tag.position, at) for tag in located if (at := truth[tag.photo])]
    return {
        "photos": photos, "times": times, "asked": len(tags), "located": len(located),
        "within_25_m": sum(error <= 25 for error in errors),
        "median_metres": f"{np.median(errors):.1f}" if errors else "",
        "largest_metres": f"{max(errors):.1f}" if errors else "",
        "review": sum(tag.status == REVIEW for tag in tags),
        "outside": sum(tag.status == OUTSIDE for tag in tags),
    }  # fmt: skip


def draw_examples(folder: Path, by_look: Sequence[GeoTag], tags: Sequence[GeoTag]) -> None:
    """Draw the first photo of each outcome above the indexed photo of its best position."""
    pairs = [pair for pair in zip(by_look, tags, strict=True) if pair[1].place]
    night, _, day = WALK
    cases = [
        ("sure by its look", GREEN, night, (LOCATED, LOCATED)),
        ("sure with its time", GREEN, night, (REVIEW, LOCATED)),
        ("another town: for review", ORANGE, day, (REVIEW, REVIEW)),
        ("another town: wrong", RED, day, (LOCATED, LOCATED)),
    ]
    width, height = THUMBNAIL
    picture = Image.new("RGB", (len(cases) * (width + 8), 2 * height + 44), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    for column, (text, colour, kind, statuses) in enumerate(cases):
        x = column * (width + 8)
        for first, last in pairs:
            if (first.status, last.status) == statuses and last.photo.parent.name == kind:
                break
        else:
            continue
        for row, path in enumerate((last.photo, folder / last.place)):
            picture.paste(Image.open(path).resize(THUMBNAIL), (x, row * (height + 2)))
        chances = " to ".join(f"{tag.confidence or 0:.2f}" for tag in (first, last))
        draw.rectangle((x, 0, x + width - 1, 2 * height + 1), outline=colour, width=4)
        draw.text((x + 4, 2 * height + 12), f"{text}: {chances}", colour, font)
    picture.save(PICTURE, quality=80)


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table of docs/GEOTAG.md."""
    head = ("photos", "capture times", "asked", "located", "within 25 m", "median, metres",
            "largest, metres", "for review", "not in the map")  # fmt: skip
    return page_table(head, ([row[name] or "-" for name in COLUMNS] for row in rows))


def main() -> None:
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_demo_photos(folder / "town", PLACES, TOWN)
        build_index(folder / "town.placerec", folder / "town" / "database")
        truth = draw_photos(folder / "walk")
        with PlaceRecognizer.open(folder / "town.placerec") as recognizer:
            looks = [look_at(recognizer, photo) for photo in truth]
            travel = Travel.over([e.position for e in recognizer.index.entries if e.position])
        without = decide([replace(look, taken=None) for look in looks], travel)
        tags = decide(looks, travel)
        for times, decided in (("no", without), ("yes", tags)):
            for kind in WALK:
                asked = [tag for tag in decided if tag.photo.parent.name == kind]
                rows.append(row(kind, times, asked, truth))
            rows.append(row("all of them", times, decided, truth))
        draw_examples(folder / "town" / "database", without, tags)
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, rows)
    write_page(PAGE, "geotag", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
