"""What a command may write, and what it may replace: one rule for every output.

A file that exists is not replaced, unless placerec wrote it in the same form and makes another one
in a moment: a picture or a GeoJSON file. An output folder is new or empty, or has an earlier run of
the same command. Everything is refused before any work. docs/COMMANDS.md states the rule.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from placerec.errors import UsageError
from placerec.files import is_file, is_folder, path_of, require_folder_of, write_text

_GEOJSON_HEAD = {"type": "FeatureCollection", "generator": "placerec"}
_GEOJSON_BYTES = b'{\n  "type": "FeatureCollection",\n  "generator": "placerec"'
PREDICTIONS = "predictions.jsonl"  # the file of a run that is there from its first moment


class NewFile(click.Path):
    """The path of a file that a command writes; ``ours`` says which files it may replace."""

    def __init__(self, ours: Callable[[Path], bool] | None = None) -> None:
        super().__init__(path_type=Path, readable=False)
        self._ours = ours

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the path; raise what ``require_free`` raises."""
        path = path_of(os.fsdecode(super().convert(value, param, ctx)))
        require_free(path, self._ours)
        return path


class RunFolder(click.Path):
    """The folder that a command writes. A run of this command leaves ``mark`` in it."""

    def __init__(self, mark: str) -> None:
        super().__init__(path_type=Path, readable=False)
        self._mark = mark

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the path; raise ``UsageError`` for a folder with other files."""
        path = path_of(os.fsdecode(super().convert(value, param, ctx)))
        if os.path.lexists(path) and not is_folder(path):
            raise UsageError(f"{path}: a file; name a folder")
        if is_folder(path) and not (path / self._mark).exists() and _visible(path):
            raise UsageError(
                f"{path}: it has other files, and no earlier run of this command; name a new folder"
            )
        return path


def require_free(path: Path, ours: Callable[[Path], bool] | None = None) -> None:
    """Raise ``UsageError`` if a result at ``path`` would replace anything but a file of ``ours``.

    Raises ``NotFound`` if the folder of ``path`` does not exist.
    """
    require_folder_of(path)
    if is_folder(path):
        raise UsageError(f"{path}: a folder; name a file")
    if os.path.lexists(path) and not (ours and is_file(path) and ours(path)):
        raise UsageError(f"{path}: already exists; it is not replaced, so choose another name")


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise ``UsageError`` if one of the ``outputs`` is a photo that the command reads."""
    existing = {_identity(path): path for path in outputs if is_file(path)}
    for path in inputs if existing else ():
        if output := existing.get(_identity(path)):
            raise UsageError(f"{output}: a photo of this command; choose another name")


def is_picture(path: Path) -> bool:
    """Say whether placerec drew this picture."""
    from placerec.recognise.picture import is_drawn

    return is_drawn(path)


def write_geojson(path: Path, features: list[dict[str, Any]]) -> None:
    """Write a FeatureCollection that says that placerec wrote it."""
    write_text(path, json.dumps({**_GEOJSON_HEAD, "features": features}, indent=2) + "\n")


def is_geojson(path: Path) -> bool:
    """Say whether placerec wrote this GeoJSON file."""
    with path.open("rb") as file:
        return file.read(len(_GEOJSON_BYTES)) == _GEOJSON_BYTES


def _visible(folder: Path) -> bool:
    """Say whether a folder has anything but hidden files, which file managers write unasked."""
    return any(not path.name.startswith(".") for path in folder.iterdir())


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # the photo is gone
        return None
    return status.st_dev, status.st_ino
