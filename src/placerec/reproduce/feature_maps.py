"""The feature maps of a list of photos, computed once for all tables (``trunks.map_cache``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from placerec.files import file_sha256
from placerec.photos.decode import decode
from placerec.records import Array
from placerec.reproduce.folder import digest
from placerec.runtime import Runtime
from placerec.settings import Size
from placerec.trunks import Trunk, feature_map
from placerec.trunks.map_cache import map_folder, stored_map
from placerec.workers import map_in_order

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_reported(
    function: Callable[[Item], Result], items: Sequence[Item], stage: str, runtime: Runtime
) -> list[Result]:
    """Return ``function`` of each item, in order; each result is one step of ``stage``."""
    results: list[Result] = []
    for result in map_in_order(function, items, runtime.cores):
        results.append(result)
        runtime.progress(stage, len(results), len(items))
    return results


class FeatureMapFiles(Sequence[Array]):
    """Feature maps (h, w, C) float32, read from disk one at a time."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]
        features: Array = np.load(self.files[index], allow_pickle=False)
        return features

    @property
    def digest(self) -> str:
        """12 hex digits that identify trunk, image size, photos and the changes of their pixels."""
        return digest(f"{file.parent.name}/{file.stem}" for file in self.files)


def compute_feature_maps(
    trunk: Trunk,
    size: Size,
    runtime: Runtime,
    photos: Sequence[Path],
    stage: str,
    change: Callable[[Array], Array] | None = None,
    folder: Path | None = None,
) -> FeatureMapFiles:
    """Return the feature maps of ``photos``; compute those that are not stored yet.

    If there is a ``change``, the trunk sees the pixels that it returns, and these maps need their
    own ``folder``.
    """
    folder = folder or map_folder(trunk.sha256, size)
    files = [folder / f"{file_sha256(photo)}.npy" for photo in photos]
    shrink_to = trunk.preprocessing(size).shrink_to

    def compute(item: tuple[Path, Path]) -> None:
        def features() -> Array:
            pixels = decode(item[1], shrink_to=shrink_to).pixels
            return feature_map(trunk, change(pixels) if change else pixels, size)

        stored_map(item[0], features)

    photo_of = dict(zip(files, photos, strict=True))  # equal photos share a file
    missing = [item for item in photo_of.items() if not item[0].is_file()]
    map_reported(compute, missing, stage, runtime)
    return FeatureMapFiles(files)
