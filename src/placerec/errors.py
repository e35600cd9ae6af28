"""Every error that placerec raises on purpose, as one tree below ``PlacerecError``.

Every message is one line. It says what is wrong, where, and what to do. ``exit_code`` is the exit
code of the command line; the codes are part of the contract (docs/PROMISES.md). Code 5 is also the
exit code of a command that finished but skipped some photos of a folder.
"""

from __future__ import annotations

import errno
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from placerec.text import printable

# What the loader of compiled packages says; there is no error type for it.
NO_MEMORY_TO_LOAD = re.compile("failed to map segment|cannot allocate memory", re.IGNORECASE)


class PlacerecError(Exception):
    """Base of every error that placerec raises on purpose.

    ``path`` is the file or folder that the error is about, if there is one. The message shows
    control characters of names as escapes (``text.printable``).
    """

    exit_code = 1

    def __init__(self, message: str, path: Path | str = "") -> None:
        self.path = Path(path)
        super().__init__(printable(message))


class UsageError(PlacerecError):
    """An invalid argument: an unknown name, or a number out of range."""

    exit_code = 2


class FixedByIndex(UsageError):
    """A setting at query time that the index fixed when it was built."""

    def __init__(self, setting: str, fixed: object, given: object) -> None:
        super().__init__(
            f"{setting}: the index was built with {fixed}, so {given} is not possible; omit the "
            f"setting, or build a new index with it"
        )


class TrunkNeeded(UsageError):
    """A trunk from outside placerec that a model or an index needs, and that was not given."""

    def __init__(self, path: Path | str, trunk: str) -> None:
        self.trunk = trunk
        super().__init__(
            f"{path}: made with the trunk {trunk}, a file outside placerec: give that file as "
            f"model",
            path,
        )


class MissingExtra(UsageError):
    """A command that needs an optional package which is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs an extra: pip install "placerec[{extra}]"')


def import_package(module: str) -> Any:
    """Import and return ``module``; raise ``LimitReached`` if there is too little memory for it."""
    try:
        return import_module(module)
    except ImportError as error:
        if NO_MEMORY_TO_LOAD.search(str(error)):
            no_memory = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            raise LimitReached(f"package {module}", no_memory) from error
        raise


def import_extra(module: str, what: str, extra: str) -> Any:
    """Import and return an optional ``module``; raise ``MissingExtra`` if it is not installed."""
    try:
        return import_package(module)
    except ImportError as error:
        raise MissingExtra(what, extra) from error


class NotFound(PlacerecError):
    """A path that does not exist or has the wrong kind."""

    exit_code = 3

    def __init__(self, path: Path | str, what: str, remedy: str = "check the spelling") -> None:
        super().__init__(f"{path}: {what}; {remedy}", path)


class DownloadFailed(NotFound):
    """A file that a server on the network does not give; ``url`` is its address."""

    def __init__(self, url: str, what: str, remedy: str) -> None:
        self.url = url
        PlacerecError.__init__(self, f"{url}: {what}; {remedy}")


class NotAnIndex(NotFound):
    """A file that exists but is not a placerec index."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(
            path, f"not a placerec index ({why})", "build one: placerec index build INDEX FOLDER"
        )


class FolderGone(NotFound):
    """The photo folder of an index, which no longer exists."""

    def __init__(self, folder: Path | str) -> None:
        problem = "the photo folder of this index is not there"
        super().__init__(folder, problem, "refresh the index and give the new folder")


class Damaged(PlacerecError):
    """A file with invalid content."""

    exit_code = 4


class DamagedIndex(Damaged):
    """An index with changed, missing or inconsistent content."""

    def __init__(self, path: Path | str, why: str) -> None:
        remedy = "restore a copy, or build it again from the photos"
        super().__init__(f"{path}: damaged index ({why}); {remedy}", path)


class ModelMismatch(Damaged):
    """An index of another model or of another format version."""

    def __init__(self, path: Path | str, made_by: str, asked: str, remedy: str) -> None:
        super().__init__(f"{path}: made by {made_by}, but asked for {asked}; {remedy}", path)


class UnsafeWeights(Damaged):
    """A weight file that has another digest, is malformed, or could run code."""

    def __init__(self, path: Path | str, why: str, remedy: str) -> None:
        super().__init__(f"{path}: invalid weights ({why}); {remedy}", path)


class BadTable(Damaged):
    """A table (positions, ground truth, query list) with an invalid row."""

    def __init__(self, path: Path | str, line: int, why: str) -> None:
        self.line = line
        super().__init__(f"{path}, line {line}: {why}; correct the file", path)


class PhotoError(PlacerecError):
    """A photo that cannot be read; ``reason`` is the message without the path."""

    exit_code = 5

    def __init__(self, path: Path | str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{path}: {reason}", path)


class NotAPhoto(PhotoError):
    """A file that no image decoder recognises, or an empty file."""


class TruncatedPhoto(PhotoError):
    """An image file that ends too early or is damaged inside."""


class PhotoTooLarge(PhotoError):
    """An image with more pixels than the limit (a decompression bomb)."""


class NoRoom(PlacerecError):
    """No space, or no permission, to write."""

    exit_code = 6

    def __init__(self, path: Path | str, why: str | OSError) -> None:
        if isinstance(why, OSError):
            why = why.strerror or str(why)
        remedy = "free space, fix permissions, or choose another place"
        super().__init__(f"{path}: cannot write ({why}); {remedy}", path)


class LimitReached(NoRoom):
    """The system gives this program no more open files or memory, so no photo can be read."""

    def __init__(self, path: Path | str, why: OSError) -> None:
        message = f"{path}: cannot be read ({why.strerror}); close other programs, or raise limits"
        PlacerecError.__init__(self, message, path)


class TrainingFailed(PlacerecError):
    """A training that has collapsed, or whose result is no better than its start."""

    exit_code = 8


class Busy(PlacerecError):
    """Another process writes to the index."""

    exit_code = 7

    def __init__(self, path: Path | str) -> None:
        message = f"{path}: another process is writing to this index; try again later"
        super().__init__(message, path)


class EngineStopped(Busy):
    """The engine of a build, which ended before all photos were described."""

    def __init__(self, path: Path | str, why: str) -> None:
        message = f"{path}: the engine ray stopped ({why}); run the same command again: it goes on"
        PlacerecError.__init__(self, message, path)


class StaleIndex(Busy):
    """An index that another process has changed or replaced since it was opened."""

    def __init__(self, path: Path | str, why: str) -> None:
        message = f"{path}: {why} since the index was opened; open it again"
        PlacerecError.__init__(self, message, path)
