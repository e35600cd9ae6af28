"""An index opened for questions: its model, its global descriptors, its settings.

The model inside the index is the one that described its photos; any other is refused with both
names. What the index fixed cannot be changed at query time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from placerec.errors import FixedByIndex, ModelMismatch, UsageError
from placerec.index.reader import Entry, IndexInfo, IndexReader
from placerec.models.model import Model
from placerec.models.model_file import model_from_bytes, parsed_settings
from placerec.models.resolve import open_named, trunk_named
from placerec.records import Array, PatchSet
from placerec.runtime import available_threads
from placerec.settings import FIXED_BY_INDEX, Settings
from placerec.trunks import Trunk


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """A readable index with its model ready to describe photos."""

    reader: IndexReader = field(repr=False)
    model: Model
    global_descriptors: Array = field(repr=False)
    threads: int

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        model: str | Trunk = "auto",
        threads: int | None = None,
        device: str = "cpu",
    ) -> OpenIndex:
        """Open the index at ``path``; ``model`` other than ``auto`` must be the one inside."""
        threads = threads or available_threads()
        reader = IndexReader.open(path)
        try:
            inside = model_of(reader, path, model, threads=threads, device=device)
            return cls(reader, inside, reader.global_descriptors(), threads)
        except BaseException:
            reader.close()
            raise

    def __len__(self) -> int:
        return len(self.reader.entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The photos in the order of the rows of ``global_descriptors``."""
        return self.reader.entries

    @property
    def info(self) -> IndexInfo:
        """What ``placerec index info`` shows."""
        return self.reader.info

    def patches(self, row: int) -> tuple[PatchSet, ...]:
        """The patch descriptors of the photo in ``row``."""
        return self.reader.patches(int(row))

    def photo_path(self, name: str) -> Path:
        """Where the indexed photo ``name`` lies on this machine."""
        return self.info.root / name

    def query_settings(self, **changes: Any) -> Settings:
        """The index's settings with query-time ``changes``; a fixed one is ``FixedByIndex``."""
        for name, value in changes.items():
            fixed = getattr(self.model.settings, name, None)
            if name in FIXED_BY_INDEX and value != fixed:
                raise FixedByIndex(name, fixed, value)
        return self.model.settings.replace(**changes)

    def close(self) -> None:
        """Close the file."""
        self.reader.close()

    def __enter__(self) -> OpenIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def model_of(
    reader: IndexReader,
    path: Path,
    asked: str | Trunk = "auto",
    *,
    threads: int,
    device: str,
) -> Model:
    """The model inside an index; ``ModelMismatch`` where ``asked`` names another one."""
    trunk = trunk_named(asked, threads, device)
    if trunk is not None and trunk.name not in reader.info.model:
        raise ModelMismatch(
            path, reader.info.model, trunk.name, "leave --model away, or build a new index with it"
        )
    inside = model_from_bytes(reader.weights(), path, trunk, threads=threads, device=device)
    inside = inside.with_settings(parsed_settings(reader.info.settings, path))
    if inside.fingerprint != reader.info.fingerprint:
        raise ModelMismatch(
            path, f"{reader.info.model} {reader.info.fingerprint[:12]}",
            f"{inside.name} {inside.fingerprint[:12]}", "build the index again with this version",
        )  # fmt: skip
    given = None if trunk is not None else open_named(asked, threads, device)
    if given is not None and not _same(given, inside):
        raise ModelMismatch(
            path, f"{inside.name} {inside.fingerprint[:12]}",
            f"{given.name} {given.fingerprint[:12]}",
            "leave --model away, or build a new index with it",
        )  # fmt: skip
    return inside


def _same(given: Model, inside: Model) -> bool:
    try:
        return given.with_settings(inside.settings).fingerprint == inside.fingerprint
    except UsageError:  # it cannot have these settings at all
        return False
