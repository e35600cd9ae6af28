"""Change an index: add photos, remove them, or bring it up to date with its folder.

Adding the same photo twice changes nothing. A changed photo is described again, by the model inside
the index. A photo that only has another name keeps its descriptors.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path

from placerec.errors import FolderGone, NotFound, UsageError
from placerec.files import AnyPath, file_sha256, is_file, is_folder, path_of, paths_of
from placerec.index.build import BATCH, Report, positions_of, store_photos
from placerec.index.calibrate import is_outgrown
from placerec.index.index_model import model_of_index
from placerec.index.new_photos import write_photos
from placerec.index.reader import Entry
from placerec.index.retriever import AnyRetriever, retriever_of_index
from placerec.index.speedup import stale_speedup
from placerec.index.store import open_index, store_of
from placerec.models.photo_source import PhotoSource
from placerec.models.resolve import AUTO
from placerec.photos.find import look_through
from placerec.photos.pixels import AnyPhoto
from placerec.photos.position import Positions
from placerec.records import Position
from placerec.runtime import DEFAULT_RUNTIME, Runtime, require_runtime
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas

ASIDE = ".aside"  # a name that no photo has, for the moment when photos exchange their names


def add_photos(
    index: str | Path,
    photos: AnyPath | Iterable[AnyPath] | Mapping[str, AnyPhoto],
    *,
    bgr: bool = False,
    positions: str | Path | Mapping[str, Position] | None = None,
    time_offset: float = 0.0,
    model: str | Trunk = AUTO,
    retriever: AnyRetriever | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Report:
    """Add photos or folders of photos. Unchanged photos stay; changed ones are described again.

    Photos that are only in memory come as a mapping: from a name (a POSIX path below the folder of
    the index, with the suffix .png) to a uint8 array, an image of Pillow or a ``Photo``; with
    ``bgr`` arrays have the order of OpenCV. Their pixels are written as PNG files into the folder,
    never in place of another file; if the index is busy, they stay there: call again.

    ``positions`` and ``time_offset`` as in ``build_index``; a track gives positions to photos
    that have none. ``model`` is only required for an index with a trunk from outside placerec, and
    ``retriever`` for one that was built with an object.
    """
    index = path_of(index)
    require_runtime(runtime)
    with open_index(index) as reader:
        root, indexed = reader.info.root, [entry.name for entry in reader.entries]
    table = positions_of(positions, time_offset, root)
    if isinstance(photos, Mapping):
        photos = write_photos(root, photos, bgr=bgr)
    elif bgr:
        raise UsageError("bgr: only an array can have the order of OpenCV; omit bgr")
    names: list[str] = []
    ignored: defaultdict[str, list[str]] = defaultdict(list)
    for path in dict.fromkeys(paths_of(photos)):
        if not path.exists():
            raise NotFound(path, "no such photo or folder")
        if path.is_dir():
            content = look_through(path)
            names += [_name_in_index(path / name, root) for name in content.photos]
            for kind, files in content.left_out.items():
                ignored[kind] += files
        else:
            names.append(_name_in_index(path, root))
    report = _update(index, _Changes(root, names), table, model, retriever, runtime)
    report.note("rows_without_photo", table.unmatched({*indexed, *names}))
    report.note_left_out(ignored)
    return report


def remove_photos(index: str | Path, photos: str | Path | Iterable[str | Path]) -> Report:
    """Remove photos or folders of photos, each named as in the index or by its path on disk.

    A notice names those that are still in the folder: the next refresh adds them again.
    """
    index = path_of(index)
    with open_index(index) as reader:
        indexed, root = [entry.name for entry in reader.entries], reader.info.root
    chosen: dict[str, None] = {}
    for path in paths_of(photos):
        names = [name for name in indexed if _is_below(name, str(path))]
        place = os.path.normpath(root / _name_in_index(path, root))
        names = names or [n for n in indexed if _is_below(os.path.normpath(root / n), place)]
        if not names:
            raise NotFound(path, "no such photo in the index", "give a name that it has")
        chosen |= dict.fromkeys(names)
    if len(chosen) == len(indexed):
        raise UsageError(f"{index}: no photo would remain; delete the index instead")
    with store_of(index).change(index) as writer:
        report = Report(removed=sum(writer.remove(name) for name in chosen))
    report.note("comes_back", [n for n in chosen if not _is_outside(n) and is_file(root / n)])
    return report


def refresh_index(
    index: str | Path,
    *,
    folder: str | Path | None = None,
    model: str | Trunk = AUTO,
    retriever: AnyRetriever | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Report:
    """Bring an index up to date with its folder: new, changed, renamed and deleted photos.

    ``folder`` is where the photos are now, if they were moved. A photo with the content of an
    indexed one whose name is gone, or has another content now, is that photo under another name.
    Photos below a folder that cannot be read stay as they are; a notice names them. Raises
    ``FolderGone`` if the folder of the index does not exist, and ``UsageError`` if ``folder`` has
    none of its photos; then nothing changes. ``model`` and ``retriever`` as in ``add_photos``.
    """
    index = path_of(index)
    require_runtime(runtime)
    with open_index(index) as reader:
        old, entries = reader.info.root, reader.entries
    if folder is None and not is_folder(old):
        raise FolderGone(old)
    root = old if folder is None else path_of(folder).resolve()
    content = look_through(root)
    kept = [e.name for e in entries if any(_is_below(e.name, f) for f in content.unreadable)]
    not_looked_at = set(kept)
    entries = tuple(entry for entry in entries if entry.name not in not_looked_at)
    changes = _compared(entries, content.photos, old, root)
    if folder is not None and not changes.has_one_of(entries):
        raise UsageError(
            f"{root}: none of its {len(content.photos)} photos is one of the {len(entries)} photos "
            f"of the index; give the folder to which they were moved"
        )
    report = _update(index, changes, Positions(), model, retriever, runtime)
    report.note_left_out(content.left_out)
    report.note("not_looked_at", kept)
    return report


@dataclass(frozen=True, slots=True)
class _Changes:
    """The photos that an index should have, as ``names`` below ``root``.

    ``moves`` has the new name of each photo that only has another name, ``deleted`` the photos that
    are gone. ``digests`` are the sha256 that were already computed, by name; an empty text if a
    photo cannot be read.
    """

    root: Path
    names: Sequence[str]
    moves: Mapping[str, str] = field(default_factory=dict)
    deleted: Sequence[str] = ()
    digests: Mapping[str, str] = field(default_factory=dict)

    def has_one_of(self, entries: Sequence[Entry]) -> bool:
        """Whether one of the indexed photos lies in the folder, by its content."""
        return any(not _is_outside(name) for name in self.moves.values()) or any(
            self.digests.get(entry.name) == entry.sha256 for entry in entries
        )


def _compared(entries: Sequence[Entry], photos: list[str], old: Path, root: Path) -> _Changes:
    """Compare an index with the ``photos`` of its folder, which was ``old`` and is ``root``.

    The content decides. A photo of the index that no longer has its name, or whose name has another
    content now, moved if a file with its content has a name that is free or was free.
    """
    indexed = {entry.name: entry.sha256 for entry in entries}
    outside = [name for name in indexed if _is_outside(name) and is_file(root / name)]
    names = sorted([*photos, *outside], key=os.fsencode)
    digests = {name: _digest(root / name) for name in names if name in indexed}
    # A photo that cannot be read just now (an empty digest) is still the same photo.
    lost = {name: digest for name, digest in indexed.items()
            if digests.get(name) not in (digest, "")}  # fmt: skip
    if lost:
        digests |= {name: _digest(root / name) for name in names if name not in indexed}
    by_content: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        if name in lost or name not in indexed:
            by_content[digests.get(name, "")].append(name)
    moves: dict[str, str] = {}
    for name, digest in lost.items():
        place = Path(os.path.normpath(old / name))
        if by_content[digest]:
            moves[name] = by_content[digest].pop(0)
        elif name not in digests and _is_outside(name) and is_file(place):  # it stays where it is
            moves[name] = _name_in_index(place, root)
            names.append(moves[name])
    taken = set(moves.values())
    deleted = [
        name for name in lost if name not in moves and (name in taken or name not in digests)
    ]
    return _Changes(root, names, moves, deleted, digests)


def _update(
    index: Path,
    changes: _Changes,
    positions: Positions,
    asked: str | Trunk,
    given: AnyRetriever | None,
    runtime: Runtime,
) -> Report:
    with open_index(index) as reader:
        model = model_of_index(reader, index, asked, runtime.one_thread)
        old_root, entries = reader.info.root, reader.entries
    gone = {*changes.moves, *changes.deleted}
    indexed = {entry.name: entry for entry in entries if entry.name not in gone}
    for entry in entries:
        if entry.name in changes.moves:
            new = changes.moves[entry.name]
            indexed[new] = changed(entry, name=new)
    root, names = changes.root, list(dict.fromkeys(changes.names))
    pending = [
        name for name in names if not _is_current(name, indexed.get(name), changes, positions)
    ]
    retriever = None
    if pending or given is not None:  # a retriever is large, so it is opened only for its work
        retriever = retriever_of_index(reader, index, given, runtime.one_thread)
    report = Report(model=model.name)
    report.moved = len(set(changes.moves.values()) - set(pending))
    report.unchanged = len(names) - len(pending) - report.moved
    with (
        single_threaded_blas(),
        PhotoSource(root, model.trunk, model.settings, runtime, retriever) as source,
        store_of(index).change(index) as writer,
    ):
        if root != old_root:
            writer.move_root(root)
        report.removed = sum(writer.remove(name) for name in changes.deleted)
        aside = False
        for number, (name, new) in enumerate(_renames(changes.moves), start=1):
            writer.rename(name, new)
            aside = new == ASIDE or (aside and name != ASIDE)
            if number % BATCH == 0 and not aside:
                writer.commit()
        store_photos(writer, source.describe(pending, model), positions, report, indexed)
    with open_index(index) as reader:
        calibration, photos = reader.info.calibration, len(reader.entries)
        report.note("slower", stale_speedup(reader, index))
    grown = f"{calibration.photos} photos then, {photos} now"
    report.note("outgrown", [grown] * is_outgrown(calibration, photos))
    return report


def _renames(moves: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield renames, one after the other, that never give a photo the name of another one.

    In a ring of names one photo steps aside first.
    """
    waiting = dict(moves)
    while waiting:
        chain: list[tuple[str, str]] = []
        name = first = next(iter(waiting))
        while name in waiting:
            chain.append((name, waiting.pop(name)))
            name = chain[-1][1]
        if name == first:
            last = chain.pop()
            yield last[0], ASIDE
            yield from reversed(chain)
            yield ASIDE, last[1]
        else:
            yield from reversed(chain)


