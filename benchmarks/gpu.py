"""Measure the path on a GPU: describing, matching and scoring, a whole query; at most 5 minutes.

    python benchmarks/gpu.py                  # on a GPU; writes results/gpu.json and docs/GPU.md
    python benchmarks/gpu.py --device cpu     # the same, small, to test the script; prints the JSON

Patches, photos and weights are seeded: the time does not depend on their training. Patches have the
grids of a photo of 480 x 640 and three sizes. Half of the candidates show the query, moved and with
noise. Every time is in milliseconds: the median and the interquartile range of runs after a
warm-up; the kinds of one dimension run in turn. The candidates are on the device before.

The limit of matching is what its products need at the rate of a large product on this device, or
what reading the descriptors once needs at the rate of a large copy, both measured in the same run;
the greater one counts. ``match`` takes the maxima in the product where the fused kernel runs
(``kernel``), ``unfused`` writes all similarities and reads them twice; ``similarities_ms`` is the
least time for that.

``difference`` compares with the NumPy code on the CPU for some candidates: scores over the largest
score, whether the order is equal, and inliers of RANSAC over OpenCV's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_page import RESULTS, write_tables
from PIL import Image

from placerec.demo import demo_pose, render
from placerec.engine.matching import PatchesThere, Shown, maxima, maxima_on
from placerec.engine.shortlist import Engine
from placerec.index.build import build_index
from placerec.method.pca import Projection
from placerec.method.scores import match_candidates, score_matches
from placerec.method.vlad import Vocabulary, normalise
from placerec.models.model import Fitted, Model
from placerec.models.model_file import save_model
from placerec.models.on_device import DeviceModel
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.records import Grid, PatchSet
from placerec.runtime import Runtime
from placerec.settings import METHODS
from placerec.trunks import feature_maps
from placerec.trunks.vgg16 import VGG16, state_sha256, state_shapes
from placerec.version import __version__

SIZES = ((2, 2), (5, 5), (8, 8))
SCORERS = ("spatial", "displacement", "ransac")
SETTINGS = METHODS["paper-performance"].replace(fusion="raw")
CLUSTERS, WARM_UP = 16, 3


@dataclass(frozen=True)
class Amounts:
    """How much is measured; ``cells`` is the feature map, ``side`` that of the large product."""

    cells: tuple[int, int]
    dimensions: tuple[int, ...]
    candidates: int
    compared: int
    photos: int
    batch: int
    runs: int
    side: int
    pca_dim: int


ON_A_GPU = Amounts((30, 40), (128, 512, 4096), 100, 10, 200, 20, 20, 8192, 512)
ON_A_CPU = Amounts((9, 10), (16,), 4, 3, 4, 2, 3, 128, 16)


def spread(values: list[float]) -> dict[str, float]:
    """Return the median and the interquartile range."""
    first, _, third = statistics.quantiles(values, n=4)
    return {"median": round(statistics.median(values), 4), "iqr": round(third - first, 4)}


def in_turn(
    works: Mapping[str, Callable[[], object]], wait: Callable[[], None], runs: int
) -> dict[str, dict[str, float]]:
    """Return the milliseconds of each work; all of them run once in each round."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for number in range(WARM_UP + runs):
        for name, work in works.items():
            wait()
            start = time.perf_counter()
            work()
            wait()
            if number >= WARM_UP:
                spent[name].append(1000 * (time.perf_counter() - start))
    return {name: spread(values) for name, values in spent.items()}


def rates(device: str, amounts: Amounts, wait: Callable[[], None]) -> dict[str, float]:
    """Return the operations a second of a large product, and the bytes a second of a large copy."""
    side, found = amounts.side, {}
    for precision in ("float32", "float16"):
        draw = torch.randn(side, side, device=device).to(getattr(torch, precision))
        work = in_turn({"product": lambda draw=draw: draw @ draw}, wait, 5)["product"]["median"]
        found[f"{precision}_operations"] = 2 * side**3 / work * 1000
    block = torch.empty(16 * side * side, dtype=torch.uint8, device=device)
    copy = in_turn({"copy": block.clone}, wait, 5)["copy"]["median"]
    found["bytes"] = 2 * len(block) / copy * 1000
    return found


def grids(cells: tuple[int, int]) -> list[Grid]:
    return [Grid(size, cells[0] - size[0] + 1, cells[1] - size[1] + 1, 1) for size in SIZES]


def patches_of(engine: Engine, amounts: Amounts, dimensions: int) -> list[tuple[PatchesThere, ...]]:
    """Return the query and its candidates: moved copies with noise, and noise alone, in turn."""
    generator = torch.Generator(engine.device).manual_seed(dimensions)
    photos: list[list[PatchesThere]] = [[] for _ in range(amounts.candidates + 1)]
    for grid in grids(amounts.cells):
        shape = (grid.rows, grid.columns, dimensions)
        first = torch.randn(shape, generator=generator, device=engine.device)
        for number, photo in enumerate(photos):
            rows = torch.randn(shape, generator=generator, device=engine.device)
            if number % 2:
                rows = first.roll((number % 5, number % 7), (0, 1)) + 0.5 * rows
            rows = torch.nn.functional.normalize((rows if number else first).flatten(0, 1), dim=1)
            photo.append(PatchesThere(grid, rows))
    return [tuple(photo) for photo in photos]


