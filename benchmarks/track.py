"""Measure a track against frame by frame: frames in order, and frames that jump.

    python benchmarks/track.py DATA_FOLDER

Frames in order are those of corridor, as they are, blurred, and half covered, and a night walk
through the drawn town; each is asked in order, every fifth frame, with photos from elsewhere in
between (one stretch, or one after every fourth frame), and shuffled. The photos from elsewhere are
streets of gsv_cambridge_train, and for the town another drawn town by night. The photos of
gsv_cambridge_test and amos_day_night are asked shuffled. No frame has a time.

A half of corridor is blocks of ten frames (docs/splits). The blocks follow each other in the order
of the walk, so the frames jump between them. The validation half, and another town, were for the
choices: the shares of the moves, and that they are learned. "given" are the same shares without
learning. The script runs for about ten minutes. It writes results/track.csv set by set, and the
table in docs/TRACK.md, which has the test halves. It skips a set whose rows exist; delete the file
to start again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from confidence import database_of, index_of
from PIL import Image, ImageDraw, ImageFilter
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec import PlaceRecognizer, follow
from placerec.demo import write_demo_photos
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.query_lists import select_queries
from placerec.method import track
from placerec.photos.find import evenly_spread, find_photos
from placerec.records import Answer

RESULTS, PAGE = ROOT / "results" / "track.csv", ROOT / "docs" / "TRACK.md"
COLUMNS = (
    "set", "half", "frames_are", "moves", "frames", "right_alone", "right_track", "better", "worse",
    "refused_alone", "off_track", "foreign", "foreign_alone", "foreign_track",
)  # fmt: skip
HALVES = {"validation": 5, "test": 0}  # and the seed of the drawn town
PLACES, OTHER_TOWN, FOREIGN = 80, 7, 30
SHUFFLES = 5
TOWN, SETS = "drawn town by night", ("corridor", "amos_day_night", "gsv_cambridge_test")


@dataclass(frozen=True)
class Asked:
    """A frame: its answer, and which photos are right; none for a frame from elsewhere."""

    answer: Answer
    right: frozenset[str]


def blurred(image: Image.Image) -> Image.Image:
    """The photo as a moving camera of poor quality takes it."""
    return image.filter(ImageFilter.GaussianBlur(image.width / 80))


def covered(image: Image.Image) -> Image.Image:
    """The photo with a person in front, who covers 44 % of it."""
    width, height = image.size
    ImageDraw.Draw(image).rectangle((0.28 * width, 0, 0.72 * width, height), "#3c3232")
    return image


LOOKS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "": lambda image: image, ", blurred": blurred, ", half covered": covered,
}  # fmt: skip


def ask(
    recognizer: PlaceRecognizer,
    right: dict[Path, frozenset[str]],
    change: Callable[[Image.Image], Image.Image],
) -> list[Asked]:
    """Ask the photos, changed by ``change``; keep what a track needs of the answers."""
    asked = []
    for path, names in right.items():
        with Image.open(path) as image:
            answer = recognizer.query(change(image.convert("RGB")), recognizer.settings.candidates)
        places = tuple(replace(place, matches=()) for place in answer.places)
        asked.append(Asked(replace(answer, query=str(path), places=places), names))
    return asked


def orders(frames: Sequence[Asked], foreign: Sequence[Asked]) -> Iterator[tuple[str, list[Asked]]]:
    """The frames in each order."""
    if foreign:
        half, fourths = len(frames) // 2, range(4, len(frames) + 1, 4)
        yield "in order", list(frames)
        yield "every fifth", list(frames[::5])
        yield "a stretch from elsewhere", [*frames[:half], *foreign, *frames[half:]]
        yield (
            "some from elsewhere",
            [
                one
                for n, end in enumerate(fourths)
                for one in (*frames[end - 4 : end], foreign[n % FOREIGN])
            ],
        )
    for seed in range(SHUFFLES):
        order = np.random.default_rng(seed).permutation(len(frames))
        yield "shuffled", [frames[n] for n in order]


def counted(recognizer: PlaceRecognizer, asked: Sequence[Asked]) -> dict[str, int]:
    """The counts of one track. A frame that is called off the map is not right, alone too."""
    points = follow(recognizer, [one.answer for one in asked])
    pairs = list(zip(asked, points, strict=True))
    own = [(one, point) for one, point in pairs if one.right]
    others = [(one, point) for one, point in pairs if not one.right]
    alone = [one.answer.in_map and one.answer.best.path in one.right for one, _ in own]
    followed = [bool(point.place) and point.place.path in one.right for one, point in own]
    return {
        "frames": len(own), "right_alone": sum(alone), "right_track": sum(followed),
        "better": sum(two > one for one, two in zip(alone, followed, strict=True)),
        "worse": sum(two < one for one, two in zip(alone, followed, strict=True)),
        "refused_alone": sum(not one.answer.in_map for one, _ in own),
        "off_track": sum(point.place is None for _, point in own),
        "foreign": len(others),
        "foreign_alone": sum(not one.answer.in_map for one, _ in others),
        "foreign_track": sum(point.place is None for _, point in others),
    }  # fmt: skip


def rows_of(
    recognizer: PlaceRecognizer, name: str, half: str, frames: Sequence[Asked],
    foreign: Sequence[Asked],
) -> list[dict[str, object]]:  # fmt: skip
    """The rows of a set: of each order, with the moves learned and as they are given."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    rounds = track.MOST_ROUNDS
    for order, asked in orders(frames, foreign):
        for moves in ("learned", "given"):
            track.MOST_ROUNDS = rounds if moves == "learned" else 1
            head = {"set": name, "half": half, "frames_are": order, "moves": moves}
            row = rows.setdefault((moves, order), {**head})
            for column, count in counted(recognizer, asked).items():
                row[column] = count + row.get(column, 0)
    track.MOST_ROUNDS = rounds
    return sorted(rows.values(), key=lambda row: row["moves"] == "given")


