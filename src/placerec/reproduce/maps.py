"""The trunk maps of a list of photos, computed once for all tables (``trunks.maps``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from placerec.files import file_sha256
from placerec.photos.decode import decode
from placerec.records import Array
from placerec.runtime import Progress
from placerec.trunks import Trunk, feature_map
from placerec.trunks.map_cache import map_folder, write_map
from placerec.workers import map_in_order

Change = Callable[[Array], Array]


class Maps(Sequence[Array]):
    """The maps (h, w, C) float32 of ``photos``, read from disk one at a time.

    ``folder`` and ``label`` are for maps of changed pixels, which are kept apart.
    """

    def __init__(
        self,
        trunk: Trunk,
        size: tuple[int, int],
        photos: Sequence[Path],
        folder: Path | None = None,
        label: str = "",
    ) -> None:
        self._trunk, self._size, self._photos = trunk, size, photos
        self.folder = folder or map_folder(trunk.sha256, size)
        self.sha256 = [file_sha256(photo) for photo in photos]
        self._files = [self.folder / f"{sha}{label}.npy" for sha in self.sha256]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]
        features: Array = np.load(self._files[index], allow_pickle=False)
        return features

    def fill(
        self, threads: int, progress: Progress, stage: str, change: Change = lambda pixels: pixels
    ) -> None:
        """Compute the maps that are not there yet, of pixels as ``change`` returns them."""
        numbers = {file: i for i, file in enumerate(self._files)}  # equal photos share a file
        missing = [i for file, i in numbers.items() if not file.is_file()]
        preprocessing = self._trunk.preprocessing(self._size)

        def fill(number: int) -> None:
            photo = decode(self._photos[number], shrink_to=preprocessing.shrink_to)
            write_map(
                self._files[number], feature_map(self._trunk, change(photo.pixels), self._size)
            )

        for done, _ in enumerate(map_in_order(fill, missing, threads), start=1):
            progress(stage, done, len(missing))
