"""One build or one query for benchmarks/speed.py, in a process of its own: memory and seconds."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from placerec import PlaceRecognizer, build_index
from placerec.runtime import Runtime

RUNTIME = Runtime(threads=2)
STATUS = Path("/proc/self/status")


def megabytes() -> float:
    """Return the largest resident memory of this process."""
    if STATUS.exists():  # Linux counts the memory of the parent in getrusage, too
        (line,) = (text for text in STATUS.read_text().splitlines() if text.startswith("VmHWM"))
        return float(line.split()[1]) / 1e3
    units = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units


def main() -> None:
    work, index, photos = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    start = time.perf_counter()
    if work == "build":
        build_index(index, photos, runtime=RUNTIME)
    else:
        with PlaceRecognizer.open(index, runtime=RUNTIME) as recognizer:
            opened = time.perf_counter()
            for _ in range(3):
                recognizer.query(photos)
    seconds = (time.perf_counter() if work == "build" else opened) - start
    print(json.dumps({"megabytes": round(megabytes(), 1), "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main()
