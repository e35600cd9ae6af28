"""Miniature data sets in their real file formats, and a VGG16 of random weights."""

import csv
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from placerec.evaluation.layouts import open_dataset
from placerec.method.vlad import Vocabulary
from placerec.runtime import Runtime
from placerec.schedule import Schedule
from placerec.training.datasets import TrainingSet, open_training_data
from placerec.training.loop import Options, Session
from placerec.training.model import start_from
from placerec.training.processes import Processes
from placerec.trunks.vgg16 import VGG16, state_sha256, state_shapes

SIZE = (48, 64)
# 2 epochs of 2 portions of 2 steps
TINY = Schedule(
    clusters=4, image_size=SIZE, pca_dim=4, queries=4, portion=2, pool=16, avoid="query",
    negatives=2, batch=1, epochs=2, learning_rate=1e-3, margin=2.0,
)  # fmt: skip
METRES_PER_DEGREE = 6_371_008.8 * math.pi / 180


@cache
def random_trunk() -> VGG16:
    rng = np.random.default_rng(0)
    state = {}
    for key, shape in state_shapes().items():
        scale = math.sqrt(2 / np.prod(shape[1:])) if len(shape) == 4 else 0.1
        state[key] = rng.standard_normal(shape, np.float32) * np.float32(scale)
    return VGG16(state, state_sha256(state))


def draw_photo(path: Path, place: int, view: int) -> None:
    """Write seeded noise of the place, with a little seeded noise of the view."""
    place_noise = np.random.default_rng(place).integers(0, 256, (6, 8, 3))
    view_noise = np.random.default_rng(1000 * place + view + 1).integers(0, 40, (6, 8, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = Image.fromarray(np.clip(place_noise * 0.8 + view_noise, 0, 255).astype(np.uint8))
    pixels.resize(SIZE[::-1], Image.Resampling.NEAREST).save(path, quality=95)


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def at(east: float, north: float = 0.0) -> dict[str, object]:
    """Return latitude and longitude of a point, given in metres from 0 N, 0 E."""
    return {"latitude": north / METRES_PER_DEGREE, "longitude": east / METRES_PER_DEGREE}


def write_folder(folder: Path, places: int = 8, views: int = 2) -> Path:
    """Write ``photos/`` and ``coordinates.csv``: places 100 m apart, with views 4 m apart."""
    rows = []
    for place in range(places):
        for view in range(views):
            name = f"photos/p{place:02}_{view}.jpg"
            draw_photo(folder / name, place, view)
            rows.append({"image": name, **at(100.0 * place + 4.0 * view), "heading": 90})
    write_table(folder / "coordinates.csv", rows)
    return folder


def write_evaluation_format(folder: Path, places: int = 4) -> Path:
    """Write ``database/``, ``queries/``, ``coordinates.csv`` and ``ground_truth.csv``."""
    rows, truth = [], []
    for place in range(places):
        for view, part in enumerate(("database", "queries")):
            name = f"{part}/{place}.jpg"
            draw_photo(folder / name, 100 + place, view)
            rows.append({"image": name, **at(100.0 * place + 4.0 * view)})
        truth.append({"query": f"{place}.jpg", "database": f"{place}.jpg"})
    write_table(folder / "coordinates.csv", rows)
    write_table(folder / "ground_truth.csv", truth)
    return folder


def write_msls(folder: Path) -> Path:
    """Write two training cities and a validation city: one panorama, night and side view each."""
    for number, city in enumerate(("trondheim", "london", "cph")):
        for side in ("query", "database"):
            root = folder / "train_val" / city / side
            table, raw = [], []
            for place in range(6):
                key = f"{city}_{side}_{place}"
                draw_photo(root / "images" / f"{key}.jpg", 10 * number + place, side == "query")
                table.append({
                    "": place, "key": key, "easting": 5e5 + 100 * place + 4 * (side == "query"),
                    "northing": 7e6, "control_panel": False, "night": place == 1,
                    "unique_cluster": place,
                    "view_direction": "Sideways" if place == 2 else "Forward",
                })  # fmt: skip
                raw.append({
                    "": place, "key": key, "lon": 10.0, "lat": 63.0, "ca": 0.0,
                    "captured_at": "2019-01-01", "pano": place == 5,
                })  # fmt: skip
            write_table(root / "postprocessed.csv", table)
            write_table(root / "raw.csv", raw)
    return folder


def tiny_session(folder: Path, out: Path, processes: Processes | None = None) -> Session:
    """Return a training at its start, without validation."""
    centres = np.random.default_rng(3).standard_normal((TINY.clusters, 512), np.float32)
    start = replace(start_from(random_trunk()), vocabulary=Vocabulary(centres / 25, centres))
    options = Options(Runtime(threads=1))
    return Session(open_training_data(folder), out, TINY, start, options, processes or Processes())


def training_data(folder: Path, validation: Path) -> TrainingSet:
    """Return the training set of one folder with the validation data of another."""
    return replace(open_training_data(folder), validation=open_dataset(validation).searches)


def batch_gradients(session: Session, batch: int) -> dict[str, np.ndarray]:
    """Return the gradients by name over a batch of ``batch`` queries, and the ``loss``."""
    # The positive is another view of the same place; the negatives show two other places.
    rows = np.array([[2 * n, 2 * n + 1, 2 * n + 6, 2 * n + 8] for n in range(batch)])
    session.learner.optimiser.zero_grad()
    loss = session.backward(rows)
    gradients = {
        name: parameter.grad.numpy().copy()
        for name, parameter in session.learner.network.named_parameters()
    }
    return {**gradients, "loss": np.array(loss)}


def small_network(**changes) -> bytes:
    """An ONNX trunk of random weights: 8 channels, stride 16. ``changes`` replace operators."""
    rng = np.random.default_rng(0)
    shapes = {"a": (8, 3, 5, 5), "b": (8, 1, 3, 3), "c": (8, 8, 1, 1), "d": (8, 8, 4, 4)}
    tensors = []
    for name, shape in shapes.items():
        kernel = rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[1:]))
        tensors += [
            numpy_helper.from_array(kernel.astype(np.float32), f"{name}.weight"),
            numpy_helper.from_array(rng.standard_normal(8, np.float32) / 10, f"{name}.bias"),
        ]
    tensors += [numpy_helper.from_array(np.float32(n), s) for n, s in ((0, "zero"), (6, "six"))]

    def conv(name, x, **attributes):
        return helper.make_node("Conv", [x, f"{name}.weight", f"{name}.bias"], [name], **attributes)

    nodes = [
        conv("a", "image", auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node(changes.get("clip", "Clip"), ["a", "zero", "six"], ["a6"]),
        conv("b", "a6", pads=[1, 1, 1, 1], group=8, strides=[2, 2]),
        conv("c", "b"),
        helper.make_node("Add", ["b", changes.get("add", "c")], ["sum"]),
        helper.make_node("Relu", ["sum"], ["relu"]),
        conv("d", "relu", auto_pad=changes.get("padding", "SAME_UPPER"), strides=[4, 4]),
        helper.make_node("Identity", ["d"], ["features"]),
    ]
    ends = [("image", [1, 3, "H", "W"]), ("features", [1, 8, "h", "w"])]
    image, features = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ends)
    graph = helper.make_graph(nodes, "small", [image], [features], tensors)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return model.SerializeToString()
