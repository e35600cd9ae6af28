"""``placerec pairs``: which photos show the same place, for structure from motion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from placerec.cli.commands import Command
from placerec.cli.options import PATH, index_model_options
from placerec.cli.output import list_skipped, say, warn
from placerec.cli.outputs import NewFile, require_free
from placerec.cli.progress import showing_progress
from placerec.errors import UsageError
from placerec.files import is_folder
from placerec.runtime import Runtime

if TYPE_CHECKING:
    from placerec.index.build import Report
    from placerec.pairs import Pair, PairGraph

SHOWN = 10  # lines of each part of the report


# fmt: off
@click.command(cls=Command)
@click.argument("source", metavar="INDEX|FOLDER", type=PATH)
@click.option("--out", type=NewFile(), required=True, help="The text file of the pairs.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True,
              help="Pairs per photo: the photos that answer it best.")
@click.option("--sequence", type=click.IntRange(0), default=0, metavar="N",
              help="Also pair each photo with the next N of its folder, in the order of names.")
@click.option("--sure", type=click.FloatRange(0, 1), metavar="P",
              help="Only answers of at least this confidence, 0 to 1; reads the photos again.")
@click.option("--join", is_flag=True, help="Also write the pairs that would join the islands.")
@click.option("--far", type=click.FloatRange(0), default=100.0, show_default=True,
              metavar="METRES", help="Beyond it, photos that look alike are listed.")
@click.option("--descriptors", type=NewFile(),
              help="Also write the global descriptors: an .h5 file of hloc, or an .npy file with "
                   "the names in a .txt file.")
@index_model_options
def pairs(
    source: Path, out: Path, descriptors: Path | None, model: str, threads: int | None,
    device: str, **options: Any,
) -> int:
    # fmt: on
    """Write which photos of INDEX show the same place, as pairs for hloc, COLMAP and pycolmap.

    A FOLDER of photos is indexed for this command alone. The report on stderr lists look-alikes
    that lie far apart, islands of photos that no pair connects, and the pairs that would join
    them. In Python: placerec.pairs.export_pairs.
    """
    from placerec.pairs import export_pairs
    from placerec.pairs.files import names_file, require_descriptor_file

    if descriptors:
        require_descriptor_file(descriptors)
        names = names_file(descriptors)
        if names:
            require_free(names)
        if out in (descriptors, names):
            raise UsageError(f"{out}: one name for two results; choose another one")
    with showing_progress(threads, device) as runtime, _index_of(source, model, runtime) as made:
        index, built = made
        graph = export_pairs(
            index, out, descriptors=descriptors, model=model, runtime=runtime, **options
        )
    _print_report(graph)
    say(f"pairs: {out}")
    if descriptors:
        say(f"descriptors: {descriptors}")
    warn(*(notice.text for notice in built.notices))
    return max([list_skipped(built.skipped), *(notice.exit_code for notice in built.notices)])


@contextmanager
def _index_of(source: Path, model: str, runtime: Runtime) -> Iterator[tuple[Path, Report]]:
    """Yield an index and how it was made; that of a folder is there as long as the block runs."""
    from placerec.index.build import Report, build_index
    from placerec.pairs.files import require_names
    from placerec.photos.find import find_photos

    if not is_folder(source):
        yield source, Report()
        return
    require_names(find_photos(source))
    with TemporaryDirectory(prefix="placerec-") as folder:
        index = Path(folder, "pairs.placerec")
        yield index, build_index(index, source, model=model, runtime=runtime)


def _print_report(graph: PairGraph) -> None:
    """Print what a person should know about the pairs before a reconstruction."""
    from placerec.index.notices import first_names

    photos = sum(map(len, graph.islands))
    warn(f"{len(graph.pairs)} pairs of {_count(photos)}")
    if graph.blank:
        warn(f"in no pair, because there is nothing to recognise: {first_names(graph.blank)}")
    if all(pair.metres is None for pair in graph.pairs):
        warn("look-alikes far apart: unknown, because no two photos of a pair have positions")
    else:
        _list("look-alikes far apart", [_shown(pair) for pair in graph.look_alikes])
    _list("islands", [f"{_count(len(island))}: {first_names(island)}" for island in graph.islands])
    if len(graph.islands) > 1:
        _list("pairs that would join the islands", [_shown(pair) for pair in graph.joins])


def _list(title: str, lines: list[str]) -> None:
    """Print a title with the number of lines, and the first lines."""
    warn(f"{title}: {len(lines)}", *(f"  {line}" for line in lines[:SHOWN]))
    if len(lines) > SHOWN:
        warn(f"  and {len(lines) - SHOWN} more")


def _count(photos: int) -> str:
    return f"{photos} photo{'s' if photos > 1 else ''}"


def _shown(pair: Pair) -> str:
    facts = [f"score {pair.score:.3f}"] if pair.score is not None else []
    facts += [f"confidence {pair.confidence:.2f}"] if pair.confidence is not None else []
    facts += [f"{pair.metres:.0f} m apart"] if pair.metres is not None else []
    return f"{pair.first} {pair.second} ({', '.join(facts)})"