def on_host(photo: tuple[PatchesThere, ...]) -> tuple[PatchSet, ...]:
    return tuple(PatchSet(one.grid, one.descriptors.cpu().numpy()) for one in photo)


def matching(device: str, amounts: Amounts, dimensions: int, rate: dict[str, float]) -> list[Any]:
    """Return one row per precision and scorer."""
    wide = patches_of(Engine(device), amounts, dimensions)
    query = on_host(wide[0])
    pairs = sum(len(grid) ** 2 for grid in grids(amounts.cells)) * amounts.candidates
    patches = sum(map(len, grids(amounts.cells))) * amounts.candidates
    engines = {name: Engine(device, name) for name in ("float32", "float16")}
    there: dict[str, list[tuple[PatchesThere, ...]]] = {"float32": wide[1:]}
    there["float16"] = [
        tuple(PatchesThere(one.grid, one.descriptors.half()) for one in photo) for photo in wide[1:]
    ]
    works: dict[str, Callable[[], object]] = {}
    for precision, engine in engines.items():
        works[f"{precision} match"] = lambda e=engine, c=there[precision]: e.match(query, c)
        works[f"{precision} unfused"] = lambda e=engine, c=there[precision]: unfused(e, query, c)
        for scorer in SCORERS:
            settings = SETTINGS.replace(scorer=scorer)
            works[f"{precision} {scorer}"] = lambda e=engine, c=there[precision], s=settings: (
                e.score(query, c, s)
            )
    times = in_turn(works, engines["float32"].wait, amounts.runs)
    rows = []
    for name, spent in times.items():
        precision, scorer = name.split()
        width = 2 if precision == "float16" else 4
        row = {
            "dimensions": dimensions, "precision": precision, "scorer": scorer, "ms": spent,
            "kernel": maxima_on(engines[precision].device).__module__,
            "limit_ms": 1000 * max(
                2 * pairs * dimensions / rate[f"{precision}_operations"],
                width * patches * dimensions / rate["bytes"],
            ),
            "similarities_ms": 1000 * 3 * 4 * pairs / rate["bytes"],
        }  # fmt: skip
        if scorer in SCORERS:
            some = there[precision][: amounts.compared]
            row["difference"] = difference(engines[precision], query, wide[1:], some, scorer)
        rows.append(row)
    return rows


def unfused(engine: Engine, query: tuple[PatchSet, ...], candidates: list[Any]) -> None:
    """Find the maxima of all sizes in two steps: the similarities, then their maxima."""
    for asked, *shown in zip(engine.put(query), *candidates, strict=True):
        maxima(asked.descriptors, Shown.of(shown))


def difference(
    engine: Engine, query: tuple[PatchSet, ...], wide: list[Any], some: list[Any], scorer: str
) -> dict[str, Any]:
    """Compare the scores of ``some`` candidates with those of NumPy, which are float32."""
    settings = SETTINGS.replace(scorer=scorer)
    for each in (some[::-1], some[::-1], some):  # the last one runs from a recording
        scores, matches = engine.score(query, each, settings)
    candidates = [on_host(photo) for photo in wide[: len(some)]]
    start = time.perf_counter()
    wanted, wanted_matches = score_matches(match_candidates(query, candidates), settings)
    result: dict[str, Any] = {
        "candidates": len(some), "cpu_ms": 1000 * (time.perf_counter() - start),
        "scores": float(np.abs(scores - wanted).max() / np.abs(wanted).max()),
        "same_order": np.argsort(-scores).tolist() == np.argsort(-wanted).tolist(),
    }  # fmt: skip
    if scorer == "ransac":
        ours, opencv = (
            sum(match.inliers for sizes in each for match in sizes)
            for each in (matches, wanted_matches)
        )
        result["inliers_over_opencv"] = ours / max(1, opencv)
    return result


def seeded_model(amounts: Amounts, runtime: Runtime) -> Model:
    """Return VGG16 and the published form with seeded numbers."""
    draw = np.random.default_rng(0).standard_normal
    state = {
        key: (draw(shape) * np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else draw(shape) * 0)
        for key, shape in state_shapes().items()
    }
    centres = normalise(draw((CLUSTERS, 512))).astype(np.float32)
    weight = (draw((amounts.pca_dim, CLUSTERS * 512)) / 90).astype(np.float32)
    projection = Projection(weight, np.zeros(amounts.pca_dim, np.float32))
    size = (16 * amounts.cells[0], 16 * amounts.cells[1])
    settings = SETTINGS.replace(global_dim=amounts.pca_dim, image_size=size, fusion="z-score")
    fitted = Fitted.shared(Vocabulary(0.8 * centres, 30 * centres), projection)
    trunk = VGG16(state, state_sha256(state), runtime)
    return Model("seeded", trunk, fitted, settings, "none", "seeded", "none")


