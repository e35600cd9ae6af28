"""Every error that placerec raises on purpose, as one tree.

::

    PlacerecError                 exit 1
    ├── UsageError                     2   an invalid argument
    │   ├── FixedByIndex               2   a setting that the index has fixed
    │   └── MissingExtra               2   a command that needs an optional package
    ├── NotFound                       3   a missing path
    │   └── NotAnIndex                 3   a file that is not a placerec index
    ├── Damaged                        4   a file with invalid content
    │   ├── DamagedIndex               4   a changed, truncated or inconsistent index
    │   ├── ModelMismatch              4   an index of another model or format
    │   ├── UnsafeWeights              4   an invalid weight file
    │   └── BadTable                   4   a table with an invalid row
    ├── PhotoError                     5   a photo that cannot be read
    │   ├── NotAPhoto                  5
    │   ├── TruncatedPhoto             5
    │   └── PhotoTooLarge              5
    ├── NoRoom                         6   no space or no permission
    └── Busy                           7   another process writes to the index
        └── StaleIndex                 7   an index that has changed since it was opened

Every message says what is wrong, where, and what to do. ``exit_code`` is the exit code of the
command line; the codes are part of the contract (docs/PROMISES.md). Code 5 is also the exit code
of a command that finished but skipped some photos of a folder.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

SKIPPED_PHOTOS_EXIT = 5


class PlacerecError(Exception):
    """Base of every error that placerec raises on purpose."""

    exit_code = 1


class UsageError(PlacerecError):
    """An invalid argument: an unknown name, or a number out of range."""

    exit_code = 2


class FixedByIndex(UsageError):
    """A setting at query time that the index fixed when it was built."""

    def __init__(self, option: str, fixed: object, given: object) -> None:
        self.option, self.fixed, self.given = option, fixed, given
        super().__init__(
            f"{option}: the index was built with {fixed}, so {given} is not possible; omit the "
            f"setting, or build a new index with it"
        )


class MissingExtra(UsageError):
    """A command that needs an optional package which is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f'{what} needs an extra: pip install "placerec[{extra}]"')


def import_extra(module: str, what: str, extra: str) -> Any:
    """Import and return an optional ``module``; raise ``MissingExtra`` if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(what, extra) from error


class NotFound(PlacerecError):
    """A path that does not exist or has the wrong kind."""

    exit_code = 3

    def __init__(self, path: Path | str, what: str, remedy: str = "check the spelling") -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {what}; {remedy}")


class NotAnIndex(NotFound):
    """A file that exists but is not a placerec index."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(path, f"not a placerec index ({why})", "build one: placerec index build")


class Damaged(PlacerecError):
    """A file with invalid content."""

    exit_code = 4


class DamagedIndex(Damaged):
    """An index with changed, missing or inconsistent content."""

    def __init__(self, path: Path | str, why: str) -> None:
        self.path = Path(path)
        super().__init__(
            f"{path}: damaged index ({why}); restore a copy, or build it again from the photos"
        )


class ModelMismatch(Damaged):
    """An index of another model or of another format version."""

    def __init__(self, path: Path | str, made_by: str, asked: str, remedy: str) -> None:
        self.path, self.made_by, self.asked = Path(path), made_by, asked
        super().__init__(f"{path}: made by {made_by}, but asked for {asked}; {remedy}")


class UnsafeWeights(Damaged):
    """A weight file that has another digest, is malformed, or could run code."""

    def __init__(self, path: Path | str, why: str, remedy: str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: invalid weights ({why}); {remedy}")


class BadTable(Damaged):
    """A table (positions, ground truth, query list) with an invalid row."""

    def __init__(self, path: Path | str, line: int, why: str) -> None:
        self.path, self.line = Path(path), line
        super().__init__(f"{path}, line {line}: {why}; correct the file")


class PhotoError(PlacerecError):
    """A photo that cannot be read; ``reason`` is the message without the path."""

    exit_code = 5

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self.reason = Path(path), reason
        super().__init__(f"{path}: {reason}")


class NotAPhoto(PhotoError):
    """A file that no image decoder recognises, or an empty file."""


class TruncatedPhoto(PhotoError):
    """An image file that ends too early or is damaged inside."""


class PhotoTooLarge(PhotoError):
    """An image with more pixels than the limit (a decompression bomb)."""


class NoRoom(PlacerecError):
    """No space, or no permission, to write."""

    exit_code = 6

    def __init__(self, path: Path | str, why: str) -> None:
        self.path = Path(path)
        super().__init__(
            f"{path}: cannot write ({why}); free space, fix permissions, or choose another place"
        )


class Busy(PlacerecError):
    """Another process writes to the index."""

    exit_code = 7

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: another process is writing to this index; try again later")


class StaleIndex(Busy):
    """An index that another process has changed or replaced since it was opened."""

    def __init__(self, path: Path | str, why: str) -> None:
        self.path = Path(path)
        PlacerecError.__init__(self, f"{path}: {why} since the index was opened; open it again")
