"""Open the file of an index, and convert SQLite's errors to ours.

``sqlite3.connect(path)`` alone is not enough. It creates a file at a mistyped path, accepts an
empty file, and leaves ``-wal`` and ``-shm`` files beside the database of another program. A ``?``,
``#`` or ``%41`` in a plain ``file:`` address opens another file. So a path is examined first, and
then opened by the URI of ``Path.as_uri`` in an explicit mode.

Only SQLite opens the file: closing a second descriptor of a file drops the locks of this process on
it (sqlite.org, "How to corrupt").
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from placerec.errors import (
    Busy,
    DamagedIndex,
    NoRoom,
    NotAnIndex,
    NotFound,
    PlacerecError,
    StaleIndex,
)
from placerec.files import is_file
from placerec.index.schema import check_header, check_tables

BUSY_SECONDS = 5.0  # how long a writer or reader waits for another process

_READ_FAULTS = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}
_WRITE_FAULTS = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
}


@contextmanager
def on_error(close: Callable[[], None]) -> Iterator[None]:
    """Call ``close`` if the block raises."""
    try:
        yield
    except BaseException:
        close()
        raise


def connect(
    path: Path, mode: Literal["ro", "rw"], *, immutable: bool = False
) -> sqlite3.Connection:
    """Open an existing file in autocommit mode; never create one."""
    address = f"{path.absolute().as_uri()}?mode={mode}" + ("&immutable=1" if immutable else "")
    connection = sqlite3.connect(
        address, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False
    )
    with on_error(connection.close):
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
    return connection


def open_checked(path: Path, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    """Open an index and check header, length and tables; a transaction stays open.

    ``ro`` begins a read transaction (a snapshot), ``rw`` takes the write lock.
    """
    before = look_at(path)
    with translated(path):
        if mode == "ro":
            _undo_and_remove_journal(path, before)
        connection = connect(path, mode)
        with on_error(connection.close):
            if mode == "rw":
                _refuse_unwritable(path)
                # FULL does not sync the folder when it deletes the journal that ends a batch.
                # After a power cut that journal would undo the batch.
                connection.execute("PRAGMA synchronous=EXTRA")
                connection.execute("PRAGMA cache_spill=OFF")  # a spill would block readers
                connection.execute("BEGIN IMMEDIATE")
            else:
                begin_reading(connection, path)
            check_header(connection, path)
            _check_length(connection, path, before)
            if mode == "rw":
                _remove_journal(path)
            check_tables(connection, path)
    return connection


def journal_of(path: Path) -> Path:
    """Return where SQLite puts the journal of an index: beside the file, not beside a link."""
    real = path.resolve()
    return real.with_name(real.name + "-journal")


def _remove_journal(path: Path) -> None:
    """Remove what a killed writer left; the caller has the write lock and has changed nothing.

    SQLite has undone a journal with changes when it took the lock. It ignores one that was begun
    and never needed, and so would leave it.
    """
    with suppress(OSError):
        journal_of(path).unlink()


def _undo_and_remove_journal(path: Path, before: os.stat_result) -> None:
    """Do for a reader what the next writer would do, if it may write and no writer is at work."""
    if not is_file(journal_of(path)):
        return
    with suppress(sqlite3.OperationalError), closing(connect(path, "rw")) as connection:
        connection.execute("PRAGMA busy_timeout=0")
        connection.execute("BEGIN IMMEDIATE")
        if same_file(path.stat(), before):  # a journal of another file has another lock
            _remove_journal(path)


def begin_reading(connection: sqlite3.Connection, path: Path) -> None:
    """Begin a snapshot; first undo the incomplete changes of a killed writer."""
    try:
        _begin(connection)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
        # Only a writable connection can roll a journal back; it does so at its first read.
        with closing(connect(path, "rw")) as writer:
            _begin(writer)
        _begin(connection)


def _begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction; its first read takes the snapshot."""
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def look_at(path: Path) -> os.stat_result:
    """Refuse a path that is not an index, without creating any file beside it."""
    try:
        status = path.stat()
    except FileNotFoundError:
        what = "a broken link" if path.is_symlink() else "no such file"
        raise NotFound(path, what) from None
    except (OSError, ValueError) as error:
        raise NotFound(path, f"cannot be examined ({error})") from error
    if stat.S_ISDIR(status.st_mode):
        raise NotAnIndex(path, "a folder")
    if not stat.S_ISREG(status.st_mode):
        raise NotAnIndex(path, "not a regular file")
    if status.st_size == 0:
        raise NotAnIndex(path, "an empty file")
    if not os.access(path, os.R_OK):
        raise NotFound(path, "no permission to read it", "ask its owner")
    # immutable: no lock and no -wal or -shm file, even for the file of another program.
    try:
        with closing(connect(path, "ro", immutable=True)) as connection:
            check_header(connection, path)
    except sqlite3.DatabaseError as error:
        if primary_code(error) == sqlite3.SQLITE_NOTADB:
            raise NotAnIndex(path, "not a database") from error
        # Without a lock an active writer can look like damage; open_checked decides.
    return status


def _refuse_unwritable(path: Path) -> None:
    """Refuse early: SQLite would open such a file and fail at the first change."""
    for place in (path, path.resolve().parent):  # the journal goes into the folder
        if not os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise NoRoom(place, "no permission")


def _check_length(connection: sqlite3.Connection, path: Path, before: os.stat_result) -> None:
    """Refuse a truncated file: SQLite itself does not notice a missing half page."""
    after = path.stat()
    if not same_file(after, before):
        raise StaleIndex(path, "the file was replaced")
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    if pages * page_bytes != after.st_size:
        raise DamagedIndex(path, f"{after.st_size} bytes instead of {pages * page_bytes}")


def same_file(first: os.stat_result, second: os.stat_result) -> bool:
    """Whether two looks at a path were at the same file."""
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Convert an error of SQLite inside the block to one of ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.ProgrammingError):  # a bug in placerec
            raise
        raise _translate(path, error) from error
    except UnicodeDecodeError as error:  # SQLite quotes a damaged name in its message
        raise DamagedIndex(path, "it has text that is not valid text") from error


def primary_code(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary result code, or None for an error of the Python module itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _translate(path: Path, error: sqlite3.DatabaseError) -> PlacerecError:
    code, primary = getattr(error, "sqlite_errorcode", None), primary_code(error)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(path)
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return StaleIndex(path, "the file was replaced")
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        journal = journal_of(path).name
        why = f"an interrupted update must be undone first; {journal} belongs to the index, so copy"
        return NoRoom(path, f"{why} both files to a folder where you may write")
    if primary in _WRITE_FAULTS and code not in _READ_FAULTS:
        return NoRoom(path, str(error))
    return DamagedIndex(path, str(error)[:200])
