"""Small indexes for the tests of the index room: seeded features, a dump, a file's bytes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from placerec.index import IndexReader, IndexWriter
from placerec.records import Features, Grid, PatchSet, Position

WIDTH, DEPTH = 32, 16  # global and patch descriptor lengths
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
    about = {"root": path.parent / "photos", "weights": WEIGHTS, **ABOUT, **changes}
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
        return reader.entries, reader.global_descriptors().tobytes(), sets, reader.weights()


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
