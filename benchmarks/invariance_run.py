"""A run of the invariance recipe on real photos, on a CPU: does it lower its loss, and find more?

    python benchmarks/invariance_run.py DATA_FOLDER IMAGENET.onnx RUN_FOLDER

It trains EfficientNet-Lite0 on the photos of gsv_cambridge_train, without their positions, at half
size. 200 photos are held back: their loss before and after, and the recall of night views of them,
are the result. ``tools/convert_efficientnet_lite0.py`` makes IMAGENET.onnx, the start. It is the
same as ``placerec train DATA_FOLDER/gsv_cambridge_train/photos --recipe invariance --model
IMAGENET.onnx --steps 200 --batch 16 --out RUN_FOLDER``. To resume an interrupted run, give the
command again. The script writes results/invariance_run.csv (the log of the run) and the table in
docs/TRAINING.md.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from table import ROOT, read_rows, write_page

from placerec.runtime import Runtime
from placerec.training.invariance import INVARIANCE, schedule_for, train_invariance
from placerec.training.run_folder import Options
from placerec.training.unlabelled import starting_trunk

RESULTS = ROOT / "results" / "invariance_run.csv"
PAGE = ROOT / "docs" / "TRAINING.md"
THREADS = 2
# Half of the steps, of half of the photos each.
SCHEDULE = schedule_for("cpu", INVARIANCE).replace(steps=200, batch=16)


def run(data: Path, start: Path, out: Path) -> None:
    """Train in the folder ``out``, or resume the training there."""
    photos = data / "gsv_cambridge_train" / "photos"
    options = Options(
        Runtime(threads=THREADS), resume=True, say=lambda line: print(line, flush=True)
    )
    print(train_invariance(photos, out, SCHEDULE, starting_trunk(start), options))
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
    run(*map(Path, sys.argv[1:4]))
    write_page(PAGE, "invariance_run", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
