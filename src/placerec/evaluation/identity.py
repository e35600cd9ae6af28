"""What a run depends on besides names: code and photos, as sha256.

A file can be replaced by another file of the same name. So the header of a run states the content
of its files, and a run resumes only if that is unchanged (``predictions``).
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from placerec.evaluation.dataset import Dataset
from placerec.files import file_sha256


def code_of(spec: str) -> dict[str, str]:
    """Return the sha256 (hex) by name of the file behind ``torch_module``, already imported."""
    if spec.lower().endswith(".onnx"):
        path: str | None = spec
    else:
        path = getattr(sys.modules[spec.partition(":")[0]], "__file__", None)
    return {} if path is None else {Path(path).name: file_sha256(Path(path))}


def sizes_of(dataset: Dataset) -> str:
    """Return the sha256 (hex) of the sizes in bytes of all photos, in their order.

    It notices nearly every photo that was replaced or changed, and reads none: a large data set has
    many gigabytes. A missing photo has no size.
    """
    digest = hashlib.sha256()
    for search in dataset.searches:
        for path in (*search.queries.paths, *search.database.paths):
            digest.update(f"{_size(path)}\n".encode("ascii"))
    return digest.hexdigest()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
