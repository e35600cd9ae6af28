"""``placerec geotag``: positions for photos that have none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.cli.commands import Command, refuse_swapped
from placerec.cli.options import PATH, false_alarm_option, index_model_options, json_option
from placerec.cli.output import list_skipped, print_json, print_table, say, warn
from placerec.cli.outputs import NewFile, is_geojson, write_geojson
from placerec.cli.progress import showing_progress
from placerec.cli.query import photos_of
from placerec.errors import PlacerecError, UsageError
from placerec.files import write_text

if TYPE_CHECKING:
    from placerec.geotag import GeoTag

COLUMNS = {"status": False, "confidence": True, "position": False, "within": True, "photo": False}


@click.command(cls=Command)
@click.argument("index", type=PATH)
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True, type=PATH)
@click.option("--sure", type=click.FloatRange(0, 1), default=0.9, show_default=True,
              help="The least probability that a position is right.")  # fmt: skip
@click.option("--xmp", is_flag=True, help="Write side-cars (photo.jpg.xmp) beside the photos.")
@click.option("--force", is_flag=True, help="Merge positions into side-cars that exist.")
@click.option("--csv", type=NewFile(), help="Write all photos as a table of positions.")
@click.option("--gpx", type=NewFile(), help="Write the new positions as GPX waypoints.")
@click.option("--geojson", type=NewFile(is_geojson), help="Write the new positions as GeoJSON.")
@json_option
@false_alarm_option
@index_model_options
def geotag(
    index: Path, photos: tuple[Path, ...], sure: float, xmp: bool, force: bool, csv: Path | None,
    gpx: Path | None, geojson: Path | None, as_json: bool, false_alarm: float, model: str,
    threads: int | None, device: str,
) -> int:  # fmt: skip
    """Give a position to each PHOTO that has none, if it is sure to be a place of INDEX.

    A folder means every photo in it. A photo that is not sure is listed for review. Without
    --xmp, --csv, --gpx or --geojson nothing is written, and no photo is ever changed. Photos with
    a position help: photos taken minutes apart are near each other.

    In Python: placerec.geotag.geotag_photos(PlaceRecognizer.open(INDEX), PHOTOS).
    """
    from placerec.geotag import geotag_photos
    from placerec.geotag.tables import as_csv, as_features, as_gpx
    from placerec.recognise.recognizer import PlaceRecognizer

    refuse_swapped("geotag", index, photos[0])
    if force and not xmp:
        raise UsageError("--force: changes nothing without --xmp; omit it")
    paths, problems = photos_of(photos)
    _refuse_one_name(paths, csv, gpx, geojson, xmp=xmp)
    with (
        showing_progress(threads, device) as runtime,
        PlaceRecognizer.open(
            index, model=model, runtime=runtime, false_alarm=false_alarm
        ) as recognizer,
    ):
        report = geotag_photos(recognizer, paths, sure=sure, progress=runtime.progress)
        if photos == tuple(paths) and len(photos) == len(report.skipped):
            raise report.skipped[0]
    texts = {csv: as_csv, gpx: as_gpx}
    for path, text in texts.items():
        if path:
            write_text(path, text(report.tags))
    if geojson:
        write_geojson(geojson, as_features(report.tags))
    sidecars, unwritten = _write_sidecars(report.tags, merge=force) if xmp else ([], [])
    if as_json:
        print_json([_as_json(tag) for tag in report.tags])
    else:
        _print(report.tags)
        results = {"csv": csv, "gpx": gpx, "geojson": geojson}
        say(*(f"{name}: {path}" for name, path in results.items() if path))
        say(*(f"xmp: {path}" for path in sidecars))
    if unwritten:
        some = f"{len(unwritten)} photo{'s' if len(unwritten) > 1 else ''}"
        warn(f"no side-car for {some} (--force merges the position into an existing one):")
        warn(*(f"  {error}" for error in unwritten))
    return list_skipped([*problems, *report.skipped]) or max(
        (error.exit_code for error in unwritten), default=0
    )


def _refuse_one_name(paths: list[Path], *results: Path | None, xmp: bool) -> None:
    """Raise ``UsageError`` if two results have one name."""
    from placerec.photos.xmp import sidecars

    outputs = [path for path in results if path]
    names = Counter(path.absolute() for path in outputs)
    if xmp:
        names.update({side.absolute() for path in paths for side in sidecars(path)})
    for path in outputs:
        if names[path.absolute()] > 1:
            raise UsageError(f"{path}: one name for two results; choose another one")


def _write_sidecars(
    tags: tuple[GeoTag, ...], *, merge: bool
) -> tuple[list[Path], list[PlacerecError]]:
    """Write the side-cars; return their paths, and why others were not written."""
    from placerec.geotag import write_sidecar
    from placerec.geotag.locate import LOCATED

    written: list[Path] = []
    errors: list[PlacerecError] = []
    for tag in tags:
        if tag.status == LOCATED and tag.position:
            try:
                written.append(write_sidecar(tag.photo, tag.position, tag.radius, merge=merge))
            except PlacerecError as error:
                errors.append(error)
    return written, errors


def _print(tags: tuple[GeoTag, ...]) -> None:
    from placerec.geotag.locate import LOCATED, OUTSIDE, REVIEW, TAGGED

    rows = []
    for tag in tags:
        at = tag.position
        rows.append((
            tag.status, "-" if tag.confidence is None else f"{tag.confidence:.3f}",
            f"{at.latitude:.6f},{at.longitude:.6f}" if at else "-",
            "-" if tag.radius is None else f"{tag.radius:.0f} m", str(tag.photo),
        ))  # fmt: skip
    if rows:
        print_table(COLUMNS, rows)
    counts = Counter(tag.status for tag in tags)
    say(", ".join(f"{counts[status]} {status}" for status in (LOCATED, REVIEW, OUTSIDE, TAGGED)))
    review = [tag for tag in tags if tag.status == REVIEW]
    if review:
        warn("for review:")
    for tag in review:
        like = f" (like {tag.place})" if tag.place else ""
        warn(f"  {tag.photo}: {tag.why}{like}")


def _as_json(tag: GeoTag) -> dict[str, Any]:
    """Return the documented JSON object of one photo (docs/COMMANDS.md)."""
    same = ("status", "confidence", "radius", "place", "why")
    return {
        "photo": str(tag.photo),
        **{name: getattr(tag.position, name, None) for name in ("latitude", "longitude")},
        **{name: getattr(tag, name) for name in same},
        "taken": tag.taken.isoformat() if tag.taken else None,
    }
