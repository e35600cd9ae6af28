"""A cache beside a large index, which finds the candidates of a query without a full search.

For an index in a file, ``INDEX.speedup`` has the signs of each photo's descriptor, one bit per
value, in a graph of neighbours (HNSW, by usearch). The graph proposes rows, and the index's own
descriptors decide which are the most similar. So a similarity is always exact, and only a photo
that the graph does not propose can be missed (docs/SPEED.md has how often). For an index in Lance,
``lance.speedup`` has an index of Lance in place of the graph.

The cache can be deleted at any time, and nothing of it is believed without a check. It states the
``mark`` of the index that it was made from; after any change of the photos, the model or the format
it no longer fits. A checksum with a secret of this user (a file in the cache folder) covers all of
it: usearch reads a graph without checks of its own, so a damaged graph, or one that a stranger has
sent with an index, must not reach it. A cache that fails a check is not used.

File: magic | checksum | photos, columns, copies, mark | centre (D,) float32: the mean descriptor,
or 0 if the index has signs |
copies (n, 2) int64: a row, and the row before it with the same signs | graph of usearch.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import mmap
import secrets
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import numpy as np

from placerec.errors import MissingExtra, NoRoom, UsageError, import_extra, import_package
from placerec.files import atomic_write, cache_folder, path_of, writing
from placerec.index import schema
from placerec.index.packing import SIGNS
from placerec.index.store import Reader, is_lance, open_index
from placerec.index.vectors import Vectors
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Progress, Runtime, no_progress, require_runtime

EXTRA = "large"
OVERSAMPLING, FEWEST_ROWS = 5, 200  # rows that are compared exactly: per photo asked for; at least
CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 16, 64, 256  # of the graph
BLOCK_BYTES = 1 << 26  # of descriptors as float32 that are in work at a time
READ_BYTES = 1 << 20
MAGIC = b"plrnear\x02"  # the last byte is the version
KEY_BYTES = CHECKSUM_BYTES = 32


class Header(NamedTuple):
    """What a cache states after its magic bytes and its checksum."""

    photos: int
    columns: int
    copies: int
    mark: bytes

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Return the header of these bytes."""
        return cls(*HEADER.unpack(data))


HEADER = struct.Struct(f"<QIQ{schema.SEAL_BYTES}s")


