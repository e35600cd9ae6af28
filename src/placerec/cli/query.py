"""``placerec query`` and ``placerec match``: where was a photo taken, and do two photos agree?"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.cli.commands import Command, refuse_swapped
from placerec.cli.frames import Seconds, asked, drawn_before, videos_of
from placerec.cli.options import (
    PATH,
    chosen_settings,
    false_alarm_option,
    given,
    index_model_options,
    json_option,
    pair_options,
    query_setting_options,
    refuse_unused,
)
from placerec.cli.output import list_skipped, print_facts, print_json, print_table, say, warn
from placerec.cli.outputs import (
    NewFile,
    is_geojson,
    is_picture,
    refuse_inputs,
    require_free,
    write_geojson,
)
from placerec.cli.tracks import Tracker, track_option
from placerec.errors import NotFound, PhotoError, PlacerecError, UsageError
from placerec.files import is_file, is_folder, require_folder_of
from placerec.runtime import Runtime

if TYPE_CHECKING:
    from placerec.recognise.recognizer import PlaceRecognizer
    from placerec.records import Answer, Photo, Place

SCORES = ("score", "global", "inliers")
COLUMNS = {
    "rank": True,
    "sure": True,
    **dict.fromkeys(SCORES, True),
    "photo": False,
    "position": False,
}
LONGEST_STEM = 50  # characters of a photo's name in the name of its picture
PICTURE = "Draw the best match: a file (.png, .jpg, .webp)"


@click.command(cls=Command)
@click.argument("index", type=PATH)
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True, type=PATH)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Answers.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, one object per photo.")
@click.option("--geojson", type=NewFile(is_geojson), help="Write the places as GeoJSON.")
@click.option("--picture", type=PATH, help=f"{PICTURE}, or a folder for several photos.")
@click.option("--every", type=Seconds(), help="Time between the frames of a video.  [default: 1s]")
@click.option(
    "--budget-ms",
    type=click.FloatRange(0, min_open=True),
    metavar="MS",
    help="Compare as many candidates as can be compared in this time; a photo is read "
    "and described in any case.",
)
@track_option
@false_alarm_option
@index_model_options
@query_setting_options
def query(
    index: Path, photos: tuple[Path, ...], top: int, as_json: bool, geojson: Path | None,
    picture: Path | None, every: float | None, budget_ms: float | None, track: Path | None,
    false_alarm: float, model: str, threads: int | None, device: str, **options: Any,
) -> int:  # fmt: skip
    """Say where each PHOTO was taken: the most similar places of INDEX, best first.

    A folder means every photo in it. A video means its frames, one a second. A place has four
    numbers:

    \b
    sure     how probable it is that the photo shows this place
    score    orders the places: how well distinctive patches agree, weighed by global; 1 = a copy
    global   how similar the photos are as a whole: a cosine, at most 1
    inliers  how many patches agree on one movement between the two photos

    In Python: placerec.PlaceRecognizer.open(INDEX).query(PHOTO).
    """  # noqa: D301 - the character keeps the lines apart in click
    from placerec.recognise.forms import answer_as_json
    from placerec.recognise.recognizer import PlaceRecognizer

    refuse_swapped("query", index, photos[0])
    paths, skipped = photos_of(photos)
    videos, lone = videos_of(paths, every), photos == tuple(paths[:1])
    pictures = _pictures_of(picture, paths, videos, several=not lone or bool(videos))
    _refuse_one_name((geojson, track), {picture, *pictures})
    answers: list[Answer] = []
    undrawn: list[PlacerecError] = []
    with PlaceRecognizer.open(
        index, model=model, runtime=Runtime(threads=threads, device=device),
        false_alarm=false_alarm, **given(options),
    ) as recognizer:  # fmt: skip
        refuse_unused(recognizer.settings, {**options, "budget_ms": budget_ms})
        if track and options["stop_at"] is not None:
            raise UsageError(
                "--stop-at: changes nothing with --track, which needs the scores of all "
                "candidates; omit it"
            )
        warn(*filter(None, [recognizer.slower]))
        tracker = Tracker(track, recognizer, budget_ms)
        indexed = [recognizer.index.photo_path(entry.name) for entry in recognizer.index.entries]
        pairs = list(zip(paths, pictures, strict=True))
        refuse_inputs(drawn_before(pairs, videos), (*paths, *indexed))
        for photo, seconds, target in asked(pairs, videos, every, recognizer.read, skipped):
            answers.append(tracker.ask(photo, top, photo.taken if seconds is None else seconds))
            if not as_json:
                print_answer(answers[-1])
            if target:
                errors = _draw_or_say_why(recognizer, photo, answers[-1], target)
                undrawn += errors
                if not errors and answers[-1].places and not as_json:
                    say(f"picture: {target}")
        if lone and not answers:
            raise skipped[0]
        tracker.save(quiet=as_json)
    if geojson:
        _write_geojson(geojson, answers, quiet=as_json)
    if as_json:
        print_json([answer_as_json(answer) for answer in answers])
    return list_skipped(skipped) or max((error.exit_code for error in undrawn), default=0)


@click.command(cls=Command)
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--picture", type=NewFile(is_picture), help=f"{PICTURE}.")
@json_option
@pair_options
def match(
    first: Path, second: Path, picture: Path | None, as_json: bool, method: str | None, model: str,
    threads: int | None, device: str, **options: Any,
) -> None:  # fmt: skip
    """Compare two photos: how well FIRST (as the query) and SECOND agree.

    The score is not the score of the same two photos in a query: there, a patch that is also in
    the other candidates counts less. In Python: placerec.match_photos.
    """
    from placerec.recognise.pair import match_pixels, pair_model
    from placerec.recognise.picture import draw_match, picture_format

    if picture:
        picture_format(picture)
        refuse_inputs([picture], (first, second))
    settings = chosen_settings(model, method, options)
    ready = pair_model(model, settings, Runtime(threads=threads, device=device))
    query, other = ready.read(first).pixels, ready.read(second).pixels
    place = match_pixels(query, other, ready, str(second))
    if picture:
        draw_match(query, other, place, picture)
    facts: dict[str, Any] = {"first": str(first), "second": str(second)}
    if as_json:
        scores = {name: getattr(place, name) for name in ("score", "global_score", "inliers")}
        print_json({**facts, **scores, "model": ready.name})
        return
    print_facts({**facts, **dict(zip(SCORES, _shown(place), strict=True)), "model": ready.name})
    if picture:
        say(f"picture: {picture}")


def photos_of(given_paths: tuple[Path, ...]) -> tuple[list[Path], list[PlacerecError]]:
    """Return the photos, those of a folder one by one, and why others are left out.

    Raises ``NotFound`` if the only path is a folder without photos.
    """
    paths: list[Path] = []
    problems: list[PlacerecError] = []
    for path in given_paths:
        try:
            if not is_folder(path):
                paths.append(path)
                continue
            names, unreadable = _photos_below(path)
            paths += [path / name for name in names]
            problems += [
                PhotoError(path / name, "this folder cannot be read") for name in unreadable
            ]
        except NotFound as error:
            if len(given_paths) == 1:
                raise
            problems.append(error)
    return paths, problems


def _photos_below(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the photos of a folder, and of the folders that cannot be read."""
    from placerec.photos.find import look_through

    content = look_through(folder)
    if not content.photos:
        raise NotFound(folder, "no photo in this folder", "give the folder of the photos")
    return content.photos, content.unreadable


