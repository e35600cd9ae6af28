"""``placerec train`` and ``adapt``: train a trunk on photos."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from placerec.cli.output import list_skipped, say, warn
from placerec.cli.outputs import NewFile, RunFolder
from placerec.cli.progress import showing_progress
from placerec.errors import UsageError
from placerec.schedule import ADAPT, CHOICES, INVARIANCE, PRESETS, InvarianceSchedule, Schedule

if TYPE_CHECKING:
    from placerec.evaluation.dataset import Search
    from placerec.training.invariance import Trained
    from placerec.training.run_folder import Options

RECIPES = {record.recipe: record for record in (Schedule, InvarianceSchedule)}
FLAGS = {"learning_rate": "--lr"}
HELP = {  # of the fields of the recipes that are options
    "clusters": "K of NetVLAD.",
    "epochs": "Maximum number of epochs.",
    "patience": "Epochs in a row that may pass without a better recall.",
    "best_by": "N of the recall@N that selects the best epoch.",
    "steps": "Steps of the recipe invariance.",
    "learning_rate": "Learning rate of the first epochs; invariance: the largest, relative to the "
                     "size of each tensor.",
    "batch": "Queries per step; invariance: photos per step.",
    "negatives": "Negatives per query.",
    "queries": "Queries per epoch; 0 = all.",
    "portion": "Queries between two updates of the descriptors.",
    "pool": "Random database photos that the negatives of a portion come from.",
    "mining": "published: the violation test of the program, which mixes signs.",
    "precision": "Precision of the convolutions; tf32 and fp16 need cuda.",
    "pca_dim": "Dimensions of the model.",
    "seed": "The same seed gives the same run.",
}  # fmt: skip
OF_RECIPE = {  # the names of the options of each
    name: {field.name for field in fields(record)} for name, record in RECIPES.items()
}
OF_RECIPE["published"] |= {"preset", "cache"}
TYPES: dict[str, Any] = {
    field.name: type(field.default) for record in RECIPES.values() for field in fields(record)
}
schedule_options = together(*(
    field_option(name, text, TYPES[name], CHOICES.get(name, ()), FLAGS.get(name, ""))
    for name, text in HELP.items()
))  # fmt: skip
recipe_option = click.option(
    "--recipe", type=click.Choice(list(RECIPES)), default="published", show_default=True,
    help="published: NetVLAD on VGG16, from positions; invariance: any trunk learns that night is "
         "day, from photos alone.",
)  # fmt: skip


@click.command(cls=Command)
@click.argument("dataset", type=PATH)
@recipe_option
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
    "--model",
    type=PATH,
    help="Start from VGG16 and clusters of a .safetensors model, not k-means; invariance: from the "
    "trunk in an .onnx file.",
)
@click.option(
    "--cache/--no-cache", default=None,
    help="Keep the output of the frozen layers on disk (2.5 MB per photo of 480x640); default: do.",
)  # fmt: skip
@runtime_options
def train(
    dataset: Path, out: Path, resume: bool, recipe: str, validation: Path | None,
    validation_protocol: str | None, queries_list: Path | None, half: str | None,
    model: Path | None, threads: int | None, device: str, **numbers: Any,
) -> int:  # fmt: skip
    """Train VGG16 with NetVLAD on DATASET, whose photos have positions, as in the paper.

    DATASET is Mapillary SLS, Pittsburgh 30k, or a folder of photos with positions: coordinates.csv,
    file names or EXIF tags (docs/TRAINING.md). For the recipe invariance it is any folder of
    photos.
    In Python: placerec.training.loop.train and placerec.training.invariance.train_invariance.
    """
    selection = {"validation_protocol": validation_protocol, "queries_list": queries_list,
                 "half": half}  # fmt: skip
    if validation is None and (unused := given(selection)):
        raise UsageError(f"{flags(unused)}: changes nothing without --validation; omit it")
    numbers = given(numbers)
    if other := [name for name in numbers if name not in OF_RECIPE[recipe]]:
        raise UsageError(f"{flags(other)}: belongs to another recipe than {recipe}; omit it")
    from placerec.training.run_folder import Options

    with showing_progress(threads, device) as runtime:
        cached = numbers.pop("cache", True)
        options = Options(runtime, resume, cached, say=warn)
        searches: tuple[Search, ...] = ()
        if validation is not None:
            searches = _searches(validation, validation_protocol, queries_list, half)
        preset = numbers.pop("preset", None)
        chosen = {name: TYPES[name](value) for name, value in numbers.items()}
        if recipe == "invariance":
            return _train_invariance(dataset, out, model, searches, chosen, options)
        return _train_published(dataset, out, model, searches, preset, chosen, options)


def _searches(
    folder: Path, protocol: str | None, queries_list: Path | None, half: str | None
) -> tuple[Search, ...]:
    from placerec.evaluation.layouts import open_dataset
    from placerec.evaluation.query_lists import select_queries

    return select_queries(open_dataset(folder, protocol), queries_list, half).searches


def _train_published(
    dataset: Path, out: Path, model: Path | None, validation: tuple[Search, ...],
    preset: str | None, numbers: dict[str, Any], options: Options,
) -> int:  # fmt: skip
    from placerec.training import loop
    from placerec.training.datasets import open_training_data
    from placerec.training.model import starting_model

    data = open_training_data(dataset)
    start = starting_model(model)
    if start.vocabulary is not None:
        numbers.setdefault("clusters", len(start.vocabulary))
    schedule = PRESETS[preset or data.preset].replace(**numbers)
    path = loop.train(replace(data, validation=validation or data.validation), out, schedule,
                      start, options)  # fmt: skip
    if os.environ.get("RANK", "0") == "0":  # of the processes of torchrun, only the first writes
        say(f"{path}: trained on {data.name}")
    return 0


def _train_invariance(
    dataset: Path, out: Path, model: Path | None, validation: tuple[Search, ...],
    numbers: dict[str, Any], options: Options,
) -> int:  # fmt: skip
    from placerec.training.invariance import schedule_for, train_invariance
    from placerec.training.unlabelled import starting_trunk

    schedule = schedule_for(options.runtime.device, INVARIANCE).replace(**numbers)
    start = starting_trunk(model or "auto")
    return _report(train_invariance(dataset, out, schedule, start, options, validation))


@click.command(cls=Command)
@click.argument("model")
@click.argument("photos", type=PATH)
@click.option("--out", type=NewFile(), required=True, help="The trunk to write, NEW.onnx.")
@click.option("--steps", type=click.IntRange(1), help=f"Steps; default: {ADAPT.steps}.")
@click.option("--seed", type=click.IntRange(0), help=HELP["seed"])
@runtime_options
def adapt(
    model: str, photos: Path, out: Path, threads: int | None, device: str, **numbers: Any
) -> int:
    """Train the trunk MODEL shortly on your own PHOTOS, so that it knows them at night.

    MODEL is auto or an .onnx file. One photo of eight is held back. The new trunk is written only
    if it finds more night views of these photos than the old one. It is used as --model NEW.onnx.
    In Python: placerec.training.invariance.adapt.
    """
    from placerec.training import invariance
    from placerec.training.run_folder import Options

    schedule = invariance.schedule_for(device, ADAPT).replace(**given(numbers))
    with showing_progress(threads, device) as runtime:
        options = Options(runtime, say=warn)
        return _report(invariance.adapt(model, photos, out, schedule, options))


def _report(trained: Trained) -> int:
    say(f"{trained.path}: {trained.share:g} of the trained weights")
    say(f"before: {trained.before}")
    say(f"after: {trained.after}, of {trained.queries} queries")
    warn("the answers of an index with this trunk have no confidence (docs/TRAINING.md)")
    return list_skipped(trained.skipped)
