"""Measure the confidence of answers: calibration, foreign photos, metres; fit its numbers.

    python benchmarks/confidence.py DATA_FOLDER --fit
    python benchmarks/confidence.py DATA_FOLDER

With ``--fit`` the script fits the numbers of ``placerec.method.confidence`` and writes
results/confidence_weights.csv. It uses five maps with their own queries: labelled streets of
gsv_cambridge_train (every second panorama of the first 300 is the map, the others are the queries),
the drawn town, and the validation halves (docs/splits) of the three sets. Queries that are not in
a map are those of the other four. Those in the map have twice the weight of those that are not. A
query counts as in the map if one of its candidates is right. The evidence, the penalty and this
weight were chosen by leaving out one map at a time. The shares ``radius_68`` and ``radius_95`` are
those of the errors of queries to the errors of photos left out, the larger of the two maps that
have positions; run the fit twice if the other numbers changed, because the radii depend on them.

Without it the script measures the default method: the test halves (docs/splits) against their own
index, and each of them against the index of every other set. There are three hard cases: photos of
other streets of the same city, another drawn town against a drawn town, and floors that look alike.
It writes results/confidence.csv and results/reliability.csv, and the tables in
docs/MEASUREMENTS.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.optimize import minimize, minimize_scalar
from table import ROOT, append_rows, page_table, write_page

from placerec import PlaceRecognizer, build_index
from placerec.demo import write_demo_photos
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.query_lists import select_queries
from placerec.evaluation.scoring.confidence import auc, bins, calibration_error
from placerec.index.calibrate import Places
from placerec.method.confidence import FALSE_ALARMS, NEARER, Weights, map_odds, no_other
from placerec.photos.find import evenly_spread, find_photos
from placerec.photos.position import read_positions
from placerec.photos.sphere import distance
from placerec.records import Array, Position

RESULTS, PAGE = ROOT / "results", ROOT / "docs" / "MEASUREMENTS.md"
SETS = ("gsv_cambridge_test", "corridor", "amos_day_night")
STREETS, TOWN, SAME_CITY = "gsv_cambridge_train", "drawn town", "other streets of the city"
OTHER_TOWN, FLOORS = "another drawn town", "floors that look alike"
MOST_QUERIES, MOST_FOREIGN = 124, 60
RIGHT = 25.0  # metres
TOWN_PLACES, TOWN_SEED = 80, 3
FOREIGN_WEIGHT = 0.5
PENALTY = 0.0001
BOUNDS = [(0, None), (0, None), (None, None)]
STARTS = [(4.0, 2.0, 5.0), (9.0, 0.0, 11.0)]
FLOOR_COUNT, VIEWS, SIGN, COVER = 12, 8, 45, 90
CURVE = ("map", "from", "share", "mean_confidence", "right")
COLUMNS = (
    "map", "queries", "photos", "recall@1", "mean_confidence", "calibration_error",
    "auc_right_wrong", "in_map", "right_refused", "median_metres", "within_68", "within_95",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One query: the evidence (2,) of its first place, and whether that is right.

    ``shown`` says that one of its candidates is right.
    """

    evidence: Array
    right: bool
    shown: bool
    confidence: float
    in_map: bool
    metres: float
    radii: tuple[float, float]


@dataclass(frozen=True)
class Queries:
    """Photos, when a place is right, and where they were taken; foreign photos have no answer."""

    paths: Sequence[Path]
    is_right: Callable[[Path, str], bool] = lambda *_: False
    positions: Callable[[Path], Position | None] = lambda _: None


def half_of(folder: Path, half: str, most: int) -> Queries:
    """The queries of one half of a set, at most ``most``, evenly spread."""
    table = ROOT / "docs" / "splits" / f"{folder.name}.csv"
    search = select_queries(open_dataset(folder), table, half).searches[0]
    database, names = search.database.names, search.queries.names
    right = {
        path: {f"database/{database[row]}" for row in rows}
        for path, rows in zip(search.queries.paths, search.positives, strict=True)
    }
    positions = positions_in(folder)
    chosen = [search.queries.paths[n] for n in evenly_spread(len(names), most)]
    return Queries(chosen, lambda path, name: name in right[path], positions)