def describing(device: str, amounts: Amounts, wait: Callable[[], None]) -> list[Any]:
    """Return photos a second of the trunk, and of trunk and descriptors; decoding is not in it."""
    shape = (amounts.batch, 1, 3, 16 * amounts.cells[0], 16 * amounts.cells[1])
    images = list(np.random.default_rng(1).standard_normal(shape, np.float32))
    works: dict[str, Callable[[], object]] = {}
    for precision in ("float32", "tf32") if device != "cpu" else ("float32",):
        runtime = Runtime(device=device, precision=precision)
        model = DeviceModel.of(seeded_model(amounts, runtime), runtime)
        works[f"{precision} trunk"] = lambda m=model: trunk_of(m, images)
        works[f"{precision} trunk and descriptors"] = lambda m=model: m.describe_images(images, 1)
    times = in_turn(works, wait, max(3, amounts.runs // 4))
    return [
        {"work": name, "ms": spent, "photos_per_s": 1000 * amounts.batch / spent["median"]}
        for name, spent in times.items()
    ]


def trunk_of(model: Model, images: list[np.ndarray]) -> object:
    """Return the feature maps, which stay on a GPU."""
    maps = model.trunk.maps_there(images)
    return feature_maps(model.trunk, images) if maps is None else maps


def whole(device: str, amounts: Amounts) -> dict[str, Any]:
    """Build an index of drawn photos and ask it; from JPEG files to the answer."""
    runtime = Runtime(device=device)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "photos").mkdir()
        size = (16 * amounts.cells[0], 16 * amounts.cells[1])
        for place in range(amounts.photos):
            pixels = render(7, demo_pose(7, place, False), size=size)
            Image.fromarray(pixels).save(folder / "photos" / f"{place:04}.jpg", quality=90)
        save_model(seeded_model(amounts, Runtime()), folder / "seeded.safetensors")
        start = time.perf_counter()
        build_index(
            folder / "i.placerec", folder / "photos", model=folder / "seeded.safetensors",
            runtime=runtime,
        )  # fmt: skip
        built = time.perf_counter() - start
        photos = sorted((folder / "photos").iterdir())[: amounts.runs]
        asked = {
            precision: queries(
                folder / "i.placerec", photos, Runtime(device=device, precision=precision)
            )
            for precision in (("float32", "tf32", "float16") if device != "cpu" else ("float32",))
        }
    return {
        "photos": amounts.photos, "build_photos_per_s": amounts.photos / built,
        "candidates": min(amounts.photos, SETTINGS.candidates), "scorer": SETTINGS.scorer,
        "dimensions": amounts.pca_dim, "queries": asked,
    }  # fmt: skip


def queries(index: Path, photos: list[Path], runtime: Runtime) -> dict[str, Any]:
    """Ask an index where its own photos were taken."""
    with PlaceRecognizer.open(index, runtime=runtime) as recognizer:
        spent, right = [], 0
        for photo in [*photos, *photos]:  # after the first round all patches are on the device
            start = time.perf_counter()
            answer = recognizer.query(photo)
            spent.append(1000 * (time.perf_counter() - start))
            right += answer.best.path == photo.name
    return {
        "first_ms": spent[0], "ms": spread(spent[len(photos) :]),
        "itself_first": f"{right} of {len(spent)}",
    }  # fmt: skip


def machine(device: str) -> dict[str, Any]:
    found = {
        "platform": platform.platform(), "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(), "python": platform.python_version(),
        "numpy": np.__version__, "torch": torch.__version__, "placerec": __version__,
        "device": device,
    }  # fmt: skip
    if device.startswith("cuda"):
        shown = torch.cuda.get_device_properties(device)
        found |= {"gpu": shown.name, "gpu_bytes": shown.total_memory, "cuda": torch.version.cuda}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    if device == "cpu":
        torch.set_num_threads(1)
    started, amounts = time.perf_counter(), ON_A_CPU if device == "cpu" else ON_A_GPU
    wait = Engine(device).wait
    result: dict[str, Any] = {"machine": machine(device), "rates": rates(device, amounts, wait)}
    parts: dict[str, Callable[[], Any]] = {
        f"matching {dim}": lambda dim=dim: matching(device, amounts, dim, result["rates"])
        for dim in amounts.dimensions
    }
    parts["describing"] = lambda: describing(device, amounts, wait)
    parts["whole"] = lambda: whole(device, amounts)
    for name, measure in parts.items():
        result[name] = measure()
        result["seconds"] = round(time.perf_counter() - started)
        print(name, f"{result['seconds']} s", flush=True)
        text = json.dumps(result, indent=1) + "\n"
        if device != "cpu":
            RESULTS.write_text(text, encoding="utf-8")
    if device == "cpu":
        print(text)
    else:
        write_tables(result)


if __name__ == "__main__":
    main()
