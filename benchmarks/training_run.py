"""A training on real photos: VGG16 on gsv_cambridge_train, validated on gsv_cambridge_test.

    python benchmarks/training_run.py DATA_FOLDER RUN_FOLDER [--device cuda]

On a CPU the schedule is a short form of the published one, on a GPU it is the published one of the
preset ``photos``. The recall uses global descriptors without PCA, on the validation half of
gsv_cambridge_test (docs/splits). It is computed before the first step (the k-means start) and after
every epoch. To resume an interrupted run, give the command again. The first run also writes the
frozen features of both sets to the cache folder. The script writes results/training.csv (the log of
the run), docs/training.png and the table in docs/TRAINING.md. ``training_export.py`` exports the
model in RUN_FOLDER to a checkpoint and imports it again.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from table import ROOT, read_rows, write_page

from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.query_lists import select_queries
from placerec.runtime import Runtime
from placerec.schedule import PRESETS
from placerec.training.datasets import open_training_data
from placerec.training.loop import Options, train
from placerec.training.model import starting_model

RESULTS = ROOT / "results" / "training.csv"
PLOT = ROOT / "docs" / "training.png"
PAGE = ROOT / "docs" / "TRAINING.md"
PUBLISHED = PRESETS["photos"]
SAVED_EVERY = {"cpu": 10, "gpu": 500}  # steps; a minute or less
# About 600 steps of 28 photos. The learning rate is ten times the published one, because the
# published run takes thousands of times as many steps.
SHORT = PUBLISHED.replace(
    learning_rate=1e-3, queries=400, portion=400, epochs=6, halve_every=3, best_by=1,
    pca_dim=512, pca_photos=1000,
)  # fmt: skip
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"  # distinguishable with any colour vision


def run(data: Path, out: Path, device: str) -> None:
    """Train in the folder ``out``, or resume the training there."""
    split = ROOT / "docs" / "splits" / "gsv_cambridge_test.csv"
    held_out = select_queries(open_dataset(data / "gsv_cambridge_test"), split, "validation")
    photos = open_training_data(data / "gsv_cambridge_train")
    runtime = Runtime(device=device)
    schedule = PUBLISHED.replace(precision="tf32") if runtime.on_gpu else SHORT
    options = Options(
        runtime, resume=True, saved_every=SAVED_EVERY["gpu" if runtime.on_gpu else "cpu"],
        say=lambda line: print(line, flush=True),
    )  # fmt: skip
    train(replace(photos, validation=held_out.searches), out, schedule, starting_model(), options)
    shutil.copyfile(out / "log.csv", RESULTS)


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the recalls in the log as a table."""
    names = ("recall@1", "recall@5", "recall@10")
    lines = ["| epoch | steps | minutes | " + " | ".join(names) + " |", "|---" * 6 + "|"]
    for row in rows:
        if row["recall@1"]:
            recalls = " | ".join(f"{float(row[name]):.3f}" for name in names)
            minutes = float(row["seconds"]) / 60
            lines.append(f"| {row['epoch']} | {row['step']} | {minutes:.1f} | {recalls} |")
    return "\n".join(lines)


def plot(rows: list[dict[str, str]]) -> None:
    """Plot the recall after each epoch and the mean loss over the steps."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(7, 6), layout="tight")
    for name, colour, mark in (
        ("recall@1", BLUE, "o"), ("recall@5", ORANGE, "s"), ("recall@10", GREY, "^"),
    ):  # fmt: skip
        points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        upper.plot(*zip(*points, strict=True), color=colour, marker=mark, label=name)
    losses = [(int(row["step"]), float(row["loss"])) for row in rows if row["loss"]]
    lower.plot(*zip(*losses, strict=True), color=BLUE, label="loss, mean of 10 steps")
    upper.set_ylabel("recall, validation half")
    lower.set_ylabel("triplet loss")
    lower.set_xlabel("steps")
    for axes in (upper, lower):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    run(asked.data, asked.out, asked.device)
    rows = read_rows(RESULTS)
    plot(rows)
    write_page(PAGE, "training", markdown(rows))


if __name__ == "__main__":
    main()
