"""``placerec fit`` and ``placerec weights``: make models and weight files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from placerec.cli.options import chosen_settings, method_option, model_options, setting_options
from placerec.cli.progress import list_skipped, progress_bars
from placerec.errors import NotFound, UsageError

TRUNK_FILES = {"vgg16": "vgg16.safetensors"}
RERANKERS = ("aliked-lightglue", "disk-lightglue", "xfeat")


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
    photos: Path, out: Path, method: str | None, model: str, threads: int | None, device: str,
    **options: Any,
) -> int:  # fmt: skip
    """Fit a model on the folder PHOTOS, without labels, to be used as --model.

    At most 1000 photos are looked at; the PCA of the paper's presets takes up to 10,000.

    In Python: placerec.fit_on_folder and placerec.save_model.
    """
    from placerec.models.fit_on_folder import fit_on_folder
    from placerec.models.model_file import save_model

    _model_file(out)
    settings = chosen_settings(model, method, options)
    with progress_bars() as progress:
        fitted, skipped = fit_on_folder(
            photos, model=model, settings=settings, threads=threads, device=device,
            progress=progress,
        )  # fmt: skip
    save_model(fitted, out)
    click.echo(f"{out}: {fitted.name}")
    return list_skipped(skipped)


@click.command()
@click.argument("photo", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    required=True,
    help="A model file: what placerec weights import wrote.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npz to write.")
def features(photo: Path, weights: Path, out: Path) -> None:
    """Write what the published method computes of PHOTO, all float32, for comparison.

    encoder (C,h,w), global_vlad, global_pca, patch2_pca, patch5_pca, patch8_pca (D,P). In Python:
    placerec.models.features.published_features.
    """
    import numpy as np

    from placerec.files import atomic_write
    from placerec.models.features import published_features
    from placerec.models.model_file import load_model
    from placerec.runtime import available_threads
    from placerec.workers import single_threaded_blas

    _folder_of(out)
    model = load_model(weights, available_threads())
    with single_threaded_blas():
        arrays: dict[str, Any] = published_features(model, model.read(photo).pixels)
    with atomic_write(out) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
    click.echo(f"{out}: {', '.join(f'{name} {a.shape}' for name, a in arrays.items())}")


@click.group()
def weights() -> None:
    """Show, convert, import and export weights. Nothing is downloaded."""


@weights.command(name="import")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--name", help="What the model is called; default: the file's name.")
@click.option("--training-data", default="", help="What it was trained on, for the record.")
@click.option("--licence", help="The licence of the weights, for the record.")
def import_(
    checkpoint: Path, out: Path, name: str | None, training_data: str, licence: str | None
) -> None:
    """Turn CHECKPOINT (.pth.tar of Patch-NetVLAD or pytorch-NetVlad) into the model OUT.

    The checkpoint is a pickle: it is read safely or refused, and nothing in it is run. In Python:
    placerec.models.checkpoints.import_checkpoint and placerec.save_model.
    """
    from placerec.models.checkpoints import UNNAMED_LICENCE, import_checkpoint
    from placerec.models.model_file import save_model

    _model_file(out)
    model = import_checkpoint(
        checkpoint, name=name, training_data=training_data, licence=licence or UNNAMED_LICENCE
    )
    save_model(model, out)
    fitted = model.fitted
    pca = f"PCA {fitted.projection.dimensions}" if fitted.projection else "no PCA"
    click.echo(f"{out}: {model.name}, K = {len(fitted.vocabulary)}, {pca}")


@weights.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def info(model: str, as_json: bool) -> None:
    """Show what MODEL says of itself: a model file, or generic, the one that ships.

    Name, provenance, training data, licence, sha256. In Python:
    placerec.models.resolve.model_facts.
    """
    from placerec.models.resolve import model_facts

    facts = model_facts(model)
    if as_json:
        click.echo(json.dumps(facts | {"settings": json.loads(facts["settings"])}, indent=2))
        return
    for name, value in facts.items():
        click.echo(f"{name}: {value}")


@weights.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def export(model: Path, out: Path) -> None:
    """Write the model file MODEL as a checkpoint OUT (.pth.tar) of the published format.

    In Python: placerec.models.checkpoints.export_checkpoint.
    """
    from placerec.models.checkpoints import export_checkpoint
    from placerec.models.model_file import load_model

    _folder_of(out)
    export_checkpoint(load_model(model), out)
    click.echo(f"{out}: written")


@weights.command()
@click.argument("name", type=click.Choice([*TRUNK_FILES, *RERANKERS, "ap-gem"]))
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file to write; default: in the cache folder.",
)
def convert(name: str, source: Path, out: Path | None) -> None:
    """Convert the weights NAME from SOURCE: a registry package file, or a weight file.

    For ap-gem SOURCE is its authors' checkpoint; it is read safely or refused, and nothing in it is
    run. In Python: placerec.trunks.convert.convert_vgg16, and convert of
    placerec.baselines.weights and placerec.baselines.ap_gem_checkpoint.
    """
    from placerec.files import cache_folder

    if not source.is_file():
        raise NotFound(source, "no such weight file or package")
    target = out or cache_folder() / TRUNK_FILES.get(name, f"{name}.safetensors")
    click.echo(f"{target}: sha256 {_converted(name, source, target)}")


def _converted(name: str, source: Path, target: Path) -> str:
    if name in TRUNK_FILES:
        from placerec.trunks.convert import convert_vgg16

        return convert_vgg16(source, target)
    if name in RERANKERS:
        from placerec.baselines.weights import convert as convert_reranker

        return convert_reranker(name, source, target)
    from placerec.baselines.ap_gem_checkpoint import convert as convert_ap_gem

    return convert_ap_gem(source, target)


def _folder_of(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise NotFound(out.parent, "no such folder", "make it first")


def _model_file(out: Path) -> None:
    """A model is only recognised by its suffix later on, so it is asked for now."""
    _folder_of(out)
    if out.suffix.lower() != ".safetensors":
        raise UsageError(f"{out}: name a model file .safetensors")
