"""Build a whole index at once, or build it again with a model fitted on all its photos.

The index appears under its name only when it is complete. Until then an older index stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from placerec.errors import NotFound, PhotoError, UsageError
from placerec.index.reader import IndexReader
from placerec.index.writer import IndexWriter
from placerec.models.fit import FEWEST_PHOTOS
from placerec.models.model import Model
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
    table = read_positions(Path(positions)) if positions else {}
    return _Builder(Path(index), Path(folder), model, settings, table, runtime).run(names)


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
    return _Builder(Path(index), info.root, model, settings, positions, runtime).run(names)


@dataclass(frozen=True, slots=True)
class _Builder:
    index: Path
    root: Path
    model: str | Trunk
    settings: AnySettings
    positions: Mapping[str, Position]
    runtime: Runtime

    def run(self, names: Sequence[str]) -> Report:
        resolved = resolve(self.model, self.settings, self.runtime.one_thread)
        with (
            single_threaded_blas(),
            PhotoSource(self.root, resolved.trunk, self.settings, self.runtime) as source,
        ):
            model = resolved.model or self._fit(source, names, resolved.generic_if_few)
            return self._write(source, names, model.with_settings(self.settings))

    def _fit(self, source: PhotoSource, names: Sequence[str], generic_if_few: bool) -> Model:
        fitted = None
        if not generic_if_few or len(names) >= FEWEST_PHOTOS:
            fitted = source.fit(names, FEWEST_PHOTOS if generic_if_few else 1)
        if fitted is None and not generic_if_few:
            raise _no_photo(self.root, source.skipped)
        return fitted or generic_model(self.runtime.one_thread)

    def _write(self, source: PhotoSource, names: Sequence[str], model: Model) -> Report:
        report = Report(model=model.name)
        with IndexWriter.create(
            self.index, root=self.root.resolve(), model=model.name, fingerprint=model.fingerprint,
            settings=model.settings.to_json(), weights=model_bytes(model),
            exact=model.settings.form == "published", replace=True,
        ) as writer:  # fmt: skip
            for photo in source.describe(names, model):
                if put_photo(writer, photo, self.positions, report):
                    report.added += 1
                    if report.added % BATCH == 0:
                        writer.commit()
            if not report.added:
                raise _no_photo(self.root, report.skipped)
        return report


def put_photo(
    writer: IndexWriter,
    photo: Described | PhotoError,
    positions: Mapping[str, Position],
    report: Report,
) -> bool:
    """Store a described photo; note an invalid one in ``report`` and return false."""
    if isinstance(photo, PhotoError):
        report.skipped.append(photo)
        return False
    position = positions.get(photo.name, photo.position)
    writer.put(photo.name, photo.sha256, position, photo.features)
    report.located += position is not None
    return True


def _no_photo(root: Path, skipped: list[PhotoError]) -> PhotoError:
    reasons = "; ".join(str(error) for error in skipped[:3])
    return PhotoError(root, f"none of its {len(skipped)} photos can be read ({reasons}, ...)")
