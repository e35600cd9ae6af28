"""``placerec evaluate``: recall on a folder with ground truth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.cli.options import (
    chosen_settings,
    method_option,
    model_options,
    query_list_options,
    setting_options,
)
from placerec.cli.talk import list_skipped, progress_bars

if TYPE_CHECKING:
    from placerec.evaluation.evaluate import Evaluation


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--ground-truth",
    type=click.Path(path_type=Path),
    help="CSV file query,database; default: FOLDER/ground_truth.csv.",
)
@query_list_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@method_option
@model_options
@setting_options
def evaluate(
    folder: Path, ground_truth: Path | None, queries_list: Path | None, half: str | None,
    as_json: bool, method: str | None, model: str, threads: int | None, device: str, **options: Any,
) -> int:  # fmt: skip
    """Recall on FOLDER, which has database/, queries/ and ground_truth.csv (query,database).

    The model is fitted on the database photos, as index build would. In Python: placerec.evaluate.
    """
    from placerec.evaluation.dataset import read_dataset
    from placerec.evaluation.evaluate import evaluate as run

    dataset = read_dataset(folder, ground_truth, queries_list, half)
    settings = chosen_settings(model, method, options)
    with progress_bars() as progress:
        result = run(
            dataset, model=model, settings=settings, threads=threads, device=device,
            progress=progress,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(result.as_json(), indent=2))
    else:
        _print(result)
    sys.stdout.flush()
    return list_skipped(result.skipped)


def _print(result: Evaluation) -> None:
    click.echo(f"queries: {result.queries}, with a positive: {result.queries_with_positive}")
    rows = [("global", result.global_recalls)]
    if result.scorer and result.reranked_recalls:
        rows.append((result.scorer, result.reranked_recalls))
    for name, found in rows:
        told = "  ".join(f"{at} {share:.3f}" for at, share in found.items())
        click.echo(f"{name:12}  {told}")
    click.echo(f"model: {result.model}")
    click.echo(f"{result.ms_per_query:.0f} ms a query, {result.bytes_per_photo:.0f} bytes a photo")
