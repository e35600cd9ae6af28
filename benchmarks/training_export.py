"""Export a trained model to the published checkpoint format and import it: are descriptors equal?

    python benchmarks/training_export.py DATA_FOLDER RUN_FOLDER

The script exports RUN_FOLDER/model.safetensors, the result of training_run.py, to a temporary
folder. It imports that file and describes ten photos of gsv_cambridge_test with both models. It
trains nothing and takes about a minute on 2 cores. It writes results/training_export.csv and the
table in docs/TRAINING.md.
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
from placerec.training.run_folder import MODEL
from placerec.workers import single_threaded_blas

RESULTS = ROOT / "results" / "training_export.csv"
PAGE = ROOT / "docs" / "TRAINING.md"
THREADS = 2
PHOTOS = 10  # evenly spread over the queries
COLUMNS = ("compared", "photos", "values", "largest_difference", "largest_value")


def exported_and_imported(model: Model) -> Model:
    """Return ``model`` after an export to a checkpoint and an import, with its settings."""
    with tempfile.TemporaryDirectory(prefix="placerec-") as folder:
        path = Path(folder) / "trained.pth.tar"
        export_checkpoint(model, path)
        return import_checkpoint(path, runtime=Runtime(threads=THREADS)).with_settings(
            model.settings
        )


def compare(data: Path, run: Path) -> list[dict[str, object]]:
    """Return one row for the global descriptors and one row for each patch size."""
    trained = load_model(run / MODEL, Runtime(threads=THREADS))
    imported = exported_and_imported(trained)
    photos = open_dataset(data / "gsv_cambridge_test").searches[0].queries.paths
    chosen = [photos[number * len(photos) // PHOTOS] for number in range(PHOTOS)]
    pairs: dict[str, list[tuple[Array, Array]]] = {}
    for photo in chosen:
        pixels = trained.read(photo).pixels
        before, after = (model.describe(pixels) for model in (trained, imported))
        pair = (before.global_descriptor, after.global_descriptor)
        pairs.setdefault("global descriptor", []).append(pair)
        for patches, other in zip(before.patches, after.patches, strict=True):
            height, width = patches.grid.size
            name = f"patches of {height} x {width}"
            pairs.setdefault(name, []).append((patches.descriptors, other.descriptors))
    return [
        {
            "compared": name, "photos": PHOTOS, "values": sum(a.size for a, _ in arrays),
            "largest_difference": f"{max(np.abs(a - b).max() for a, b in arrays):.3g}",
            "largest_value": f"{max(np.abs(a).max() for a, _ in arrays):.3g}",
        }
        for name, arrays in pairs.items()
    ]  # fmt: skip


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the results as a table."""
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
