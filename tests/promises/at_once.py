"""A process that writes to or reads from an index until its time is over. Run by test_together.

It says "ready", waits for a line, works, and prints what it did as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from index.index_support import features, put
from placerec.errors import PlacerecError
from placerec.index import IndexReader, IndexWriter

BATCH = 3  # photos
MOST = 100_000  # photos of one writer; the seeds of writer n begin at n * MOST


def write(path: Path, number: int, end: float) -> int:
    """Put batches of new photos, and return how many were stored."""
    batches = 0
    with IndexWriter.open(path) as writer:
        while time.monotonic() < end:
            for seed in range(BATCH):
                put(writer, number * MOST + BATCH * batches + seed)
            writer.commit()
            batches += 1
            time.sleep(0.01)  # the turn of the other writer
    return batches


def read(path: Path, writers: int, end: float) -> list[object]:
    """Open the index again and again, and return how often, and what was wrong."""
    opened = 0
    while time.monotonic() < end:
        try:
            with IndexReader.open(path) as reader:
                seeds = [int(entry.sha256, 16) for entry in reader.entries]
                cosine = reader.global_descriptors()[-1] @ features(seeds[-1]).global_descriptor
        except PlacerecError as error:
            return [opened, repr(error)]
        opened += 1
        if cosine < 0.99:
            return [opened, "a photo with the descriptor of another"]
        for number in range(1, writers + 1):
            own = sorted(seed for seed in seeds if seed // MOST == number)
            first = number * MOST
            if own != list(range(first, first + len(own))) or len(own) % BATCH:
                return [opened, f"half a batch of writer {number}: {own[-5:]}"]
    return [opened, ""]


if __name__ == "__main__":
    role, path, number, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    print("ready", flush=True)
    sys.stdin.readline()
    work = {"write": write, "read": read}[role]
    print(json.dumps(work(path, number, time.monotonic() + float(seconds))))
