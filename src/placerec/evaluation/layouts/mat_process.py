"""A program that prints the ``dbStruct`` of a MATLAB file as JSON; ``dbstruct`` runs it.

scipy's reader crashes on some damaged files, so it needs a separate process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from scipy.io import loadmat


def fields_of(path: str) -> dict[str, Any] | None:
    """Return the fields by name: lists of names, nested lists of numbers, else ``None``.

    Returns ``None`` if ``dbStruct`` is not one struct. MATLAB objects and functions are subclasses
    of an array, and are refused.
    """
    struct = loadmat(path, appendmat=False, variable_names=["dbStruct"]).get("dbStruct")
    if type(struct) is not np.ndarray or struct.dtype.names is None or struct.size != 1:
        return None
    record = struct.reshape(-1)[0]
    return {name: _plain(np.asarray(record[name])) for name in struct.dtype.names}


def _plain(value: Any) -> Any:
    if value.dtype.kind in "iuf":
        return value.tolist()
    cells = [np.asarray(cell) for cell in value.ravel()] if value.dtype == object else []
    if all(cell.dtype.kind == "U" and cell.size == 1 for cell in cells):
        return [cell.item() for cell in cells]
    return None


if __name__ == "__main__":
    try:
        print(json.dumps(fields_of(sys.argv[1])))
    except Exception as error:  # scipy raises many types of errors for a damaged file
        sys.exit(str(error))
