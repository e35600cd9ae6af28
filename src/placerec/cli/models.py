"""``placerec fit``, ``features`` and ``weights``: make and get models and weight files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from placerec.baselines import CONVERTERS as BASELINE_CONVERTERS
from placerec.baselines import RETRIEVERS
from placerec.cli.commands import Command, Group
from placerec.cli.options import PATH, algorithm_options, chosen_settings, json_option
from placerec.cli.output import list_skipped, print_facts, print_json, print_table, say
from placerec.cli.outputs import NewFile
from placerec.cli.progress import showing_progress
from placerec.errors import NotFound, UsageError
from placerec.models.published import PUBLISHED, Published


def _convert_vgg16(source: Path, out: Path) -> str:
    from placerec.trunks.convert import convert_vgg16

    return convert_vgg16(source, out)


CONVERTERS = {"vgg16": _convert_vgg16, **BASELINE_CONVERTERS}


@click.command(cls=Command)
@click.argument("photos", type=PATH)
@click.option("--out", type=NewFile(), required=True,
              help="The model file to write, MODEL.safetensors.")  # fmt: skip
@algorithm_options
def fit(
    photos: Path, out: Path, method: str | None, model: str, threads: int | None, device: str,
    **options: Any,
) -> int:  # fmt: skip
    """Fit a model on the folder PHOTOS, without labels, to be used as --model.

    A fit uses at most 1000 photos; the PCA of the paper's presets takes up to 10,000.

    In Python: placerec.fit_on_folder and placerec.save_model.
    """
    from placerec.models.model_file import save_model
    from placerec.models.photo_source import fit_on_folder

    _check_model_file(out)
    settings = chosen_settings(model, method, options)
    with showing_progress(threads, device) as runtime:
        fitted, skipped = fit_on_folder(photos, model=model, settings=settings, runtime=runtime)
    save_model(fitted, out)
    say(f"{out}: {fitted.name}")
    return list_skipped(skipped)


@click.command(cls=Command)
@click.argument("photo", type=PATH)
@click.option("--weights", type=PATH, required=True,
              help="A model file of the published form, or a name of weights list.")  # fmt: skip
@click.option("--out", type=NewFile(), required=True, help="The .npz to write.")
def features(photo: Path, weights: Path, out: Path) -> None:
    """Write what the published method computes of PHOTO, all float32, for comparison.

    encoder (C,h,w), global_vlad, global_pca, patch2_pca, patch5_pca, patch8_pca (D,P). In Python:
    placerec.models.model.published_features.
    """
    import numpy as np

    from placerec.files import atomic_write
    from placerec.models.model import published_features
    from placerec.models.model_file import load_model
    from placerec.workers import single_threaded_blas

    model = load_model(weights)
    with single_threaded_blas():
        arrays: dict[str, Any] = published_features(model, model.read(photo).pixels)
    with atomic_write(out) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
    shapes = (f"{name} {array.shape}" for name, array in arrays.items())
    say(f"{out}: {', '.join(shapes)}")


@click.group(cls=Group)
def weights() -> None:
    """Download, show, convert, import and export weights.

    Only placerec weights download uses the network.
    """


@weights.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the published weights that can be downloaded, and which are on this machine.

    placerec weights info NAME says more about one.
    In Python: placerec.models.published.PUBLISHED.
    """
    rows = [_published_facts(entry) for entry in PUBLISHED.values()]
    if as_json:
        print_json(rows)
        return
    titles = ("name", "method", "licence", "megabytes", "on this machine")
    table = [[str(row.get(title, "yes" if row["path"] else "no")) for title in titles]
             for row in rows]  # fmt: skip
    print_table({title: title == "megabytes" for title in titles}, table)


def _published_facts(entry: Published) -> dict[str, Any]:
    """Return what is stated about published weights; ``path`` is None if they are not here."""
    return {
        "name": entry.name, "what": entry.what, "method": entry.method,
        "licence": entry.licence, "training_data": entry.training_data,
        "source": entry.source, "megabytes": entry.megabytes,
        "path": str(entry.here) if entry.here else None,
    }  # fmt: skip


@weights.command()
@click.argument("name", type=click.Choice(list(PUBLISHED)))
@click.option("--from", "folder", type=PATH, metavar="FOLDER",
              help="Take the file from this folder, without a network.")  # fmt: skip
