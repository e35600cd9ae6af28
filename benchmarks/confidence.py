"""Measure the confidence of answers: calibration, foreign photos, metres; fit its numbers.

    python benchmarks/confidence.py DATA_FOLDER --fit
    python benchmarks/confidence.py DATA_FOLDER

With ``--fit`` the script fits the numbers of ``placerec.method.confidence.WEIGHTS`` and writes
results/confidence_weights.csv. It uses labelled streets of gsv_cambridge_train (every second
panorama of the first 300 is the map, the others are the queries) and the drawn town; queries that
are not in the map are those of the other of the two, and the validation halves of corridor and
amos_day_night. Two queries in the map count as much as one that is not. The penalty
was chosen on the validation halves.

Without it the script measures the default method: the test halves (docs/splits) against their own
index, and each of them against the index of every other set; and, as the hard case, photos of other
streets of the same city. It writes results/confidence.csv and results/reliability.csv, and the
tables in docs/MEASUREMENTS.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from table import ROOT, append_rows, page_table, write_page

from placerec import PlaceRecognizer, build_index
from placerec.demo import write_demo_photos
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.query_lists import select_queries
from placerec.evaluation.scoring.confidence import auc, bins, calibration_error
from placerec.index.calibrate import Places
from placerec.method.confidence import FALSE_ALARMS, Calibration, Weights, map_odds
from placerec.photos.find import evenly_spread, find_photos
from placerec.photos.position import read_positions
from placerec.photos.sphere import distance
from placerec.records import Array, Position

RESULTS, PAGE = ROOT / "results", ROOT / "docs" / "MEASUREMENTS.md"
SETS = ("gsv_cambridge_test", "corridor", "amos_day_night")
STREETS, TOWN, SAME_CITY = "gsv_cambridge_train", "drawn town", "other streets of the city"
MOST_QUERIES, MOST_FOREIGN = 124, 60
RIGHT = 25.0  # metres
TOWN_PLACES, TOWN_SEED = 80, 3
FOREIGN_WEIGHT = 0.5
BOUNDS = [(0, None), (0, None), (None, None), (0, None), (None, None)]
STARTS = [(2.0, 10.0, 5.0, 2.0, 0.0), (1.0, 5.0, 3.0, 5.0, -1.0), (4.5, 17.5, 11.0, 3.0, 1.0)]
CURVE = ("map", "from", "share", "mean_confidence", "right")
COLUMNS = (
    "map", "queries", "photos", "recall@1", "mean_confidence", "calibration_error",
    "auc_right_wrong", "in_map", "right_refused", "median_metres", "within_68", "within_95",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One query: the evidence (k, 3) of the first place and its best rival, and which are right."""

    evidence: Array
    right: tuple[bool, ...]
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
            values = places.evidence(
                listed,
                np.array([place.score for place in answer.places]),
                np.array([place.global_score for place in answer.places]),
            )
            rivals = [n for n, row in enumerate(listed) if places.elsewhere(listed[0], row)]
            used = [0, *rivals[:1]]
            right = tuple(queries.is_right(path, answer.places[n].path) for n in used)
            truth, where = queries.positions(path), answer.where
            metres = distance(truth, where.position) if truth and where else np.nan
            radii = (where.radius_68, where.radius_95) if where else (np.nan, np.nan)
            asked.append(
                Asked(values[used], right, answer.best.confidence or 0.0, bool(answer.in_map),
                      metres, radii)
            )  # fmt: skip
    return asked


def row_of(index: str, queries: str, asked: list[Asked]) -> dict[str, object]:
    """One row of results/confidence.csv."""
    confidence = np.array([one.confidence for one in asked])
    right = np.array([one.right[0] for one in asked])
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
    """Fit the numbers of ``WEIGHTS`` by maximum likelihood, and write them."""
    maps = streets_and_town(data, folder)
    halves = [half_of(data / name, "validation", MOST_FOREIGN) for name in SETS[1:]]
    values, right, weights, foreign_values = [], [], [], []
    for name, (index, queries) in maps.items():
        others = [other.paths for key, (_, other) in maps.items() if key != name]
        foreign = Queries(
            [path for paths in (*others, *(h.paths for h in halves)) for path in paths]
        )
        for group, weight in ((queries, 1.0), (foreign, FOREIGN_WEIGHT)):
            asked = ask(index, group)
            if group is foreign:
                foreign_values.append([one.evidence[0] for one in asked])
            rows = [
                (row, is_right)
                for one in asked
                for row, is_right in zip(one.evidence, one.right, strict=True)
            ]
            values += [row for row, _ in rows]
            right += [is_right for _, is_right in rows]
            weights += [weight / len(rows)] * len(rows)
    trials = np.array(values), np.array(right), np.array(weights) / sum(weights)
    found = min(
        (minimize(loss, start, trials, method="L-BFGS-B", bounds=BOUNDS) for start in STARTS),
        key=lambda result: result.fun,
    )
    fitted = Weights(*(round(value, 3) for value in found.x.tolist()))
    odds = [map_odds(np.array(rows), fitted) for rows in foreign_values]
    row = asdict(fitted) | {
        f"exceeded_by_{share}": round(max(float(np.quantile(o, 1 - share)) for o in odds), 3)
        for share in FALSE_ALARMS
    }
    path = RESULTS / "confidence_weights.csv"
    path.unlink(missing_ok=True)
    append_rows(path, tuple(row), [row])
    print(path, row)


def loss(numbers: Array, values: Array, right: Array, weights: Array) -> float:
    """The weighted negative log likelihood, with a small penalty on large slopes."""
    confidence = Calibration(weights=Weights(*numbers)).confidence(values).clip(1e-6, 1 - 1e-6)
    likelihood = weights @ np.log(np.where(right, confidence, 1 - confidence))
    return float(0.0005 * (numbers[0] ** 2 + (numbers[1] / 4) ** 2 + numbers[3] ** 2) - likelihood)


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
                right = np.array([one.right[0] for one in asked])
                for row in bins(confidence, right):
                    curve.append(dict(zip(CURVE, (name, *np.round(row, 4).tolist()), strict=True)))
        rows.append(row_of(name, "all of the above sets", own))
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


def main() -> None:
    data = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        (fit if "--fit" in sys.argv else measure)(data, Path(folder))


if __name__ == "__main__":
    main()
