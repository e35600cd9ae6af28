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
from placerec.baselines.torch_module import GlobalModule, open_module
from placerec.errors import ModelMismatch, NotFound, UsageError
from placerec.files import is_file, path_of
from placerec.index.reader import IndexReader
from placerec.index.schema import RetrieverRow
from placerec.method.vlad import normalise
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
        vector = np.asarray(self.retriever.describe(pixels))
        if vector.ndim != 1 or vector.dtype.kind != "f" or not np.isfinite(vector).all():
            raise UsageError(
                f"retriever {self.retriever.name}: it describes a photo by {vector.dtype} "
                f"{vector.shape}; it must give finite floats (D,)"
            )
        return normalise(vector.astype(np.float32))

    def row(self, index: Path) -> RetrieverRow:
        """Return what the index at ``index`` stores; a file is stored relative to its folder."""
        source = self.source or ""
        if isinstance(source, Path):
            source = os.path.relpath(source.resolve(), index.resolve().parent)
        name = printable(self.retriever.name)
        return RetrieverRow(name, self.retriever.fingerprint, os.fsencode(source))


def open_retriever(given: AnyRetriever, runtime: Runtime = DEFAULT_RUNTIME) -> IndexRetriever:
    """Open a retriever: a name of ``baselines.RETRIEVERS``, an ONNX file, or an object.

    Raises ``UsageError`` for one that must be fitted first, and for a file without a descriptor.
    """
    opened = _opened(given, runtime)
    try:
        name = opened.retriever.name
        _ = opened.retriever.fingerprint
    except AttributeError as error:
        raise UsageError(
            f"retriever: {given!r:.100} is no Retriever; give a name or a file"
        ) from error
    except UsageError as error:
        raise UsageError(
            f"retriever {name}: it is fitted on photos, and an index does not keep that fit; "
            f"choose one that is already trained"
        ) from error
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
    reader: IndexReader, path: Path, given: AnyRetriever | None, runtime: Runtime
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
            given = Path(os.path.normpath(path.resolve().parent / source))
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


def _label(name: str, fingerprint: str) -> str:
    return f"the retriever {name} {fingerprint[:12]}"
