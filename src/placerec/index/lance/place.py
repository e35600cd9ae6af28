"""Addresses of folders of Lance, and the errors of Lance as ours."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from placerec.errors import (
    Busy,
    DamagedIndex,
    NoRoom,
    NotAnIndex,
    NotFound,
    PlacerecError,
    UsageError,
    import_extra,
)
from placerec.files import is_file
from placerec.index.schema import relative_root
from placerec.index.store import LANCE

OLD = timedelta(days=1)  # a reader may go on with a version for so long after it was replaced
_SCHEME = re.compile(r"^([a-z0-9]+):/+")  # a Path makes one slash of two
_NOT_THERE = re.compile("was not found|not found:|no such file|does not exist", re.IGNORECASE)
_NO_ROOM = re.compile(
    "no space left|permission denied|read-only file system|file too large|quota exceeded",
    re.IGNORECASE,
)
_NO_STORE = re.compile("no object store provider", re.IGNORECASE)
_OUT_OF_REACH = re.compile("generic s3 error|error performing|client error|timed out|service",
                           re.IGNORECASE)  # fmt: skip


def lance() -> Any:
    """Return the package of Lance; raise ``MissingExtra`` without it."""
    os.environ.setdefault("LANCE_LOG", "error")  # what is wrong is said by our errors
    return import_extra("lance", "an index in Lance", "lance")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of Lance: ``address`` as a person gave it, ``uri`` as Lance takes it.

    ``folder`` is the folder on this machine, or ``None`` in an object store.
    """

    address: Path
    uri: str
    folder: Path | None

    @classmethod
    def of(cls, address: Path) -> Place:
        """Return the place of an address ``lance:...``; raise ``UsageError`` without a folder."""
        rest = address.as_posix().removeprefix(LANCE)
        if not rest:
            raise UsageError(f"{address}: name the folder of the index, for example lance:town")
        if match := _SCHEME.match(rest):
            return cls(address, f"{match[1]}://{rest[match.end() :]}", None)
        folder = Path(rest).absolute()
        return cls(address, str(folder), folder)

    @property
    def beside(self) -> Path:
        """The path beside which the photo folder lies; it has no meaning in an object store."""
        return self.folder or Path("/index")

    def stored_root(self, root: Path) -> bytes:
        """Return the photo folder as the index states it, relative to the folder beside it."""
        if self.folder is None:
            return os.fsencode(root.resolve())
        return relative_root(root, self.folder)

    def dataset(self, version: int | None = None, **options: Any) -> Any:
        """Open a version of the dataset, the newest one by default; ``options`` are Lance's."""
        with self.errors():
            return lance().dataset(self.uri, version=version, **options)

    def refuse_other_files(self) -> None:
        """Raise ``UsageError`` if there is no dataset but other files, which stay."""
        if self.folder is not None and is_file(self.folder):
            raise UsageError(
                f"{self.address}: a file, not a folder of Lance; it is not replaced: choose "
                f"another folder"
            )
        if self.is_occupied():
            raise UsageError(
                f"{self.address}: holds other files; it is not replaced: choose another folder"
            )

    def is_occupied(self) -> bool:
        """Whether there is a folder with files that are not a Lance dataset, or a file."""
        if self.folder is None or not self.folder.exists():
            return False
        if not self.folder.is_dir():
            return True
        data = self.folder / DATA
        return any(file.name not in (*OURS, DATA) for file in self.folder.iterdir()) or any(
            file.suffix != DATA_FILE for file in (data.iterdir() if data.is_dir() else ())
        )

    def has(self, files: Sequence[Any]) -> bool:
        """Whether these files of fragments are there; they are taken for there in an object store.

        A missing file is found in any case before the index is published.
        """
        folder = self.folder
        return folder is None or all((folder / "data" / file.path).is_file() for file in files)

    def drop(self) -> None:
        """Delete a dataset that was never complete; any other file in its folder stays."""
        with suppress(OSError, PlacerecError), self.errors():
            if self.folder is None:
                lance().LanceDataset.drop(self.uri)
                return
            for name in OURS:
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for file in (self.folder / DATA).glob(f"*{DATA_FILE}"):
                file.unlink()
            for folder in (self.folder / DATA, self.folder):
                with suppress(OSError):  # it is not there, or holds files of a person
                    folder.rmdir()

    @contextmanager
    def errors(self, *, writing: bool = False) -> Iterator[None]:
        """Convert an error of Lance inside the block to one of ours."""
        try:
            yield
        except (PlacerecError, MemoryError):
            raise
        except Exception as error:
            raise self._translated(error, writing) from error
        except BaseException as error:  # a panic of Rust is no Exception
            if type(error).__name__ != "PanicException":
                raise
            raise DamagedIndex(self.address, _first_line(error)) from error

    def _translated(self, error: Exception, writing: bool) -> PlacerecError:
        text = _first_line(error)
        if type(error).__name__ == "CommitConflictError":
            return Busy(self.address)
        if not isinstance(error, OSError | ValueError | RuntimeError | KeyError | TypeError):
            return DamagedIndex(self.address, f"{type(error).__name__}: {text}")
        if self.folder is not None and is_file(self.folder):
            return NotAnIndex(self.address, "a file, not a folder of Lance")
        if _NO_STORE.search(text):
            return UsageError(
                f"{self.address}: no such store; give lance:FOLDER or lance:s3://BUCKET/FOLDER"
            )
        if _NO_ROOM.search(text) or (writing and isinstance(error, OSError)):
            return NoRoom(self.address, text)
        if _OUT_OF_REACH.search(text):
            return NotFound(self.address, f"out of reach ({text})", "try again later")
        if _NOT_THERE.search(text) and "Dataset" in text:
            if self.folder is None or not self.folder.exists():
                return NotFound(self.address, "no such folder of Lance")
            return NotAnIndex(self.address, "no dataset of Lance")
        return DamagedIndex(self.address, text)


STAGED = "_staged.lance"  # the journal of a build
SPEEDUP = "_speedup.lance"  # the cache of the search
OURS = ("_versions", "_transactions", "_deletions", "_indices", STAGED, SPEEDUP)
DATA, DATA_FILE = "data", ".lance"  # the one folder of Lance whose name a person may use, too


def _first_line(error: BaseException) -> str:
    """Return what Lance says, without the place in its source code."""
    text = str(error) or type(error).__name__
    return re.sub(r", /\S+\.rs:\d+:\d+", "", text.splitlines()[0] if text else text)[:200]
