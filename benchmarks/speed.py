"""Measure speed, memory and size: ours, the published form, and the limits of the machine.

    python benchmarks/speed.py DATA_FOLDER WORK_FOLDER [--small]

It needs the extras `paper` and `large`, the weights of VGG16, two idle cores, 10 GB of disk and
8 GB of memory, and takes about a quarter of an hour. Part by part it writes results/speed.json. A
part that is there already is not measured again; delete the file to start again. At the end it
writes the tables in docs/SPEED.md and deletes WORK_FOLDER/speed, which holds all its files. With
``--small`` it only tries each part on a few photos, and writes WORK_FOLDER/speed/speed.json.

Within a part both sides run in turn in one loop, after one run of each to warm up. A value is the
median; the width between the quartiles and the number of runs are beside it in the file.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np  # noqa: F401 - with it comes the BLAS that ``machine`` names
from table import ROOT, page_table, write_page
from threadpoolctl import threadpool_info

RESULTS = ROOT / "results" / "speed.json"
PAGE = ROOT / "docs" / "SPEED.md"
STAGES = ("decode", "trunk", "descriptors", "search", "read candidates", "match", "vote")
WHOLE = "a query in all"
PACKAGES = ("numpy", "onnxruntime", "opencv-python-headless", "pillow", "torch", "usearch")
Results = dict[str, Any]


def read_results(path: Path = RESULTS) -> Results:
    """Return what was measured; nothing before the first run."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(": ")[2] if names else cpu
    kernels = {  # OpenCV and SciPy come with copies of their own
        one["architecture"] for one in threadpool_info()
        if one["internal_api"] == "openblas" and "numpy" in one["filepath"]
    }  # fmt: skip
    return {
        "cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), "threads": 2,
        "blas": "OpenBLAS " + ", ".join(sorted(kernels)) if kernels else "another BLAS",
        "python": platform.python_version(), "load": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in PACKAGES},
    }  # fmt: skip


def limit(results: Results, work: dict[str, float], photos: int = 0) -> float:
    """Return the milliseconds that this machine needs at least for these bytes and operations."""
    rates = results["limits"]
    size = work.get("bytes", 0.0) + photos * work.get("bytes_per_photo", 0.0)
    copy = max(rates["copy, 1"], rates["copy, 2"])
    product = max(rate for name, rate in rates.items() if not name.startswith("copy"))
    return max(size / copy, work.get("operations", 0.0) / product) / 1e6


def cell(values: dict[str, Any] | None, scale: float = 1.0) -> str:
    """Return a median as text; the width between the quartiles in brackets."""
    if values is None:
        return "-"
    return f"{_short(scale * values['median'])} ({_short(scale * values['iqr'])})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio(row: Results) -> str:
    return f"{row['published']['median'] / row['ours']['median']:.1f}"


def _queries(results: Results) -> Iterable[str]:
    both, sizes = results["published"], list(results["queries"])
    middle = str(both["photos"])
    head = ["stage", *(f"{int(size):,} photos" for size in sizes),
            f"in turn with the published form, {int(middle):,} photos",
            "published form", "limit"]  # fmt: skip
    rows = []
    for stage in (*STAGES, WHOLE):
        of_published = both["published"].get(stage)
        if stage == "match":
            of_published = both["published"]["match and score"]
        work = results["work"].get(stage)
        rows.append([
            stage, *(cell(results["queries"][size][stage]) for size in sizes),
            cell(both["ours"][stage]), cell(of_published),
            _short(limit(results, work, int(middle))) if work else "-",
        ])  # fmt: skip
    yield "### A default query from a JPEG file, ms\n"
    yield page_table(head, rows)
    whole = {side: both[side][WHOLE] for side in ("ours", "published")}
    yield (
        f"\nThe published form takes {ratio(whole)} times as long "
        f"(VGG16, three sizes, 512 dimensions, {both['published_candidates']} candidates, RANSAC)."
        " Its matching includes the scores.\n"
    )


def _presets(results: Results) -> Iterable[str]:
    rows = [
        [row["work"], cell(row["ours"], row["scaled"]), cell(row["published"], row["scaled"]),
         ratio(row), cell(row.get("product"), row["scaled"]), _short(limit(results, row)),
         f"{100 * row['equal_scores']:.4g} %" if "equal_scores" in row else "-"]
        for row in results["presets"]
    ]  # fmt: skip
    head = ("work", "ours, ms", "published form, ms", "ratio", "ours, the product alone, ms",
            "limit, ms", "equal scores")  # fmt: skip
    yield "### The work of the paper\n"
    yield page_table(head, rows)
    yield ""


