"""Write pairs and descriptors as hloc, COLMAP and pycolmap read them.

A pairs file has a line per pair: two names with a blank between them. A descriptor file of hloc is
HDF5: a group per photo, with the dataset ``global_descriptor``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import UsageError, import_extra
from placerec.files import atomic_write, path_of, require_folder_of, write_text
from placerec.method.vlad import normalise
from placerec.models.resolve import AUTO
from placerec.pairs.find import TOP, find_pairs
from placerec.pairs.graph import FAR, PairGraph
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.text import is_word
from placerec.trunks import Trunk

GLOBAL = "global_descriptor"  # the name of hloc


def export_pairs(
    index: str | Path,
    out: str | Path,
    *,
    top: int = TOP,
    sequence: int = 0,
    sure: float | None = None,
    join: bool = False,
    far: float = FAR,
    descriptors: str | Path | None = None,
    model: str | Trunk = AUTO,
    runtime: Runtime = DEFAULT_RUNTIME,
    **changes: Any,
) -> PairGraph:
    """Write the pairs of an index to ``out``, one ``name1 name2`` a line, and return them.

    ``descriptors`` is a second file with the global descriptors of all photos: ``.h5`` as hloc
    writes it, or ``.npy`` with the names beside it (``names_file``). ``changes`` are settings that
    are free at query time; the other arguments are those of ``find_pairs``. Raises ``UsageError``
    for a name that these files cannot hold, before any work, and what ``PlaceRecognizer.open`` and
    ``find_pairs`` raise.
    """
    out = path_of(out)
    require_folder_of(out)
    second = None if descriptors is None else path_of(descriptors)
    if second is not None:
        require_descriptor_file(second)
    with PlaceRecognizer.open(index, model=model, runtime=runtime, **changes) as recognizer:
        require_names(entry.name for entry in recognizer.index.entries)
        graph = find_pairs(
            recognizer, top=top, sequence=sequence, sure=sure, join=join, far=far,
            progress=runtime.progress,
        )  # fmt: skip
        if second is not None:
            _write_descriptors(second, recognizer)
    write_text(out, "".join(f"{pair.first} {pair.second}\n" for pair in graph.pairs))
    return graph


def names_file(descriptors: Path) -> Path | None:
    """Return the file with the names of the rows of an ``.npy`` file; ``None`` for an ``.h5``."""
    return None if descriptors.suffix == ".h5" else descriptors.with_suffix(".txt")


def require_descriptor_file(path: Path) -> None:
    """Raise ``UsageError``, ``MissingExtra`` or ``NotFound`` if ``path`` cannot be written."""
    if path.suffix not in (".h5", ".npy"):
        raise UsageError(f"{path}: descriptors are an .h5 file (hloc) or an .npy file (NumPy)")
    require_folder_of(path)
    if path.suffix == ".h5":
        import_extra("h5py", "an .h5 file", "paper")


def require_names(names: Iterable[str]) -> None:
    """Raise ``UsageError`` for a name that a file of pairs cannot hold, or hloc cannot read."""
    for name in names:
        if not is_word(name):
            problem = "a blank in it, or a # in front, cannot be written in a file of pairs"
        elif name.startswith("../"):
            problem = "outside of the photo folder, where the other programs do not look"
        elif name.encode(errors="replace").decode() != name:
            problem = "not UTF-8, so hloc cannot read it"
        else:
            continue
        raise UsageError(
            f"{name!r}: {problem}; rename or move the photo, then build or refresh the index"
        )


def _write_descriptors(path: Path, recognizer: PlaceRecognizer) -> None:
    """Write the global descriptors of all photos, float32 rows of unit length."""
    names = [entry.name for entry in recognizer.index.entries]
    rows = normalise(recognizer.global_descriptors[:])
    if list_path := names_file(path):
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.save(file, rows)
        write_text(list_path, "".join(f"{name}\n" for name in names))
        return
    h5py = import_extra("h5py", "an .h5 file", "paper")
    with atomic_write(path) as partial, h5py.File(partial, "w") as file:
        for name, row in zip(names, rows, strict=True):
            file.create_dataset(f"{name}/{GLOBAL}", data=row)
