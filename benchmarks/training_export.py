"""A trained model as a published checkpoint, and back: does a photo keep its descriptors?

    python benchmarks/training_export.py DATA_FOLDER RUN_FOLDER

Takes RUN_FOLDER/model.safetensors, the result of training_run.py, writes it as the published
checkpoint (to a folder that is deleted at the end), imports that file, and describes ten photos of
gsv_cambridge_test with both models. Nothing is trained; it takes about a minute on 2 cores.
Writes results/training_export.csv and the table in docs/TRAINING.md.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
from table import ROOT, read_rows, write_page

from placerec.evaluation.layouts import open_dataset
from placerec.models.checkpoints import export_checkpoint, import_checkpoint
from placerec.models.model import Model
from placerec.models.model_file import load_model
from placerec.records import Array
from placerec.runtime import Runtime
from placerec.training.finish import MODEL
from placerec.workers import single_threaded_blas

RESULTS = ROOT / "results" / "training_export.csv"
PAGE = ROOT / "docs" / "TRAINING.md"
THREADS = 2
PHOTOS = 10  # evenly spread over the queries
COLUMNS = ("compared", "photos", "values", "largest_difference", "largest_value")


def there_and_back(model: Model) -> Model:
    """The model that the exported checkpoint of ``model`` gives, with its settings."""
    with tempfile.TemporaryDirectory(prefix="placerec-") as scratch:
        path = Path(scratch) / "trained.pth.tar"
        export_checkpoint(model, path)
        return import_checkpoint(path, runtime=Runtime(threads=THREADS)).with_settings(
            model.settings
        )


def compare(data: Path, run: Path) -> list[dict[str, object]]:
    """A row for the global descriptors, and one for each patch size."""
    trained = load_model(run / MODEL, THREADS)
    imported = there_and_back(trained)
    photos = open_dataset(data / "gsv_cambridge_test").searches[0].queries.paths
    chosen = [photos[number * len(photos) // PHOTOS] for number in range(PHOTOS)]
    found: dict[str, list[tuple[Array, Array]]] = {}
    for photo in chosen:
        pixels = trained.read(photo).pixels
        ours, theirs = (model.describe(pixels) for model in (trained, imported))
        pair = (ours.global_descriptor, theirs.global_descriptor)
        found.setdefault("global descriptor", []).append(pair)
        for mine, other in zip(ours.patches, theirs.patches, strict=True):
            name = f"patches of {mine.size[0]} x {mine.size[1]}"
            found.setdefault(name, []).append((mine.descriptors, other.descriptors))
    return [
        {
            "compared": name, "photos": PHOTOS, "values": sum(one.size for one, _ in pairs),
            "largest_difference": f"{max(np.abs(a - b).max() for a, b in pairs):.3g}",
            "largest_value": f"{max(np.abs(a).max() for a, _ in pairs):.3g}",
        }
        for name, pairs in found.items()
    ]  # fmt: skip


def markdown(rows: list[dict[str, str]]) -> str:
    """The results as a table."""
    names = ("compared", "photos", "values", "largest difference", "largest value")
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row.values()) + " |" for row in rows])


def main() -> None:
    with single_threaded_blas():
        rows = compare(Path(sys.argv[1]), Path(sys.argv[2]))
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_page(PAGE, "training_export", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