def _estimators(results: Results) -> Iterable[str]:
    rows = [
        [name, cell(row), f"{row['inliers']:.2f}", f"{100 * row['equal']:.4g} %"]
        for name, row in results["estimators"].items()
    ]
    yield "### Homographies of 100 candidates at three sizes\n"
    yield page_table(
        ("estimator", "ms", "inliers, over those of RANSAC", "as many as RANSAC"), rows
    )
    yield ""


def _memory_and_size(results: Results) -> Iterable[str]:
    yield "### Candidates, memory and size\n"
    rows = ([count, cell(ms)] for count, ms in results["candidates"].items())
    yield page_table(("candidates", "ms of a query"), rows)
    yield ""
    rows = ([name, f"{row['megabytes']:.0f}", f"{row['seconds']:.1f}"]
            for name, row in results["memory"].items())  # fmt: skip
    yield page_table(("process", "MB at most", "s to build or to open"), rows)
    yield ""
    rows = ([name, str(row["bytes_per_photo"]), str(row["of_descriptors"])]
            for name, row in results["growth"].items())  # fmt: skip
    yield page_table(
        ("stored as", "bytes by which a photo grows the file", "its descriptors"), rows
    )
    yield ""


def _large(results: Results) -> Iterable[str]:
    head = ("photos", "dimensions", "by signs, ms", "recall of the first 20", "of 100",
            "speed-up, ms", "recall of the first 20", "of 100", "s to make",
            "bytes per photo")  # fmt: skip
    rows = [
        [f"{row['photos']:,}", str(row["dimensions"]),
         *(text for side in ("signs", "speedup") for text in (
             cell(row[side]), f"{row[f'recall_20_{side}']:.3f}", f"{row[f'recall_100_{side}']:.3f}"
         )),
         f"{row['build_s']:.0f}", str(row["cache_bytes_per_photo"])]
        for row in results["large"]
    ]  # fmt: skip
    yield "### A large map\n"
    yield page_table(head, rows)
    yield f"\n{million(results)}\n"


def million(results: Results) -> str:
    """Return what a million photos take, from the measured parts."""
    builds = {int(name.split()[1]): row["seconds"] for name, row in results["memory"].items()
              if name.startswith("build")}  # fmt: skip
    photos, build = max(builds.items())
    stored = results["growth"]["default"]["bytes_per_photo"]
    speedups = " or ".join(
        f"{row['build_s'] * 1e6 / row['photos'] / 60:.0f} (at {row['dimensions']} dimensions)"
        for row in results["large"]
    )
    return (
        f"A million photos, from these parts: {1e6 / 3600 * build / photos:.1f} hours to describe "
        f"on two cores, {stored / 1e3:.1f} GB of index, and for a speed-up {speedups} minutes."
    )


def _limits(results: Results) -> Iterable[str]:
    about, rates = results["machine"], results["limits"]
    packages = ", ".join(f"{name} {about[name]}" for name in ("python", *PACKAGES))
    blas = f" ({about['blas']})" if "blas" in about else ""
    yield (
        f"{about['cpu']}, {about['cores']} cores, {about['system']}, 2 threads; {packages}. "
        f"A large copy runs at {rates['copy, 1']:.1f} GB/s on one thread and "
        f"{rates['copy, 2']:.1f} on two; a large float32 product at {rates['product, 1']:.0f} and "
        f"{rates['product, 2']:.0f} GFLOP/s by NumPy{blas}, a layer of VGG16 at "
        f"{rates['convolution, 1']:.0f} and {rates['convolution, 2']:.0f} by ONNX Runtime.\n"
    )


def markdown(results: Results) -> str:
    """Return the tables of docs/SPEED.md; a line that says so before the first run."""
    if not results:
        return "Not measured yet."
    parts = (_limits, _queries, _presets, _estimators, _memory_and_size, _large)
    return "\n".join(line for part in parts for line in part(results)).strip()


def main() -> None:
    from speed_parts import PARTS
    from speed_place import SMALL, Scale, find_place

    small = "--small" in sys.argv
    data, work = (Path(word) for word in sys.argv[1:] if word != "--small")
    work = work / "speed"
    place = find_place(data, work, SMALL if small else Scale())
    path = work / "speed.json" if small else RESULTS
    results = read_results(path)
    parts = {"machine": lambda _: machine(), **PARTS}
    for name, part in parts.items():
        if name in results:
            continue
        start = time.monotonic()
        results[name] = part(place)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    if small:
        print(markdown(results))
        return
    write_page(PAGE, "speed", markdown(results))
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
