"""Trunk maps, computed once for all tables: one file a photo in the cache folder.

The map (h, w, C) float32 of a photo lies at ``features/TRUNK-HxW/PHOTO.npy`` below the cache
folder, TRUNK the first 16 digits of the weights' sha256, PHOTO the sha256 of its file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from placerec.errors import NotFound
from placerec.evaluation.reproduce.folder import whole
from placerec.index.describe import Progress
from placerec.photos.decode import decode
from placerec.photos.prepare import prepare
from placerec.records import Array
from placerec.trunks import Trunk
from placerec.trunks.vgg16 import cache_folder
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
        named = f"{trunk.sha256[:16]}-{size[0]}x{size[1]}"
        self.folder = folder or cache_folder() / "features" / named
        self.sha256 = [_sha256(photo) for photo in photos]
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
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = {file: i for i, file in enumerate(self._files)}  # equal photos share a file
        missing = [i for file, i in numbers.items() if not file.is_file()]
        preprocessing = self._trunk.preprocessing(self._size)

        def fill(number: int) -> None:
            photo = decode(self._photos[number], shrink_to=preprocessing.shrink_to)
            features = self._trunk(prepare(change(photo.pixels), preprocessing)).transpose(1, 2, 0)
            with whole(self._files[number]) as partial, partial.open("wb") as file:
                np.save(file, np.ascontiguousarray(features, np.float32))

        for done, _ in enumerate(map_in_order(fill, missing, threads), start=1):
            progress(stage, done, len(missing))


def _sha256(photo: Path) -> str:
    try:
        return hashlib.sha256(photo.read_bytes()).hexdigest()
    except OSError as error:
        raise NotFound(photo, error.strerror or "cannot be read") from error
