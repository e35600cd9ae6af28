"""Describe the photos of a new index in Lance with Ray Data, on the cores of one or many machines.

This process (the driver) fits the model and sends names, never pixels. A worker has one session of
the network. It reads its photos, and writes what describes them as a fragment, which no version of
the index has yet. The driver notes each fragment in a journal, and commits them all at the end. So
a build that was killed goes on where it stopped: a noted fragment is used again if each of its
photos has the same content and position, and the model is the same.

A photo that was lost with its process is tried again alone. If that process ends too, the photo is
skipped and named.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from placerec.errors import (
    EngineStopped,
    ModelMismatch,
    NotFound,
    PhotoError,
    UsageError,
    import_extra,
)
from placerec.files import file_sha256
from placerec.index import schema
from placerec.index.lance.builder import LanceBuilder, Staged
from placerec.index.lance.commit import write_fragments
from placerec.index.lance.journal import Journal
from placerec.index.lance.place import Place, lance
from placerec.index.lance.rows import photo_row
from placerec.index.presets import Storage
from placerec.index.retriever import IndexRetriever, open_retriever
from placerec.index.schema import RetrieverRow
from placerec.index.store import Writer, is_lance
from placerec.models.model import Model
from placerec.models.model_file import model_bytes, model_from_bytes
from placerec.models.photo_source import Described, PhotoSource, SourcePhoto
from placerec.photos.position import Positions
from placerec.records import Position
from placerec.runtime import Runtime
from placerec.settings import AnySettings
from placerec.trunks import TRUNKS
from placerec.workers import map_in_order, single_threaded_blas

LARGEST_BLOCK = 4096  # photos in a fragment
BLOCKS = 8  # for each worker at least, so that all end at about the same time
KILLER = "it ends every process that reads it; look at it with another program, or remove it"
STAGE = "describing photos"
Block = dict[str, Any]  # what a worker says of its photos: ``photos``, ``skipped``, ``fragments``


def require_ray(index: Path, retriever: object) -> None:
    """Refuse early what this engine cannot build."""
    if not is_lance(index):
        raise UsageError(f"{index}: the engine ray stores an index in Lance; give lance:FOLDER")
    if not isinstance(retriever, str | Path | None):
        raise UsageError(
            f"{index}: the engine ray cannot send a retriever that is an object; give a name or an "
            f"ONNX file, or build with threads"
        )
    import_extra("ray.data", "the engine ray", "ray")


@dataclass(frozen=True, slots=True)
class Task:
    """What every worker needs: the version that the build begins with, the photos, the model."""

    address: Path
    version: int
    root: Path
    weights: bytes = field(repr=False)
    settings: AnySettings
    positions: Positions = field(repr=False)
    storage: Storage
    retriever: RetrieverRow | None = None
    source: str | Path | None = None  # of the retriever: its name, or the absolute path of its file


def describe_on_ray(
    writer: Writer, root: Path, names: Sequence[str], model: Model, positions: Positions,
    runtime: Runtime, retriever: IndexRetriever | None = None,
) -> Iterator[Described | PhotoError]:  # fmt: skip
    """Yield each photo in the order of ``names``; its features are ``Staged`` in the new index.

    Raises ``EngineStopped`` if Ray ends; what was described until then stays described.
    """
    trunk, builder = model.trunk, cast(LanceBuilder, writer)
    if not (trunk.name in TRUNKS or getattr(trunk, "own", False)):
        raise UsageError(f"the engine ray cannot send the trunk {trunk.name}; use a shipped one")
    task = Task(
        builder.place.address, builder.dataset.version, root.resolve(), model_bytes(model),
        model.settings, positions, builder.storage, builder.retriever, _source_of(retriever),
    )  # fmt: skip
    made_by = f"{model.fingerprint}-{builder.storage.name}"
    if builder.retriever:
        made_by += f"-{builder.retriever.fingerprint}"
    journal = builder.keep_staged(Journal(builder.place, made_by))
    photos: dict[str, Described | PhotoError] = {}
    wanted = set(names)
    for block in journal.read():
        block["skipped"] = []  # these are read again
        if _is_valid(block, task, wanted - photos.keys(), runtime):
            builder.adopt(_fragments_of(block))
            photos |= _photos_of(block)
    if len(photos) < len(names):
        with _ray(builder.place.address, runtime) as ray:
            for attempt in (_block_size(len(names) - len(photos), runtime), 1):
                rest = [name for name in names if name not in photos]
                for block in _blocks(ray, task, rest, attempt, runtime):
                    if failure := block.get("failure"):
                        raise EngineStopped(builder.place.address, failure)
                    journal.append(block)
                    builder.adopt(_fragments_of(block))
                    photos |= _photos_of(block)
                    runtime.progress(STAGE, len(photos), len(names))
    for name in names:
        yield photos.get(name) or PhotoError(name, KILLER)


def _source_of(retriever: IndexRetriever | None) -> str | Path | None:
    """Return what the workers open to have this retriever."""
    source = retriever.source if retriever else None
    return source.resolve() if isinstance(source, Path) else source


def _block_size(photos: int, runtime: Runtime) -> int:
    return max(1, min(LARGEST_BLOCK, photos // (BLOCKS * runtime.cores)))


@contextmanager
def _ray(address: Path, runtime: Runtime) -> Iterator[Any]:
    """Yield Ray, connected to the cluster of this program or of RAY_ADDRESS, or one of its own.

    A cluster of its own has one process per thread of the runtime, and is not reachable from other
    machines.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what ends is said by our errors
    if "RAY_ADDRESS" not in os.environ:  # the loopback address, as elsewhere than on Linux
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray = import_extra("ray", "the engine ray", "ray")
    import_extra("ray.data", "the engine ray", "ray")
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ours = not ray.is_initialized()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lance warns of forks, Ray of names that will change
            if ours:
                _start(ray, address, runtime)
            yield ray
    except (ray.exceptions.RayError, ConnectionError, SystemExit) as error:
        raise _stopped(address, error) from error
    finally:
        if ours:
            ray.shutdown()