def positions_in(folder: Path) -> Callable[[Path], Position | None]:
    """The positions of the photos of a set, if it has any."""
    table = folder / "coordinates.csv"
    if not table.exists():
        return lambda _: None
    positions = read_positions(table)
    return lambda path: positions.of(path.relative_to(folder).as_posix(), None)


def index_of(folder: Path, names: list[str], index: Path) -> Path:
    """Build an index of photos of a set with their positions, if it has any."""
    table = folder / "coordinates.csv"
    build_index(index, folder, names=names, positions=table if table.exists() else None)
    return index


def database_of(folder: Path) -> list[str]:
    """The names of the database photos of a set."""
    return [f"database/{name}" for name in find_photos(folder / "database")]


def ask(index: Path, queries: Queries) -> list[Asked]:
    """Ask an index all queries."""
    asked = []
    with PlaceRecognizer.open(index) as recognizer:
        entries = recognizer.index.entries
        rows = {entry.name: row for row, entry in enumerate(entries)}
        places = Places(entries)
        for path in queries.paths:
            answer = recognizer.query(path, top=recognizer.settings.candidates)
            listed = [rows[place.path] for place in answer.places]
            scores = np.array([place.score for place in answer.places])
            values = places.evidence(listed, scores)
            right = [queries.is_right(path, place.path) for place in answer.places]
            truth, where = queries.positions(path), answer.where
            metres = distance(truth, where.position) if truth and where else np.nan
            radii = (where.radius_68, where.radius_95) if where else (np.nan, np.nan)
            asked.append(
                Asked(values[0], right[0], any(right), answer.best.confidence or 0.0,
                      bool(answer.in_map), metres, radii)
            )  # fmt: skip
    return asked


def row_of(index: str, queries: str, asked: list[Asked]) -> dict[str, object]:
    """One row of results/confidence.csv."""
    confidence = np.array([one.confidence for one in asked])
    right = np.array([one.right for one in asked])
    metres = np.array([one.metres for one in asked])
    radii = np.array([one.radii for one in asked])
    refused = np.array([not one.in_map for one in asked])
    foreign, located = not right.any(), np.isfinite(metres).all()
    values = {
        "map": index, "queries": queries, "photos": len(asked),
        "mean_confidence": confidence.mean(), "in_map": (~refused).mean(),
    }  # fmt: skip
    if not foreign:
        values |= {
            "recall@1": right.mean(), "calibration_error": calibration_error(confidence, right),
            "auc_right_wrong": auc(confidence, right), "right_refused": refused[right].mean(),
        }  # fmt: skip
    if located and not foreign:
        values |= {
            "median_metres": np.median(metres), "within_68": (metres <= radii[:, 0]).mean(),
            "within_95": (metres <= radii[:, 1]).mean(),
        }  # fmt: skip
    return {name: round(float(v), 4) if isinstance(v, float) else v for name, v in values.items()}


def streets_and_town(data: Path, folder: Path) -> dict[str, tuple[Path, Queries]]:
    """The two maps of the fit with their queries, by name."""
    streets = data / STREETS
    photos = find_photos(streets / "photos")
    panoramas = sorted({name[:5] for name in photos})[:300]
    inside = [f"photos/{name}" for name in photos if name[:5] in panoramas[::2]]
    outside = [name for name in photos if name[:5] in panoramas[1::2]]
    index = index_of(streets, inside, folder / "streets.placerec")
    positions = positions_in(streets)

    def near(path: Path, name: str) -> bool:
        one, two = positions(path), positions(streets / name)
        return bool(one and two and distance(one, two) <= RIGHT)

    asked = [streets / "photos" / outside[n] for n in evenly_spread(len(outside), 100)]
    write_demo_photos(folder / "town", TOWN_PLACES, TOWN_SEED)
    town = index_of(folder / "town", database_of(folder / "town"), folder / "town.placerec")
    nights = sorted((folder / "town" / "queries").glob("*.jpg"))
    return {
        STREETS: (index, Queries(asked, near, positions)),
        TOWN: (town, Queries(nights, lambda path, name: path.name[-7:] == name[-7:])),
    }


