"""Change an existing index: add, remove, refresh.

A photo is identified by its path relative to the indexed folder (``../`` if it lies outside) and by
the sha256 of its content. Adding the same photo twice changes nothing. A changed photo is described
again, by the model inside the index.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from placerec.errors import NotFound, UsageError
from placerec.files import file_sha256
from placerec.index.build import BATCH, Report, put_photo
from placerec.index.index_model import model_of_index
from placerec.index.reader import Entry, IndexReader
from placerec.index.writer import IndexWriter
from placerec.models.photo_source import Described, PhotoSource
from placerec.models.resolve import AUTO
from placerec.photos.find import find_photos
from placerec.photos.position import read_positions
from placerec.records import Position
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas


def add_photos(
    index: str | Path,
    paths: Iterable[str | Path],
    *,
    positions: str | Path | None = None,
    model: str | Trunk = AUTO,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Report:
    """Add photos or folders of photos. Unchanged photos stay; changed ones are described again.

    ``model`` is only required for an index with a trunk from outside placerec.
    """
    table = read_positions(Path(positions)) if positions else {}
    with IndexReader.open(Path(index)) as reader:
        root = reader.info.root
    names: list[str] = []
    for path in map(Path, paths):
        if not path.exists():
            raise NotFound(path, "no such photo or folder")
        photos = [path / name for name in find_photos(path)] if path.is_dir() else [path]
        names += [name_in_index(photo, root) for photo in photos]
    return _update(Path(index), names, [], table, model, runtime)


def remove_photos(index: str | Path, photos: Iterable[str | Path]) -> Report:
    """Remove photos, each named as in the index or by its path on disk."""
    with IndexReader.open(Path(index)) as reader:
        indexed, root = {entry.name for entry in reader.entries}, reader.info.root
    chosen: dict[str, None] = {}
    for photo in map(str, photos):
        name = photo if photo in indexed else name_in_index(Path(photo), root)
        if name not in indexed:
            raise NotFound(photo, "no such photo in the index", "see placerec index info")
        chosen[name] = None
    if len(chosen) == len(indexed):
        raise UsageError(f"{index}: no photo would remain; delete the file instead")
    with IndexWriter.open(Path(index)) as writer:
        return Report(removed=sum(writer.remove(name) for name in chosen))


def refresh_index(
    index: str | Path, *, model: str | Trunk = AUTO, runtime: Runtime = DEFAULT_RUNTIME
) -> Report:
    """Bring an index up to date with its folder: new, changed and deleted photos."""
    with IndexReader.open(Path(index)) as reader:
        root, indexed = reader.info.root, [entry.name for entry in reader.entries]
    outside = [name for name in indexed if name.startswith("../") and (root / name).is_file()]
    names = sorted([*find_photos(root), *outside], key=os.fsencode)
    deleted = sorted(set(indexed) - set(names), key=os.fsencode)
    return _update(Path(index), names, deleted, {}, model, runtime)


def name_in_index(path: Path, root: Path) -> str:
    """Return the name of the photo at ``path`` in an index of ``root``: a POSIX path."""
    return Path(os.path.relpath(path.absolute(), root)).as_posix()


def _update(
    index: Path,
    names: Sequence[str],
    deleted: Sequence[str],
    positions: Mapping[str, Position],
    asked: str | Trunk,
    runtime: Runtime,
) -> Report:
    with IndexReader.open(index) as reader:
        model, root = model_of_index(reader, index, asked, runtime.one_thread), reader.info.root
        indexed = {entry.name: entry for entry in reader.entries}
    report = Report(model=model.name)
    names = list(dict.fromkeys(names))
    pending = [name for name in names if not _is_current(root / name, indexed.get(name), positions)]
    report.unchanged = len(names) - len(pending)
    with (
        single_threaded_blas(),
        PhotoSource(root, model.trunk, model.settings, runtime) as source,
        IndexWriter.open(index) as writer,
    ):
        for name in deleted:
            report.removed += writer.remove(name)
        for done, photo in enumerate(source.describe(pending, model), start=1):
            if put_photo(writer, photo, positions, report) and isinstance(photo, Described):
                report.changed += photo.name in indexed
                report.added += photo.name not in indexed
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
