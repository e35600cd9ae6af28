"""SQLite's calls to the disk: seen one by one, made to fail, or replayed up to a power cut.

SQLite reaches the disk through tables of functions, its VFS (sqlite.org/vfs.html). ``watched`` puts
tables in front of those of the library that Python uses. So the tests need no other SQLite. Where
Python contains its SQLite, ``AVAILABLE`` is false.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import (
    CDLL,
    CFUNCTYPE,
    POINTER,
    Structure,
    addressof,
    c_char_p,
    c_int,
    c_int64,
    c_void_p,
    cast,
    string_at,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

FAILURES = {  # SQLite's extended result code of each kind of call
    "create": sqlite3.SQLITE_CANTOPEN,
    "write": sqlite3.SQLITE_FULL,
    "truncate": sqlite3.SQLITE_IOERR_TRUNCATE,
    "sync": sqlite3.SQLITE_IOERR_FSYNC,
    "delete": sqlite3.SQLITE_IOERR_DELETE,
}
SECTOR = 512  # bytes; a disk writes a sector wholly or not at all

# Names are pointers: SQLite keeps the one that it opens a file with.
OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
DELETE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class Vfs(Structure):
    _fields_ = (
        ("version", c_int), ("file_bytes", c_int), ("longest_path", c_int), ("next", c_void_p),
        ("name", c_char_p), ("data", c_void_p), ("open", c_void_p), ("delete", c_void_p),
        ("others", c_void_p * 14),
    )  # fmt: skip


class Methods(Structure):
    _fields_ = (
        ("version", c_int), ("close", c_void_p), ("read", c_void_p), ("write", c_void_p),
        ("truncate", c_void_p), ("sync", c_void_p), ("others", c_void_p * 13),
    )  # fmt: skip


class Call(NamedTuple):
    """One call: ``create``, ``write``, ``truncate`` (to ``offset``), ``sync`` or ``delete``.

    ``folder_synced`` says of a ``delete`` that it is on the disk when the call returns.
    """

    kind: str
    path: Path
    offset: int = 0
    data: bytes = b""
    folder_synced: bool = False


def _library() -> CDLL | None:
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    paths = {line.split()[-1] for line in maps.splitlines() if "libsqlite3" in line}
    return CDLL(paths.pop()) if len(paths) == 1 else None


_sqlite = _library()
AVAILABLE = _sqlite is not None
if _sqlite is not None:
    _sqlite.sqlite3_vfs_find.restype = c_void_p
    _sqlite.sqlite3_vfs_find.argtypes = [c_char_p]
    _sqlite.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
    _sqlite.sqlite3_vfs_unregister.argtypes = [c_void_p]


@contextmanager
def watched(before: Callable[[Call], int]) -> Iterator[None]:
    """Call ``before`` ahead of each call that changes the disk, for databases opened inside.

    It returns 0, or the error code with which the call fails without happening. A sync is only
    seen and not made, which saves time. Close the databases inside the block.
    """
    original = Vfs.from_address(_sqlite.sqlite3_vfs_find(None))
    really_open, really_delete = OPEN(original.open), DELETE(original.delete)
    tables: dict[int, Methods] = {}
    paths: dict[int, Path] = {}
    alive: list[object] = []  # what SQLite has pointers to

    def methods_for(address: int) -> int:
        if address not in tables:
            table = Methods.from_buffer_copy(Methods.from_address(address))
            write, truncate = WRITE(table.write), TRUNCATE(table.truncate)

            def on_write(file: int, data: int, count: int, offset: int) -> int:
                call = Call("write", paths[file], offset, string_at(data, count))
                return before(call) or write(file, data, count, offset)

            def on_truncate(file: int, size: int) -> int:
                return before(Call("truncate", paths[file], size)) or truncate(file, size)

            def on_sync(file: int, flags: int) -> int:
                return before(Call("sync", paths[file]))

            callbacks = WRITE(on_write), TRUNCATE(on_truncate), SYNC(on_sync)
            table.write, table.truncate, table.sync = (cast(c, c_void_p) for c in callbacks)
            alive.extend(callbacks)
            tables[address] = table
        return addressof(tables[address])

    def on_open(vfs: int, name: int, file: int, flags: int, out) -> int:
        path = Path(os.fsdecode(string_at(name)))
        if not path.exists() and (code := before(Call("create", path))):
            return code
        code = really_open(vfs, name, file, flags, out)
        if code == 0:
            paths[file] = path
            methods = c_void_p.from_address(file)
            methods.value = methods_for(methods.value)
        return code

    def on_delete(vfs: int, name: int, sync: int) -> int:
        path = Path(os.fsdecode(string_at(name)))
        call = Call("delete", path, folder_synced=bool(sync))
        return (path.exists() and before(call)) or really_delete(vfs, name, sync)

    vfs = Vfs.from_buffer_copy(original)
    callbacks = OPEN(on_open), DELETE(on_delete)
    vfs.name, vfs.open, vfs.delete = b"watched", *(cast(c, c_void_p) for c in callbacks)
    _sqlite.sqlite3_vfs_register(addressof(vfs), 1)
    try:
        yield
    finally:
        _sqlite.sqlite3_vfs_unregister(addressof(vfs))
        _sqlite.sqlite3_vfs_register(addressof(original), 1)


@dataclass
class Failing:
    """Make call number ``first`` (from 0) fail, and with ``for_ever`` all later ones too."""

    first: int
    for_ever: bool
    calls: int = 0
    failed: list[str] = field(default_factory=list)

    def __call__(self, call: Call) -> int:
        number, self.calls = self.calls, self.calls + 1
        if number < self.first or (number > self.first and not self.for_ever):
            return 0
        self.failed.append(call.kind)
        return FAILURES[call.kind]


@dataclass
class Content:
    """A file: what is on the disk for certain, and the writes since then."""

    synced: bytes = b""
    waiting: list[Call] = field(default_factory=list)

    def after_power_cut(self, chance: random.Random) -> bytes:
        """Return what a disk that lost some of the waiting writes, and cut one, has."""
        content = bytearray(self.synced)
        for call in self.waiting:
            if chance.random() < 0.5:
                continue
            data = call.data
            if chance.random() < 0.2:  # the power went while this one was written
                data = data[: SECTOR * chance.randrange(1 + len(data) // SECTOR)]
            _apply(content, call._replace(data=data))
        return bytes(content)

    def sync(self) -> None:
        content = bytearray(self.synced)
        for call in self.waiting:
            _apply(content, call)
        self.synced, self.waiting = bytes(content), []


def _apply(content: bytearray, call: Call) -> None:
    if call.kind == "truncate":
        del content[call.offset :]
        return
    content.extend(bytes(max(0, call.offset + len(call.data) - len(content))))
    content[call.offset : call.offset + len(call.data)] = call.data


def after_power_cut(
    before: dict[Path, bytes], calls: list[Call], chance: random.Random
) -> dict[Path, bytes]:
    """Return the files that the calls leave on a disk that lost power after the last one.

    Writes are certain after a sync of their file. New and deleted names are certain after a sync
    of their folder, which SQLite makes when it first syncs a new file; before, they are lost from
    the last one backwards, as on a file system with a journal.
    """
    files = {path: Content(content) for path, content in before.items()}
    certain, waiting = dict(files), []  # names on the disk; changes of names since then
    for call in calls:
        if call.kind == "create":
            files[call.path] = Content()
            waiting.append((call.path, files[call.path]))
        elif call.kind == "delete":
            del files[call.path]
            waiting.append((call.path, None))
        elif call.kind == "sync":
            files[call.path].sync()
        else:
            files[call.path].waiting.append(call)
        new = call.kind == "sync" and certain.get(call.path) is not files[call.path]
        if new or call.folder_synced:
            certain, waiting = dict(files), []
    for path, content in waiting[: chance.randint(0, len(waiting))]:
        certain[path] = content
    return {path: content.after_power_cut(chance) for path, content in certain.items() if content}
