"""``placerec query`` and ``placerec match``: where was a photo taken, and do two photos agree?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.cli.commands import Command
from placerec.cli.options import (
    PATH,
    algorithm_options,
    chosen_settings,
    given,
    json_option,
    model_options,
    setting_options,
)
from placerec.cli.output import list_skipped, print_facts, print_json, print_table, say
from placerec.errors import NotFound, PhotoError, UsageError
from placerec.files import write_text
from placerec.runtime import Runtime

if TYPE_CHECKING:
    from placerec.recognise.recognizer import PlaceRecognizer
    from placerec.records import Answer, Photo, Place

COLUMNS = {"rank": True, "score": True, "global": True, "inliers": True, "photo": False,
           "position": False}  # fmt: skip


@click.command(cls=Command)
@click.argument("index", type=PATH)
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Answers.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, one object per photo.")
@click.option("--geojson", type=PATH, help="Write the places as GeoJSON.")
@click.option("--picture", type=PATH, help="Draw the best match of one photo as PNG.")
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
        raise UsageError("--picture: give one photo, or omit --picture")
    skipped: list[PhotoError] = []
    answers: list[Answer] = []
    runtime = Runtime(threads=threads, device=device)
    with PlaceRecognizer.open(index, model=model, runtime=runtime, **given(options)) as recognizer:
        for path in photos:
            try:
                photo = recognizer.read(path)
            except PhotoError as error:
                if len(photos) == 1:
                    raise
                skipped.append(error)
                continue
            answers.append(recognizer.query(photo, top))
            if picture:
                draw_best(recognizer, photo, answers[-1], picture)
    if geojson:
        write_text(geojson, json.dumps(_as_geojson(answers), indent=2) + "\n")
    if as_json:
        print_json([_answer_as_json(answer) for answer in answers])
    else:
        for answer in answers:
            print_answer(answer)
    return list_skipped(skipped)


@click.command(cls=Command)
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--out", type=PATH, help="Draw the matches as PNG.")
@json_option
@algorithm_options
def match(
    first: Path, second: Path, out: Path | None, as_json: bool, method: str | None, model: str,
    threads: int | None, device: str, **options: Any,
) -> None:  # fmt: skip
    """Compare two photos: how well FIRST (as the query) and SECOND agree.

    In Python: placerec.match_photos.
    """
    from placerec.recognise.pair import match_pixels, pair_model
    from placerec.recognise.picture import draw_match

    settings = chosen_settings(model, method, options)
    ready = pair_model(model, settings, Runtime(threads=threads, device=device))
    query, other = ready.read(first).pixels, ready.read(second).pixels
    place = match_pixels(query, other, ready, str(second))
    if out:
        draw_match(query, other, place, out)
    facts: dict[str, Any] = {"first": str(first), "second": str(second)}
    facts |= {name: getattr(place, name) for name in ("score", "global_score", "inliers")}
    facts["model"] = ready.name
    print_facts(facts, as_json=as_json)


def _answer_as_json(answer: Answer) -> dict[str, Any]:
    """Return the documented JSON object of one query (docs/COMMANDS.md)."""
    places = [
        _scores(place)
        | {"inliers": place.inliers}
        | {name: getattr(place.position, name, None) for name in ("latitude", "longitude")}
        for place in answer.places
    ]
    return {"query": answer.query, "places": places}


def _scores(place: Place) -> dict[str, Any]:
    return {name: getattr(place, name) for name in ("rank", "path", "score", "global_score")}


def print_answer(answer: Answer) -> None:
    """Print the places of one query as a table."""
    say(answer.query)
    rows = []
    for place in answer.places:
        position = place.position
        rows.append((
            f"  {place.rank}", f"{place.score:.3f}", f"{place.global_score:.3f}",
            "-" if place.inliers is None else str(place.inliers), place.path,
            f"{position.latitude:.6f},{position.longitude:.6f}" if position else "-",
        ))  # fmt: skip
    print_table(COLUMNS, rows)


def draw_best(recognizer: PlaceRecognizer, photo: Photo, answer: Answer, out: Path) -> None:
    """Draw a query photo beside its best place, with the matched patches."""
    from placerec.recognise.picture import draw_match

    path = recognizer.index.photo_path(answer.best.path)
    if not path.is_file():
        problem = "the indexed photo is missing, so it cannot be drawn"
        raise NotFound(path, problem, "move the photos back beside the index")
    draw_match(photo.pixels, recognizer.read(path).pixels, answer.best, out)


def _as_geojson(answers: list[Answer]) -> dict[str, Any]:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point",
                         "coordinates": [place.position.longitude, place.position.latitude]},
            "properties": {"query": answer.query} | _scores(place),
        }
        for answer in answers
        for place in answer.places
        if place.position
    ]  # fmt: skip
    return {"type": "FeatureCollection", "features": features}
