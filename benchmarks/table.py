"""Measure global descriptors, scorers and K_patch on the real sets.

    python benchmarks/table.py DATA_FOLDER TRUNK.onnx

For each set: the published NetVLAD raw and whitened, our global descriptor, and, on our shortlist
of 100 candidates, the scorers with K_patch 1 (the default's patches) and 64 (the published patches:
sizes 2, 5 and 8, PCA to 128). Models are fitted on the database photos alone. RANSAC is slow, so it
runs on a seeded list of 100 queries; the other scorers run on all queries and on that list. The
scores are those of the patches alone, without the global cosine.

The script writes results/table.csv set by set, and then the table in docs/MEASUREMENTS.md. It skips
a set whose rows exist; delete the file to start again. Milliseconds are per query on 2 threads:
trunk, descriptors, search, matching and scoring of the candidates, without reading the file. They
vary with the load of the machine, so compare rows of one run. Bytes are those of int8 descriptors.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from placerec.evaluation.dataset import Search
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.scoring.metrics import recalls
from placerec.index.codec import decode_patches, encode_patches, encode_vector
from placerec.method.ranking import best_first, shortlist
from placerec.method.scores import match_candidates, score_matches
from placerec.models.fit import FeatureMaps, fit_model
from placerec.models.model import Model
from placerec.photos.decode import decode
from placerec.photos.prepare import prepare
from placerec.records import Array, Features, PatchSet
from placerec.runtime import Runtime
from placerec.settings import METHODS, NETVLAD, Settings
from placerec.trunks import Trunk, open_trunk
from placerec.trunks.external import OnnxTrunk
from placerec.workers import map_in_order, single_threaded_blas

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "results" / "table.csv"
PAGE = ROOT / "docs" / "MEASUREMENTS.md"
THREADS, CANDIDATES = 2, 100
LIST_SIZE, LIST_SEED = 100, 0
SETS = {
    "gsv_cambridge_test": {"25 m": "ground_truth.csv", "strict": "ground_truth_strict.csv"},
    "corridor": {"": "ground_truth.csv"},
    "amos_day_night": {"": "ground_truth.csv"},
}
DEFAULT = METHODS["default"]
GLOBALS: dict[str, Settings] = {
    "NetVLAD": NETVLAD.replace(global_dim=0),
    "NetVLAD, whitened": NETVLAD,
    "ours": DEFAULT,
}
PATCHES: dict[int, Settings] = {
    1: DEFAULT,
    64: METHODS["patch-netvlad"].replace(fusion="raw"),
}
GLOBAL_SETTINGS = ("pooling", "image_centring", "local_dim", "local_whitening", "clusters", "bands",
                   "global_dim", "whitening")  # fmt: skip
SCORERS = ("spatial", "ransac", "displacement")
COLUMNS = ("set", "queries", "descriptor", "k_patch", "scorer", "recall@1", "recall@5",
           "recall@10", "ms_per_query", "bytes_per_photo", "model")  # fmt: skip


@dataclass(frozen=True)
class Set:
    """One set with its feature maps, in the order of its names."""

    folder: Path
    data: Search
    database: FeatureMaps
    queries: FeatureMaps


@dataclass(frozen=True)
class Asked:
    """What one query needs before its patches are compared: its shortlist and features."""

    name: str
    rows: Array
    features: Array
    milliseconds: float


def read_set(
    folder: Path, change: Callable[[Array], Array] = lambda pixels: pixels,
    trunk: Trunk | None = None,
) -> Set:  # fmt: skip
    """The set in ``folder`` by ``trunk`` (the shipped one), each photo changed by ``change``."""
    trunk = trunk or open_trunk("efficientnet-lite0")
    data = open_dataset(folder).searches[0]
    preprocessing = trunk.preprocessing(DEFAULT.image_size)

    def feature_map(path: Path) -> Array:
        pixels = decode(path, shrink_to=preprocessing.shrink_to).pixels
        image = prepare(change(pixels), preprocessing)
        return np.ascontiguousarray(trunk(image).transpose(1, 2, 0))

    both = []
    for photos in (data.database, data.queries):
        both.append(FeatureMaps())
        for one in map_in_order(feature_map, photos.paths, THREADS):
            both[-1].append(one)
    return Set(folder, data, *both)


def trunk_milliseconds(path: Path) -> float:
    """Mean time of the trunk on one photo of noise, with all threads."""
    trunk = OnnxTrunk.from_file(path, Runtime(threads=THREADS))
    image = np.zeros((1, 3, 480, 640), np.float32)
    trunk(image)
    start = time.perf_counter()
    for _ in range(20):
        trunk(image)
    return (time.perf_counter() - start) / 20 * 1000


def ask(one: Set, model: Model, database: Array) -> Iterator[Asked]:
    for name, maps in zip(one.data.queries.names, one.queries, strict=True):
        start = time.perf_counter()
        features = np.asarray(maps)
        descriptor = model.describe_map(features).global_descriptor
        rows, _ = shortlist(descriptor, database, CANDIDATES)
        yield Asked(name, rows, features, 1000 * (time.perf_counter() - start))


def compare(
    one: Set, model: Model, asked: Sequence[Asked], scorers: Sequence[str], listed: set[str]
) -> dict[str, tuple[dict[str, list[str]], float]]:
    """Rankings and mean milliseconds a query of each scorer; ransac only on the list."""
    sets = [stored(model.describe_map(np.asarray(m))) for m in one.database]
    ranked: dict[str, dict[str, list[str]]] = {scorer: {} for scorer in scorers}
    spent = dict.fromkeys(scorers, 0.0)
    for query in asked:
        start = time.perf_counter()
        patches = model.describe_map(query.features, stride=1).patches
        matched = match_candidates(patches, [sets[row] for row in query.rows], THREADS)
        matching = time.perf_counter() - start
        for scorer in scorers:
            if scorer == "ransac" and query.name not in listed:
                continue
            start = time.perf_counter()
            scores, _ = score_matches(matched, model.settings.replace(scorer=scorer), THREADS)
            order = best_first(scores)
            ranked[scorer][query.name] = [one.data.database.names[query.rows[i]] for i in order]
            spent[scorer] += matching + time.perf_counter() - start
    return {s: (ranked[s], 1000 * spent[s] / len(ranked[s])) for s in scorers}


def stored(features: Features) -> tuple[PatchSet, ...]:
    """Patches as an index gives them back: int8 codes, unit rows."""
    key, path = b"", Path("table")
    return tuple(decode_patches(encode_patches(p, key), key, path) for p in features.patches)


def bytes_per_photo(features: Features) -> int:
    return len(encode_vector(features.global_descriptor, b"")) + sum(
        len(encode_patches(p, b"")) for p in features.patches
    )


def rows_of(folder: Path, path: Path) -> Iterator[dict[str, object]]:
    """The rows of one set with the trunk in the file ``path``, computed one after the other."""
    network = OnnxTrunk.from_file(path)
    one = read_set(folder, trunk=network)
    queries = one.data.queries.names
    listed = set(np.random.default_rng(LIST_SEED).permutation(queries)[:LIST_SIZE])
    trunk = trunk_milliseconds(path)

    def rows(ranked: dict[str, list[str]], **values: object) -> Iterator[dict[str, object]]:
        for rule, truth in SETS[folder.name].items():
            positives = open_dataset(folder, ground_truth=folder / truth).searches[0].answers
            label = ", ".join(filter(None, (folder.name, rule)))
            yield {"set": label, "queries": len(ranked), **recalls(ranked, positives), **values}

    def fit(settings: Settings) -> Model:
        return fit_model(network, settings, one.database,
                         name=folder.name, training_data=f"{folder.name}/database")  # fmt: skip

    asked: list[Asked] = []
    for name, settings in GLOBALS.items():
        model = fit(settings.replace(patch_sizes=()))
        described = [model.describe_map(np.asarray(m)) for m in one.database]
        database = np.stack([features.global_descriptor for features in described])
        asked = list(ask(one, model, database))
        yield from rows(
            {q.name: [one.data.database.names[i] for i in q.rows] for q in asked},
            descriptor=name, k_patch="", scorer="", bytes_per_photo=bytes_per_photo(described[0]),
            ms_per_query=trunk + np.mean([q.milliseconds for q in asked]),
            model=model.fingerprint[:12],
        )  # fmt: skip
    retrieval = trunk + float(np.mean([q.milliseconds for q in asked]))
    for k_patch, settings in PATCHES.items():
        model = fit(settings.replace(
            **{name: getattr(DEFAULT, name) for name in GLOBAL_SETTINGS}
        ))  # fmt: skip
        size = bytes_per_photo(model.describe_map(np.asarray(one.database[0])))
        found = compare(one, model, asked, SCORERS, listed)
        for scorer, (ranked, milliseconds) in found.items():
            some = {name: order for name, order in ranked.items() if name in listed}
            for part in ([ranked] if len(ranked) > len(some) else []) + [some]:
                yield from rows(part, descriptor="ours", k_patch=k_patch, scorer=scorer,
                          bytes_per_photo=size, ms_per_query=retrieval + milliseconds,
                          model=model.fingerprint[:12])  # fmt: skip


def markdown(rows: list[dict[str, str]]) -> str:
    """The table as it stands on the page."""
    head = ("set", "queries", "descriptor", "K_patch", "scorer", "R@1", "R@5", "R@10",
            "ms per query", "bytes per photo")  # fmt: skip
    lines = []
    for row in rows:
        cells = [row["set"], row["queries"], row["descriptor"], row["k_patch"], row["scorer"]]
        cells += [f"{float(row[f'recall@{n}']):.3f}" for n in (1, 5, 10)]
        cells += [f"{float(row['ms_per_query']):.0f}", row["bytes_per_photo"]]
        lines.append(cells)
    return page_table(head, lines)


def main() -> None:
    data, trunk = Path(sys.argv[1]), Path(sys.argv[2])
    TABLE.parent.mkdir(exist_ok=True)
    done = read_rows(TABLE)
    with single_threaded_blas():
        for name in SETS:
            if any(row["set"].startswith(name) for row in done):
                continue
            rows = sorted(rows_of(data / name, trunk), key=lambda row: str(row["set"]))
            append_rows(TABLE, COLUMNS, rows)
            print(name, "done", flush=True)
    write_page(PAGE, "table", markdown(read_rows(TABLE)))


def write_page(page: Path, name: str, table: str) -> None:
    """Put ``table`` between the marks ``<!-- NAME:start -->`` and ``<!-- NAME:end -->``."""
    text = page.read_text(encoding="utf-8")
    start, end = (text.index(f"<!-- {name}:{mark} -->") for mark in ("start", "end"))
    page.write_text(f"{text[:start]}<!-- {name}:start -->\n{table}\n{text[end:]}", encoding="utf-8")


def page_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def append_rows(path: Path, columns: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    """Add rows to a results file, which begins with its columns."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a results file; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
