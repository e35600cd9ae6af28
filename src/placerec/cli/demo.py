"""``placerec demo``: index, query and picture, on photos that it draws itself."""

from __future__ import annotations

from pathlib import Path

import click

from placerec.cli.commands import Command
from placerec.cli.output import say
from placerec.cli.outputs import RunFolder
from placerec.cli.progress import showing_progress
from placerec.cli.query import draw_best, print_answer


@click.command(cls=Command)
@click.option("--out", type=RunFolder("photos/poses.csv"), default="demo", show_default=True,
              help="The folder to write.")  # fmt: skip
@click.option("--places", type=click.IntRange(2), default=60, show_default=True,
              help="How many places to draw.")  # fmt: skip
def demo(out: Path, places: int) -> None:
    """Draw a town by day and by night, index the day, ask for a night photo, draw the answer.

    In Python: placerec.demo.write_demo_photos and the calls of the other commands.
    """
    from placerec.demo import write_demo_photos
    from placerec.index.build import build_index
    from placerec.recognise.recognizer import PlaceRecognizer

    photos, index, picture = out / "photos", out / "town.placerec", out / "match.png"
    with showing_progress() as runtime:
        write_demo_photos(photos, places)
        build_index(index, photos / "database", replace=True, runtime=runtime)
    with PlaceRecognizer.open(index) as recognizer:
        for number, path in enumerate(sorted((photos / "queries").iterdir())[:3]):
            photo = recognizer.read(path)
            answer = recognizer.query(photo)
            print_answer(answer)
            if number == 0:
                draw_best(recognizer, photo, answer, picture)
    say(f"index: {index}")
    say(f"picture: {picture}")
