"""Measure what `make demo` and `make test` set up: time, size on the disk, packages.

    python benchmarks/setup.py

Clones this checkout into a temporary folder and makes its two environments there, from nothing.
Writes results/setup.csv and the table of docs/MEASUREMENTS.md. The time depends on the network.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from table import ROOT, append_rows, page_table, read_rows, write_page

RESULTS = ROOT / "results" / "setup.csv"
PAGE = ROOT / "docs" / "MEASUREMENTS.md"
STAGES = {"make demo": ".venv/.ready", "make test": ".venv/.ready-for-tests"}
COLUMNS = ("command", "seconds", "megabytes", "packages")


def measure(clone: Path, command: str) -> dict[str, object]:
    """Return a row: the seconds of this stage alone, and what the environment has after it."""
    start = time.monotonic()
    subprocess.run(["make", "--silent", STAGES[command]], cwd=clone, check=True)
    seconds = time.monotonic() - start
    files = [
        path for path in (clone / ".venv").rglob("*") if path.is_file() and not path.is_symlink()
    ]
    return {
        "command": command, "seconds": f"{seconds:.0f}",
        "megabytes": f"{sum(path.stat().st_size for path in files) / 1e6:.0f}",
        "packages": sum(path.name == "METADATA" for path in files),
    }  # fmt: skip


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table of docs/MEASUREMENTS.md."""
    head = ("command", "s to set up", "MB of .venv", "packages, pip among them")
    return page_table(head, ([row[name] for name in COLUMNS] for row in rows))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "placerec"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        rows = [measure(clone, command) for command in STAGES]
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, rows)
    write_page(PAGE, "setup", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
