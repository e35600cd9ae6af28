"""``placerec reproduce``: the paper's tables and figures on any data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from placerec.cli.options import given, image_size_option, query_list_options
from placerec.cli.progress import progress_bars


def _queries(_context: click.Context, _param: click.Parameter, value: str | None) -> Any:
    if value is None or value == "all":
        return value
    if not value.isdecimal() or not int(value):
        raise click.BadParameter("give a number of at least 1, or all")
    return int(value)


@click.command()
@click.argument("name")
@click.argument("datasets", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the table; started again, a run goes on there.",
)
@click.option(
    "--model",
    help="A trunk, an .onnx trunk, or a .safetensors model in the published "
    "form. Default: vgg16; k-patch: efficientnet-lite0.",
)
@click.option(
    "--distractors",
    multiple=True,
    metavar="[SET=]FOLDER",
    help="Photos that join the database (of SET alone) and are never correct.",
)
@click.option(
    "--ground-truth",
    type=click.Path(path_type=Path),
    help="CSV file query,database, for one data set.",
)
@query_list_options
@click.option(
    "--queries",
    callback=_queries,
    metavar="N|all",
    help="How many queries, a seeded choice. Default: 100; speed, methods: 50.",
)
@click.option(
    "--candidates",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Photos of the shortlist that are re-ranked.",
)
@image_size_option
@click.option(
    "--clusters",
    type=click.IntRange(2),
    help="Clusters that a trunk is fitted with. Default: 16.",
)
@click.option(
    "--pca-dim",
    type=click.IntRange(1),
    help="Dimensions of the PCA that a trunk is fitted with; smaller ones are its leading "
    "dimensions. Default: 4096.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads; default: all cores.")
def reproduce(
    name: str, datasets: tuple[Path, ...], out: Path, model: str | None, queries: Any,
    threads: int | None, **options: Any,
) -> None:  # fmt: skip
    """Make a table or figure of the paper: OUT/NAME.csv, .md and .png.

    NAME: ablation, sizes, speed, methods, pictures, grid, robustness or k-patch. DATASETS are
    folders with database/, queries/ and ground_truth.csv (query,database). In Python:
    placerec.reproduce.reproduce.
    """
    from placerec.errors import UsageError
    from placerec.reproduce import TABLES
    from placerec.reproduce import reproduce as run
    from placerec.reproduce.parameters import Options
    from placerec.runtime import available_threads

    if name not in TABLES:
        raise UsageError(f"table {name!r}: choose one of {', '.join(TABLES)}")
    table = TABLES[name]
    chosen = Options(
        model=model or table.model,
        queries={None: table.queries, "all": None}.get(queries, queries),
        threads=threads or available_threads(),
        **given(options),
    )
    with progress_bars() as progress:
        result = run(name, datasets, out, chosen, progress)
    click.echo(result.csv.with_suffix(".md").read_text(encoding="utf-8").strip())
