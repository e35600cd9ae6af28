"""Which protocol a folder is read by, where its user does not say so.

Each protocol has its ``markers``. Of the published protocols that fit, there must be one: between
two a number is never chosen. Where none fits, the first of the general ones is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from placerec.errors import NotFound, UsageError
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.layouts.folder import DATABASE, QUERIES
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.utm_folder import protocols_that_fit

SIDES = (DATABASE, QUERIES)
OPTION = "--"  # begins a marker that is no file
SHOWN = 3  # alternatives of a marker, in a message


@dataclass(frozen=True, slots=True)
class Reader:
    """How one protocol is read.

    ``markers`` are patterns of files and folders, and options (``--frames``), all of which must be
    there for the protocol to be found without its name (alternatives are parted by a bar; none: it
    is never found so); ``inside`` is asked last, whether what lies there will do. ``options``:
    which ones it takes. ``counts``: queries and database photos of the whole published set, where
    they are sure. ``npz``: a ground truth given to it is an ``.npz``, and to no other protocol.
    """

    words: str
    read: Callable[[Path, Options], Dataset]
    markers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    counts: tuple[int, int] | None = None
    general: bool = False
    inside: Callable[[Path], bool] | None = None
    npz: bool = False


def recognised(folder: Path, options: Options, protocols: Mapping[str, Reader]) -> str:
    """The name of the protocol whose markers lie in ``folder`` and that takes the options given."""
    counts = {name: reader.counts for name, reader in protocols.items()}
    berton = protocols_that_fit(folder, counts)
    given = set(options.given)

    def fits(name: str) -> bool:
        return name in berton or _fits(folder, protocols[name], given)

    truth = options.ground_truth
    takes = [
        name for name, reader in protocols.items()
        if given.issubset(reader.options)
        and (truth is None or reader.npz == (truth.suffix.lower() == ".npz"))
    ]  # fmt: skip
    published = [name for name in takes if not protocols[name].general and fits(name)]
    if len(published) > 1:
        also = [name for name in berton if name in takes and name not in published]
        raise UsageError(
            f"{folder}: several protocols fit what lies there; choose one of "
            f"{', '.join(published + also)}"
        )
    general = (name for name in takes if protocols[name].general and fits(name))
    name = published[0] if published else next(general, None)  # looks no further than it must
    if name is None:
        raise _nothing_fits(folder, given, protocols, [one for one in protocols if fits(one)])
    return name


def spelled(option: str) -> str:
    """An option as messages have it."""
    return option.replace("_", " ")


def _fits(folder: Path, reader: Reader, given: Iterable[str]) -> bool:
    return (
        bool(reader.markers)
        and all(_is_there(folder, marker, given) for marker in reader.markers)
        and (reader.inside is None or reader.inside(folder))
    )


def _is_there(folder: Path, marker: str, given: Iterable[str]) -> bool:
    options = [OPTION + name.replace("_", "-") for name in given]
    return any(
        one in options if one.startswith(OPTION) else next(folder.glob(one), None) is not None
        for one in marker.split("|")
    )


def _nothing_fits(
    folder: Path, given: Iterable[str], protocols: Mapping[str, Reader], others: list[str]
) -> NotFound:
    """``others`` fit, but take not all options."""
    if others:
        refused = ", ".join(
            spelled(one) for one in sorted(given)
            if not all(one in protocols[name].options for name in others)
        )  # fmt: skip
        return NotFound(
            folder, f"no data set for {refused}: what lies there fits {', '.join(others)}",
            "leave that option away, or name another protocol",
        )  # fmt: skip
    half = all((folder / side).is_dir() for side in SIDES)
    looked_for = "; ".join(
        f"{name}: {' + '.join(_alternatives(marker) for marker in reader.markers)}"
        for name, reader in protocols.items()
        if reader.markers and (not half or set(SIDES) <= set(reader.markers))
    )
    what = (
        "database/ and queries/ are there, but nothing tells who answers whom"
        if half else "no data set that is known"
    )  # fmt: skip
    return NotFound(
        folder, f"{what} (looked for {looked_for})",
        "docs/DATASETS.md shows the layouts; name a protocol to learn what it misses",
    )  # fmt: skip


def _alternatives(marker: str) -> str:
    all_of_them = marker.split("|")
    more = " or ..." if len(all_of_them) > SHOWN else ""
    return " or ".join(all_of_them[:SHOWN]) + more
