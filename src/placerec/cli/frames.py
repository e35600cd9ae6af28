"""What a query asks, one after the other: photos, and the frames of videos."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from placerec.errors import NotFound, PhotoError, PlacerecError, UsageError, import_extra

if TYPE_CHECKING:
    from placerec.records import Photo

EVERY = 1.0  # seconds between the frames of a video
UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3}
LONGEST = 1e9  # seconds


class Seconds(click.ParamType[float]):
    """A number of seconds: ``1s``, ``0.5s``, ``500ms`` or ``2``."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        parts = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|)", value.strip())
        if parts is None or float(parts[1]) > LONGEST:
            self.fail(f"{value!r} is no time; write 1s, 0.5s or 500ms", param, ctx)
        return float(parts[1]) * UNITS[parts[2]]


class Asked(NamedTuple):
    """A photo or a frame that is asked. ``seconds`` is the time of a frame in its video."""

    photo: Photo
    seconds: float | None
    picture: Path | None


def videos_of(paths: Sequence[Path], every: float | None) -> frozenset[Path]:
    """Return which of the paths are videos; refuse a time between frames if none is one."""
    from placerec.photos.video import is_video

    videos = frozenset(filter(is_video, paths))
    if every is not None and not videos:
        raise UsageError("--every: changes nothing, because no video is given; omit it")
    if videos:
        import_extra("av", "a video", "video")  # now, before any photo is asked
    return videos


def asked(
    pairs: Iterable[tuple[Path, Path | None]],
    videos: Container[Path],
    every: float | None,
    read: Callable[[Path], Photo],
    skipped: list[PlacerecError],
) -> Iterator[Asked]:
    """Yield each photo, and the frames of each video, with the picture that is drawn of it.

    ``pairs`` are paths and pictures. What cannot be read is added to ``skipped``.
    """
    from placerec.photos.video import read_video

    for path, picture in pairs:
        try:
            if path not in videos:
                yield Asked(read(path), None, picture)
                continue
            for seconds, photo in read_video(path, EVERY if every is None else every):
                yield Asked(photo, seconds, picture and _of_frame(picture, f"{seconds:.3f}"))
        except (PhotoError, NotFound) as error:
            skipped.append(error)


def drawn_before(
    pairs: Iterable[tuple[Path, Path | None]], videos: Container[Path]
) -> Iterator[Path]:
    """Yield the pictures that ``asked`` may name: of a video those that are there already."""
    for path, picture in pairs:
        if picture and path in videos:
            pattern = _of_frame(picture.with_name(glob.escape(picture.name)), "*").name
            yield from sorted(picture.parent.glob(pattern))
        elif picture:
            yield picture


def _of_frame(picture: Path, seconds: str) -> Path:
    return picture.with_name(f"{picture.stem}_t{seconds}{picture.suffix}")
