"""Everything that can go wrong for a user, as one tree.

::

    PlacerecError                 exit 1
    ├── UsageError                     2   an argument that cannot be meant
    │   ├── FixedByIndex               2   an option that the index has already decided
    │   └── MissingExtra               2   a command that needs an optional package
    ├── NotFound                       3   a path that is not there
    │   └── NotAnIndex                 3   a file that is no placerec index
    ├── Damaged                        4   a file whose content is wrong
    │   ├── DamagedIndex               4   a changed, cut or inconsistent index
    │   ├── ModelMismatch              4   an index made by another model or format
    │   ├── UnsafeWeights              4   a weight file that is not what it should be
    │   └── BadTable                   4   a CSV file with a wrong or unknown row
    ├── PhotoError                     5   a photo that cannot be used
    │   ├── NotAPhoto                  5
    │   ├── TruncatedPhoto             5
    │   └── PhotoTooLarge              5
    ├── NoRoom                         6   no space or no permission
    └── Busy                           7   another process is writing
        └── StaleIndex                 7   an index that has changed since it was opened

Every message says what, where and what to do next. ``exit_code`` is what the command line exits
with; the codes are part of the contract (docs/PROMISES.md). Code 5 is also the exit of a command
that finished but skipped some photos of a folder.
"""

from __future__ import annotations

from pathlib import Path

SKIPPED_PHOTOS_EXIT = 5


class PlacerecError(Exception):
    """Base of every error that placerec raises on purpose."""

    exit_code = 1


class UsageError(PlacerecError):
    """An argument that cannot be meant: an unknown name, a number out of range."""

    exit_code = 2


class FixedByIndex(UsageError):
    """An option given at query time that the index fixed when it was built."""

    def __init__(self, option: str, fixed: object, given: object) -> None:
        self.option, self.fixed, self.given = option, fixed, given
        super().__init__(
            f"{option}: the index was built with {fixed}, so {given} cannot be used with it; "
            f"leave the option away, or build a new index with it"
        )


class MissingExtra(UsageError):
    """A command that needs an optional dependency which is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f'{what} needs an extra: pip install "placerec[{extra}]"')


class NotFound(PlacerecError):
    """A path that does not exist or is of the wrong kind."""

    exit_code = 3

    def __init__(self, path: Path | str, what: str, remedy: str = "check the spelling") -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {what}; {remedy}")


class NotAnIndex(NotFound):
    """A file that exists but is no placerec index."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(path, f"not a placerec index ({why})", "build one: placerec index build")


class Damaged(PlacerecError):
    """A file whose content is not what it should be."""

    exit_code = 4


class DamagedIndex(Damaged):
    """An index with changed, missing or inconsistent content."""

    def __init__(self, path: Path | str, why: str) -> None:
        self.path = Path(path)
        super().__init__(
            f"{path}: damaged index ({why}); restore a copy, or build it again from the photos"
        )


class ModelMismatch(Damaged):
    """An index that another model, or another format version, has made."""

    def __init__(self, path: Path | str, made_by: str, asked: str, remedy: str) -> None:
        self.path, self.made_by, self.asked = Path(path), made_by, asked
        super().__init__(f"{path}: made by {made_by}, but asked for {asked}; {remedy}")


class UnsafeWeights(Damaged):
    """A weight file that is not the recorded one, is malformed, or could run code."""

    def __init__(self, path: Path | str, why: str, remedy: str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: not usable as weights ({why}); {remedy}")


class BadTable(Damaged):
    """A CSV file (positions, ground truth, query list) with a wrong row."""

    def __init__(self, path: Path | str, line: int, why: str) -> None:
        self.path, self.line = Path(path), line
        super().__init__(f"{path}, line {line}: {why}; correct the file")


class PhotoError(PlacerecError):
    """A photo that cannot be used; ``reason`` is the part without the path."""

    exit_code = 5

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self.reason = Path(path), reason
        super().__init__(f"{path}: {reason}")


class NotAPhoto(PhotoError):
    """A file that no image decoder recognises, or that is empty."""


class TruncatedPhoto(PhotoError):
    """An image file that ends too early or is damaged inside."""


class PhotoTooLarge(PhotoError):
    """An image with more pixels than the limit (a decompression bomb)."""


class NoRoom(PlacerecError):
    """No space left, or no permission, to write."""

    exit_code = 6

    def __init__(self, path: Path | str, why: str) -> None:
        self.path = Path(path)
        super().__init__(
            f"{path}: cannot write ({why}); make room, mend permissions, or choose another place"
        )


class Busy(PlacerecError):
    """Another process holds the index for writing."""

    exit_code = 7

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: another process is writing to this index; try again later")


class StaleIndex(Busy):
    """An index that another process has changed or replaced since it was opened here."""

    def __init__(self, path: Path | str, why: str) -> None:
        self.path = Path(path)
        PlacerecError.__init__(self, f"{path}: {why} since the index was opened; open it again")