def town_rows(folder: Path, half: str) -> Iterator[dict[str, object]]:
    """The rows of a night walk through a drawn town."""
    town, other = folder / half, folder / "other"
    write_demo_photos(town, PLACES, HALVES[half])
    write_demo_photos(other, FOREIGN, OTHER_TOWN)
    with PlaceRecognizer.open(
        index_of(town, database_of(town), folder / f"{half}.placerec")
    ) as recognizer:
        nights = {
            path: frozenset({f"database/{path.name.replace('night', 'place')}"})
            for path in sorted((town / "queries").iterdir())
        }
        frames = ask(recognizer, nights, LOOKS[""])
        foreign = ask(
            recognizer, dict.fromkeys(sorted((other / "queries").iterdir()), frozenset()), LOOKS[""]
        )
        yield from rows_of(recognizer, TOWN, half, frames, foreign)


def set_rows(data: Path, name: str, index: Path) -> Iterator[dict[str, object]]:
    """The rows of a set, half by half."""
    table = ROOT / "docs" / "splits" / f"{name}.csv"
    streets = find_photos(data / "gsv_cambridge_train" / "photos")
    chosen = [streets[n] for n in evenly_spread(len(streets), FOREIGN)]
    elsewhere = {data / "gsv_cambridge_train" / "photos" / photo: frozenset() for photo in chosen}
    with PlaceRecognizer.open(index_of(data / name, database_of(data / name), index)) as recognizer:
        for half in HALVES:
            search = select_queries(open_dataset(data / name), table, half).searches[0]
            right = {
                path: frozenset(f"database/{search.database.names[row]}" for row in rows)
                for path, rows in zip(search.queries.paths, search.positives, strict=True)
            }
            for look, change in LOOKS.items() if name == "corridor" else [("", LOOKS[""])]:
                frames = ask(recognizer, right, change)
                foreign = ask(recognizer, elsewhere, change) if name == "corridor" else []
                yield from rows_of(recognizer, name + look, half, frames, foreign)


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """The table of docs/TRACK.md: the test halves."""
    head = ("set", "frames", "asked", "right alone", "right in the track", "better", "worse",
            "called off the map: alone", "in the track",
            "from elsewhere", "off the map: alone", "in the track")  # fmt: skip
    columns = ("set", "frames_are", *COLUMNS[4:])
    shown = [row for row in rows if (row["half"], row["moves"]) == ("test", "learned")]
    return page_table(head, ([row[column] for column in columns] for row in shown))


def main() -> None:
    data = Path(sys.argv[1])
    done = {row["set"] for row in read_rows(RESULTS)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if TOWN not in done:
            rows = [row for half in HALVES for row in town_rows(folder, half)]
            append_rows(RESULTS, COLUMNS, rows)
        for one in SETS:
            if one not in done:
                append_rows(RESULTS, COLUMNS, list(set_rows(data, one, folder / f"{one}.placerec")))
    write_page(PAGE, "track", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
