"""Build an index in a partial file, and publish it with one rename.

A build writes to ``NAME.partial``. It holds SQLite's exclusive lock on that file until the rename,
so a second build finds it busy. A partial file without a lock was left by a killed process, and is
replaced. Publishing means: sync the file, rename it, sync the folder. A reader sees the old index
or the new one.

The journal of a build stays in memory, and nothing is synced before the end. After a crash the
partial file is deleted as a whole, so a journal on disk would be useless.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from placerec.errors import Busy, Damaged, NoRoom, NotFound, UsageError
from placerec.files import is_file
from placerec.index.connection import (
    connect,
    journal_of,
    look_at,
    on_error,
    primary_code,
    translated,
)
from placerec.index.schema import PAGE_BYTES

CLAIM_TRIES = 8  # a failed try means that another build interfered


@dataclass(frozen=True, slots=True)
class Staging:
    """A partial file that ``connection`` locks until it is published or discarded."""

    path: Path
    partial: Path
    inode: int
    connection: sqlite3.Connection
    replace: bool


def claim(path: Path, *, replace: bool) -> Staging:
    """Create and lock an empty ``NAME.partial``; raise Busy if another process builds there."""
    _refuse_existing(path, replace=replace)
    partial = _partial_of(path)
    with _disk_errors(path), translated(path):
        for _ in range(CLAIM_TRIES):
            if not (partial.is_file() and partial.stat().st_size == 0):
                refuse_other_file(partial)
            with suppress(FileExistsError):
                os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            staging = _try_claim(path, partial, replace)
            if staging is not None:
                return staging
    raise Busy(path)


def leftovers(path: Path) -> tuple[str, ...]:
    """Return the names of the files beside an index that a killed program has left.

    A program that writes at this moment has the same files. A journal is part of the index: copy
    both. A partial file is a build that was not completed; the next build replaces it.
    """
    return tuple(file.name for file in (journal_of(path), _partial_of(path)) if is_file(file))


def publish(staging: Staging) -> None:
    """Rename the partial file to the index; the caller has committed and synced it."""
    path, partial = staging.path, staging.partial
    _refuse_existing(path, replace=staging.replace)
    with _disk_errors(path), _held(path):
        if not _is_ours(staging):
            raise Busy(path)
        # SQLite would apply a journal of the old index to the new one. A link is replaced, not
        # followed.
        path.with_name(path.name + "-journal").unlink(missing_ok=True)
        partial.replace(path)
        _sync_folder(path.parent)


def discard(staging: Staging) -> None:
    """Delete the partial file if it still exists and is still ours."""
    with suppress(OSError):
        if _is_ours(staging):
            staging.partial.unlink()


def _partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _refuse_existing(path: Path, *, replace: bool) -> None:
    if os.path.lexists(path) and not replace:
        raise UsageError(f"{path}: already exists; replace it, or add photos to it")
    refuse_other_file(path)


def refuse_other_file(path: Path) -> None:
    """Refuse to replace or delete a file that is not an index."""
    try:
        look_at(path)
    except Damaged:
        return  # an index of another format
    except NotFound as error:
        if os.path.lexists(path):
            remedy = "it is not replaced: move it away, or choose another path"
            raise UsageError(f"{error}; {remedy}") from error


def _is_ours(staging: Staging) -> bool:
    """Whether the partial file is still the one that was claimed."""
    return staging.partial.exists() and staging.partial.stat().st_ino == staging.inode


def _try_claim(path: Path, partial: Path, replace: bool) -> Staging | None:
    """Lock the file at ``partial``; None if it was stale (then it is deleted) or replaced."""
    with suppress(FileNotFoundError):  # another build has just published or removed it
        before = partial.stat()
        connection = connect(partial, "rw")
        with on_error(connection.close):
            try:
                connection.execute("PRAGMA busy_timeout=0")
                connection.execute("PRAGMA locking_mode=EXCLUSIVE")
                connection.execute("PRAGMA journal_mode=MEMORY")
                connection.execute("PRAGMA synchronous=OFF")
                connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.DatabaseError as error:
                if primary_code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    raise
            after = partial.stat()
            ours = after.st_ino == before.st_ino
            if ours and after.st_size == 0 and connection.in_transaction:
                return Staging(path, partial, after.st_ino, connection, replace)
            if ours:
                partial.unlink()
        connection.close()
    return None


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the write lock of the index that is replaced, so no process writes to it."""
    with ExitStack() as stack:
        if path.exists():
            try:
                connection = stack.enter_context(closing(connect(path, "rw")))
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.DatabaseError as error:
                if primary_code(error) == sqlite3.SQLITE_BUSY:
                    raise Busy(path) from error
                # Damaged or read-only: no process can write to it.
        yield


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Convert an error of the file system inside the block to one of ours."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(path.parent, "no such folder", "create it first") from error
    except OSError as error:
        raise NoRoom(path, error) from error
