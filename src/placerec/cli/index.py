"""``placerec index``: make an index and keep it up to date."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.cli.commands import Group
from placerec.cli.options import (
    PATH,
    algorithm_options,
    chosen_settings,
    json_option,
    model_options,
)
from placerec.cli.output import list_skipped, print_facts, say
from placerec.cli.progress import showing_progress
from placerec.errors import Damaged, UsageError

if TYPE_CHECKING:
    from placerec.index.build import Report

INDEX = click.argument("index", type=PATH)
POSITIONS = click.option(
    "--positions",
    type=PATH,
    help="CSV file image,latitude,longitude[,heading]; takes precedence over EXIF.",
)


@click.group(cls=Group)
def index() -> None:
    """Make an index of a folder of photos, and keep it up to date."""


@index.command()
@INDEX
@click.argument("folder", type=PATH)
@POSITIONS
@click.option("--force", is_flag=True, help="Replace an existing index.")
@algorithm_options
def build(
    index: Path, folder: Path, positions: Path | None, force: bool, method: str | None, model: str,
    threads: int | None, device: str, **options: Any,
) -> int:  # fmt: skip
    """Describe every photo below FOLDER and write the file INDEX.

    The order of the two arguments does not matter. In Python: placerec.build_index.
    """
    from placerec.index.build import build_index

    if index.is_dir() and not folder.is_dir():
        index, folder = folder, index
    if index.is_dir():
        raise UsageError(f"{index}: a folder; name the index file, for example {index}.placerec")
    if index.exists() and not force:
        raise UsageError(f"{index}: already exists; use index add, or replace it with --force")
    settings = chosen_settings(model, method, options)
    return _change(
        build_index, index, folder, model=model, settings=settings, positions=positions,
        replace=force, threads=threads, device=device,
    )  # fmt: skip


@index.command()
@INDEX
@click.argument("photos", type=PATH, nargs=-1, required=True)
@POSITIONS
@model_options
def add(index: Path, photos: tuple[Path, ...], **options: Any) -> int:
    """Add PHOTOS (files or folders) to INDEX; unchanged photos stay as they are.

    In Python: placerec.add_photos.
    """
    from placerec.index.build import add_photos

    return _change(add_photos, index, photos, **options)


@index.command()
@INDEX
@click.argument("photos", nargs=-1, required=True)
def remove(index: Path, photos: tuple[str, ...]) -> int:
    """Remove PHOTOS from INDEX, each named as in the index or by its path.

    In Python: placerec.remove_photos.
    """
    from placerec.index.build import remove_photos

    return _print_report(index, remove_photos(index, photos))


@index.command()
@INDEX
@model_options
def refresh(index: Path, **options: Any) -> int:
    """Bring INDEX up to date with its folder: new, changed and deleted photos.

    In Python: placerec.refresh_index.
    """
    from placerec.index.build import refresh_index

    return _change(refresh_index, index, **options)


@index.command()
@INDEX
@model_options
def refit(index: Path, **options: Any) -> int:
    """Fit the model again on the photos of INDEX, and describe them all again.

    In Python: placerec.refit_index.
    """
    from placerec.index.build import refit_index

    return _change(refit_index, index, **options)


@index.command()
@INDEX
@json_option
@click.option("--photos", is_flag=True, help="List the photos, one path per line.")
def info(index: Path, as_json: bool, photos: bool) -> None:
    """Show what INDEX contains. In Python: placerec.index.IndexReader.open(INDEX).info."""
    from placerec.index.reader import IndexReader

    with IndexReader.open(index) as reader:
        info, entries = reader.info, reader.entries
    if photos:
        say(*(entry.name for entry in entries))
        return
    located = sum(entry.position is not None for entry in entries)
    facts = {"photos": info.photos, "with_position": located, **asdict(info)}
    facts |= {"folder": str(facts.pop("root")), "settings": json.loads(info.settings)}
    print_facts(facts, as_json=as_json)


@index.command()
@INDEX
def verify(index: Path) -> None:
    """Check every byte of INDEX that can be checked. In Python: placerec.verify."""
    from placerec.index.verify import verify as verify_index

    findings = verify_index(index)
    say(*findings)
    if findings:
        raise Damaged(f"{index}: {len(findings)} findings; restore a copy or build it again")
    say(f"{index}: sound")


def _change(
    change: Callable[..., Report], index: Path, *args: Any, threads: int | None, device: str,
    **options: Any,
) -> int:  # fmt: skip
    """Call a library function that changes ``index``, with progress bars, and print its report."""
    with showing_progress(threads, device) as runtime:
        report = change(index, *args, runtime=runtime, **options)
    return _print_report(index, report)


def _print_report(index: Path, report: Report) -> int:
    counts = {name: getattr(report, name) for name in ("added", "changed", "unchanged", "removed")}
    changes = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    say(f"{index}: {changes or 'no change'}, {len(report.skipped)} skipped")
    if report.added or report.changed:
        say(f"with a position: {report.located} of {report.added + report.changed}")
    if report.model:
        say(f"model: {report.model}")
    return list_skipped(report.skipped)
