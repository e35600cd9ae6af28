"""``placerec evaluate`` and ``compare``: how often is the place found, and which run is better."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.cli.options import (
    chosen_dataset,
    dataset_options,
    given,
    model_options,
    setting_options,
)
from placerec.cli.progress import list_skipped, progress_bars
from placerec.errors import UsageError

if TYPE_CHECKING:
    from placerec.evaluation.dataset import Dataset
    from placerec.evaluation.methods import Method
    from placerec.evaluation.run import Run

BASELINE = ("keypoints", "longer_side", "weights")


# fmt: off
@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@dataset_options
@click.option("--method", metavar="NAME",
              help="default, netvlad, patch-netvlad, paper-*, or a baseline (docs/BASELINES.md).")
@click.option("--rerank", metavar="NAME", help="Another method for the shortlist's order, or none.")
@click.option("--torch-module", metavar="PACKAGE:FUNCTION",
              help="A network of your own (or an .onnx file) makes the shortlist.")
@click.option("--keypoints", type=click.IntRange(1), help="Of a keypoint re-ranker; default: 512.")
@click.option("--longer-side", type=click.IntRange(32),
              help="Pixels, of a keypoint re-ranker; default: 640.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of a baseline.")
@click.option("--out", type=click.Path(path_type=Path),
              help="Folder of the run: predictions, scores, report.html; started again, a run goes "
                   "on there. Without it nothing is written.")
@click.option("--check", is_flag=True,
              help="Only look for photos that are query and database, or nearly so.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@model_options
@setting_options
def evaluate(
    folder: Path, out: Path | None, check: bool, as_json: bool, threads: int | None, device: str,
    **options: Any,
) -> int:
    # fmt: on
    """Recall on the data set in FOLDER, with the protocol it was measured by.

    A model is fitted on the database photos, as index build would; queries are only asked. In
    Python: placerec.evaluate.
    """
    dataset = chosen_dataset(folder, options)
    if check:
        _refuse_for_check({**options, "out": out, "device": None if device == "cpu" else device})
        return _check(dataset, as_json, threads)
    from placerec.runtime import available_threads

    method = _method(options, threads or available_threads(), device)
    from placerec.evaluation.run_folder import write_results
    from placerec.evaluation.runner import evaluate as run

    with progress_bars() as progress:
        result = run(dataset, method, out=out, threads=threads, device=device, progress=progress)
        if out is not None:
            write_results(out, result, method, threads, device, progress)
    if as_json:
        click.echo(json.dumps(result.as_json(), indent=2))
    else:
        _print(result, out)
    return list_skipped(result.skipped)


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Is run SECOND better than run FIRST? Differences with intervals, queries won and lost.

    Both are folders of evaluate --out, and of the same protocol; others are refused.
    """
    from placerec.evaluation.scoring.compare import compare as compare_runs
    from placerec.evaluation.scoring.score_files import read_run

    found = compare_runs(read_run(first), read_run(second))
    click.echo(json.dumps(found.as_json(), indent=2) if as_json else "\n".join(found.lines()))


def _method(options: dict[str, Any], threads: int, device: str) -> Method:
    from placerec.evaluation.methods import named_method

    model, name, rerank = (options.pop(key) for key in ("model", "method", "rerank"))
    module = options.pop("torch_module")
    baseline = given({key: options.pop(key) for key in BASELINE})
    return named_method(
        name, rerank, model=model, changes=given(options), baseline=baseline,
        threads=threads, torch_module=module, device=device,
    )  # fmt: skip


def _refuse_for_check(options: dict[str, Any]) -> None:
    """--check runs no method, so options of one change nothing."""
    left = given({**options, "model": None if options["model"] == "auto" else options["model"]})
    if left:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(left))
        raise UsageError(f"{names}: changes nothing of --check; leave it away")


def _check(dataset: Dataset, as_json: bool, threads: int | None) -> int:
    from placerec.evaluation.leakage import leaks
    from placerec.runtime import Runtime

    with progress_bars() as progress:
        found = leaks(dataset, runtime=Runtime(threads=threads, progress=progress))
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
        return 0
    for one in found:
        click.echo(f"{one.kind}: query {one.query} = database {one.database} ({one.alike:.3f})")
    total = sum(len(search.queries) for search in dataset.searches)
    click.echo(f"{len(found)} equal or nearly equal pairs, {total} queries")
    return 0


def _print(run: Run, out: Path | None) -> None:
    for line in run.as_text():
        click.echo(line)
    if out is not None:
        click.echo(f"report: {out / 'report.html'}")
