"""``placerec index``: make an index and keep it up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.cli.options import chosen_settings, method_option, model_options, setting_options
from placerec.cli.progress import list_skipped, progress_bars
from placerec.errors import Damaged, UsageError

if TYPE_CHECKING:
    from placerec.index.build import Report

INDEX = click.argument("index", type=click.Path(path_type=Path))
POSITIONS = click.option(
    "--positions", type=click.Path(path_type=Path),
    help="CSV file image,latitude,longitude[,heading]; takes precedence over EXIF.",
)  # fmt: skip


@click.group()
def index() -> None:
    """Make an index of a folder of photos, and keep it up to date."""


@index.command()
@INDEX
@click.argument("folder", type=click.Path(path_type=Path))
@POSITIONS
@click.option("--force", is_flag=True, help="Replace an index that exists.")
@method_option
@model_options
@setting_options
def build(
    index: Path, folder: Path, positions: Path | None, force: bool, method: str | None, model: str,
    threads: int | None, device: str, **options: Any,
) -> int:  # fmt: skip
    """Describe every photo below FOLDER and write the file INDEX.

    The two may come in either order. In Python: placerec.build_index.
    """
    from placerec.index.build import build_index

    if index.is_dir() and not folder.is_dir():
        index, folder = folder, index
    if index.is_dir():
        raise UsageError(f"{index}: is a folder; name the index file, e.g. {index}.placerec")
    settings = chosen_settings(model, method, options)
    with progress_bars() as progress:
        report = build_index(
            index, folder, model=model, settings=settings, positions=positions, threads=threads,
            device=device, replace=force, progress=progress,
        )  # fmt: skip
    return _tell(index, report)


@index.command()
@INDEX
@click.argument("photos", type=click.Path(path_type=Path), nargs=-1, required=True)
@POSITIONS
@model_options
def add(
    index: Path, photos: tuple[Path, ...], positions: Path | None, model: str,
    threads: int | None, device: str,
) -> int:  # fmt: skip
    """Add PHOTOS (files or folders) to INDEX; known photos are left as they are.

    In Python: placerec.add_photos.
    """
    from placerec.index.update import add_photos

    with progress_bars() as progress:
        report = add_photos(
            index, photos, positions=positions, model=model, threads=threads, device=device,
            progress=progress,
        )  # fmt: skip
    return _tell(index, report)


@index.command()
@INDEX
@click.argument("photos", nargs=-1, required=True)
def remove(index: Path, photos: tuple[str, ...]) -> int:
    """Take PHOTOS out of INDEX, each named as in the index or by its path.

    In Python: placerec.remove_photos.
    """
    from placerec.index.update import remove_photos

    return _tell(index, remove_photos(index, photos))


@index.command()
@INDEX
@model_options
def refresh(index: Path, model: str, threads: int | None, device: str) -> int:
    """Bring INDEX up to date with its folder: new, changed and deleted photos.

    In Python: placerec.refresh_index.
    """
    from placerec.index.update import refresh_index

    with progress_bars() as progress:
        report = refresh_index(
            index, model=model, threads=threads, device=device, progress=progress
        )
    return _tell(index, report)


@index.command()
@INDEX
@model_options
def refit(index: Path, model: str, threads: int | None, device: str) -> int:
    """Fit the model anew on the photos of INDEX and describe them all again.

    In Python: placerec.refit_index.
    """
    from placerec.index.build import refit_index

    with progress_bars() as progress:
        report = refit_index(index, model=model, threads=threads, device=device, progress=progress)
    return _tell(index, report)


@index.command()
@INDEX
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--photos", is_flag=True, help="List the photos, one path a line.")
def info(index: Path, as_json: bool, photos: bool) -> None:
    """Show what INDEX holds. In Python: placerec.index.IndexReader.open(INDEX).info."""
    from placerec.index.reader import IndexReader

    with IndexReader.open(index) as reader:
        facts, names = reader.info, [entry.name for entry in reader.entries]
        located = sum(entry.position is not None for entry in reader.entries)
    if photos:
        click.echo("\n".join(names))
        return
    values = {
        "photos": facts.photos, "with_position": located, "bytes": facts.bytes,
        "bytes_per_photo": facts.bytes_per_photo, "model": facts.model,
        "fingerprint": facts.fingerprint, "folder": str(facts.root),
        "settings": json.loads(facts.settings), "created_with": facts.created_with,
        "format": facts.format,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    for name, value in values.items():
        click.echo(f"{name}: {value}")


@index.command()
@INDEX
def verify(index: Path) -> None:
    """Check every byte of INDEX that can be checked. In Python: placerec.verify."""
    from placerec.index.verify import verify as findings_of

    findings = findings_of(index)
    for finding in findings:
        click.echo(finding)
    if findings:
        raise Damaged(f"{index}: {len(findings)} findings; restore a copy or build it again")
    click.echo(f"{index}: sound")


def _tell(index: Path, report: Report) -> int:
    counts = {name: getattr(report, name) for name in ("added", "changed", "unchanged", "removed")}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no change"
    click.echo(f"{index}: {told}, {len(report.skipped)} skipped")
    if report.added or report.changed:
        click.echo(f"with a position: {report.located} of {report.added + report.changed}")
    if report.model:
        click.echo(f"model: {report.model}")
    sys.stdout.flush()
    return list_skipped(report.skipped)
