"""What a person should know after an index was made or changed: one sentence for each kind."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from placerec.errors import PhotoError
from placerec.photos.structure import BLANK


class Kind(NamedTuple):
    """The sentence of a kind for one name (or any number), and for several.

    ``shown`` is the largest number of names in it.
    """

    one: str
    several: str = ""
    shown: int = 3
    exit_code: int = 0


KINDS = {
    "left_out": Kind("left out", shown=100),
    "unreadable_folders": Kind(
        "1 folder cannot be read, so its photos are left out",
        "{count} folders cannot be read, so their photos are left out",
        exit_code=PhotoError.exit_code,
    ),
    "not_looked_at": Kind(
        "1 photo is in a folder that cannot be read; it stays in the index as it is",
        "{count} photos are in folders that cannot be read; they stay in the index as they are",
    ),
    "comes_back": Kind(
        "1 removed photo is still in the folder, so the next refresh adds it again; move it away",
        "{count} removed photos are still in the folder, so the next refresh adds them again; move "
        "them away",
    ),
    "rows_without_photo": Kind(
        "1 row of the positions names no photo",
        "{count} rows of the positions name no photo",
        exit_code=PhotoError.exit_code,
    ),
    "far_from_exif": Kind(
        "1 photo is more than 1 km from the position in its file; the given position was taken",
        "{count} photos are more than 1 km from the position in their files; the given positions "
        "were taken",
    ),
    "outside_track": Kind(
        "1 photo has no position in the track (taken at another time, or without a time)",
        "{count} photos have no position in the track (taken at another time, or without a time)",
    ),
    "clock_off": Kind(
        "the camera's clock may be hours off; this time offset would give photos a position",
        "the camera's clock may be hours off; one of {count} time offsets would give photos a "
        "position",
    ),
    "position_from_file": Kind(
        "1 changed photo has the position of its file now; add it again with the table, if a table "
        "gave the earlier one",
        "{count} changed photos have the positions of their files now; add them again with the "
        "table, if a table gave the earlier ones",
    ),
    "gps_damaged": Kind(
        "1 photo has a GPS tag that cannot be right",
        "{count} photos have a GPS tag that cannot be right",
    ),
    "blank": Kind(
        f"1 photo has nothing to recognise ({BLANK})",
        f"{{count}} photos have nothing to recognise ({BLANK})",
    ),
    "equal_files": Kind(
        "1 photo is a copy of another one; each takes a place among the answers, and lowers the "
        "other's score",
        "{count} photos are copies of others; each takes a place among the answers, and lowers the "
        "others' scores",
    ),
    "outgrown": Kind("the index has grown beyond the calibration of its confidence; refit it"),
    "slower": Kind(
        "the speed-up of its search was made before this change, so it is not used; make it again"
    ),
    "too_few_for_fit": Kind("too few photos for a fit, so the model stays"),
    "given_model": Kind("a refit leaves imported and trained models as they are"),
}


@dataclass(frozen=True, slots=True)
class Notice:
    """What one kind of ``KINDS`` says, with the photos, rows or files that it is about."""

    kind: str
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        """One sentence with the count and the first names."""
        kind = KINDS[self.kind]
        sentence = kind.several if len(self.names) > 1 and kind.several else kind.one
        return f"{sentence.format(count=len(self.names))}: {first_names(self.names, kind.shown)}"

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this notice."""
        return KINDS[self.kind].exit_code


def first_names(names: tuple[str, ...] | list[str], shown: int = 3) -> str:
    """Return the first names as text, and ``...`` if there are more."""
    return ", ".join([*names[:shown], *["..."][: len(names) > shown]])


def left_out(kinds: Mapping[str, list[str]]) -> list[str]:
    """Return for each kind of file that was left out its count and first names, as text."""
    return [f"{kind} ({len(names)}: {first_names(names)})" for kind, names in kinds.items()]


def copies(digests: Mapping[str, str], looked_at: Container[str]) -> list[str]:
    """Return ``copy = photo`` for each photo with the content of an earlier one.

    ``digests`` are the sha256 of all photos by name; one of the two must be in ``looked_at``.
    """
    first: dict[str, str] = {}
    result = []
    for name in sorted(digests, key=os.fsencode):
        original = first.setdefault(digests[name], name)
        if name != original and (name in looked_at or original in looked_at):
            result.append(f"{name} = {original}")
    return result
