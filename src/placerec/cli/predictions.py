"""``placerec predictions``: import and score predictions of other programs, and export ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from placerec.cli.commands import Group
from placerec.cli.options import PATH, chosen_dataset, dataset_options
from placerec.cli.output import say
from placerec.cli.outputs import PREDICTIONS, NewFile, RunFolder
from placerec.evaluation.exchange import FORMS, export_predictions

_FORM = click.option(
    "--form", required=True, type=click.Choice(list(FORMS)), help="See docs/EVALUATION.md."
)


@click.group(cls=Group)
def predictions() -> None:
    """Import predictions of other programs, and export ours."""


@predictions.command("import")
@click.argument("folder", type=PATH)
@click.argument("file", type=PATH)
@click.option("--reranked", type=PATH, help="A second file: the same queries after re-ranking.")
@click.option("--out", required=True, type=RunFolder(PREDICTIONS), help="Folder of the run.")
@_FORM
@dataset_options
def import_(
    folder: Path, file: Path, reranked: Path | None, out: Path, form: str, **options: Any
) -> None:
    """Score the predictions in FILE on the data set in FOLDER, as a run for compare.

    In Python: placerec.evaluation.runner.scored_import.
    """
    from placerec.evaluation.run_folder import REPORT, write_run_folder
    from placerec.evaluation.runner import scored_import

    run = scored_import(chosen_dataset(folder, options), form, file, reranked, out)
    write_run_folder(out, run)
    say(*run.as_text(), f"report: {out / REPORT}")


@predictions.command()
@click.argument("folder", type=PATH)
@click.argument("run", type=PATH)
@click.argument("file", type=NewFile())
@click.option("--retrieved", is_flag=True, help="The global ranking instead of the final one.")
@_FORM
@dataset_options
def export(folder: Path, run: Path, file: Path, retrieved: bool, form: str, **options: Any) -> None:
    """Write the answers of RUN (an output folder of evaluate) on the data set in FOLDER to FILE.

    In Python: placerec.evaluation.exchange.export_predictions.
    """
    from placerec.evaluation.predictions import read_predictions
    from placerec.evaluation.runner import check_protocol

    dataset = chosen_dataset(folder, options)
    recorded = read_predictions(run / PREDICTIONS)
    check_protocol(recorded, dataset)
    export_predictions(form, dataset, recorded.predictions, file, retrieved=retrieved)
    say(f"{file}: written")
