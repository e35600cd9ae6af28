"""What the workers of a build have staged: a small dataset inside the folder of the index.

It lies in the same disk or object store as the index, so a build goes on from any machine.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from typing import Any

from placerec.errors import PlacerecError, import_extra
from placerec.index.lance.place import STAGED, Place, lance


class Journal:
    """The blocks that one model has described. A block is JSON; ``fragments`` is part of it."""

    def __init__(self, place: Place, key: str) -> None:
        self._place, self._key, self._uri = place, key, f"{place.uri}/{STAGED}"
        self._mode = "overwrite"  # of a journal that cannot be read

    def append(self, block: dict[str, Any]) -> None:
        """Note a block; it is on the disk when this returns."""
        arrow = import_extra("pyarrow", "an index in Lance", "lance")
        table = arrow.table({"key": [self._key], "block": [json.dumps(block)]})
        with self._place.errors(writing=True):
            lance().write_dataset(table, self._uri, mode=self._mode)
        self._mode = "append"

    def read(self) -> list[dict[str, Any]]:
        """Return the blocks of this model; a journal that cannot be read has none."""
        with suppress(PlacerecError, ValueError), self._place.errors():
            rows = lance().dataset(self._uri).to_table().to_pylist()
            self._mode = "append"
            return [json.loads(row["block"]) for row in rows if row["key"] == self._key]
        return []

    def drop(self) -> None:
        """Delete the journal of this folder."""
        with suppress(OSError, PlacerecError), self._place.errors():
            if self._place.folder is None:
                lance().LanceDataset.drop(self._uri, ignore_not_found=True)
            else:
                shutil.rmtree(self._place.folder / STAGED)
