"""Small indexes for the tests of the index room, and programs that write to one and are killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from placerec.demo import demo_pose, render
from placerec.index import IndexReader, IndexWriter
from placerec.index.presets import BYTES
from placerec.records import Features, Grid, PatchSet, Position

WIDTH, DEPTH = 96, 16  # global and patch descriptor lengths
ABOUT = {"model": "demo", "fingerprint": "ab12", "settings": '{"sizes": [2, 3]}'}
WEIGHTS = bytes(range(256)) * 4


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def features(seed: int, grid: int = 4, depth: int = DEPTH, width: int = WIDTH) -> Features:
    random = np.random.default_rng(seed)
    sets = tuple(
        PatchSet(
            Grid((size, size), grid, grid + 1, 1),
            unit(random.normal(size=(grid * (grid + 1), depth))),
        )
        for size in (2, 3)
    )
    return Features(unit(random.normal(size=width)), sets)


def position(seed: int) -> Position | None:
    return None if seed % 3 == 0 else Position(seed / 7, -seed / 9, 90.0 if seed % 2 else None)


def put(writer: IndexWriter, seed: int) -> None:
    writer.put(f"street/{seed:03d}.jpg", f"{seed:064x}", position(seed), features(seed))


def create(path: Path, **changes: object) -> IndexWriter:
    about = {
        "root": path.parent / "photos", "weights": WEIGHTS, "storage": BYTES, **ABOUT, **changes,
    }  # fmt: skip
    return IndexWriter.create(path, **about)


def build(path: Path, seeds=range(6), **changes: object) -> Path:
    with create(path, **changes) as writer:
        for seed in seeds:
            put(writer, seed)
    return path


def answers(path: Path) -> tuple[object, ...]:
    """Everything that an index answers, as comparable values."""
    with IndexReader.open(path) as reader:
        sets = [
            (p.grid, p.descriptors.tobytes())
            for number in range(len(reader.entries))
            for p in reader.patches(number)
        ]
        return reader.entries, reader.global_descriptors()[:].tobytes(), sets, reader.weights()


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, as SQLite gives it."""
    connection = sqlite3.connect(path)
    connection.text_factory = bytes
    try:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for table in ("collection", "weights", "photos", "patches")
        }
    finally:
        connection.close()


def edit(path: Path, *statements: str) -> None:
    """What somebody does with the sqlite3 shell."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


BATCH = 3  # photos

CHILD = f"""
import sys
from pathlib import Path
from index_support import IndexWriter, create, put
path, mode = Path(sys.argv[1]), sys.argv[2]
with IndexWriter.open(path) if mode == "add" else create(path, replace=True) as writer:
    print("ready", flush=True)
    sys.stdin.readline()
    for seed in range(100, 100000):
        put(writer, seed)
        if seed % {BATCH} == 0:
            writer.commit()
            print(seed, flush=True)
"""


def start(path: Path, mode: str) -> subprocess.Popen[str]:
    folders = [str(Path(__file__).parent), *sys.path]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), mode],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def go(child: subprocess.Popen[str], batches: int = 0) -> list[int]:
    """Let the child write, and return its first acknowledged batches."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return [int(child.stdout.readline()) for _ in range(batches)]


def kill(child: subprocess.Popen[str]) -> list[int]:
    """End the child as a power switch would, and return the batches acknowledged by then."""
    child.send_signal(signal.SIGKILL)
    with child:  # closes the pipes and waits; not communicate, which forgets what is buffered
        assert child.stdout is not None
        return [int(line) for line in child.stdout.read().split("\n")[:-1]]


def interrupt(path: Path, copy: Path) -> None:
    """Copy an index and its journal as a power cut in mid-update would leave them."""
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("PRAGMA cache_size=1")  # changed pages are written before the end
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE photos SET sha256 = 'half done'")
        copy.write_bytes(path.read_bytes())
        journal_of(copy).write_bytes(journal_of(path).read_bytes())
    finally:
        writer.close()
    assert copy.read_bytes() != path.read_bytes()


def journal_of(path: Path) -> Path:
    return path.with_name(path.name + "-journal")


class Collection(NamedTuple):
    """``index`` is beside ``photos``, which has 0.png, 1.png, sub/2.png and sub/3.png."""

    folder: Path
    photos: Path
    index: Path


def draw(path: Path, place: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(1, demo_pose(1, place, False), size=(120, 160))).save(path)
    return path


def colours(path: Path, side: int = 40, height: int = 120, width: int = 160) -> Path:
    """An ONNX network from an image to the mean colours of its squares, (1, D)."""
    import onnx

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("AveragePool", ["x"], ["m"], kernel_shape=[side] * 2, strides=[side] * 2),
        helper.make_node("Flatten", ["m"], ["y"]),
    ]
    size = 3 * (height // side) * (width // side)
    graph = helper.make_graph(
        nodes, "colours", [helper.make_tensor_value_info("x", kind, [1, 3, height, width])],
        [helper.make_tensor_value_info("y", kind, [1, size])],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path
