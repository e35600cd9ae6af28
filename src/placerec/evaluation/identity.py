"""What a run's answers rest on besides names: weights, code and photos, as sha256.

A file can be replaced by another one of the same name. So the header of a run holds what its files
held, and a run is only gone on with, or shown again, where that is the same (``predictions``).
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from placerec.evaluation.dataset import Dataset
from placerec.files import file_sha256
from placerec.models.resolve import auto_model, open_named
from placerec.settings import Settings
from placerec.trunks import TRUNKS, Trunk, open_trunk

GENERIC = "generic"  # what ``auto`` is where there are few photos
FILES = (".safetensors", ".onnx")


def weights_of(model: str | Trunk, settings: Settings) -> dict[str, str]:
    """sha256 (hex) by name of what ``model`` is, before any fit.

    What is then fitted on the database photos follows from this, the settings and the photos.
    """
    meant = auto_model(model, settings)
    if not isinstance(meant, str):
        return {meant.name: meant.sha256}
    if meant == "auto":
        return weights_of(settings.trunk, settings) | weights_of(GENERIC, settings)
    if meant in TRUNKS:
        return {meant: open_trunk(meant).sha256}
    if meant.lower().endswith(FILES):
        return {Path(meant).name: file_sha256(Path(meant))}
    shipped = open_named(meant)  # refuses an unknown name
    return {} if shipped is None else {meant: shipped.fingerprint}


def code_of(spec: str) -> dict[str, str]:
    """sha256 (hex) by name of the file behind ``--torch-module``, which is imported already."""
    if spec.lower().endswith(".onnx"):
        path: str | None = spec
    else:
        path = getattr(sys.modules[spec.partition(":")[0]], "__file__", None)
    return {} if path is None else {Path(path).name: file_sha256(Path(path))}


def sizes_of(dataset: Dataset) -> str:
    """sha256 (hex) of the sizes in bytes of all photos, in their order.

    It tells nearly every photo that was replaced or mended, and reads none: a large set has many
    gigabytes. A photo that is not there has no size.
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