class Speedup(Protocol):
    """What an open cache does: it answers as ``method.ranking.shortlist`` does, but sooner."""

    def shortlist(
        self, query: Array, database: Vectors, count: int, preferred: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the ``count`` rows of ``database`` (N, D) most similar to ``query`` (D,)."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The graph of an index's photos: it answers as ``method.ranking.shortlist`` does.

    A bit says whether a value is above that of ``centre`` (D,) float32. ``copies`` (n,) int64 are
    the rows with the signs of a row before them, ``originals`` (n,) int64; only the latter are in
    the graph. Threads may share it.
    """

    photos: int
    centre: Array = field(repr=False)
    copies: Array = field(repr=False)
    originals: Array = field(repr=False)
    graph: Any = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def shortlist(
        self, query: Array, database: Vectors, count: int, preferred: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the ``count`` rows of ``database`` (N, D) most similar to ``query`` (D,).

        Rows, their cosines and their order are those of ``method.ranking.shortlist``, but for rows
        that the graph does not propose. It proposes five times ``count`` rows, and at least 200, or
        all that are not zero; and their copies.
        """
        wanted = proposals(count)
        rows = np.arange(self.photos)
        if wanted < self.photos:
            signs = _signs(query[np.newaxis], self.centre)[0]
            with self._lock:
                keys = self.graph.search(signs, wanted, threads=1).keys
            nearest = np.asarray(keys, np.int64)
            same = self.copies[np.isin(self.originals, nearest)]
            rows = np.sort(np.concatenate([nearest, same]))
        return database.best_of(rows, query, count, preferred)


def proposals(count: int) -> int:
    """Return how many rows a cache proposes for ``count`` photos."""
    return max(FEWEST_ROWS, OVERSAMPLING * count)


def speed_up(index: str | Path, *, runtime: Runtime = DEFAULT_RUNTIME) -> Path:
    """Make the cache of an index, in place of an earlier one, and return its path.

    It holds for the photos that the index has now; after a change of the index make it again.
    Raises ``MissingExtra`` without usearch, ``NoRoom`` if the cache or its secret cannot be
    written, and what opening an index raises.
    """
    path = path_of(index)
    require_runtime(runtime)
    write: Callable[[Path, Vectors, bytes, Progress], Path] = write_neighbours
    if is_lance(path):
        from placerec.index.lance.speedup import write_speedup as write
    with open_index(path) as reader:
        vectors = reader.retrieval_descriptors()
        if vectors is None:
            vectors = reader.global_descriptors()
        return write(path, vectors, mark_of(reader), runtime.progress)


def open_speedup(reader: Reader, path: Path) -> tuple[Speedup | None, str]:
    """Return the neighbours of the photos of the index at ``path``, as ``open_neighbours``."""
    if is_lance(path):
        from placerec.index.lance.speedup import open_speedup as open_in_lance

        return open_in_lance(path, mark_of(reader))
    return open_neighbours(path, mark_of(reader))


def stale_speedup(reader: Reader, path: Path) -> list[str]:
    """Return the name of the cache of the index at ``path`` if it was made before a change."""
    if is_lance(path):
        from placerec.index.lance.speedup import stale_speedup as stale_in_lance

        return stale_in_lance(path, mark_of(reader))
    cache = cache_of(path)
    try:
        with _file_of(cache) as file:
            start = file.read(len(MAGIC) + CHECKSUM_BYTES + HEADER.size)
    except OSError:
        return []
    fits = not start.startswith(MAGIC) or start.endswith(mark_of(reader))
    return [] if fits else [cache.name]


def size_of(cache: Path) -> int:
    """Return the bytes of the cache that ``speed_up`` has made."""
    if is_lance(cache):
        from placerec.index.lance.speedup import size_of as size_in_lance

        return size_in_lance(cache)
    return cache.stat().st_size


def mark_of(reader: Reader) -> bytes:
    """Return 16 bytes that change with the photos, the model, the format or the retriever."""
    info = reader.info
    about = (info.fingerprint, info.settings, info.format, info.retriever_fingerprint)
    return schema.seal(*about, reader.digest)


def cache_of(path: Path) -> Path:
    """Return where the cache of an index is: beside the file, not beside a link."""
    real = path.resolve()
    return real.with_name(real.name + ".speedup")


def write_neighbours(
    path: Path, vectors: Vectors, mark: bytes, progress: Progress = no_progress
) -> Path:
    """Write the cache of the index at ``path`` from its descriptors, and return its path.

    ``mark`` is that of the index. One thread adds the photos, so equal photos make an equal cache.
    """
    usearch = _usearch()
    key, cache = _secret(create=True), cache_of(path)
    if cache.exists() and not _is_cache(cache):
        raise UsageError(f"{cache}: not a cache of placerec, so it is not replaced; move it away")
    photos, columns = len(vectors), vectors.columns
    total = np.zeros(columns)
    for _, block in _blocks(vectors):
        total += block.sum(axis=0, dtype=np.float64)
    # Many photos with the same signs, or with none, would hide the others in the graph.
    filled = ~vectors.blank()
    centre = (total / max(1, int(np.count_nonzero(filled)))).astype("<f4")
    if vectors.dtype in SIGNS:  # else a query, which is no signs, would have others than its copy
        centre[:] = 0
    graph, copies = _empty_graph(usearch, columns), [np.empty((0, 2), "<i8")]
    first: dict[bytes, int] = {}
    for rows, block in _blocks(vectors):
        some = rows[filled[rows]]
        signs = _signs(block[filled[rows]], centre)
        originals = np.array([
            first.setdefault(hashlib.blake2b(one, digest_size=16).digest(), row)
            for row, one in zip(some.tolist(), signs, strict=True)
        ], np.uint64)  # fmt: skip
        new = some == originals
        graph.add(some[new], signs[new], threads=1)
        copies.append(np.stack((some, originals), axis=1)[~new])
        progress("neighbours", int(rows[-1]) + 1, photos)
    pairs = np.concatenate(copies).astype("<i8")
    header = HEADER.pack(*Header(photos, columns, len(pairs), mark))
    parts = [header, centre.tobytes(), pairs.tobytes(), graph.save()]
    checksum = hashlib.blake2b(key=key, digest_size=CHECKSUM_BYTES)
    for part in parts:
        checksum.update(part)
    with atomic_write(cache) as partial, partial.open("wb") as file:
        file.writelines([MAGIC, checksum.digest(), *parts])
    return cache


def open_neighbours(path: Path, mark: bytes) -> tuple[Neighbours | None, str]:
    """Return the neighbours in the cache of the index at ``path``, if they are those of ``mark``.

    Else ``None``, with the reason if there is a cache; then only an exact search is right.
    """
    cache = cache_of(path)
    try:
        return _opened(cache, mark), ""
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"{cache}: cannot be read ({error.strerror or error})"
    except NoRoom as error:  # of the secret
        return None, str(error)
    except MissingExtra as error:
        return None, f"{cache}: not used: {error}"
    except UsageError as error:
        return None, not_used(cache, error, path)


def not_used(cache: Path, why: object, path: Path) -> str:
    """Say why the cache of the index at ``path`` is not used."""
    again = f"make it again: placerec index speedup {path}"
    return f"{cache}: not used, so the search takes longer: {why}; {again}"


def _opened(cache: Path, mark: bytes) -> Neighbours:
    """Return the neighbours in a cache; raise ``UsageError`` with the reason if it is not right."""
    with _file_of(cache) as file:
        magic, checksum = file.read(len(MAGIC)), file.read(CHECKSUM_BYTES)
        data = file.read(HEADER.size)
        if magic[:-1] != MAGIC[:-1] or len(data) < HEADER.size:
            raise UsageError("not a cache of placerec")
        if magic != MAGIC:
            raise UsageError("another version of placerec has made it")
        header = Header.read(data)
        if header.mark != mark:
            raise UsageError("it was made before the index was changed")
        if not hmac.compare_digest(checksum, _checksum(file, data)):
            raise UsageError("it is damaged, or another user or machine has made it")
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    usearch = _usearch()
    start = len(MAGIC) + CHECKSUM_BYTES + HEADER.size
    # This array keeps the mapped file open, which the graph reads.
    centre = np.frombuffer(content, "<f4", header.columns, start)
    start += centre.nbytes
    copies = np.frombuffer(content, "<i8", 2 * header.copies, start).reshape(-1, 2)
    graph = _empty_graph(usearch, header.columns)
    try:
        graph.view(content[start + copies.nbytes :])
    except (RuntimeError, ValueError) as error:
        raise UsageError("another version of usearch has made it") from error
    graph.expansion_search = EXPANSION_SEARCH
    return Neighbours(header.photos, centre, copies[:, 0], copies[:, 1], graph)


def _file_of(cache: Path) -> BinaryIO:
    """Open a cache; raise ``OSError`` for what is no file: a pipe would wait for a writer."""
    if cache.exists() and not cache.is_file():
        raise OSError(errno.EINVAL, "not a file")
    return cache.open("rb")


def _checksum(file: Any, data: bytes) -> bytes:
    """Return the checksum of ``data`` and of the rest of a file; nothing without the secret."""
    key = _secret(create=False)
    if not key:
        return b""
    checksum = hashlib.blake2b(data, key=key, digest_size=CHECKSUM_BYTES)
    while part := file.read(READ_BYTES):
        checksum.update(part)
    return checksum.digest()


def _secret(*, create: bool) -> bytes:
    """Return the secret of this user's caches; without one make it, or return nothing."""
    path = cache_folder() / "speedup.key"
    with writing(path):
        key = path.read_bytes() if path.exists() else b""
    if len(key) == KEY_BYTES or not create:
        return key if len(key) == KEY_BYTES else b""
    with atomic_write(path, durable=False) as partial:
        partial.touch(mode=0o600)
        partial.write_bytes(secrets.token_bytes(KEY_BYTES))
    return path.read_bytes()


def _is_cache(path: Path) -> bool:
    """Whether a file begins as a cache does, or ends before that shows."""
    try:
        with _file_of(path) as file:
            return MAGIC[:-1].startswith(file.read(len(MAGIC) - 1))
    except OSError:  # a folder, or a file that cannot be read
        return False


def _usearch() -> Any:
    """Return usearch's module.

    ONNX Runtime must be loaded before it: usearch has a C++ library of its own inside, and with
    that one ONNX Runtime ends the process while it is loaded.
    """
    import_package("onnxruntime")
    return import_extra("usearch.index", "a speed-up of the search", EXTRA)


def _empty_graph(usearch: Any, columns: int) -> Any:
    bits = -(-columns // 8) * 8
    return usearch.Index(
        ndim=bits, metric="hamming", dtype="b1", connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD, expansion_search=EXPANSION_SEARCH, enable_key_lookups=False,
    )  # fmt: skip


def _blocks(vectors: Vectors) -> Iterator[tuple[Array, Array]]:
    """Yield row numbers (n,) uint64, and these vectors (n, D) as float32."""
    photos = len(vectors)
    at_once = max(1, BLOCK_BYTES // (4 * vectors.columns))
    for first in range(0, photos, at_once):
        rows = np.arange(first, min(first + at_once, photos), dtype=np.uint64)
        yield rows, vectors[first : first + at_once]


def _signs(vectors: Array, centre: Array) -> Array:
    """Return one bit per value of the vectors (n, D): whether it is above the centre."""
    signs: Array = np.packbits(vectors > centre, axis=1)
    return signs
