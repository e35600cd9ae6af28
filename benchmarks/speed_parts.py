"""The parts of benchmarks/speed.py: what is measured, one function per part.

A part gets a ``Place`` and returns what it measured as values for JSON. All runs on two threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import torch
from onnxruntime import InferenceSession, SessionOptions
from published_form import SIZES, WEIGHTS, Describer, fused, grid, nearest, scored
from speed_estimators import estimators
from speed_large import large
from speed_place import (
    RUNTIME,
    THREADS,
    Place,
    another,
    drawn_patches,
    in_turn,
    milliseconds,
    patch_sets,
    timed,
    unit,
)  # fmt: skip
from threadpoolctl import threadpool_limits

from placerec.index.build import build_index
from placerec.index.reader import IndexReader, StoredPatches
from placerec.index.update import add_photos
from placerec.method.scores import match_candidates, score_matches
from placerec.photos.prepare import prepare
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.records import Array, PatchSet
from placerec.settings import CHOICES, METHODS
from placerec.trunks import open_trunk
from placerec.trunks.efficientnet_lite import shipped_onnx
from placerec.trunks.vgg16 import state_shapes
from placerec.workers import map_all, single_threaded_blas

WHOLE = "a query in all"
CONVOLUTION = """<ir_version: 8, opset_import: ["": 17]>
layer (float[1, 512, 60, 80] x) => (float[1, 512, 60, 80] y)
{ y = Conv <pads = [1, 1, 1, 1]> (x, w) }"""
PRESETS = {preset: {"preset": preset} for preset in CHOICES["preset"]}  # for build_index


def limits(place: Place) -> dict[str, Any]:
    """The rates of this machine: GB/s of a large copy, GFLOP/s in float32.

    The arithmetic is that of a large product of NumPy, and that of a layer of VGG16 in ONNX
    Runtime: on some processors NumPy's product is not the fastest.
    """
    side = place.scale.matrix
    source = np.ones(16 * side * side, np.float32)
    target, matrix = np.empty_like(source), np.ones((side, side), np.float32)

    def copy(threads: int) -> None:
        parts = zip(np.array_split(target, threads), np.array_split(source, threads), strict=True)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: np.copyto(*part), parts))

    def product(threads: int) -> None:
        with threadpool_limits(threads, "blas"):
            matrix @ matrix

    layer, image = convolution(), np.ones((1, 512, 60, 80), np.float32)
    sessions = {}
    for threads in (1, THREADS):
        options = SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        sessions[threads] = InferenceSession(layer, options, providers=["CPUExecutionProvider"])

    def convolve(threads: int) -> None:
        sessions[threads].run(None, {"x": image})

    work = {
        "copy": (copy, 2 * source.nbytes),
        "product": (product, 2 * side**3),
        "convolution": (convolve, 2 * 9 * 512 * image.size),
    }
    rates = {}
    # Not all in turn: idle threads of one library wait for work for a while, on a core.
    for name, (function, amount) in work.items():
        for threads in (1, THREADS):
            run = milliseconds(lambda w=function, t=threads: w(t))
            found = in_turn({name: run}, place.scale.few)[name]["ms"]
            rates[f"{name}, {threads}"] = round(amount / found["median"] / 1e6, 2)
            time.sleep(0.5)
    return rates


def convolution() -> bytes:
    """Return an ONNX model of a layer of VGG16: 512 channels, 3 x 3, on 60 x 80 cells."""
    model = onnx.parser.parse_model(CONVOLUTION)
    weights = np.full((512, 512, 3, 3), 1e-3, np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    encoded: bytes = model.SerializeToString()
    return encoded


def queries(place: Place) -> dict[str, Any]:
    """The stages of a default query in an index of each size, in turn."""
    found, paths = {}, place.queries
    for number, photos in enumerate(place.scale.sizes):
        with PlaceRecognizer.open(place.index(number), runtime=RUNTIME) as asked:
            ours = {"ours": lambda n, a=asked: ask(a, paths[n % len(paths)])}
            found[str(photos)] = in_turn(ours, len(paths))["ours"]
    return found


def ask(asked: PlaceRecognizer, path: Path) -> dict[str, float]:
    """One query stage by stage, and once more whole; in milliseconds."""
    model, settings, spent = asked.model, asked.settings, dict[str, float]()
    with single_threaded_blas():
        with timed(spent, "decode"):
            image = prepare(model.read(path).pixels, model.trunk.preprocessing(settings.image_size))
        with timed(spent, "trunk"):
            features = model.trunk(image).transpose(1, 2, 0).copy()
        with timed(spent, "descriptors"):
            query = model.describe_map(features, stride=1)
        with timed(spent, "search"):
            rows, _ = asked.shortlist(query, settings.candidates)
        with timed(spent, "read candidates"):
            stored = list(asked.index.read_patches(rows.tolist()))
        with timed(spent, "match"):
            matched = match_candidates(query.patches, stored, THREADS, StoredPatches.decode)
        with timed(spent, "vote"):
            score_matches(matched, settings, THREADS, asked.cosines(query, rows))
    with timed(spent, WHOLE):
        asked.query(path)
    return spent


def against_published(place: Place) -> dict[str, Any]:
    """A whole default query from a JPEG file, and the published form of the same work, in turn."""
    photo, photos = place.queries[0], place.scale.sizes[1]
    torch.set_num_threads(THREADS)
    published = PublishedQuery(place.work / "published", photo, photos, place.scale.published)
    with PlaceRecognizer.open(place.index(1), runtime=RUNTIME) as asked:
        sides = {"ours": lambda _: ask(asked, photo), "published": lambda _: published.ask(photo)}
        found = in_turn(sides, place.scale.few)
    return {"photos": photos, "published_candidates": place.scale.published, **found}


class PublishedQuery:
    """The published form at 512 dimensions, three sizes and RANSAC, with its files."""

    def __init__(self, folder: Path, photo: Path, photos: int, candidates: int) -> None:
        rng = np.random.default_rng(0)
        self.describer, self.folder = Describer(512, THREADS), folder
        self.database = torch.from_numpy(unit(rng.standard_normal((photos, 512), np.float32)))
        self.candidates = candidates
        folder.mkdir(exist_ok=True)
        with torch.inference_mode():
            decoded = self.describer.trunk(self.describer.decode(photo))
            _, query = self.describer.describe(decoded)
        for number in range(candidates):
            for size, one in zip(SIZES, query, strict=True):
                drawn = another(one.numpy(), grid(size), rng, right=number < candidates // 10)
                np.save(folder / f"{number}_{size}.npy", drawn)

    def ask(self, photo: Path) -> dict[str, float]:
        """Return the milliseconds of each stage of a query."""
        spent: dict[str, float] = {}
        with timed(spent, WHOLE), torch.inference_mode():
            with timed(spent, "decode"):
                image = self.describer.decode(photo)
            with timed(spent, "trunk"):
                features = self.describer.trunk(image)
            with timed(spent, "descriptors"):
                whole, query = self.describer.describe(features)
            with timed(spent, "search"):
                nearest(whole, self.database, self.candidates)
            with timed(spent, "read candidates"):
                stored = [
                    [torch.from_numpy(np.load(self.folder / f"{n}_{size}.npy")) for size in SIZES]
                    for n in range(self.candidates)
                ]
            with timed(spent, "match and score"):
                fused(scored(query, stored, SIZES, "ransac"), WEIGHTS)
        return spent


PAPER = ((128, (5,), "spatial", 100), (512, (5,), "spatial", 100),
         (512, SIZES, "ransac", 100), (4096, SIZES, "ransac", 20))  # fmt: skip


def presets(place: Place) -> list[dict[str, Any]]:
    """Matching and scoring of 100 candidates, and the trunk, beside the published form."""
    torch.set_num_threads(THREADS)
    found = [trunk_in_turn(place)]
    for dimensions, sizes, scorer, most in PAPER:
        count = min(most, place.scale.published)
        query, stored = drawn_patches(dimensions, sizes, count)
        row = preset_in_turn(query, stored, scorer, place.scale.few)
        work = f"{dimensions}-d, sizes {', '.join(map(str, sizes))}, {scorer}"
        patches = [np.prod(grid(size)) for size in sizes]
        found.append({
            "work": f"match and score 100 candidates: {work}", "scaled": 100 / count, **row,
            "bytes": 400 * dimensions * int(sum(patches)),
            "operations": 200 * dimensions * int(sum(p * p for p in patches)),
        })  # fmt: skip
    return found


def preset_in_turn(
    query: dict[int, Array], stored: list[dict[int, Array]], scorer: str, repeats: int
) -> dict[str, Any]:
    """Time ours, its product alone and the published form; compare the scores."""
    sizes = tuple(query)
    named = METHODS["paper-performance"]
    weights = named.scale_weights if len(sizes) == 3 else None
    squares = tuple((size, size) for size in sizes)
    settings = named.replace(patch_sizes=squares, scale_weights=weights, scorer=scorer)

    ours_query, ours_stored = patch_sets(query), [patch_sets(one) for one in stored]
    tensors = [torch.from_numpy(rows) for rows in query.values()]
    stored_tensors = [[torch.from_numpy(rows) for rows in one.values()] for one in stored]

    def ours() -> Array:
        with single_threaded_blas():
            matched = match_candidates(ours_query, ours_stored, THREADS)
            _, matches = score_matches(matched, settings, THREADS)
        return np.array([[match.score for match in one] for one in matches])

    def published() -> Array:
        with torch.inference_mode():
            scores = scored(tensors, stored_tensors, sizes, scorer)
            fused(scores, weights or (1.0,))
        return scores

    def product() -> None:
        def multiply(photo: tuple[PatchSet, ...]) -> None:
            for one, other in zip(ours_query, photo, strict=True):
                np.matmul(one.descriptors, other.descriptors.T)

        with single_threaded_blas():
            map_all(multiply, ours_stored, THREADS)

    difference = np.abs(ours() - published()) / max(1.0, float(np.abs(published()).max()))
    work = {"ours": ours, "published": published, "product": product}
    sides = {side: milliseconds(one) for side, one in work.items()}
    found = {side: stages["ms"] for side, stages in in_turn(sides, repeats).items()}
    return {**found, "largest_difference": float(difference.max()),
            "equal_scores": float((difference < 1e-6).mean())}  # fmt: skip


def trunk_in_turn(place: Place) -> dict[str, Any]:
    trunk = open_trunk("vgg16", RUNTIME)
    module = Describer(1, THREADS).module
    image = np.zeros((1, 3, 480, 640), np.float32)

    def published() -> None:
        with torch.inference_mode():
            module(torch.from_numpy(image))

    sides = {"ours": milliseconds(lambda: trunk(image)), "published": milliseconds(published)}
    found = {side: stages["ms"] for side, stages in in_turn(sides, place.scale.few).items()}
    return {"work": "VGG16, one photo", "scaled": 1, **found, "bytes": 0,
            "operations": vgg16_operations()}  # fmt: skip


def vgg16_operations() -> int:
    """Return the multiplications and additions of VGG16 up to conv5_3 at 480 x 640."""
    weights = [shape for name, shape in state_shapes().items() if name.endswith("weight")]
    pools = (0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4)  # before each layer
    return sum(
        2 * int(np.prod(shape)) * 480 * 640 // 4**pool
        for shape, pool in zip(weights, pools, strict=True)
    )


def default_work(place: Place) -> dict[str, dict[str, float]]:
    """The bytes and operations that each stage of a default query cannot do without."""
    with IndexReader.open(place.index(0)) as reader:
        vector, (stored,) = reader.global_descriptors().stored[0], reader.patches(0)
        per_photo = reader.info.bytes_per_photo
    count, cells = METHODS["default"].candidates, 29 * 39
    depth, patches = stored.descriptors.shape[1], len(stored.descriptors)
    network = onnx.load_from_string(shipped_onnx())
    sides = network.graph.input[0].type.tensor_type.shape.dim
    sides[2].dim_value, sides[3].dim_value = 480, 640
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
              for value in onnx.shape_inference.infer_shapes(network).graph.value_info}  # fmt: skip
    kernels = {tensor.name: list(tensor.dims) for tensor in network.graph.initializer}
    trunk = sum(2 * np.prod(shapes[node.output[0]]) * np.prod(kernels[node.input[1]][1:])
                for node in network.graph.node
                if node.op_type == "Conv" and node.output[0] in shapes)  # fmt: skip
    (*_, last) = (node for node in network.graph.node if node.op_type == "Conv")
    # Two projections to 64 values per cell, then 64 clusters, and the sums of three bands.
    describe = 2 * 1200 * 64 * (2 * kernels[last.input[1]][0] + 64 + 3 * 64)
    return {
        "trunk": {"operations": float(trunk)},
        "descriptors": {"operations": float(describe)},
        "search": {"bytes_per_photo": float(vector.nbytes)},
        "read candidates": {"bytes": count * (per_photo - vector.nbytes)},
        "match": {"operations": 2.0 * cells * patches * depth * count},
        "vote": {"bytes": 3.0 * 8 * cells * count},
    }


def candidates(place: Place) -> dict[str, Any]:
    """A query with several numbers of candidates, in turn."""
    paths = place.queries
    opened = {
        str(count): PlaceRecognizer.open(place.index(1), runtime=RUNTIME, candidates=count)
        for count in place.scale.candidates
    }
    sides = {
        count: (lambda n, a=asked: milliseconds(lambda: a.query(paths[n % len(paths)]))(0))
        for count, asked in opened.items()
    }
    found = in_turn(sides, 2 * place.scale.few)
    for asked in opened.values():
        asked.close()
    return {count: stages["ms"] for count, stages in found.items()}


def memory(place: Place) -> dict[str, Any]:
    """The largest memory of a build and of a query, each in a process of its own."""
    found = {}
    for photos in place.scale.builds:
        index = place.work / "built.placerec"
        found[f"build, {photos} photos"] = child("build", index, place.folder(photos))
        index.unlink()
    for number, photos in enumerate(place.scale.sizes):
        photo = place.queries[0]
        found[f"query, {photos} photos"] = child("query", place.index(number), photo)
    return found


def child(work: str, *paths: Path) -> dict[str, float]:
    words = [
        sys.executable,
        str(Path(__file__).with_name("speed_child.py")),
        work,
        *map(str, paths),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def growth(place: Place) -> dict[str, Any]:
    """The bytes by which an index grows per photo, for each way to store it."""
    first, last = place.scale.growth
    found = {}
    for name, how in PRESETS.items():
        index = place.work / "growing.placerec"
        build_index(index, place.folder(first), runtime=RUNTIME, replace=True, **how)
        before = index.stat().st_size
        add_photos(index, place.folder(last - first, first), runtime=RUNTIME)
        with IndexReader.open(index) as reader:
            descriptors = reader.info.bytes_per_photo
        grown = (index.stat().st_size - before) / (last - first)
        found[name] = {"bytes_per_photo": round(grown), "of_descriptors": round(descriptors)}
        index.unlink()
    return found


PARTS: dict[str, Callable[[Place], Any]] = {
    "limits": limits, "work": default_work, "queries": queries, "published": against_published,
    "presets": presets, "estimators": estimators, "candidates": candidates, "memory": memory,
    "growth": growth, "large": large,
}  # fmt: skip
