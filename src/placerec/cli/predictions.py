"""``placerec predictions``: answers of other programs in, scored by our protocols; ours out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from placerec.cli.options import chosen_dataset, dataset_options

FORMS = ("kapture", "hloc", "text", "msls", "patchnetvlad", "visuallocalization")
_FORM = click.option("--form", required=True, type=click.Choice(FORMS),
                     help="The file's form (docs/EVALUATION.md).")  # fmt: skip


@click.group()
def predictions() -> None:
    """Predictions of other programs in, ours out."""


@predictions.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--reranked", type=click.Path(path_type=Path),
              help="A second file: the same queries after re-ranking.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@_FORM
@dataset_options
def import_(
    folder: Path, file: Path, reranked: Path | None, out: Path, form: str, **options: Any
) -> None:
    """Score the predictions in FILE on the data set in FOLDER, as a run that compare takes.

    In Python: placerec.evaluation.exchange.import_predictions.
    """
    from placerec.evaluation.run_folder import write_results
    from placerec.evaluation.runner import scored_import

    run = scored_import(chosen_dataset(folder, options), form, file, reranked, out)
    write_results(out, run)
    for line in run.as_text():
        click.echo(line)


@predictions.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--retrieved", is_flag=True, help="The global ranking in place of the final one.")
@_FORM
@dataset_options
def export(folder: Path, run: Path, file: Path, retrieved: bool, form: str, **options: Any) -> None:
    """Write the answers of RUN (an evaluate --out folder) on the data set in FOLDER to FILE.

    In Python: placerec.evaluation.exchange.export_predictions.
    """
    from placerec.evaluation.exchange import export_predictions
    from placerec.evaluation.predictions import read_predictions
    from placerec.evaluation.runner import PREDICTIONS, check_protocol

    dataset = chosen_dataset(folder, options)
    found = read_predictions(run / PREDICTIONS)
    check_protocol(found, dataset)
    export_predictions(form, dataset, found.predictions, file, retrieved=retrieved)