def fit(data: Path, folder: Path) -> None:
    """Fit the numbers of ``placerec.method.confidence`` by maximum likelihood, and write them."""
    maps = streets_and_town(data, folder)
    for name in SETS:
        index = index_of(data / name, database_of(data / name), folder / f"{name}.placerec")
        maps[name] = index, half_of(data / name, "validation", MOST_QUERIES)
    few = {
        name: [queries.paths[n] for n in evenly_spread(len(queries.paths), MOST_FOREIGN)]
        for name, (_, queries) in maps.items()
    }
    values, inside, weights, foreign_values, nearer = [], [], [], [], []
    margins, first, share = [], [], []
    for name, (index, queries) in maps.items():
        foreign = Queries([path for key, paths in few.items() if key != name for path in paths])
        own, others = ask(index, queries), ask(index, foreign)
        for group, weight in ((own, 1.0), (others, FOREIGN_WEIGHT)):
            values += [one.evidence for one in group]
            inside += [one.shown for one in group]
            weights += [weight / len(group)] * len(group)
        shown = [one for one in own if one.shown]
        margins += [one.evidence[1] for one in shown]
        first += [one.right for one in shown]
        share += [1 / len(shown)] * len(shown)
        foreign_values.append([one.evidence for one in others])
        if np.isfinite([one.metres for one in own]).all():
            nearer.append(errors_in_radii(own))
        print(name, flush=True)
    trials = np.array(values), np.array(inside), np.array(weights) / sum(weights)
    found = min(
        (minimize(map_loss, start, trials, method="L-BFGS-B", bounds=BOUNDS) for start in STARTS),
        key=lambda result: result.fun,
    )
    of_margins = np.array(margins), np.array(first), np.array(share) / sum(share)
    slope = minimize_scalar(margin_loss, args=of_margins, bounds=(0.5, 50.0), method="bounded").x
    fitted = Weights(*(round(float(value), 3) for value in (*found.x, slope)))
    odds = [map_odds(np.array(rows), fitted) for rows in foreign_values]
    row = asdict(fitted) | {
        f"exceeded_by_{share}": round(max(float(np.quantile(o, 1 - share)) for o in odds), 3)
        for share in FALSE_ALARMS
    }
    row |= dict(zip(("radius_68", "radius_95"), np.max(nearer, axis=0).round(2), strict=True))
    path = RESULTS / "confidence_weights.csv"
    path.unlink(missing_ok=True)
    append_rows(path, tuple(row), [row])
    print(path, row)


def errors_in_radii(asked: list[Asked]) -> tuple[float, float]:
    """The 68 % and 95 % quantiles of errors over the radii of photos left out."""
    metres = np.array([one.metres for one in asked])
    left_out = np.array([one.radii for one in asked]) / NEARER
    shares = metres[:, None] / left_out
    return float(np.quantile(shares[:, 0], 0.68)), float(np.quantile(shares[:, 1], 0.95))


def map_loss(numbers: Array, values: Array, inside: Array, weights: Array) -> float:
    """The loss of "in the map", with a small penalty on large slopes."""
    odds = map_odds(values, Weights(*numbers, 0.0))
    score, distinct, _ = numbers
    penalty = PENALTY * ((score / 2) ** 2 + (distinct / 2) ** 2)
    return float(penalty + weights @ np.logaddexp(0.0, np.where(inside, -odds, odds)))


def margin_loss(slope: float, margins: Array, first: Array, weights: Array) -> float:
    """The loss of "this place and no other", for queries that show a place of the map."""
    probability = no_other(margins, slope).clip(1e-6, 1 - 1e-6)
    return float(-weights @ np.log(np.where(first, probability, 1 - probability)))


