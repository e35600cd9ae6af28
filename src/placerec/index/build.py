"""Build an index, or build it again with a model fitted on all its photos.

A new index appears under its name only when it is complete. Until then an older index stays as it
is. A photo is identified by its path relative to the indexed folder (``../`` if it lies outside)
and by the sha256 of its content.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from placerec.errors import FolderGone, NotFound, PhotoError, UsageError
from placerec.files import is_folder, path_of, paths_of
from placerec.index.calibrate import calibrate_index
from placerec.index.index_model import model_of_index
from placerec.index.notices import Notice, copies, left_out
from placerec.index.presets import Storage, preset_for, preset_named
from placerec.index.reader import Entry
from placerec.index.retriever import (
    AnyRetriever,
    IndexRetriever,
    open_retriever,
    retriever_of_index,
)
from placerec.index.store import Writer, open_index, store_of
from placerec.models.fit import FEWEST_PHOTOS
from placerec.models.model import Model
from placerec.models.model_file import model_bytes, parse_settings
from placerec.models.photo_source import Described, PhotoSource, no_photo_to_fit
from placerec.models.resolve import AUTO, Resolved, generic_model, resolve, settings_or_own
from placerec.photos.find import UNREADABLE_FOLDERS, Found, look_through
from placerec.photos.position import Positions, read_positions
from placerec.photos.sphere import distance
from placerec.records import Position
from placerec.runtime import DEFAULT_RUNTIME, Runtime, require_runtime
from placerec.settings import AnySettings, require, require_number
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas

BATCH = 32  # photos per transaction
THREADS, RAY = ENGINES = ("threads", "ray")
FAR = 1000.0  # metres between two positions of one photo that are worth a notice


@dataclass(slots=True)
class Report:
    """What happened to the photos. The counts and ``skipped`` add up to the photos looked at.

    A ``changed`` photo was described again: its file, its position or the model is another one.
    ``located`` counts the added and changed photos with a position; ``moved`` the photos that only
    have another name. ``notices`` are what else a person should know, files that were left out
    among it.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    removed: int = 0
    located: int = 0
    skipped: list[PhotoError] = field(default_factory=list)
    model: str = ""
    notices: list[Notice] = field(default_factory=list)

    def note(self, kind: str, names: Iterable[str]) -> None:
        """Add the notice of a kind if there are any names."""
        if names := tuple(names):
            self.notices.append(Notice(kind, names))

    def note_left_out(self, kinds: Mapping[str, list[str]]) -> None:
        """Add the notices about files and folders that the walks through folders left out."""
        others = dict(kinds)
        self.note("unreadable_folders", others.pop(UNREADABLE_FOLDERS, ()))
        self.note("left_out", left_out(others))


