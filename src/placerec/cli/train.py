"""``placerec train``: train VGG16 with NetVLAD on photos with positions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from placerec.cli.options import given, image_size_option, query_list_options
from placerec.cli.progress import progress_bars


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder of the run: log, checkpoint, and in the end model.safetensors.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out, to the bit.")
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    help="Folder in the evaluation format; default: the data set's own, if it has one.",
)
@query_list_options
@click.option(
    "--preset",
    "preset_name",
    type=click.Choice(["mapillary", "pittsburgh", "photos"]),
    help="The schedule; default: that of the data set's layout.",
)
@click.option("--clusters", type=click.IntRange(2), help="K of NetVLAD.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs at most.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    help="Epochs in a row without a better recall, then it stops.",
)
@click.option(
    "--best-by",
    type=click.Choice(["1", "5", "10"]),
    help="N of the recall@N that chooses the best epoch.",
)
@click.option("--lr", "learning_rate", type=float, help="Learning rate of the first epochs.")
@click.option("--batch", type=click.IntRange(1), help="Queries a step.")
@click.option("--negatives", type=click.IntRange(1), help="Negatives a query.")
@click.option("--queries", type=click.IntRange(0), help="Queries an epoch; 0 = all.")
@click.option(
    "--portion", type=click.IntRange(1), help="Queries between two renewals of the descriptors."
)
@click.option(
    "--pool",
    type=click.IntRange(1),
    help="Random database photos that a portion's negatives come from.",
)
@click.option(
    "--mining",
    type=click.Choice(["ours", "published"]),
    help="published: the program's violation test, which mixes signs.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16", "fp16"]),
    help="Of the convolutions; fp16 needs cuda.",
)
@click.option("--pca-dim", type=click.IntRange(1), help="Dimensions of the model.")
@image_size_option
@click.option("--seed", type=click.IntRange(0), help="The same seed gives the same run.")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Begin with this model's VGG16 and clusters (.safetensors), not with k-means.",
)
@click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Keep what the frozen layers give on disk (2.5 MB a photo of 480x640).",
)
@click.option("--threads", type=click.IntRange(1), help="Threads; default: all cores.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
def train(
    dataset: Path, out: Path, resume: bool, validation: Path | None, queries_list: Path | None,
    half: str | None, preset_name: str | None, model: Path | None, cache: bool,
    threads: int | None, device: str, best_by: str | None, **numbers: Any,
) -> None:  # fmt: skip
    """Train VGG16 with NetVLAD on DATASET, whose photos have positions, as the paper does.

    DATASET is Mapillary SLS, Pittsburgh 30k, or a folder of photos with positions: coordinates.csv,
    file names or EXIF tags (docs/TRAINING.md).
    In Python: placerec.training.loop.train.
    """
    from placerec.runtime import available_threads
    from placerec.training.datasets import open_training_data, validation_folder
    from placerec.training.loop import Options
    from placerec.training.loop import train as run
    from placerec.training.schedule import preset
    from placerec.training.start import starting_model

    data = open_training_data(dataset)
    chosen = given({**numbers, "best_by": int(best_by) if best_by else None})
    start = starting_model(model)
    if start.vocabulary is not None:
        chosen.setdefault("clusters", len(start.vocabulary))
    schedule = preset(preset_name or data.preset).replace(**chosen)
    searches = data.validation
    if validation is not None:
        searches = validation_folder(validation, queries_list, half)
    options = Options(
        threads or available_threads(), device, resume, cache, vocabulary=start.vocabulary,
        weights=(start.provenance, start.licence),
    )  # fmt: skip
    with progress_bars() as progress:
        path = run(
            data.training, out, schedule, trunk=start.trunk, validation=searches, options=options,
            say=lambda line: click.echo(line, err=True), progress=progress,
        )  # fmt: skip
    if os.environ.get("RANK", "0") == "0":  # torchrun starts several, one of them talks
        click.echo(f"{path}: trained on {data.training.name}")
