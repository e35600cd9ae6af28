"""Files: atomic writes, digests of the content, the cache folder, and one path or several."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from placerec.errors import NoRoom, NotFound, UsageError

AnyPath = str | os.PathLike[str]
LONGEST_SHOWN = 100  # characters of a path that no file can have
NOTHING_THERE = (FileNotFoundError, NotADirectoryError)


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Convert an error of the file system inside the block to ``NoRoom`` of ``path``."""
    try:
        yield
    except OSError as error:
        raise NoRoom(path, error) from error


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to ``path`` if the block ends without an error.

    The folder of ``path`` is created.

    With ``durable`` the data is on the disk before the rename, so a crash of the machine leaves
    the old file or the new one. Only one process may write. A killed writer leaves
    ``NAME.partial``, and the next writer replaces it. Without ``durable`` the file is only a
    cache: several threads and processes may write it at the same time.

    Raises ``NoRoom`` if the file cannot be written.
    """
    writer = "" if durable else f".{os.getpid()}-{threading.get_ident()}"
    partial = path.with_name(f"{path.name}{writer}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if durable:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise NoRoom(path, error) from error
    finally:
        with suppress(OSError):  # the parent may be a file
            partial.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which becomes the new file ``path`` if the block ends without error.

    Several processes may try: one of them makes the file, and the others raise ``UsageError``. A
    killed writer leaves a hidden file. The folder of ``path`` is created. Raises ``NoRoom`` if the
    file cannot be written.
    """
    writer = f"{os.getpid()}-{threading.get_ident()}"
    partial = path.with_name(f".{writer}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        try:
            os.link(partial, path)  # unlike a rename it never replaces a file
        except PermissionError:  # a file system without links
            if os.path.lexists(path):
                raise FileExistsError(path) from None
            partial.replace(path)
    except FileExistsError as error:
        raise UsageError(f"{path}: already there; choose another name") from error
    except OSError as error:
        raise NoRoom(path, error) from error
    finally:
        with suppress(OSError):  # the parent may be a file
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with unchanged line ends.

    Bytes of file names that are not UTF-8 (surrogates, PEP 383) are written back as bytes.
    """
    with atomic_write(path) as partial:
        partial.write_bytes(text.encode("utf-8", "surrogateescape"))


def require_folder_of(path: Path) -> None:
    """Raise ``NotFound`` if the folder that is to hold ``path`` does not exist."""
    if not is_folder(path.absolute().parent):
        raise NotFound(path.parent, "no such folder", "create it first")


def is_file(path: str | Path) -> bool:
    """Whether there is a file; False for a path that no file can have, or that is out of reach."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises an error for some paths


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder, as ``is_file``."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises an error for some paths


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content as hex digits; raise ``NotFound`` if unreadable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        why = error.strerror or str(error)
        raise NotFound(path, why, "check the path and its permissions") from error


def cache_folder() -> Path:
    """Return the folder of converted weights and cached features.

    It is the environment variable ``PLACEREC_CACHE``, or ``~/.cache/placerec``.
    """
    named = os.environ.get("PLACEREC_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "placerec"


def path_of(path: AnyPath) -> Path:
    """Return a path that a person gave, as a ``Path``; nothing needs to be there.

    Raises ``UsageError`` if it is no path, and ``NotFound`` for an empty text, for a path that no
    file can have (too long, a NUL character), and for one that the system does not let us look at.
    So later questions about this path raise no error of another kind.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(path, bytes):
        raise UsageError(f"{path!r:.100}: not a path; give a str or a Path")
    if path == "":
        raise NotFound("''", "an empty path", "name a file or a folder")
    try:
        os.lstat(path)
    except NOTHING_THERE:
        pass
    except (OSError, ValueError) as error:  # a ValueError for a NUL character
        text = str(path)
        shown = text[:LONGEST_SHOWN] + "..." * (len(text) > LONGEST_SHOWN)
        why = error.strerror if isinstance(error, OSError) else error
        problem, remedy = f"this path cannot be used ({why})", "check it and its permissions"
        raise NotFound(shown, problem, remedy) from error
    return Path(path)


def paths_of(paths: AnyPath | Iterable[AnyPath]) -> list[Path]:
    """Return one path or several as a list, checked by ``path_of``; a lone one is one path."""
    if isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Iterable):
        return [path_of(paths)]
    return [path_of(path) for path in paths]
