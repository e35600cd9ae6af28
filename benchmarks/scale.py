"""Bytes that a photo needs in each store, on the disk and in the memory of a reader.

python benchmarks/scale.py WORK_FOLDER    # 8 minutes, 500 MB, deleted afterwards

The photos are drawn from a generator of random numbers, with the descriptors of the default method.
Writes results/scale.csv, and results/scale_search.csv about the search in a large map, which
docs/SCALE.md cites. Needs the extra lance.
"""

from __future__ import annotations

import gc
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import scale_search
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec.index import open_index
from placerec.index.presets import SMALL
from placerec.index.store import store_of
from placerec.records import Features, Grid, PatchSet
from placerec.settings import Settings

RESULTS = ROOT / "results" / "scale.csv"
SEARCH = ROOT / "results" / "scale_search.csv"
PAGE = ROOT / "docs" / "SCALE.md"
COLUMNS = ("store", "bytes_per_photo", "reader_bytes_per_photo")
COUNTS = (500, 2000)
READERS = 20
GLOBAL, PATCHES, DEPTH = 12288, Grid((2, 2), 15, 20, 2), 64
ADDRESSES = {"sqlite": "{}/town.placerec", "lance": "lance:{}/town"}


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def features(random: np.random.Generator) -> Features:
    patches = PatchSet(PATCHES, unit(random.normal(size=(len(PATCHES), DEPTH))))
    return Features(unit(random.normal(size=GLOBAL)), (patches,))


def build(address: Path, count: int) -> None:
    random = np.random.default_rng(1)
    with store_of(address).create(
        address, root=Path("/photos"), model="random", fingerprint="0", weights=b"0",
        settings=Settings().to_json(), storage=SMALL, replace=True,
    ) as writer:  # fmt: skip
        for number in range(count):
            writer.put(f"{number:09}.jpg", f"{number:064x}", None, features(random))


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def memory_of_a_reader(address: Path) -> int:
    """Return how many bytes of memory an open reader has for each photo."""
    with open_index(address):  # loads the packages
        pass
    before = resident()
    readers = [open_index(address) for _ in range(READERS)]
    return (resident() - before) // (READERS * readers[0].info.photos)


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(store: str, work: Path) -> dict[str, object]:
    """Return a row: what a photo adds to the files, and to the memory of a reader."""
    sizes, memory = [], 0
    for count in COUNTS:
        folder = work / f"{store}-{count}"
        folder.mkdir(parents=True)
        address = Path(ADDRESSES[store].format(folder))
        build(address, count)
        sizes.append(size_of(folder))
        words = [sys.executable, __file__, "--memory", str(address)]
        memory = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        shutil.rmtree(folder)
    added = (sizes[1] - sizes[0]) // (COUNTS[1] - COUNTS[0])
    return dict(zip(COLUMNS, (store, added, memory), strict=True))


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table of docs/SCALE.md."""
    head = ("store", "bytes of a photo on the disk", "in the memory of a reader")
    return page_table(head, ([row[name] for name in COLUMNS] for row in rows))


def search_markdown(rows: list[dict[str, str]]) -> str:
    """Return the table of the searches in docs/SCALE.md."""
    head = ("descriptors", "index of Lance", "photos", "recall of the first", "of 20", "of 100",
            "ms", "without a cache, ms", "s to make", "bytes per photo")  # fmt: skip
    return page_table(head, ([row[name] for name in scale_search.COLUMNS] for row in rows))


def measure_searches(work: Path) -> None:
    """Append the searches that are not in the table yet."""
    searched = {(row["vectors"], row["kind"]) for row in read_rows(SEARCH)}
    for vectors, kind in scale_search.ROWS:
        if (vectors, kind) not in searched:
            folder = work / f"{vectors}-{kind}"
            folder.mkdir(parents=True)
            row = scale_search.measure(vectors, kind, folder)
            append_rows(SEARCH, scale_search.COLUMNS, [row])
            shutil.rmtree(folder)


def main() -> None:
    done = {row["store"] for row in read_rows(RESULTS)}
    for store in ADDRESSES:
        if store not in done:
            append_rows(RESULTS, COLUMNS, [measure(store, Path(sys.argv[1]))])
    write_page(PAGE, "scale", markdown(read_rows(RESULTS)))
    measure_searches(Path(sys.argv[1]))
    write_page(PAGE, "scale-search", search_markdown(read_rows(SEARCH)))


if __name__ == "__main__":
    if sys.argv[1] == "--memory":
        print(memory_of_a_reader(Path(sys.argv[2])))
    else:
        main()