def measure(data: Path, folder: Path) -> None:
    """Ask every index its own queries and those of the others; write the files and the page."""
    rows, curve = [], []
    for name in SETS:
        index = index_of(data / name, database_of(data / name), folder / f"{name}.placerec")
        most = dict.fromkeys(SETS, MOST_FOREIGN) | {name: MOST_QUERIES}
        groups = {other: half_of(data / other, "test", most[other]) for other in SETS}
        if name == SETS[0]:
            groups[SAME_CITY] = other_streets(data)
        own = []
        for queries, group in groups.items():
            asked = ask(index, group if queries == name else Queries(group.paths))
            rows.append(row_of(name, queries, asked))
            print(rows[-1], flush=True)
            if queries in SETS:
                own += asked
            if queries == name:
                confidence = np.array([one.confidence for one in asked])
                right = np.array([one.right for one in asked])
                for row in bins(confidence, right):
                    curve.append(dict(zip(CURVE, (name, *np.round(row, 4).tolist()), strict=True)))
        rows.append(row_of(name, "all of the above sets", own))
    for name, queries, index, group in look_alikes(data, folder):
        rows.append(row_of(name, queries, ask(index, group)))
        print(rows[-1], flush=True)
    for file, columns, lines in (("confidence", COLUMNS, rows), ("reliability", CURVE, curve)):
        path = RESULTS / f"{file}.csv"
        path.unlink(missing_ok=True)
        append_rows(path, columns, lines)
        cells = [[str(line.get(column, "")) for column in columns] for line in lines]
        write_page(PAGE, file, page_table([column.replace("_", " ") for column in columns], cells))


def other_streets(data: Path) -> Queries:
    """Photos of the same city that the package does not ship as photos from elsewhere."""
    folder = data / STREETS / "photos"
    names = find_photos(folder)
    shipped = {names[number] for number in evenly_spread(len(names), 40)}
    rest = [name for name in names if name not in shipped]
    return Queries([folder / rest[n] for n in evenly_spread(len(rest), MOST_QUERIES)])


def look_alikes(data: Path, folder: Path) -> Iterator[tuple[str, str, Path, Queries]]:
    """Maps with places that look alike, and their queries."""
    _, (index, nights) = streets_and_town(data, folder).values()
    yield TOWN, TOWN, index, nights
    write_demo_photos(folder / "other", TOWN_PLACES, TOWN_SEED + 1)
    yield TOWN, OTHER_TOWN, index, Queries(sorted((folder / "other" / "queries").glob("*.jpg")))
    database, queries = write_floors(folder / "town" / "database", folder / "floors")
    index = folder / "floors.placerec"
    build_index(index, database)
    yield FLOORS, FLOORS, index, Queries(queries, lambda path, name: path.name == name)


def write_floors(photos: Path, folder: Path) -> tuple[Path, list[Path]]:
    """Write floors that look alike: the same drawn views, each with one small sign of its own.

    A query is darker, moved a little to the side, and partly covered.
    """
    random = np.random.default_rng(5)
    names = find_photos(photos)
    views = [names[n] for n in evenly_spread(len(names) // 4, VIEWS)]
    signs = names[len(names) // 2 :]

    def cover(image: Image.Image, size: int) -> None:
        sign = Image.open(photos / signs[random.integers(len(signs))]).resize((size, size))
        image.paste(sign, tuple(random.integers(0, (640 - size, 480 - size)).tolist()))

    database, queries = folder / "database", folder / "queries"
    for path in (database, queries):
        path.mkdir(parents=True)
    for floor in range(FLOOR_COUNT):
        for number, view in enumerate(views):
            image = Image.open(photos / view).convert("RGB").resize((640, 480))
            cover(image, SIGN)
            name = f"floor{floor:02}_{number}.jpg"
            image.save(database / name, quality=90)
            for _ in range(3):
                cover(image, COVER)
            left = int(random.integers(0, 40))
            moved = image.crop((left, 10, left + 600, 460)).resize((640, 480))
            moved.point(lambda value: int(value * 0.7)).save(queries / name, quality=90)
    return database, sorted(queries.glob("*.jpg"))


def main() -> None:
    data = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        (fit if "--fit" in sys.argv else measure)(data, Path(folder))


if __name__ == "__main__":
    main()
