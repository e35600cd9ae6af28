"""``placerec query --track FILE``: the answers to ordered frames as one path."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placerec.cli.output import say, warn
from placerec.cli.outputs import NewFile
from placerec.errors import UsageError
from placerec.files import write_text

if TYPE_CHECKING:
    from PIL import Image

    from placerec.recognise.recognizer import PlaceRecognizer
    from placerec.recognise.track import Time
    from placerec.records import Answer, Array, Photo

FORMATS = (".csv", ".gpx")


class TrackFile(NewFile):
    """A new file whose suffix names the format of a track."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the path; raise ``UsageError`` for another suffix."""
        path = super().convert(value, param, ctx)
        if path.suffix.lower() not in FORMATS:
            raise UsageError(f"{path}: a track has the suffix {' or '.join(FORMATS)}; choose one")
        return path


track_option = click.option(
    "--track",
    type=TrackFile(),
    help="Write one path through all photos, in the order of capture times (.gpx, .csv).",
)


class Tracker:
    """Asks a recogniser, and writes the path through all its answers if there is a file for it."""

    def __init__(
        self, path: Path | None, recognizer: PlaceRecognizer, budget_ms: float | None = None
    ) -> None:
        from placerec.recognise.track import require_confidence

        self._path, self._recognizer, self._budget_ms = path, recognizer, budget_ms
        self._frames: list[tuple[Time | None, Answer]] = []
        if path:
            require_confidence(recognizer)

    def ask(
        self, photo: str | Path | Photo | Image.Image | Array, top: int, time: Time | None
    ) -> Answer:
        """Return the ``top`` places of a photo that was taken at ``time``."""
        if not self._path:
            return self._recognizer.query(photo, top, budget_ms=self._budget_ms)
        all_places = max(top, self._recognizer.settings.candidates)
        answer = self._recognizer.query(photo, all_places, budget_ms=self._budget_ms)
        places = tuple(replace(place, matches=()) for place in answer.places)
        self._frames.append((time, replace(answer, places=places)))
        return replace(answer, places=answer.places[:top])

    def save(self, *, quiet: bool) -> None:
        """Write the path, and say so unless ``quiet``."""
        from placerec.recognise.forms import track_as_csv, track_as_gpx
        from placerec.recognise.track import follow

        if not self._path:
            return
        frames = _in_order(self._frames)
        points = follow(self._recognizer, [a for _, a in frames], [time for time, _ in frames])
        is_gpx = self._path.suffix.lower() == ".gpx"
        if is_gpx and not any(point.position for point in points):
            warn(f"{self._path}: it has no point, because no place of the track has a position")
        write_text(self._path, (track_as_gpx if is_gpx else track_as_csv)(points))
        if not quiet:
            say(f"track: {self._path}")


def _in_order(frames: list[tuple[Time | None, Answer]]) -> list[tuple[Time | None, Answer]]:
    """Return the frames in the order of capture times if all have one, else as they are."""
    taken = {n: time for n, (time, _) in enumerate(frames) if isinstance(time, datetime)}
    zones = {time.tzinfo is None for time in taken.values()}
    if len(zones) > 1:
        warn("some capture times have a time zone and some have none: photos stay in their order")
    if len(taken) < len(frames) or len(zones) > 1:
        return frames
    return [frames[n] for n in sorted(taken, key=taken.__getitem__)]
