"""Draw docs/track.png: a night walk through a drawn town, frame by frame and as a track.

    python tools/draw_track.py

In the middle of the walk are frames of another town. A third of the frames is half covered, as by
a person in front of the camera. The index has the town by day. It runs for two minutes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from placerec import PlaceRecognizer, build_index, follow
from placerec.demo import demo_pose, render, write_demo_photos
from placerec.demo.photos import LONGITUDE, METRES_EAST
from placerec.demo.town import Pose
from placerec.recognise.track import TrackPoint
from placerec.records import Place

OUT = Path(__file__).parent.parent / "docs" / "track.png"
TOWN, OTHER_TOWN, PLACES, OTHER_PLACES = 0, 7, 60, 10
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 1160, 470, 64, 44, 18, 48
COVERED = 0.28, 0.72  # from left to right
INK, GREY, GREEN, RED, BAND = "#222222", "#9a9a9a", "#16803c", "#c02626", "#ececec"


def poses() -> list[tuple[int, Pose]]:
    """The town and the pose of each frame."""
    walk = [(TOWN, demo_pose(TOWN, place, night=True)) for place in range(PLACES)]
    other = [(OTHER_TOWN, demo_pose(OTHER_TOWN, n, night=True)) for n in range(OTHER_PLACES)]
    return [*walk[: PLACES // 2], *other, *walk[PLACES // 2 :]]


def followed(folder: Path, frames: Sequence[tuple[int, Pose]]) -> list[TrackPoint]:
    """The track of the frames."""
    write_demo_photos(folder, PLACES, TOWN)
    build_index(folder / "town.placerec", folder / "database")
    answers = []
    with PlaceRecognizer.open(folder / "town.placerec") as recognizer:
        for number, (town, pose) in enumerate(frames):
            image = Image.fromarray(render(town, pose, night=True))
            if number % 3 == 0:
                left, right = (part * image.width for part in COVERED)
                ImageDraw.Draw(image).rectangle((left, 0, right, image.height), "#3c3232")
            answers.append(recognizer.query(image, recognizer.settings.candidates))
        return follow(recognizer, answers)


def along(place: Place | None) -> float | None:
    """Return how far along the street a place is, in metres."""
    return (
        (place.position.longitude - LONGITUDE) * METRES_EAST if place and place.position else None
    )


def draw(frames: Sequence[tuple[int, Pose]], points: Sequence[TrackPoint]) -> Image.Image:
    """Return the frames from left to right, and metres along the street upwards."""
    picture = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(28)
    longest = max(pose.x for _, pose in frames)

    def at(frame: float, metres: float) -> tuple[float, float]:
        x = LEFT + (frame + 0.5) / len(frames) * (WIDTH - LEFT - RIGHT)
        return 2 * x, 2 * (HEIGHT - BOTTOM - metres / longest * (HEIGHT - TOP - BOTTOM))

    def ring(centre: tuple[float, float], radius: int, colour: str, *, full: bool = False) -> None:
        pen.circle(centre, radius, colour if full else None, colour, 3)

    other = [number for number, (town, _) in enumerate(frames) if town != TOWN]
    pen.rectangle((*at(other[0] - 0.5, longest), *at(other[-1] + 0.5, 0)), BAND)
    middle = (at(other[0], 0)[0] + at(other[-1], 0)[0]) / 2
    pen.text((middle, at(0, 0)[1] - 12), "another town", INK, font, "ms")
    for metres in range(0, int(longest) + 1, 500):
        pen.line((*at(-0.5, metres), *at(len(frames) - 0.5, metres)), "#dddddd", 2)
        pen.text((2 * LEFT - 12, at(0, metres)[1]), f"{metres}", INK, font, "rm")
    for number, point in enumerate(points):
        if (metres := along(point.alone)) is not None:
            right = point.place == point.alone
            ring(at(number, metres), 9, GREY if right else RED)
        if (metres := along(point.place)) is not None:
            ring(at(number, metres), 6, GREEN, full=True)
            before = along(points[number - 1].place) if number else None
            if before is not None:
                pen.line((*at(number - 1, before), *at(number, metres)), GREEN, 4)
    pen.text(
        (2 * LEFT, 2 * (HEIGHT - 14)), "frames of the walk, from left to right", INK, font, "ls"
    )
    pen.text((8, 16), "metres along the street", INK, font, "la")
    legend = ((RED, False, "best place by its look alone, not followed"),
              (GREY, False, "the same, followed"),
              (GREEN, True, "track"))  # fmt: skip
    x = 420.0
    for colour, full, text in legend:
        ring((x, 32), 9 if not full else 6, colour, full=full)
        pen.text((x + 20, 32), text, INK, font, "lm")
        x += 70 + pen.textlength(text, font)
    return picture


def main() -> None:
    """Draw the picture."""
    frames = poses()
    with tempfile.TemporaryDirectory() as folder:
        points = followed(Path(folder), frames)
    picture = draw(frames, points)
    picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).quantize(256).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
