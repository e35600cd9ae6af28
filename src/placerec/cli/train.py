"""``placerec train``: train VGG16 with NetVLAD on photos with positions."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from placerec.cli.commands import Command
from placerec.cli.options import (
    PATH,
    field_option,
    flags,
    given,
    image_size_option,
    query_list_options,
    runtime_options,
    together,
)
from placerec.cli.output import say, warn
from placerec.cli.outputs import RunFolder
from placerec.cli.progress import showing_progress
from placerec.errors import UsageError
from placerec.schedule import CHOICES, PRESETS, Schedule

FLAGS = {"learning_rate": "--lr"}
HELP = {  # of the fields of Schedule that are options
    "clusters": "K of NetVLAD.",
    "epochs": "Maximum number of epochs.",
    "patience": "Epochs in a row that may pass without a better recall.",
    "best_by": "N of the recall@N that selects the best epoch.",
    "learning_rate": "Learning rate of the first epochs.",
    "batch": "Queries per step.",
    "negatives": "Negatives per query.",
    "queries": "Queries per epoch; 0 = all.",
    "portion": "Queries between two updates of the descriptors.",
    "pool": "Random database photos that the negatives of a portion come from.",
    "mining": "published: the violation test of the program, which mixes signs.",
    "precision": "Precision of the convolutions; tf32 and fp16 need cuda.",
    "pca_dim": "Dimensions of the model.",
    "seed": "The same seed gives the same run.",
}
TYPES: dict[str, Any] = {field.name: type(field.default) for field in fields(Schedule)}
schedule_options = together(*(
    field_option(name, text, TYPES[name], CHOICES.get(name, ()), FLAGS.get(name, ""))
    for name, text in HELP.items()
))  # fmt: skip


@click.command(cls=Command)
@click.argument("dataset", type=PATH)
@click.option("--out", type=RunFolder("log.csv"), required=True,
              help="Folder of the run: log, checkpoint, model.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Resume the run in --out; it gives the same bits.")
@click.option(
    "--validation", type=PATH, help="Evaluation data set; default: that of DATASET, if any."
)
@click.option(
    "--validation-protocol", help="Protocol of --validation; needed for a published data set."
)
@query_list_options
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="Schedule; default: that of the layout.",
)
@schedule_options
@image_size_option
@click.option(
    "--model", type=PATH, help="Start from VGG16 and clusters of a .safetensors model, not k-means."
)
@click.option(
    "--cache/--no-cache", default=True, show_default=True,
    help="Keep the output of the frozen layers on disk (2.5 MB per photo of 480x640).",
)  # fmt: skip
@runtime_options
def train(
    dataset: Path, out: Path, resume: bool, validation: Path | None,
    validation_protocol: str | None, queries_list: Path | None, half: str | None,
    preset: str | None, model: Path | None, cache: bool, threads: int | None, device: str,
    **numbers: Any,
) -> None:  # fmt: skip
    """Train VGG16 with NetVLAD on DATASET, whose photos have positions, as in the paper.

    DATASET is Mapillary SLS, Pittsburgh 30k, or a folder of photos with positions: coordinates.csv,
    file names or EXIF tags (docs/TRAINING.md).
    In Python: placerec.training.loop.train.
    """
    selection = {"validation_protocol": validation_protocol, "queries_list": queries_list,
                 "half": half}  # fmt: skip
    if validation is None and (unused := given(selection)):
        raise UsageError(f"{flags(unused)}: changes nothing without --validation; omit it")
    from placerec.evaluation.layouts import open_dataset
    from placerec.evaluation.query_lists import select_queries
    from placerec.training import loop
    from placerec.training.datasets import open_training_data
    from placerec.training.model import starting_model

    data = open_training_data(dataset)
    chosen = {name: TYPES[name](value) for name, value in given(numbers).items()}
    start = starting_model(model)
    if start.vocabulary is not None:
        chosen.setdefault("clusters", len(start.vocabulary))
    schedule = PRESETS[preset or data.preset].replace(**chosen)
    if validation is not None:
        held_out = select_queries(open_dataset(validation, validation_protocol), queries_list, half)
        data = replace(data, validation=held_out.searches)
    with showing_progress(threads, device) as runtime:
        options = loop.Options(runtime, resume, cache, say=warn)
        path = loop.train(data, out, schedule, start, options)
    if os.environ.get("RANK", "0") == "0":  # of the processes of torchrun, only the first writes
        say(f"{path}: trained on {data.name}")
