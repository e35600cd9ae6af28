"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from placerec.errors import NoRoom


@contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` only when the block ends without an error.

    The folder of ``path`` is made. ``durable``: what was written is on the disk before the rename,
    so that a crash of the machine leaves the old file or the new one; one writer at a time, and
    what a killed one leaves (``NAME.partial``) the next one replaces. Otherwise the file is only
    cached, and several threads and processes may write it at once. Raises ``NoRoom``.
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
        raise NoRoom(path, error.strerror or str(error)) from error
    finally:
        with suppress(OSError):  # the folder itself may not be one
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with plain line ends; undecodable bytes of file names are kept."""
    with whole(path) as partial:
        partial.write_bytes(text.encode("utf-8", "surrogateescape"))