def _is_current(name: str, entry: Entry | None, changes: _Changes, positions: Positions) -> bool:
    """Whether the index has the photo as it is now, with its position.

    The capture time is only read when a photo is described, so with a track every photo without a
    position is described again.
    """
    if entry is None or (positions.track and not entry.position):
        return False
    if (positions.of(entry.name, None) or entry.position) != entry.position:
        return False
    digest = changes.digests.get(name)
    return (_digest(changes.root / name) if digest is None else digest) == entry.sha256


def _digest(path: Path) -> str:
    """Return the sha256 of a file, or an empty text if it cannot be read."""
    try:
        return file_sha256(path)
    except NotFound:
        return ""


def _name_in_index(path: Path, root: Path) -> str:
    """Return the name of the photo at ``path`` in an index of ``root``: a POSIX path."""
    places = (path.absolute(), path.parent.resolve() / path.name)  # the second without links
    names = [Path(os.path.relpath(place, root)).as_posix() for place in places]
    return next((name for name in names if not _is_outside(name)), names[0])


def _is_outside(name: str) -> bool:
    return name.startswith("../")


def _is_below(name: str, place: str) -> bool:
    """Whether ``name`` is the photo ``place``, or lies in the folder ``place``."""
    return name == place or name.startswith(place.rstrip("/") + "/")
