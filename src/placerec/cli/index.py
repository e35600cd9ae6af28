"""``placerec index``: make an index and keep it up to date."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.baselines import RETRIEVERS
from placerec.cli.commands import Group, refuse_swapped
from placerec.cli.options import (
    PATH,
    algorithm_options,
    chosen_settings,
    index_model_options,
    json_option,
    model_options,
    together,
)
from placerec.cli.output import list_skipped, print_facts, print_json, print_table, say, warn
from placerec.cli.progress import showing_progress
from placerec.errors import Damaged, FolderGone, NotFound, UsageError
from placerec.files import is_file, is_folder
from placerec.settings import CHOICES

if TYPE_CHECKING:
    from placerec.index.build import Report
    from placerec.index.reader import Entry, IndexInfo

INDEX = click.argument("index", type=PATH)
_RETRIEVERS = ", ".join(name for name, entry in RETRIEVERS.items() if entry.convert)
POSITIONS = together(
    click.option("--positions", type=PATH,
                 help="Table image,latitude,longitude[,heading], or GPX track; takes precedence "
                      "over EXIF."),
    click.option("--time-offset", type=float, default=0.0, metavar="SECONDS",
                 help="Seconds to add to the camera's clock to give UTC; for a track."),
)  # fmt: skip
LEFTOVERS = {  # how the name of a file ends that a killed program leaves beside an index
    "-journal": "belongs to the index, so copy both files; a program writes to the index or was "
                "killed, and the next one that may write removes it",
    ".partial": "a build is at work or was killed; the next build replaces it",
}  # fmt: skip


@click.group(cls=Group)
def index() -> None:
    """Make an index of a folder of photos, and keep it up to date."""


@index.command()
@INDEX
@click.argument("folder", type=PATH)
@POSITIONS
@click.option("--force", is_flag=True, help="Replace an existing index.")
@click.option(
    "--retriever",
    help=f"What makes the shortlists in place of the model: {_RETRIEVERS}, "
    "or an .onnx file whose output is one vector per photo.",
)
@click.option(
    "--preset",
    type=click.Choice(CHOICES["preset"]),
    help="How descriptors are stored. Default: exact for the paper's presets, default for the "
    "default method, int8 for the others.",
)
@click.option(
    "--engine",
    type=click.Choice(["threads", "ray"]),
    default="threads",
    show_default=True,
    help="What describes the photos: threads, or ray: processes on one or many machines.",
)
@algorithm_options
def build(
    index: Path, folder: Path, positions: Path | None, time_offset: float, force: bool,
    retriever: str | None, preset: str | None, engine: str, method: str | None, model: str,
    threads: int | None, device: str, **options: Any,
) -> int:  # fmt: skip
    """Describe every photo below FOLDER and write INDEX: a file, or lance:FOLDER.

    The order of the two arguments does not matter. In Python: placerec.build_index.
    """
    from placerec.index.build import build_index
    from placerec.index.store import store_of

    if index.is_dir() and not folder.is_dir():
        index, folder = folder, index
    if index.is_dir():
        raise UsageError(f"{index}: a folder; name the index file, for example {index}.placerec")
    if store_of(index).exists(index) and not force:
        raise UsageError(f"{index}: already exists; use index add, or replace it with --force")
    settings = chosen_settings(model, method, options)
    return _change(
        build_index, index, folder, model=model, settings=settings, positions=positions,
        retriever=retriever, preset=preset, time_offset=time_offset, replace=force, engine=engine,
        threads=threads, device=device,
    )  # fmt: skip


@index.command()
@INDEX
@click.argument("photos", type=PATH, nargs=-1, required=True)
@POSITIONS
@index_model_options
def add(index: Path, photos: tuple[Path, ...], **options: Any) -> int:
    """Add PHOTOS (files or folders) to INDEX; unchanged photos stay as they are.

    In Python: placerec.add_photos.
    """
    from placerec.index.update import add_photos

    for photo in photos:
        refuse_swapped("index add", index, photo)
    return _change(add_photos, index, photos, **options)


@index.command()
@INDEX
@click.argument("photos", nargs=-1, required=True)
def remove(index: Path, photos: tuple[str, ...]) -> int:
    """Remove PHOTOS (files or folders) from INDEX, each named as in the index or by its path.

    In Python: placerec.remove_photos.
    """
    from placerec.index.update import remove_photos

    for photo in photos:
        refuse_swapped("index remove", index, Path(photo))
    try:
        return _print_report(index, remove_photos(index, photos))
    except NotFound as error:
        if error.path == index:
            raise
        warn(f"error: {error}: placerec index info {index} --photos")
        return error.exit_code


@index.command()
@INDEX
@click.option("--folder", type=PATH, metavar="NEW", help="Where the photos are now.")
@index_model_options
def refresh(index: Path, folder: Path | None, **options: Any) -> int:
    """Bring INDEX up to date with its folder: new, changed, renamed and deleted photos.

    In Python: placerec.refresh_index.
    """
    from placerec.index.update import refresh_index

    try:
        return _change(refresh_index, index, folder=folder, **options)
    except FolderGone as error:
        warn(f"error: {error}: placerec index refresh {index} --folder NEW")
        return error.exit_code


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
@click.argument("new", type=PATH)
@click.option(
    "--preset",
    type=click.Choice(CHOICES["preset"][1:]),
    default="compact",
    show_default=True,
    help="How descriptors are stored in NEW.",
)
@click.option("--force", is_flag=True, help="Replace an existing index.")
@index_model_options
def convert(
    index: Path, new: Path, preset: str, force: bool, model: str, threads: int | None, device: str
) -> None:
    """Write INDEX as NEW with fewer bytes per photo, without describing the photos again.

    NEW may be INDEX itself. In Python: placerec.convert_index.
    """
    from placerec.index.convert import convert_index
    from placerec.index.store import open_index, store_of

    with open_index(index) as reader:
        before = reader.info.bytes
    if new.is_dir():
        raise UsageError(f"{new}: a folder; name the index file, for example {new}.placerec")
    if store_of(new).exists(new) and not force:
        raise UsageError(f"{new}: already exists; give another name, or replace it with --force")
    with showing_progress(threads, device) as runtime:
        count = convert_index(index, new, preset, model=model, replace=force, runtime=runtime)
    with open_index(new) as reader:
        after = reader.info.bytes
    say(f"{new}: {count} photos, preset {preset}, {_size(after)} (before: {_size(before)})")


@index.command()
@INDEX
@json_option
@click.option("--photos", is_flag=True, help="List the photos, one path per line.")
def info(index: Path, as_json: bool, photos: bool) -> None:
    """Show what INDEX contains. In Python: placerec.index.open_index(INDEX).info."""
    from placerec.index.index_model import stated_of_index
    from placerec.index.store import open_index

    with open_index(index) as reader:
        info, entries = reader.info, reader.entries
        stated = {} if photos else stated_of_index(reader, index)
    if photos and as_json:
        print_json([_photo_facts(entry) for entry in entries])
    elif photos:
        say(*(entry.name for entry in entries))
    elif as_json:
        print_json(_facts(info, entries) | stated)
    else:
        _print_info(index, info, entries, stated)


@index.command()
@INDEX
def verify(index: Path) -> None:
    """Check every byte of INDEX that can be checked. In Python: placerec.verify."""
    from placerec.index.publish import leftovers
    from placerec.index.store import verify as verify_index

    findings = verify_index(index)
    say(*findings)
    warn(*_lines_about(leftovers(index)))
    if findings:
        count = f"{len(findings)} finding{'s' if len(findings) > 1 else ''}"
        raise Damaged(f"{index}: {count}; restore a copy or build it again")
    say(f"{index}: sound")


@index.command()
@INDEX
def speedup(index: Path) -> None:
    """Make a cache of INDEX that finds the most similar of very many photos sooner.

    Every query uses it until INDEX changes; then make it again. In Python: placerec.index.speed_up.
    """
    from placerec.index.speedup import size_of, speed_up

    with showing_progress(None, "cpu") as runtime:
        cache = speed_up(index, runtime=runtime)
    say(f"{cache}: {_size(size_of(cache))}")


def _photo_facts(entry: Entry) -> dict[str, Any]:
    position = entry.position
    return {
        "path": entry.name, "sha256": entry.sha256,
        "latitude": position and position.latitude, "longitude": position and position.longitude,
        "heading": position and position.heading,
        "gps_damaged": entry.gps_damaged, "blank": entry.blank,
    }  # fmt: skip


def _facts(info: IndexInfo, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return what an index contains, for programs: exact numbers, true names."""
    facts = {
        "photos": info.photos,
        "with_position": sum(entry.position is not None for entry in entries),
        "gps_damaged": [entry.name for entry in entries if entry.gps_damaged],
        "blank": [entry.name for entry in entries if entry.blank],
        "missing": [entry.name for entry in entries if not is_file(info.root / entry.name)],
        **asdict(info),
    }
    return facts | {"folder": str(facts.pop("root")), "settings": json.loads(info.settings)}