def build_index(
    index: str | Path,
    folder: str | Path,
    *,
    names: str | Path | Iterable[str | Path] | None = None,
    model: str | Trunk = AUTO,
    settings: AnySettings | None = None,
    retriever: AnyRetriever | None = None,
    preset: str | None = None,
    positions: str | Path | Mapping[str, Position] | None = None,
    time_offset: float = 0.0,
    replace: bool = False,
    engine: str = THREADS,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Report:
    """Describe every photo below ``folder`` and write the index, a file or ``lance:FOLDER``.

    A ``retriever`` makes the shortlists in place of the model's global descriptor; patches and
    confidence stay the model's. It is a name of ``placerec.baselines.RETRIEVERS``, an ONNX file, or
    a ``Retriever`` of your own, which every later call then needs too.

    ``preset`` says how descriptors are stored: ``exact`` (float32), ``int8``, ``default`` or
    ``compact`` (docs/MEASUREMENTS.md). By default it is ``exact`` for the published form,
    ``default`` for the default method, and ``int8`` for methods with other descriptors.

    ``names`` are the photos to take, relative to ``folder`` (``../`` is allowed); default: all.
    ``positions`` is a table (image,latitude,longitude[,heading]), a GPX track, or a ``Position`` by
    the name of each photo, and takes precedence over EXIF; ``time_offset`` are the seconds that are
    added to the camera's clock to give UTC, for photos in a track. An existing index is only
    replaced if ``replace`` is true. ``engine`` is ``threads``, or ``ray`` for an index in Lance
    (docs/SCALE.md). Raises ``NotFound`` for a folder without photos and ``PhotoError`` if no photo
    can be read.
    """
    index, folder = path_of(index), path_of(folder)
    require_runtime(runtime)
    require(engine in ENGINES, "engine", " or ".join(ENGINES))
    if engine == RAY:
        from placerec.index.ray_build import require_ray

        require_ray(index, retriever)
    if names is None:
        content = look_through(folder)
    else:
        content = Found(sorted({path.as_posix() for path in paths_of(names)}, key=os.fsencode))
    if not content.photos:
        ignored = "; ".join(["no photo in this folder", *left_out(content.left_out)])
        raise NotFound(folder, ignored, "give a folder with .jpg or .png files")
    if store_of(index).exists(index) and not replace:
        raise UsageError(f"{index}: already exists; add photos to it, or replace it")
    settings = settings_or_own(settings, model)
    resolved = resolve(model, settings, runtime.one_thread)
    opened = None if retriever is None else open_retriever(retriever, runtime.one_thread)
    table = positions_of(positions, time_offset, folder)
    storage = preset_for(settings) if preset is None else preset_named(preset)
    plan = _Plan(index, folder, content.photos, settings, table, storage, {}, opened, engine)
    report = _build(plan, resolved, None, runtime)
    report.note("rows_without_photo", table.unmatched(content.photos))
    report.note_left_out(content.left_out)
    return report


def refit_index(
    index: str | Path,
    *,
    model: str | Trunk = AUTO,
    retriever: AnyRetriever | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Report:
    """Fit the model again on the photos of an index, and describe them all again.

    Settings, positions, the retriever and, without a ``model``, the trunk stay as they are. With
    too few photos for a fit the model inside the index stays, and so do imported and trained
    weights; a notice says it. The old index stays until the new one is complete. The photos count
    as ``changed``.
    Raises ``FolderGone`` if the folder of the photos does not exist.
    """
    index = path_of(index)
    require_runtime(runtime)
    with open_index(index) as reader:
        info, entries = reader.info, reader.entries
        if not is_folder(info.root):
            raise FolderGone(info.root)
        inside = None
        if model == AUTO:
            inside = model_of_index(reader, index, AUTO, runtime.one_thread)
        opened = retriever_of_index(reader, index, retriever, runtime.one_thread)
    settings = parse_settings(info.settings, index)
    positions = Positions.from_dict({e.name: e.position for e in entries if e.position})
    indexed = {entry.name: entry for entry in entries}
    storage = preset_named(info.preset)
    plan = _Plan(index, info.root, list(indexed), settings, positions, storage, indexed, opened)
    if inside is None:
        report = _build(plan, resolve(model, settings, runtime.one_thread), None, runtime)
    else:
        given = bool(getattr(inside.trunk, "own", False))
        report = _build(plan, Resolved(inside.trunk, inside if given else None), inside, runtime)
        report.note("given_model", [inside.name] * given)
    # The positions are those of the index, which a table gave: that was said then.
    report.notices = [notice for notice in report.notices if notice.kind != "far_from_exif"]
    return report


def positions_of(
    file: str | Path | Mapping[str, Position] | None, time_offset: float, root: Path
) -> Positions:
    """Return the positions of a file or mapping for the photos below ``root``, or none."""
    require_number("time_offset", time_offset)
    positions = Positions()
    if isinstance(file, Mapping):
        rows = file.items()
        if not all(isinstance(name, str) and isinstance(at, Position) for name, at in rows):
            raise UsageError("positions: give a file, or a Position by the name of each photo")
        positions = Positions.from_dict(file)
    elif file is not None:
        positions = read_positions(path_of(file), time_offset, root)
    if time_offset and not positions.track:
        raise UsageError("time_offset is for a GPX track; give one as positions, or omit it")
    return positions


def store_photos(
    writer: Writer,
    photos: Iterable[Described | PhotoError],
    positions: Positions,
    report: Report,
    indexed: Mapping[str, Entry],
) -> None:
    """Store described photos in batches, and note in ``report`` what happened to each.

    ``indexed`` are the photos that the index already has, by name. A changed photo without a
    position keeps the one that the index has.
    """
    digests = {name: entry.sha256 for name, entry in indexed.items()}
    stored: dict[str, str] = {}
    damaged, blank, far, outside, from_file, times = [], [], [], [], [], []
    for photo in photos:
        if isinstance(photo, PhotoError):
            report.skipped.append(photo)
            continue
        times.append(photo.taken)
        given = positions.of(photo.name, photo.taken)
        before = indexed[photo.name].position if photo.name in indexed else None
        position = given or photo.position or before
        writer.put(
            photo.name, photo.sha256, position, photo.features,
            gps_damaged=photo.gps_damaged, blank=photo.blank,
        )  # fmt: skip
        damaged += [photo.name] * photo.gps_damaged
        blank += [photo.name] * photo.blank
        if given and photo.position and distance(given, photo.position) > FAR:
            far.append(photo.name)
        if positions.track and not given:
            outside.append(photo.name)
        if before and position != before and not given:
            from_file.append(photo.name)
        report.located += position is not None
        report.changed += photo.name in digests
        report.added += photo.name not in digests
        stored[photo.name] = photo.sha256
        if len(stored) % BATCH == 0:
            writer.commit()
    report.note("far_from_exif", far)
    report.note("outside_track", outside)
    report.note("clock_off", positions.time_offsets(times))
    report.note("position_from_file", from_file)
    report.note("gps_damaged", damaged)
    report.note("blank", blank)
    report.note("equal_files", copies(digests | stored, stored))


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which photos become an index, with which settings; ``indexed`` as in ``store_photos``."""

    index: Path
    root: Path
    names: Sequence[str]
    settings: AnySettings
    positions: Positions
    storage: Storage
    indexed: Mapping[str, Entry] = field(default_factory=dict)
    retriever: IndexRetriever | None = None
    engine: str = THREADS


def _build(plan: _Plan, resolved: Resolved, inside: Model | None, runtime: Runtime) -> Report:
    """Build an index; ``inside`` is the model that takes the place of a fit on too few photos."""
    root, names, settings, retriever = plan.root, plan.names, plan.settings, plan.retriever
    if inside is None:
        resolved.check_photos(settings, len(names))
    with (
        single_threaded_blas(),
        PhotoSource(root, resolved.trunk, settings, runtime, retriever) as source,
    ):
        few_fit = settings.form == "published" or not (inside or resolved.generic_if_few)
        fewest = 1 if few_fit else FEWEST_PHOTOS
        fitted = resolved.model or source.fit(names, fewest)
        too_few = fitted is None
        if too_few:
            fitted = generic_model(runtime.one_thread) if resolved.generic_if_few else inside
        if fitted is None:
            raise no_photo_to_fit(root, source.skipped)
        fitted = fitted.with_settings(settings)
        report = Report(model=fitted.name)
        report.note("too_few_for_fit", [fitted.name] * bool(too_few and inside))
        with store_of(plan.index).create(
            plan.index, root=root.resolve(), model=fitted.name, fingerprint=fitted.fingerprint,
            settings=settings.to_json(), weights=model_bytes(fitted),
            storage=plan.storage,
            retriever=retriever.row(plan.index) if retriever else None, replace=True,
        ) as writer:  # fmt: skip
            if plan.engine == RAY:
                from placerec.index.ray_build import describe_on_ray

                photos = describe_on_ray(
                    writer, root, names, fitted, plan.positions, runtime, retriever
                )
            else:
                photos = source.describe(names, fitted)
            store_photos(writer, photos, plan.positions, report, plan.indexed)
            if not report.added and not report.changed:
                raise no_photo_to_fit(root, report.skipped)
            writer.calibrate(partial(calibrate_index, model=fitted, runtime=runtime))
        return report
