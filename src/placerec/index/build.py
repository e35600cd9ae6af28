"""Build an index, build it again with a model fitted on all its photos, or change it.

A new index appears under its name only when it is complete. Until then an older index stays as it
is. A photo is identified by its path relative to the indexed folder (``../`` if it lies outside)
and by the sha256 of its content. Adding the same photo twice changes nothing. A changed photo is
described again, by the model inside the index.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from placerec.errors import NotFound, PhotoError, UsageError
from placerec.files import file_sha256
from placerec.index.index_model import model_of_index
from placerec.index.reader import Entry, IndexReader
from placerec.index.writer import IndexWriter
from placerec.models.fit import FEWEST_PHOTOS
from placerec.models.model_file import model_bytes, parse_settings
from placerec.models.photo_source import Described, PhotoSource
from placerec.models.resolve import AUTO, generic_model, resolve, settings_for
from placerec.photos.find import find_photos
from placerec.photos.position import read_positions
from placerec.records import Position
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.settings import AnySettings
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas

BATCH = 32  # photos per transaction


@dataclass(slots=True)
class Report:
    """What happened to the photos. The counts and ``skipped`` add up to the photos looked at.

    ``located`` counts the added and changed photos with a position.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    located: int = 0
    skipped: list[PhotoError] = field(default_factory=list)
    model: str = ""


def build_index(
    index: str | Path,
    folder: str | Path,
    *,
    names: Sequence[str] | None = None,
    model: str | Trunk = AUTO,
    settings: AnySettings | None = None,
    positions: str | Path | None = None,
    replace: bool = False,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Report:
    """Describe every photo below ``folder`` and write the index file ``index``.

    ``names`` are the photos to take, relative to ``folder`` (``../`` is allowed); default: all.
    ``positions`` is a CSV file (image,latitude,longitude[,heading]) that takes precedence over
    EXIF. An existing index is only replaced if ``replace`` is true. Raises ``NotFound`` for a
    folder without photos and ``PhotoError`` if no photo can be read.
    """
    names = find_photos(Path(folder)) if names is None else sorted(names, key=os.fsencode)
    if not names:
        raise NotFound(folder, "no photo in this folder", "give a folder with .jpg or .png files")
    if Path(index).exists() and not replace:
        raise UsageError(f"{index}: already exists; add photos to it, or replace it")
    settings = settings or settings_for(model)
    table = read_positions(positions).by_name if positions else {}
    return _build(Path(index), Path(folder), names, model, settings, table, runtime)


def refit_index(
    index: str | Path, *, model: str | Trunk = AUTO, runtime: Runtime = DEFAULT_RUNTIME
) -> Report:
    """Fit the model again on the photos of an index, and describe them all again.

    Settings and positions stay as they are. The old index stays until the new one is complete.
    """
    with IndexReader.open(Path(index)) as reader:
        info = reader.info
        positions = {entry.name: entry.position for entry in reader.entries if entry.position}
        names = [entry.name for entry in reader.entries]
    settings = parse_settings(info.settings, Path(index))
    return _build(Path(index), info.root, names, model, settings, positions, runtime)


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
    table = read_positions(positions).by_name if positions else {}
    with IndexReader.open(Path(index)) as reader:
        root = reader.info.root
    names: list[str] = []
    for path in map(Path, paths):
        if not path.exists():
            raise NotFound(path, "no such photo or folder")
        photos = [path / name for name in find_photos(path)] if path.is_dir() else [path]
        names += [_name_in_index(photo, root) for photo in photos]
    return _update(Path(index), names, [], table, model, runtime)


def remove_photos(index: str | Path, photos: Iterable[str | Path]) -> Report:
    """Remove photos, each named as in the index or by its path on disk."""
    with IndexReader.open(Path(index)) as reader:
        indexed, root = {entry.name for entry in reader.entries}, reader.info.root
    chosen: dict[str, None] = {}
    for photo in map(str, photos):
        name = photo if photo in indexed else _name_in_index(Path(photo), root)
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


def _name_in_index(path: Path, root: Path) -> str:
    """Return the name of the photo at ``path`` in an index of ``root``: a POSIX path."""
    return Path(os.path.relpath(path.absolute(), root)).as_posix()


def _store_photos(
    writer: IndexWriter,
    photos: Iterable[Described | PhotoError],
    positions: Mapping[str, Position],
    report: Report,
    indexed: Container[str] = (),
) -> None:
    """Store described photos in batches, and note in ``report`` what happened to each.

    ``indexed`` are the names that the index already has.
    """
    for photo in photos:
        if isinstance(photo, PhotoError):
            report.skipped.append(photo)
            continue
        position = positions.get(photo.name, photo.position)
        writer.put(photo.name, photo.sha256, position, photo.features)
        report.located += position is not None
        report.changed += photo.name in indexed
        report.added += photo.name not in indexed
        if (report.added + report.changed) % BATCH == 0:
            writer.commit()


def _build(
    index: Path,
    root: Path,
    names: Sequence[str],
    model: str | Trunk,
    settings: AnySettings,
    positions: Mapping[str, Position],
    runtime: Runtime,
) -> Report:
    resolved = resolve(model, settings, runtime.one_thread)
    resolved.check_photos(settings, len(names))
    with single_threaded_blas(), PhotoSource(root, resolved.trunk, settings, runtime) as source:
        fewest = FEWEST_PHOTOS if resolved.generic_if_few else 1
        fitted = resolved.model or source.fit(names, fewest)
        if fitted is None and resolved.generic_if_few:
            fitted = generic_model(runtime.one_thread)
        if fitted is None:
            raise _no_photo(root, source.skipped)
        fitted = fitted.with_settings(settings)
        report = Report(model=fitted.name)
        with IndexWriter.create(
            index, root=root.resolve(), model=fitted.name, fingerprint=fitted.fingerprint,
            settings=settings.to_json(), weights=model_bytes(fitted),
            exact=settings.form == "published", replace=True,
        ) as writer:  # fmt: skip
            _store_photos(writer, source.describe(names, fitted), positions, report)
            if not report.added:
                raise _no_photo(root, report.skipped)
        return report


def _no_photo(root: Path, skipped: list[PhotoError]) -> PhotoError:
    reasons = "; ".join(str(error) for error in skipped[:3])
    return PhotoError(root, f"none of its {len(skipped)} photos can be read ({reasons}, ...)")


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
        report.removed = sum(writer.remove(name) for name in deleted)
        _store_photos(writer, source.describe(pending, model), positions, report, indexed)
    return report


def _is_current(path: Path, entry: Entry | None, positions: Mapping[str, Position]) -> bool:
    if entry is None or positions.get(entry.name, entry.position) != entry.position:
        return False
    try:
        return file_sha256(path) == entry.sha256
    except NotFound:
        return False
