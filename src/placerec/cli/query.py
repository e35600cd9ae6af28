"""``placerec query`` and ``placerec match``: where was this taken, and do these two agree?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.cli.options import (
    chosen_settings,
    given,
    method_option,
    model_options,
    setting_options,
)
from placerec.cli.progress import list_skipped
from placerec.errors import NotFound, PhotoError, UsageError
from placerec.files import write_text

if TYPE_CHECKING:
    from placerec.recognise.recognizer import PlaceRecognizer
    from placerec.records import Answer, Place


@click.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Answers.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, one object a photo.")
@click.option("--geojson", type=click.Path(path_type=Path), help="Write the places as GeoJSON.")
@click.option("--picture", type=click.Path(path_type=Path),
              help="Draw the best match of one photo as PNG.")  # fmt: skip
@model_options
@setting_options
def query(
    index: Path, photos: tuple[str, ...], top: int, as_json: bool, geojson: Path | None,
    picture: Path | None, model: str, threads: int | None, device: str, **options: Any,
) -> int:  # fmt: skip
    """Say where each PHOTO was taken: the most similar places of INDEX, best first.

    In Python: placerec.PlaceRecognizer.open(INDEX).query(PHOTO).
    """
    from placerec.recognise.recognizer import PlaceRecognizer

    if picture and len(photos) > 1:
        raise UsageError("--picture: give one photo, or leave --picture away")
    skipped: list[PhotoError] = []
    answers: list[Answer] = []
    with PlaceRecognizer.open(
        index, model=model, threads=threads, device=device, **given(options)
    ) as recognizer:
        for photo in photos:
            try:
                answers.append(recognizer.query(photo, top))
            except PhotoError as error:
                if len(photos) == 1:
                    raise
                skipped.append(error)
        if picture and answers:
            _draw(recognizer, answers[0], picture)
    if geojson:
        _write_geojson(answers, geojson)
    if as_json:
        click.echo(json.dumps([answer_as_json(answer) for answer in answers], indent=2))
    else:
        for answer in answers:
            _print(answer)
    sys.stdout.flush()
    return list_skipped(skipped)


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Draw the matches as PNG.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@method_option
@model_options
@setting_options
def match(
    first: Path, second: Path, out: Path | None, as_json: bool, method: str | None, model: str,
    threads: int | None, device: str, **options: Any,
) -> None:  # fmt: skip
    """Compare two photos: how well FIRST (as the query) and SECOND agree.

    In Python: placerec.match_photos.
    """
    from placerec.photos.decode import decode
    from placerec.recognise.pair import match_photos
    from placerec.recognise.picture import draw_match

    place, used = match_photos(
        first, second, model=model, settings=chosen_settings(model, method, options),
        threads=threads, device=device,
    )  # fmt: skip
    if out:
        draw_match(decode(first).pixels, decode(second).pixels, place, out)
    values = {"first": str(first), "second": str(second), "score": place.score,
              "global_score": place.global_score, "inliers": place.inliers,
              "model": used.name}  # fmt: skip
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    for name, value in values.items():
        click.echo(f"{name}: {value}")


def answer_as_json(answer: Answer) -> dict[str, Any]:
    """The documented JSON object of one query (docs/COMMANDS.md)."""
    return {"query": answer.query, "places": [_place_as_json(place) for place in answer.places]}


def _place_as_json(place: Place) -> dict[str, Any]:
    position = place.position
    return {
        "rank": place.rank,
        "path": place.path,
        "score": place.score,
        "global_score": place.global_score,
        "inliers": place.inliers,
        "latitude": position.latitude if position else None,
        "longitude": position.longitude if position else None,
    }


def _print(answer: Answer) -> None:
    click.echo(answer.query)
    width = max((len(place.path) for place in answer.places), default=0)
    click.echo(f"  rank   score  global  inliers  {'photo':{width}}  position")
    for place in answer.places:
        inliers = "-" if place.inliers is None else place.inliers
        position = place.position
        where = f"{position.latitude:.6f},{position.longitude:.6f}" if position else "-"
        click.echo(
            f"  {place.rank:4}  {place.score:6.3f}  {place.global_score:6.3f}  {inliers:>7}  "
            f"{place.path:{width}}  {where}"
        )


def _draw(recognizer: PlaceRecognizer, answer: Answer, out: Path) -> None:
    from placerec.photos.decode import decode
    from placerec.recognise.picture import draw_match

    best = answer.best
    path = recognizer.index.photo_path(best.path)
    if not path.is_file():
        raise NotFound(
            path, "the indexed photo is not there, so it cannot be drawn",
            "move the photos back beside the index",
        )  # fmt: skip
    draw_match(decode(Path(answer.query)).pixels, decode(path).pixels, best, out)


def _write_geojson(answers: list[Answer], path: Path) -> None:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point",
                         "coordinates": [place.position.longitude, place.position.latitude]},
            "properties": {"query": answer.query, "rank": place.rank, "path": place.path,
                           "score": place.score, "global_score": place.global_score},
        }
        for answer in answers
        for place in answer.places
        if place.position
    ]  # fmt: skip
    text = json.dumps({"type": "FeatureCollection", "features": features}, indent=2)
    write_text(path, text + "\n")
