"""Change an index that exists: add, remove, refresh.

A photo is known by its path relative to the indexed folder (``../`` where it lies outside) and by
the sha256 of its bytes: the same photo twice adds nothing, a changed one is described again, by
the model that is in the index.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from placerec.errors import NotFound, PhotoError, UsageError
from placerec.files import file_sha256
from placerec.index.build import BATCH, Report
from placerec.index.open_index import OpenIndex
from placerec.index.reader import Entry, IndexReader
from placerec.index.writer import IndexWriter
from placerec.models.photo_source import PhotoSource
from placerec.photos.find import find_photos
from placerec.photos.position import read_positions
from placerec.records import Position
from placerec.runtime import Progress, available_threads, no_progress
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas


def add_photos(
    index: str | Path,
    paths: Iterable[str | Path],
    *,
    positions: str | Path | None = None,
    model: str | Trunk = "auto",
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Report:
    """Add photos or folders of photos; known ones are left, changed ones described again.

    ``model`` is only needed for an index with a trunk from outside.
    """
    table = read_positions(Path(positions)) if positions else {}
    with IndexReader.open(Path(index)) as reader:
        root = reader.info.root
    names: list[str] = []
    for path in map(Path, paths):
        if not path.exists():
            raise NotFound(path, "no such photo or folder")
        found = [path / name for name in find_photos(path)] if path.is_dir() else [path]
        names += [name_in_index(one, root) for one in found]
    return _update(Path(index), names, [], table, model, threads, device, progress)


def remove_photos(index: str | Path, photos: Iterable[str | Path]) -> Report:
    """Take photos out, each named as in the index or by its path on disk."""
    with IndexReader.open(Path(index)) as reader:
        known, root = {entry.name for entry in reader.entries}, reader.info.root
    chosen: dict[str, None] = {}
    for photo in map(str, photos):
        name = photo if photo in known else name_in_index(Path(photo), root)
        if name not in known:
            raise NotFound(photo, "no such photo in the index", "see index info --photos")
        chosen[name] = None
    if len(chosen) == len(known):
        raise UsageError(f"{index}: no photo would be left; delete the file instead")
    with IndexWriter.open(Path(index)) as writer:
        return Report(removed=sum(writer.remove(name) for name in chosen))


def refresh_index(
    index: str | Path,
    *,
    model: str | Trunk = "auto",
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Report:
    """Bring an index up to date with its folder: new, changed and deleted photos."""
    with IndexReader.open(Path(index)) as reader:
        root, known = reader.info.root, [entry.name for entry in reader.entries]
    outside = [name for name in known if name.startswith("../") and (root / name).is_file()]
    names = sorted([*find_photos(root), *outside], key=os.fsencode)
    gone = sorted(set(known) - set(names), key=os.fsencode)
    return _update(Path(index), names, gone, {}, model, threads, device, progress)


def name_in_index(path: Path, root: Path) -> str:
    """The name of the photo at ``path`` in an index of the folder ``root``: a POSIX path."""
    return Path(os.path.relpath(path.absolute(), root)).as_posix()


def _update(
    index: Path,
    names: Sequence[str],
    gone: Sequence[str],
    positions: Mapping[str, Position],
    asked: str | Trunk,
    threads: int | None,
    device: str,
    progress: Progress,
) -> Report:
    threads = threads or available_threads()
    with OpenIndex.open(index, model=asked, threads=1, device=device) as opened:
        model, root = opened.model, opened.info.root
        known = {entry.name: entry for entry in opened.entries}
    report = Report(model=model.name)
    wanted = list(dict.fromkeys(names))
    todo = [name for name in wanted if not _is_current(root / name, known.get(name), positions)]
    report.unchanged = len(wanted) - len(todo)
    with (
        single_threaded_blas(),
        PhotoSource(root, model.trunk, model.settings, threads, progress) as source,
        IndexWriter.open(index) as writer,
    ):
        for name in gone:
            report.removed += writer.remove(name)
        for done, one in enumerate(source.describe(todo, model), start=1):
            if isinstance(one, PhotoError):
                report.skipped.append(one)
                continue
            position = positions.get(one.name, one.position)
            writer.put(one.name, one.sha256, position, one.features)
            report.located += position is not None
            if one.name in known:
                report.changed += 1
            else:
                report.added += 1
            if done % BATCH == 0:
                writer.commit()
    return report


def _is_current(path: Path, entry: Entry | None, positions: Mapping[str, Position]) -> bool:
    if entry is None or positions.get(entry.name, entry.position) != entry.position:
        return False
    try:
        return file_sha256(path) == entry.sha256
    except NotFound:
        return False
