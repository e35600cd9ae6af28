"""``placerec demo``: the whole way of a photo, on photos that it draws itself."""

from __future__ import annotations

from pathlib import Path

import click

from placerec.cli.progress import progress_bars
from placerec.errors import UsageError

PLACES = 60


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="The folder to write.",
)
@click.option("--places", type=click.IntRange(2), default=PLACES, show_default=True,
              help="How many places to draw.")  # fmt: skip
def demo(out: Path, places: int) -> None:
    """Draw a town by day and by night, index the day, ask for a night photo, draw the answer.

    In Python: placerec.demo.write_demo_photos and the calls of the other commands.
    """
    from placerec.cli.query import _draw, _print
    from placerec.demo import write_demo_photos
    from placerec.index.build import build_index
    from placerec.recognise.recognizer import PlaceRecognizer

    photos, index, picture = out / "photos", out / "town.placerec", out / "match.png"
    if photos.exists() and not (photos / "poses.csv").is_file():
        raise UsageError(f"{photos}: is not of this demo; choose another folder with --out")
    with progress_bars() as progress:
        write_demo_photos(photos, places)
        build_index(index, photos / "database", replace=True, progress=progress)
    with PlaceRecognizer.open(index) as recognizer:
        answers = [recognizer.query(path) for path in sorted((photos / "queries").iterdir())[:3]]
        _draw(recognizer, answers[0], picture)
    for answer in answers:
        _print(answer)
    click.echo(f"index: {index}")
    click.echo(f"picture: {picture}")