def _pictures_of(
    picture: Path | None, paths: list[Path], videos: Container[Path], *, several: bool
) -> Sequence[Path | None]:
    """Return where the best match of each photo is drawn; the names keep photos apart.

    Raises ``UsageError`` or ``NotFound`` now, before anything is computed.
    """
    from placerec.recognise.picture import FORMATS, picture_format

    if picture is None:
        return [None] * len(paths)
    if not several and not is_folder(picture):
        picture_format(picture)
        require_free(picture, is_picture)
        return [picture]
    if picture.suffix.lower() in FORMATS or is_file(picture):
        raise UsageError(f"{picture}: several photos or frames; give --picture a folder")
    require_folder_of(picture)
    pictures = [
        picture / f"{number:03}_{path.stem[:LONGEST_STEM]}.png"
        for number, path in enumerate(paths, start=1)
    ]
    existing = drawn_before(zip(paths, pictures, strict=True), videos)
    for path in existing if is_folder(picture) else ():
        require_free(path, is_picture)
    return pictures


def _refuse_one_name(files: tuple[Path | None, ...], pictures: set[Path | None]) -> None:
    """Raise ``UsageError`` if one of the ``files`` has the name of another one or of a picture."""
    outputs = [path for path in (*files, *pictures) if path]
    places = Counter(map(os.path.realpath, outputs))
    for path in filter(None, files):
        if places[os.path.realpath(path)] > 1:
            raise UsageError(f"{path}: one name for two results; choose another one")


