"""``placerec evaluate`` and ``compare``: how often is the place found, and which run is better."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.baselines import RERANKERS, RETRIEVERS
from placerec.cli.commands import Command
from placerec.cli.options import (
    PATH,
    chosen_dataset,
    dataset_options,
    flags,
    given,
    json_option,
    model_options,
    setting_options,
)
from placerec.cli.output import list_skipped, print_json, say
from placerec.cli.outputs import PREDICTIONS, RunFolder
from placerec.cli.progress import showing_progress
from placerec.errors import UsageError
from placerec.runtime import Runtime
from placerec.settings import CHOICES, METHODS

if TYPE_CHECKING:
    from placerec.evaluation.dataset import Dataset
    from placerec.evaluation.methods import Method

BASELINE_OPTIONS = ("keypoints", "longer_side", "weights")
METHOD_NAMES = f"{', '.join(METHODS)}, or a baseline: {', '.join((*RETRIEVERS, *RERANKERS))}."


# fmt: off
@click.command(cls=Command)
@click.argument("folder", type=PATH)
@dataset_options
@click.option("--method", metavar="NAME", help=METHOD_NAMES)
@click.option("--rerank", metavar="NAME",
              help="Another method that orders the shortlist, or none.")
@click.option("--torch-module", metavar="PACKAGE:FUNCTION",
              help="Your own network (or an .onnx file) makes the shortlist.")
@click.option("--keypoints", type=click.IntRange(1),
              help="Keypoints of a keypoint re-ranker; default: 512.")
@click.option("--longer-side", type=click.IntRange(32),
              help="Pixels of the longer side for a keypoint re-ranker; default: 640.")
@click.option("--weights", type=PATH, help="Weights of a baseline.")
@click.option("--preset", type=click.Choice(CHOICES["preset"]),
              help="How the index of the database is stored; default as in index build.")
@click.option("--out", type=RunFolder(PREDICTIONS),
              help="Folder of the run: predictions, scores, report.html. A run that is started "
                   "again resumes there. Without it nothing is written.")
@click.option("--foreign", type=PATH, metavar="FOLDER",
              help="Photos from elsewhere: how often are they called in the map? In no recall.")
@click.option("--check", is_flag=True,
              help="Only look for photos that are both query and database photo, or nearly equal.")
@json_option
@model_options
@setting_options
def evaluate(
    folder: Path, out: Path | None, foreign: Path | None, check: bool, as_json: bool,
    threads: int | None, device: str, **options: Any,
) -> int:
    # fmt: on
    """Measure recall and confidence on the data set in FOLDER, by its protocol.

    A model is fitted on the database photos, as index build does; queries are only asked. In
    Python: placerec.evaluate.
    """
    dataset = chosen_dataset(folder, options)
    if check:
        device_asked = None if device == "cpu" else device
        _refuse_for_check({**options, "out": out, "foreign": foreign, "device": device_asked})
        return _check(dataset, as_json, threads)
    from placerec.evaluation.run_folder import REPORT, write_run_folder
    from placerec.evaluation.runner import evaluate as run_evaluation

    method = _method(options, Runtime(threads=threads, device=device))
    with showing_progress(threads, device) as runtime:
        run = run_evaluation(dataset, method, out=out, foreign=foreign, runtime=runtime)
        if out is not None:
            write_run_folder(out, run, method, runtime)
    if as_json:
        print_json(run.as_json())
    else:
        say(*run.as_text())
        if out is not None:
            say(f"report: {out / REPORT}")
    return list_skipped(run.skipped)


@click.command(cls=Command)
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--all", "every", is_flag=True, help="Every measure, not only the main ones.")
@json_option
def compare(first: Path, second: Path, every: bool, as_json: bool) -> None:
    """Is run SECOND better than run FIRST? Differences with intervals, queries won and lost.

    recall@1, 5 and 10 of the final and of the global ranking. Both are folders of evaluate --out
    with the same protocol; others are refused. In Python: placerec.evaluation.compare.compare.
    """
    from placerec.evaluation.compare import compare as compare_runs
    from placerec.evaluation.run_folder import read_run

    comparison = compare_runs(read_run(first), read_run(second))
    if as_json:
        print_json(comparison.as_json())
    else:
        say(comparison.title, *comparison.lines(every=every))


def _method(options: dict[str, Any], runtime: Runtime) -> Method:
    from placerec.evaluation.methods import named_method

    model, name, rerank = (options.pop(key) for key in ("model", "method", "rerank"))
    module = options.pop("torch_module")
    baseline = given({key: options.pop(key) for key in BASELINE_OPTIONS})
    return named_method(
        name, rerank, model=model, changes=given(options), baseline=baseline, torch_module=module,
        runtime=runtime,
    )  # fmt: skip


def _refuse_for_check(options: dict[str, Any]) -> None:
    """Refuse the options of a method: --check runs no method."""
    unused = given({**options, "model": None if options["model"] == "auto" else options["model"]})
    if unused:
        raise UsageError(f"{flags(sorted(unused))}: changes nothing of --check; omit it")


def _check(dataset: Dataset, as_json: bool, threads: int | None) -> int:
    from placerec.evaluation.leakage import leaks

    with showing_progress(threads) as runtime:
        pairs = leaks(dataset, runtime=runtime)
    if as_json:
        print_json([asdict(pair) for pair in pairs])
        return 0
    for pair in pairs:
        alike = f"{pair.alike:.3f}"
        say(f"{pair.kind}: query {pair.query} = database {pair.database} ({alike})")
    say(f"{len(pairs)} equal or nearly equal pairs, {dataset.queries} queries")
    return 0