def _print_info(
    index: Path, info: IndexInfo, entries: Sequence[Entry], stated: dict[str, str]
) -> None:
    """Print what an index contains, for people."""
    from placerec.index.notices import Notice

    facts, calibration = _facts(info, entries), info.calibration
    print_facts({
        "photos": f"{info.photos}, {facts['with_position']} with a position",
        "folder": info.root,
        "model": f"{info.model} ({info.fingerprint[:12]})",
        "trained on": stated["training_data"] or "not stated",
        "provenance": stated["provenance"] or "not stated",
        "licence": stated["licence"] or "not stated",
        **({"retriever": f"{info.retriever} ({info.retriever_fingerprint[:12]}) from "
                         f"{info.retriever_source or 'a program'}"}
           if info.retriever else {}),
        "confidence": calibration.reason or f"calibrated with {calibration.photos} photos",
        "preset": info.preset,
        "size": f"{_size(info.bytes)}, {_size(info.bytes_per_photo)} per photo",
        "made with": f"placerec {info.created_with}, index format {info.format}",
    })  # fmt: skip
    remedy = f"placerec index refresh {index}"
    if not is_folder(info.root):
        say(f"the folder is gone: {remedy} --folder NEW")
    elif facts["missing"]:
        say(f"not in the folder: {len(facts['missing'])} of {info.photos} photos; {remedy}")
    for kind in ("gps_damaged", "blank"):
        if facts[kind]:
            say(Notice(kind, tuple(facts[kind])).text)
    say(*_lines_about(info.leftovers))
    settings = [(name, _value(value)) for name, value in facts["settings"].items()]
    # The model says which trunk it has; the setting is the one that it would have by default.
    print_table({"setting": False, "value": False}, [row for row in settings if row[0] != "trunk"])


