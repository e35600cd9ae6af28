"""What the parts of benchmarks/speed.py share: scale, files, drawn descriptors, the clock."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from published_form import grid

from placerec.index.build import build_index
from placerec.index.reader import IndexReader
from placerec.index.writer import IndexWriter
from placerec.photos.find import find_photos
from placerec.records import Array, Features, Grid, PatchSet
from placerec.runtime import Runtime

THREADS = 2
RUNTIME = Runtime(threads=THREADS)
NOISE = 0.3  # length of the noise that makes another descriptor of a real one


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    sizes: tuple[int, int, int] = (1_000, 10_000, 100_000)  # photos of the indexes
    repeats: int = 30  # of a query
    few: int = 5  # of what takes seconds
    builds: tuple[int, ...] = (500, 2_000)  # photos of the builds whose memory is measured
    candidates: tuple[int, ...] = (1, 10, 100, 1_000)
    published: int = 100  # candidates of the published form
    large: tuple[tuple[int, int], ...] = ((100_000, 0), (1_000_000, 512))  # photos, dimensions
    matrix: int = 2048  # of the product that gives the rate of arithmetic
    growth: tuple[int, int] = (100, 200)  # photos


SMALL = Scale(
    sizes=(12, 30, 60), repeats=2, few=2, builds=(4,), candidates=(1, 10), published=2,
    large=((400, 0), (800, 64)), matrix=256, growth=(3, 6),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The photos, the folder of the files that are deleted at the end, and the scale."""

    photos: tuple[Path, ...]
    work: Path
    scale: Scale

    def index(self, number: int) -> Path:
        """Return the index of size ``number``, made at the first call."""
        path = self.work / f"{self.scale.sizes[number]}.placerec"
        if not path.exists():
            partial = path.with_suffix(".new")
            partial.unlink(missing_ok=True)
            if number == 0:
                build_index(partial, self.folder(self.scale.sizes[0]), runtime=RUNTIME)
            else:
                shutil.copy(self.index(number - 1), partial)
                grow(partial, self.scale.sizes[number])
            partial.replace(path)
        return path

    def folder(self, count: int, first: int = 0) -> Path:
        """Return a folder with links to ``count`` photos."""
        folder = self.work / f"photos-{first}-{count}"
        folder.mkdir(exist_ok=True)
        for photo in self.photos[first : first + count]:
            link = folder / photo.name
            if not link.is_symlink():
                link.symlink_to(photo.resolve())
        return folder

    @property
    def queries(self) -> list[Path]:
        """Photos of the smallest index, evenly spread."""
        real = self.photos[: self.scale.sizes[0]]
        return list(real[:: max(1, len(real) // self.scale.repeats)][: self.scale.repeats])


def find_place(data: Path, work: Path, scale: Scale) -> Place:
    folder = data / "gsv_cambridge_train" / "photos"
    work.mkdir(parents=True, exist_ok=True)
    return Place(tuple(folder / name for name in find_photos(folder)), work, scale)


def grow(path: Path, photos: int) -> None:
    """Add drawn photos until an index has ``photos``: real descriptors with noise."""
    with IndexReader.open(path) as reader:
        count, real = len(reader.entries), min(len(reader.entries), 500)
        whole = reader.global_descriptors()[:real]
        sets = [reader.patches(row) for row in range(real)]
    noise = np.random.default_rng(count).standard_normal(1 << 22, np.float32)
    rng = np.random.default_rng(photos)
    with IndexWriter.open(path) as writer:
        for number in range(count, photos):
            row = number % real
            patches = tuple(
                PatchSet(one.grid, disturbed(one.descriptors, noise, rng)) for one in sets[row]
            )
            features = Features(disturbed(whole[row][None], noise, rng)[0], patches)
            writer.put(f"drawn/{number:07}.jpg", f"{number:064x}", None, features)
            if number % 2000 == 0:
                writer.commit()


def disturbed(rows: Array, noise: Array, rng: np.random.Generator) -> Array:
    """Return unit rows (n, D) with a piece of ``noise`` (M,), which has variance 1."""
    first = int(rng.integers(len(noise) - rows.size))
    added = noise[first : first + rows.size].reshape(rows.shape)
    result = rows + (NOISE / rows.shape[1] ** 0.5) * added
    unit: Array = result / np.linalg.norm(result, axis=1, keepdims=True)
    return unit


@contextmanager
def timed(spent: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent[stage] = 1000 * (time.perf_counter() - start)


def statistics(values: Sequence[float]) -> dict[str, float]:
    """Return median, width between the quartiles, and number of values."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return {"median": round(float(middle), 4), "iqr": round(float(high - low), 4), "n": len(values)}


def in_turn(sides: Mapping[str, Callable[[int], dict[str, float]]], repeats: int) -> dict[str, Any]:
    """Run each side once to warm up, then all in turn; return the statistics of each value."""
    seen: dict[str, dict[str, list[float]]] = {name: {} for name in sides}
    for number in range(-1, repeats):
        for name, run in sides.items():
            for stage, value in run(max(number, 0)).items():
                if number >= 0:
                    seen[name].setdefault(stage, []).append(value)
    return {
        name: {stage: statistics(values) for stage, values in stages.items()}
        for name, stages in seen.items()
    }


def milliseconds(work: Callable[[], object]) -> Callable[[int], dict[str, float]]:
    def run(_: int) -> dict[str, float]:
        spent: dict[str, float] = {}
        with timed(spent, "ms"):
            work()
        return spent

    return run


def unit(rows: Array) -> Array:
    result: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return result


def another(
    query: Array, shape: tuple[int, int], rng: np.random.Generator, *, right: bool
) -> Array:
    """Return patches (P, D) of another photo: half of the same place moved, or a twentieth."""
    rows, columns = shape
    row, column = np.divmod(np.arange(rows * columns), columns)
    place = ((row + 1) % rows) * columns + (column + 2) % columns
    same = rng.random(len(query)) < (0.5 if right else 0.05)
    source = np.where(same, place, rng.permutation(len(query)))
    strength = np.where(same, 0.7, 2.0)[:, None] / query.shape[1] ** 0.5
    noise = rng.standard_normal(query.shape, np.float32)
    return unit(query[source] + strength * noise).astype(np.float32)


def drawn_patches(
    dimensions: int, sizes: tuple[int, ...], count: int
) -> tuple[dict[int, Array], list[dict[int, Array]]]:
    """Draw the patches of a query and of ``count`` candidates, a tenth of which show the query."""
    rng = np.random.default_rng(dimensions)
    query = {size: unit(rng.standard_normal((np.prod(grid(size)), dimensions), np.float32))
             for size in sizes}  # fmt: skip
    return query, [
        {s: another(query[s], grid(s), rng, right=n < count // 10) for s in sizes}
        for n in range(count)
    ]


def patch_sets(patches: dict[int, Array]) -> tuple[PatchSet, ...]:
    """Return drawn patches as ``method`` has them."""
    return tuple(PatchSet(Grid((s, s), *grid(s), 1), rows) for s, rows in patches.items())
