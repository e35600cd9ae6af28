"""The patches of database photos that stay on the device, those used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock

from placerec.engine.matching import PatchesThere

Photo = tuple[PatchesThere, ...]


class Resident:
    """Patches by the row of their photo, at most ``most_bytes`` of them."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._lock = most_bytes, Lock()
        self.forget()

    def forget(self) -> None:
        """Drop all patches."""
        with self._lock:
            self._photos: OrderedDict[int, Photo] = OrderedDict()
            self._bytes = 0

    def of(
        self, rows: Sequence[int], read: Callable[[list[int]], Iterable[Photo]]
    ) -> Iterator[Photo]:
        """Yield the patches of ``rows``; ``read`` gives those of the rows that are not here."""
        with self._lock:
            here = {row: self._photos[row] for row in rows if row in self._photos}
        missing = iter(read([row for row in rows if row not in here]))
        for row in rows:
            photo = here[row] if row in here else next(missing)
            self._keep(row, photo)
            yield photo

    def _keep(self, row: int, photo: Photo) -> None:
        with self._lock:
            if row not in self._photos:
                self._bytes += _bytes(photo)
            self._photos[row] = photo
            self._photos.move_to_end(row)
            while self._bytes > self._most:
                self._bytes -= _bytes(self._photos.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._photos)


def _bytes(photo: Photo) -> int:
    return sum(patches.nbytes for patches in photo)
