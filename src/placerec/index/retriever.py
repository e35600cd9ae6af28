"""The retriever of an index: what makes its shortlists in place of the model's global descriptor.

It is any ``Retriever`` (baselines/contract.py) that needs no fit. The index stores its name, its
fingerprint and one descriptor per photo, and where it comes from: a name in the registry, or a
file. So it is opened again with the index; a retriever with another fingerprint is refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from placerec.baselines import RETRIEVERS
from placerec.baselines.contract import Retriever
from placerec.baselines.torch_module import GlobalModule, open_module, unit_length
from placerec.errors import ModelMismatch, NotFound, PlacerecError, UsageError
from placerec.files import is_file, path_of
from placerec.index.schema import RetrieverRow
from placerec.index.store import Reader, folder_beside
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.text import printable

AnyRetriever = str | Path | Retriever
ONNX = ".onnx"


@dataclass(frozen=True, slots=True)
class IndexRetriever:
    """A retriever at work, and where it comes from.

    ``source`` is a name of ``baselines.RETRIEVERS``, an ONNX file, or ``None`` for an object.
    """

    retriever: Retriever = field(repr=False)
    source: str | Path | None

    def __call__(self, pixels: Array) -> Array:
        """Return the descriptor (R,) float32 of unit length or zero of (H, W, 3) uint8 RGB."""
        name = f"retriever {self.retriever.name}"
        try:
            vector = np.asarray(self.retriever.describe(pixels))
        except (PlacerecError, MemoryError):
            raise
        except Exception as error:  # the user's code can raise any exception
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(f"{name}: it fails on a photo ({reason}); correct it") from error
        floats = vector.ndim == 1 and vector.size and vector.dtype.kind == "f"
        if not (floats and np.isfinite(vector).all()):
            raise UsageError(
                f"{name}: it describes a photo by {vector.dtype} {vector.shape}; it must give "
                f"finite floats (D,)"
            )
        return unit_length(vector, name)

    def row(self, index: Path) -> RetrieverRow:
        """Return what the index at ``index`` stores; a file is stored relative to its folder."""
        source = self.source or ""
        if isinstance(source, Path):
            source = os.path.relpath(source.resolve(), folder_beside(index))
        name = printable(self.retriever.name)
        return RetrieverRow(name, self.retriever.fingerprint, os.fsencode(source))


def open_retriever(given: AnyRetriever, runtime: Runtime = DEFAULT_RUNTIME) -> IndexRetriever:
    """Open a retriever: a name of ``baselines.RETRIEVERS``, an ONNX file, or an object.

    Raises ``UsageError`` for one that must be fitted first, for an object that is no ``Retriever``,
    and for a file without a descriptor.
    """
    opened = _opened(given, runtime)
    one, why = opened.retriever, "it needs name and fingerprint, which are text, and describe"
    try:
        words, describe = (one.name, one.fingerprint), one.describe
    except UsageError as error:
        raise UsageError(
            f"retriever {one.name}: it is fitted on photos, and an index does not keep that fit; "
            f"choose one that is already trained"
        ) from error
    except Exception as error:  # the properties of the user's object can raise any exception
        raise UsageError(f"retriever: {given!r:.100} is no Retriever ({error}); {why}") from error
    valid = all(isinstance(word, str) and word for word in words) and callable(describe)
    if isinstance(one, type) or not valid or printable(one.fingerprint) != one.fingerprint:
        raise UsageError(f"retriever: {given!r:.100} is no Retriever; {why}")
    return opened


def _opened(given: AnyRetriever, runtime: Runtime) -> IndexRetriever:
    if not isinstance(given, str | Path):
        return IndexRetriever(given, None)
    if given in RETRIEVERS:
        entry = RETRIEVERS[str(given)]
        options = {"runtime": runtime} if "runtime" in entry.options else {}
        return IndexRetriever(entry.make(**options), str(given))
    if not str(given).lower().endswith(ONNX):
        names = ", ".join(name for name, entry in RETRIEVERS.items() if entry.convert)
        raise UsageError(f"retriever {str(given)!r:.100}: choose {names}, or an {ONNX} file")
    path = path_of(given)
    network, _ = open_module(str(path), runtime)
    if isinstance(network, GlobalModule):
        return IndexRetriever(network, path)
    raise UsageError(
        f"retriever {path}: a trunk, which gives a feature map; give a network with an output "
        f"(1, D), or give this one as model"
    )


def retriever_of_index(
    reader: Reader, path: Path, given: AnyRetriever | None, runtime: Runtime
) -> IndexRetriever | None:
    """Return the retriever of the index at ``path``, ready; ``None`` if it has none.

    ``given`` takes the place of what the index names; it must be the same retriever. Raises
    ``ModelMismatch`` for another one, with both fingerprints.
    """
    row = reader.retriever
    if row is None:
        if given is not None:
            raise UsageError(f"{path}: this index has no retriever; omit it, or build it again")
        return None
    if given is None:
        source = os.fsdecode(row.source)
        if not source:
            raise UsageError(
                f"{path}: its retriever {row.name} is an object of a program; give it as retriever"
            )
        given = source
        if source not in RETRIEVERS:
            given = Path(os.path.normpath(folder_beside(path) / source))
            if not is_file(given):
                what = f"the retriever {row.name} of {path} is not there"
                raise NotFound(given, what, "put the file there again, or build the index again")
    opened = open_retriever(given, runtime)
    if opened.retriever.fingerprint != row.fingerprint:
        raise ModelMismatch(
            path, _label(row.name, row.fingerprint),
            _label(opened.retriever.name, opened.retriever.fingerprint),
            "use the weights that it was built with, or build it again",
        )  # fmt: skip
    return opened


def row_for_copy(row: RetrieverRow, index: Path, out: Path) -> RetrieverRow:
    """Return the row of the index at ``index`` for a copy at ``out``; a file stays where it is."""
    source = os.fsdecode(row.source)
    if not source or source in RETRIEVERS:
        return row
    file = os.path.normpath(folder_beside(index) / source)
    return row._replace(source=os.fsencode(os.path.relpath(file, folder_beside(out))))


def _label(name: str, fingerprint: str) -> str:
    return f"the retriever {name} {fingerprint[:12]}"