def _size(count: float) -> str:
    """Return a number of bytes rounded, for example 31.6 kB."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _value(value: Any) -> str:
    """Return the value of a setting as the command line takes it: 480,640 or 2x2,5x5."""
    if not isinstance(value, list):
        return "-" if value is None else str(value)
    return ",".join("x".join(map(str, v)) if isinstance(v, list) else str(v) for v in value)


def _lines_about(leftovers: Sequence[str]) -> list[str]:
    """Return a line for each file beside an index that a killed program has left."""
    endings = ((name, text) for name in leftovers for end, text in LEFTOVERS.items()
               if name.endswith(end))  # fmt: skip
    return [f"{name}: {text}" for name, text in endings]


def _change(
    change: Callable[..., Report], index: Path, *args: Any, threads: int | None, device: str,
    **options: Any,
) -> int:  # fmt: skip
    """Call a library function that changes ``index``, with progress bars, and print its report."""
    with showing_progress(threads, device) as runtime:
        report = change(index, *args, runtime=runtime, **options)
    return _print_report(index, report)


def _print_report(index: Path, report: Report) -> int:
    names = ("added", "changed", "moved", "unchanged", "removed")
    counts = {name: getattr(report, name) for name in names}
    changes = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    say(f"{index}: {changes or 'no change'}, {len(report.skipped)} skipped")
    if report.added or report.changed:
        new = f"{report.added + report.changed} new or changed photos"
        say(f"{report.located} of {new} have a position")
    if report.model:
        say(f"model: {report.model}")
    code = list_skipped(report.skipped)
    warn(*(notice.text for notice in report.notices))
    return max([code, *(notice.exit_code for notice in report.notices)])