def _start(ray: Any, address: Path, runtime: Runtime) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if "RAY_ADDRESS" not in os.environ:
        options |= {"num_cpus": runtime.cores, "include_dashboard": False}
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises a plain Exception on a machine that is too busy
        raise _stopped(address, error) from error


def _stopped(address: Path, error: BaseException) -> EngineStopped:
    why = str(error).strip().splitlines() or ["no reason given"]
    return EngineStopped(address, f"{type(error).__name__}: {why[0]:.200}")


def _blocks(
    ray: Any, task: Task, names: Sequence[str], size: int, runtime: Runtime
) -> Iterator[Block]:
    """Yield what the workers say of the photos, a block at a time; a lost block is left out."""
    if not names:
        return
    raw = [os.fsencode(name) for name in names]  # a name need not be Unicode
    rows = [{"names": raw[n : n + size]} for n in range(0, len(raw), size)]
    context = ray.data.DataContext.get_current()
    before = context.max_errored_blocks, context.enable_progress_bars
    context.max_errored_blocks, context.enable_progress_bars = -1, False
    try:
        workers = int(ray.cluster_resources().get("CPU", runtime.cores))
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Worker, fn_constructor_args=(task,), num_cpus=1, max_task_retries=0,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, len(rows))),
        )  # fmt: skip
        for row in answers.iter_rows():
            yield json.loads(row["block"])
    finally:
        context.max_errored_blocks, context.enable_progress_bars = before