def download(name: str, folder: Path | None) -> None:
    """Download the published weights NAME and convert them into the cache folder.

    Then NAME can be given as --model (megaloc: as --retriever of an index, and as --method of
    evaluate). A download that broke off goes on where it stopped. The file must have the size and
    the sha256 that the hub states. HF_ENDPOINT names another hub.
    In Python: placerec.download.download_weights.
    """
    from placerec.download import download_weights

    published = PUBLISHED[name]
    if published.here:
        say(f"{published.path}: already there; delete it to download it again")
        return
    facts = {"weights": published.what, "licence": published.licence,
             "trained on": published.training_data}  # fmt: skip
    print_facts(facts)
    with showing_progress() as runtime:
        origin = download_weights(name, folder, runtime)
    if origin:  # else another process has just downloaded them
        print_facts({"source": origin.source, "bytes": origin.size, "sha256": origin.sha256})
        checked = "equal to those that the hub states" if origin.revision else (
            "not compared with those of the hub: a file from a folder")  # fmt: skip
        say(f"size and sha256: {checked}")
    say(f"{published.path}: {name}")


@weights.command(name="import")
@click.argument("checkpoint", type=PATH)
@click.argument("out", type=NewFile())
@click.option("--name", help="The name of the model; default: the file's name.")
@click.option("--training-data", default="", help="What it was trained on, for the record.")
@click.option("--licence", help="The licence of the weights, for the record.")
def import_(
    checkpoint: Path, out: Path, name: str | None, training_data: str, licence: str | None
) -> None:
    """Convert CHECKPOINT (.pth.tar of Patch-NetVLAD or pytorch-NetVlad) to the model OUT.

    The checkpoint is a pickle: it is read safely or refused, and no code in it is run. In Python:
    placerec.models.checkpoints.import_checkpoint and placerec.save_model.
    """
    from placerec.models.checkpoints import UNNAMED_LICENCE, import_checkpoint
    from placerec.models.model_file import save_model

    _check_model_file(out)
    model = import_checkpoint(
        checkpoint, name=name, training_data=training_data, licence=licence or UNNAMED_LICENCE
    )
    save_model(model, out)
    fitted = model.fitted
    pca = f"PCA {fitted.projection.dimensions}" if fitted.projection else "no PCA"
    say(f"{out}: {model.name}, K = {len(fitted.vocabulary)}, {pca}")


@weights.command()
@click.argument("model")
@json_option
def info(model: str, as_json: bool) -> None:
    """Show what MODEL states: a model file, an ONNX file, published weights, or generic.

    Name, provenance, training data, licence, sha256. In Python:
    placerec.models.resolve.model_facts.
    """
    from placerec.models.resolve import model_facts

    published = PUBLISHED.get(model)
    facts: dict[str, Any] = {}
    if published is None or published.here:
        facts |= model_facts(model)
        if as_json:
            facts["settings"] = json.loads(facts["settings"] or "{}")
    if published:
        facts |= _published_facts(published)
        if not published.here and not as_json:
            facts["path"] = f"not on this machine; placerec weights download {model}"
    print_facts(facts, as_json=as_json)


@weights.command()
@click.argument("model", type=PATH)
@click.argument("out", type=NewFile())
def export(model: Path, out: Path) -> None:
    """Write the model file MODEL as a checkpoint OUT (.pth.tar) of the published format.

    In Python: placerec.models.checkpoints.export_checkpoint.
    """
    from placerec.models.checkpoints import export_checkpoint
    from placerec.models.model_file import load_model

    export_checkpoint(load_model(model), out)
    say(f"{out}: written")


@weights.command()
@click.argument("name", type=click.Choice(list(CONVERTERS)))
@click.argument("source", type=PATH)
@click.option("--out", type=NewFile(),
              help="The file to write; default: that of the cache folder.")  # fmt: skip
def convert(name: str, source: Path, out: Path | None) -> None:
    """Convert the weights NAME from SOURCE: a registry package file, or a weight file.

    For ap-gem SOURCE is its authors' checkpoint; it is read safely or refused, and no code in it is
    run. In Python: placerec.trunks.convert.convert_vgg16, and a function of
    placerec.baselines.CONVERTERS.
    """
    from placerec.files import cache_folder

    if not source.is_file():
        raise NotFound(source, "no such weight file or package")
    ending = RETRIEVERS[name].ending if name in RETRIEVERS else ".safetensors"
    target = out or cache_folder() / (name + ending)
    say(f"{target}: sha256 {CONVERTERS[name](source, target)}")


def _check_model_file(out: Path) -> None:
    """Require the suffix now, because --model recognises a model file by it."""
    if out.suffix.lower() != ".safetensors":
        raise UsageError(f"{out}: give the model file the suffix .safetensors")