def _draw_or_say_why(
    recognizer: PlaceRecognizer, photo: Photo, answer: Answer, picture: Path
) -> list[PlacerecError]:
    """Draw the best match; if an indexed photo is gone, say so and return the error."""
    if not answer.places:
        warn(f"no picture of {answer.query}: {answer.note}")
        return []
    try:
        draw_best(recognizer, photo, answer, picture)
    except (NotFound, PhotoError) as error:
        warn(f"no picture of {answer.query}: {error}")
        return [error]
    return []


def print_answer(answer: Answer) -> None:
    """Print the places of one query as a table, or why there is none."""
    from placerec.photos.structure import BLANK
    from placerec.recognise.recognizer import NOTHING

    say(answer.query)
    if not answer.places:
        why = f" ({BLANK})" if answer.note == NOTHING else ""
        say(f"  {answer.note}{why}")
        return
    say(f"  {_verdict(answer)}")
    rows = []
    for place in answer.places:
        position = place.position
        rows.append((
            f"  {place.rank}", percent(place.confidence), *_shown(place), place.path,
            f"{position.latitude:.6f},{position.longitude:.6f}" if position else "-",
        ))  # fmt: skip
    print_table(COLUMNS, rows)


def _verdict(answer: Answer) -> str:
    """Return in one line what an answer says: in the map or not, how sure, and where."""
    if answer.uncalibrated:
        return f"most alike (no confidence: {answer.uncalibrated})"
    if not answer.in_map:
        return "not in this map; most alike:"
    sure = f"most likely {answer.best.path}, sure {percent(answer.best.confidence)}"
    if answer.where is None:
        return sure
    at = answer.where.position
    point = f"{at.latitude:.6f},{at.longitude:.6f}"
    return f"{sure}, {point} +- {answer.where.radius_95:.0f} m"


def percent(confidence: float | None) -> str:
    """Return a confidence as whole percent; never 100 or 0, which would be certainty."""
    return "-" if confidence is None else f"{min(max(round(100 * confidence), 1), 99)} %"


def _shown(place: Place) -> tuple[str, str, str]:
    """Return the numbers of a place (``SCORES``), rounded for a person."""
    inliers = "-" if place.inliers is None else str(place.inliers)
    return f"{place.score:.3f}", f"{place.global_score:.3f}", inliers


def draw_best(recognizer: PlaceRecognizer, photo: Photo, answer: Answer, picture: Path) -> None:
    """Draw a query photo beside its best place, with the matched patches."""
    from placerec.recognise.picture import draw_match

    path = recognizer.index.photo_path(answer.best.path)
    if not is_file(path):
        problem = "the indexed photo is missing, so it cannot be drawn"
        remedy = "move it back, or name the new folder: placerec index refresh INDEX --folder NEW"
        raise NotFound(path, problem, remedy)
    picture.parent.mkdir(exist_ok=True)
    draw_match(photo.pixels, recognizer.read(path).pixels, answer.best, picture)


def _write_geojson(path: Path, answers: list[Answer], *, quiet: bool) -> None:
    """Write the places of all answers, and say so unless ``quiet``."""
    from placerec.recognise.forms import answer_as_features

    features = [feature for answer in answers for feature in answer_as_features(answer)]
    if not features:
        warn(f"{path}: it has no place, because no answer has a position")
    write_geojson(path, features)
    if not quiet:
        say(f"geojson: {path}")
