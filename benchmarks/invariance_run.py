"""A short invariance training on real photos, on a CPU: does it lower its loss, and find more?

    python benchmarks/invariance_run.py DATA_FOLDER RUN_FOLDER

It trains EfficientNet-Lite0 on every 11th photo of gsv_cambridge_train, at half size. One photo of
eight is held back: their loss before and after, and the recall of night views of them, are the
result. To resume an interrupted run, give the command again. The script writes
results/invariance_run.csv (the log of the run) and the table in docs/TRAINING.md.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from table import ROOT, read_rows, write_page

from placerec.photos.find import find_photos
from placerec.runtime import Runtime
from placerec.training.invariance import INVARIANCE, schedule_for, train_invariance
from placerec.training.run_folder import Options

RESULTS = ROOT / "results" / "invariance_run.csv"
PAGE = ROOT / "docs" / "TRAINING.md"
THREADS = 2
EVERY = 11
# A short form of the recipe: a quarter of the steps, of a quarter of the photos each.
SCHEDULE = schedule_for("cpu", INVARIANCE).replace(
    steps=100, batch=8, warm_up=5, judged_photos=150
)  # fmt: skip


def run(data: Path, out: Path) -> None:
    """Train in the folder ``out``, or resume the training there."""
    source, photos = data / "gsv_cambridge_train" / "photos", out.with_name(f"{out.name}-photos")
    photos.mkdir(parents=True, exist_ok=True)
    for name in find_photos(source)[::EVERY]:
        shutil.copyfile(source / name, photos / Path(name).name)
    options = Options(
        Runtime(threads=THREADS), resume=True, say=lambda line: print(line, flush=True)
    )
    print(train_invariance(photos, out, SCHEDULE, options=options))
    shutil.copyfile(out / "log.csv", RESULTS)


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the losses of the photos held back, and what each share finds, as two tables."""
    lines = ["| step | minutes | loss held back | clean views | night views |", "|---" * 5 + "|"]
    for row in rows:
        if row["held_back"]:
            losses = [f"{float(row[name]):.3f}" for name in ("held_back", "kept", "invariant")]
            minutes = f"{float(row['seconds']) / 60:.0f}"
            lines.append(f"| {row['step']} | {minutes} | {' | '.join(losses)} |")
    if judged := [row for row in rows if row["share"]]:
        lines += ["", "| share of the trained weights | recall@1 | mean reciprocal rank |"]
        lines.append("|---" * 3 + "|")
    for row in judged:
        figures = " | ".join(f"{float(row[n]):.3f}" for n in ("recall@1", "reciprocal_rank"))
        lines.append(f"| {row['share']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    run(Path(sys.argv[1]), Path(sys.argv[2]))
    write_page(PAGE, "invariance_run", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
