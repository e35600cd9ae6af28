"""A whole index at once: build, and refit with what is known.

The index appears under its name only when it is complete; until then an older one stays as it is.
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
from placerec.models.model_file import model_bytes, parsed_settings
from placerec.models.photo_source import PhotoSource
from placerec.models.resolve import (
    DEFAULT_TRUNK,
    auto_model,
    generic_model,
    open_named,
    settings_for,
    trunk_named,
)
from placerec.photos.find import find_photos
from placerec.photos.position import read_positions
from placerec.records import Position
from placerec.runtime import Progress, Runtime, available_threads, no_progress
from placerec.settings import Settings
from placerec.trunks import Trunk, open_trunk
from placerec.workers import single_threaded_blas

BATCH = 32


@dataclass(slots=True)
class Report:
    """What became of the photos: the counts and the skipped list add up to what was looked at.

    ``located`` of the added and changed photos have a position.
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
    model: str | Trunk = "auto",
    settings: Settings | None = None,
    positions: str | Path | None = None,
    threads: int | None = None,
    device: str = "cpu",
    replace: bool = False,
    progress: Progress = no_progress,
) -> Report:
    """Describe every photo below ``folder`` and write the index file ``index``.

    ``names`` are the photos to take, relative to ``folder`` (``../`` is allowed); default: all.
    ``positions`` is a CSV file (image,latitude,longitude[,heading]) that takes precedence over
    EXIF. An existing index is only replaced where ``replace`` says so. Raises ``NotFound`` for a
    folder without photos and ``PhotoError`` where none of them can be used.
    """
    names = find_photos(Path(folder)) if names is None else sorted(names, key=os.fsencode)
    if not names:
        raise NotFound(folder, "no photo in this folder", "give a folder with .jpg or .png files")
    if Path(index).exists() and not replace:
        raise UsageError(f"{index}: already exists; add to it with index add, or say --force")
    settings = settings or settings_for(model)
    builder = _Builder(
        Path(index), Path(folder), auto_model(model, settings), settings,
        read_positions(Path(positions)) if positions else {}, threads, device, progress,
    )  # fmt: skip
    return builder.run(names)


def refit_index(
    index: str | Path,
    *,
    model: str | Trunk = "auto",
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Report:
    """Fit the model anew on the photos of an index and describe them all again.

    Settings and positions are kept, and so is the old index until the new one is complete.
    """
    with IndexReader.open(Path(index)) as reader:
        info = reader.info
        positions = {entry.name: entry.position for entry in reader.entries if entry.position}
        names = [entry.name for entry in reader.entries]
    settings = parsed_settings(info.settings, Path(index))
    builder = _Builder(
        Path(index), info.root, auto_model(model, settings), settings, positions, threads, device,
        progress,
    )  # fmt: skip
    return builder.run(names)


@dataclass(frozen=True, slots=True)
class _Builder:
    index: Path
    root: Path
    model: str | Trunk
    settings: Settings
    positions: Mapping[str, Position]
    threads: int | None
    device: str
    progress: Progress

    def run(self, names: Sequence[str]) -> Report:
        ready = open_named(self.model, 1, self.device)
        trunk = ready.trunk if ready else trunk_named(self.model, 1, self.device)
        trunk = trunk or open_trunk(DEFAULT_TRUNK, Runtime(threads=1, device=self.device))
        threads = self.threads or available_threads()
        with (
            single_threaded_blas(),
            PhotoSource(self.root, trunk, self.settings, threads, self.progress) as source,
        ):
            if ready is None:
                ready = self._fit(source, names)
            return self._write(source, names, ready.with_settings(self.settings))

    def _fit(self, source: PhotoSource, names: Sequence[str]) -> Model:
        auto = self.model == "auto"
        fitted = None
        if not auto or len(names) >= FEWEST_PHOTOS:
            fitted = source.fit(names, FEWEST_PHOTOS if auto else 1)
        if fitted is not None:
            return fitted
        if not auto:
            raise _no_photo(self.root, source.skipped)
        return generic_model(1, self.device)

    def _write(self, source: PhotoSource, names: Sequence[str], model: Model) -> Report:
        report = Report(model=model.name)
        with IndexWriter.create(
            self.index, root=self.root.resolve(), model=model.name, fingerprint=model.fingerprint,
            settings=model.settings.to_json(), weights=model_bytes(model),
            exact=model.settings.shared_pca, replace=True,
        ) as writer:  # fmt: skip
            for one in source.describe(names, model):
                if isinstance(one, PhotoError):
                    report.skipped.append(one)
                    continue
                position = self.positions.get(one.name, one.position)
                writer.put(one.name, one.sha256, position, one.features)
                report.added += 1
                report.located += position is not None
                if report.added % BATCH == 0:
                    writer.commit()
            if not report.added:
                raise _no_photo(self.root, report.skipped)
        return report


def _no_photo(root: Path, skipped: list[PhotoError]) -> PhotoError:
    reasons = "; ".join(str(error) for error in skipped[:3])
    return PhotoError(root, f"none of its {len(skipped)} photos can be used ({reasons}, ...)")
