"""A short training on real photos: VGG16 on gsv_cambridge_train, judged on gsv_cambridge_test.

    python benchmarks/training_run.py DATA_FOLDER RUN_FOLDER

Recall is the global one without PCA on the validation half of gsv_cambridge_test (docs/splits/),
before the first step (the k-means start) and after every epoch. An interrupted run goes on when the
command is given again. The first run also writes the frozen features of both sets to the cache
folder.
Writes results/training.csv (the run's log), docs/training.png and the table in docs/TRAINING.md.
``training_export.py`` takes the model that it leaves in RUN_FOLDER to a checkpoint and back.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from table import ROOT, read_rows, write_page

from placerec.training.datasets import open_training_data, validation_folder
from placerec.training.loop import Options, train
from placerec.training.schedule import Schedule, preset
from placerec.trunks.vgg16 import VGG16

RESULTS = ROOT / "results" / "training.csv"
PLOT = ROOT / "docs" / "training.png"
PAGE = ROOT / "docs" / "TRAINING.md"
THREADS = 2
SAVED_EVERY = 10  # steps; about a minute and a half
# The published schedule, made short: about 100 steps of 20 photos, 10 s each on 2 cores.
# A few steps of a trial on 100 photos: at 1e-3 the loss of a batch falls slowly, at 1e-2 to nothing
# within four steps, which is learning it by heart; so between the two.
SCHEDULE: Schedule = preset("photos").replace(
    clusters=16, learning_rate=3e-3, queries=100, portion=100, pool=150, negatives=3, epochs=4,
    halve_every=2, best_by=1, pca_dim=512, pca_photos=800,
)  # fmt: skip
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"  # told apart with any colour vision


def run(data: Path, out: Path) -> None:
    """Train, or go on training, in the folder ``out``."""
    held_out = validation_folder(
        data / "gsv_cambridge_test", ROOT / "docs" / "splits" / "gsv_cambridge_test.csv",
        "validation",
    )  # fmt: skip
    train(
        open_training_data(data / "gsv_cambridge_train").training, out, SCHEDULE,
        trunk=VGG16.from_cache(), validation=held_out,
        options=Options(threads=THREADS, resume=True, saved_every=SAVED_EVERY),
        say=lambda line: print(line, flush=True),
    )  # fmt: skip
    shutil.copyfile(out / "log.csv", RESULTS)


def markdown(rows: list[dict[str, str]]) -> str:
    """The validations of the log as a table."""
    names = ("recall@1", "recall@5", "recall@10")
    lines = ["| epoch | steps | minutes | " + " | ".join(names) + " |", "|---" * 6 + "|"]
    for row in rows:
        if row["recall@1"]:
            found = " | ".join(f"{float(row[name]):.3f}" for name in names)
            lines.append(
                f"| {row['epoch']} | {row['step']} | {float(row['seconds']) / 60:.0f} | {found} |"
            )
    return "\n".join(lines)


def plot(rows: list[dict[str, str]]) -> None:
    """Recall after each epoch, and the loss between, over the steps."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(7, 6), layout="tight")
    for name, colour, mark in (
        ("recall@1", BLUE, "o"), ("recall@5", ORANGE, "s"), ("recall@10", GREY, "^"),
    ):  # fmt: skip
        found = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        upper.plot(*zip(*found, strict=True), color=colour, marker=mark, label=name)
    losses = [(int(row["step"]), float(row["loss"])) for row in rows if row["loss"]]
    lower.plot(*zip(*losses, strict=True), color=BLUE, marker="o", label="loss, mean of 10 steps")
    upper.set_ylabel("recall, validation half")
    lower.set_ylabel("triplet loss")
    lower.set_xlabel("steps")
    for axes in (upper, lower):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    run(Path(sys.argv[1]), Path(sys.argv[2]))
    rows = read_rows(RESULTS)
    plot(rows)
    write_page(PAGE, "training", markdown(rows))


if __name__ == "__main__":
    main()