class Worker:
    """A process that describes photos."""

    def __init__(self, task: Task) -> None:
        self._task, self._place = task, Place.of(task.address)
        self._dataset = self._place.dataset(task.version)
        runtime = Runtime(threads=1)
        model = model_from_bytes(task.weights, task.address, runtime=runtime)
        self._model = model.with_settings(task.settings)
        retriever = None
        if task.source is not None and task.retriever:
            retriever = open_retriever(task.source, runtime)
            if retriever.retriever.fingerprint != task.retriever.fingerprint:
                raise ModelMismatch(
                    task.address, f"the retriever {task.retriever.fingerprint[:12]}",
                    f"{task.source} of a worker", "give all machines the same weights",
                )  # fmt: skip
        self._source = PhotoSource(task.root, model.trunk, task.settings, runtime, retriever)

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Describe the photos ``names`` and store them; return a ``Block`` as JSON."""
        names = [os.fsdecode(name) for name in row["names"]]
        try:
            with single_threaded_blas():
                return {"block": json.dumps(self._described(names))}
        except Exception as error:  # Ray would take any error for a lost block
            return {"block": json.dumps({"failure": f"{type(error).__name__}: {error}"})}

    def _described(self, names: Sequence[str]) -> Block:
        rows, photos, skipped = [], [], []
        for photo in self._source.describe(names, self._model):
            if isinstance(photo, PhotoError):
                skipped.append({"name": str(photo.path), "reason": photo.reason})
                continue
            row = photo_row(
                photo.name, photo.sha256, _position_of(photo, self._task.positions),
                photo.features, self._task.storage, self._task.retriever,
                gps_damaged=photo.gps_damaged, blank=photo.blank,
            )  # fmt: skip
            rows.append(row)
            photos.append(_as_json(photo, row["seal"]))
        fragments = write_fragments(self._place, rows, self._dataset) if rows else []
        stored = [json.dumps(fragment.to_json()) for fragment in fragments]
        return {"photos": photos, "skipped": skipped, "fragments": stored}


def _position_of(photo: Described, positions: Positions) -> Position | None:
    """Return the position that ``store_photos`` gives to a photo of a new index."""
    return positions.of(photo.name, photo.taken) or photo.position


def _as_json(photo: Described, mark: bytes) -> dict[str, Any]:
    where = photo.position
    return {
        "name": photo.name, "sha256": photo.sha256,
        "position": where and [where.latitude, where.longitude, where.heading],
        "taken": photo.taken and photo.taken.isoformat(), "gps_damaged": photo.gps_damaged,
        "blank": photo.blank, "seal": mark.hex(), "patch_sets": len(photo.features.patches),
    }  # fmt: skip


def _photos_of(block: Block) -> dict[str, Described | PhotoError]:
    """Return the photos of a block by name."""
    photos: dict[str, Described | PhotoError] = {}
    for row in block["photos"]:
        staged = Staged(
            np.zeros(0, np.float32), seal=bytes.fromhex(row["seal"]), patch_sets=row["patch_sets"]
        )
        photos[row["name"]] = SourcePhoto(
            row["name"], row["sha256"], row["position"] and Position(*row["position"]),
            row["taken"] and datetime.fromisoformat(row["taken"]), row["gps_damaged"],
            row["blank"], staged,
        )  # fmt: skip
    for row in block["skipped"]:
        photos[row["name"]] = PhotoError(row["name"], row["reason"])
    return photos


def _fragments_of(block: Block) -> list[Any]:
    metadata = lance().fragment.FragmentMetadata
    return [metadata.from_json(text) for text in block["fragments"]]


def _is_valid(block: Block, task: Task, wanted: set[str], runtime: Runtime) -> bool:
    """Whether the photos of a noted block, read now, would give the same fragment again."""
    try:
        photos = _photos_of(block)
        files = [file for fragment in _fragments_of(block) for file in fragment.files]
    except (ValueError, TypeError, KeyError):  # a damaged journal
        return False
    staged = [photo for photo in photos.values() if isinstance(photo, SourcePhoto)]
    if not staged or not photos.keys() <= wanted or not Place.of(task.address).has(files):
        return False
    digests = map_in_order(lambda photo: _digest(task.root / photo.name), staged, runtime.cores)
    return all(
        digest == photo.sha256 and _seal(photo, task.positions) == cast(Staged, photo.features).seal
        for photo, digest in zip(staged, digests, strict=True)
    )


def _seal(photo: Described, positions: Positions) -> bytes:
    """Return the seal of a staged photo with the position that it has now."""
    where, sets = _position_of(photo, positions), cast(Staged, photo.features).patch_sets
    values = (photo.name, photo.sha256, where, sets, photo.gps_damaged, photo.blank)
    return schema.seal(*schema.photo_row(*values))


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except NotFound:
        return ""
