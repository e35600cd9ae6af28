"""``placerec reproduce``: the paper's tables and figures on any data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from placerec.cli.commands import Command
from placerec.cli.options import PATH, given, image_size_option, query_list_options, runtime_options
from placerec.cli.output import say
from placerec.cli.outputs import RunFolder
from placerec.cli.progress import showing_progress


def _queries(_context: click.Context, _param: click.Parameter, value: str | None) -> Any:
    if value is None or value == "all":
        return value
    if not value.isdecimal() or not int(value):
        raise click.BadParameter("give a number of at least 1, or all")
    return int(value)


class _TablesInHelp(Command):
    """A command whose help lists the tables; it imports them only to show the help."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from placerec.reproduce import TABLES

        self.help = (self.help or "").replace("{tables}", ", ".join(TABLES))
        super().format_help_text(ctx, formatter)


@click.command(cls=_TablesInHelp)
@click.argument("name")
@click.argument("datasets", nargs=-1, required=True, type=PATH)
@click.option(
    "--out", required=True, type=RunFolder("cache"),
    help="Folder of the table; a stopped run resumes in it.",
)  # fmt: skip
@click.option(
    "--model",
    help="A trunk, an .onnx trunk, or a .safetensors model in the published form. "
    "Default: vgg16; for k-patch: efficientnet-lite0.",
)
@click.option(
    "--protocol", metavar="NAME",
    help="How the data sets are read and judged (docs/DATASETS.md); a published data set needs "
    "its name.",
)  # fmt: skip
@click.option(
    "--distractors", multiple=True, metavar="[SET=]FOLDER",
    help="Photos that join the database (with SET: of this data set only) and are never correct.",
)  # fmt: skip
@click.option(
    "--ground-truth", type=PATH, help="CSV file with the columns query,database, for one data set."
)
@query_list_options
@click.option(
    "--queries", callback=_queries, metavar="N|all",
    help="Number of queries, a seeded choice. Default: 100; for speed and methods: 50.",
)  # fmt: skip
@click.option(
    "--candidates", type=click.IntRange(10), default=20, show_default=True,
    help="Number of photos of the shortlist that are re-ranked; at least 10, for recall@10.",
)  # fmt: skip
@image_size_option
@click.option(
    "--clusters", type=click.IntRange(2), help="Clusters if a trunk is fitted. Default: 16."
)
@click.option(
    "--pca-dim", type=click.IntRange(1),
    help="Dimensions of the PCA if a trunk is fitted; smaller PCAs are its leading dimensions. "
    "Default: 4096.",
)  # fmt: skip
@runtime_options
def reproduce(
    name: str, datasets: tuple[Path, ...], out: Path, model: str | None, queries: Any,
    threads: int | None, device: str, **options: Any,
) -> None:  # fmt: skip
    """Make a table or figure of the paper: OUT/NAME.csv, .md and .png.

    NAME is one of {tables}. DATASETS are folders with database/, queries/ and ground_truth.csv
    (query,database), or other layouts of docs/DATASETS.md. In Python:
    placerec.reproduce.reproduce.
    """
    from placerec.reproduce import reproduce as run
    from placerec.reproduce import table_named
    from placerec.reproduce.parameters import Parameters

    table = table_named(name)
    parameters = Parameters(
        model=model or table.model,
        queries={None: table.queries, "all": None}.get(queries, queries),
        **given(options),
    )
    with showing_progress(threads, device) as runtime:
        result = run(name, datasets, out, parameters, runtime)
    say(*result.csv.with_suffix(".md").read_text(encoding="utf-8").strip().split("\n"))
