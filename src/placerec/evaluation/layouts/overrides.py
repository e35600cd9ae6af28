"""Settings of the general protocols that a user can change; each joins the protocol's name."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

from placerec.errors import NotFound, UsageError


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a user changes of a general protocol; ``None`` keeps the protocol's default.

    A database photo is a positive up to ``radius`` metres and ``degrees`` of heading from the
    query, or up to ``frames`` frames before and after it. Only the best photo of
    ``photos_a_panorama`` consecutive database photos stays on a shortlist. ``ground_truth`` is
    a file, in the data set's folder or elsewhere.
    """

    radius: float | None = None
    degrees: float | None = None
    frames: int | None = None
    photos_a_panorama: int | None = None
    ground_truth: Path | None = None

    def __post_init__(self) -> None:
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise UsageError(f"radius {self.radius:g}: give metres above 0")
        if self.degrees is not None and not 0 < self.degrees <= 180:
            raise UsageError(f"degrees {self.degrees:g}: give more than 0 and at most 180")
        if self.frames is not None and self.frames < 0:
            raise UsageError(f"frames {self.frames}: give 0 or more")
        if self.photos_a_panorama is not None and self.photos_a_panorama < 1:
            raise UsageError(f"photos_a_panorama {self.photos_a_panorama}: give 1 or more")

    @property
    def names(self) -> frozenset[str]:
        """The names of the settings that have a value."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) is not None)

    @property
    def panorama(self) -> int:
        """The number of consecutive database photos of a panorama; default 1."""
        return self.photos_a_panorama or 1

    def protocol_name(self, *parts: str) -> str:
        """Join the ``parts`` of a protocol's name and, if it applies, the panorama rule."""
        if self.panorama > 1:
            parts = (*parts, f"{self.panorama} photos a panorama")
        return ", ".join(parts)

    def find_ground_truth(self, folder: Path, subfolder: str = "") -> Path | None:
        """Return the given ground truth: a name in ``folder`` or its subfolder, or a path.

        Returns ``None`` if none was given; raises ``NotFound`` if the file does not exist.
        """
        if self.ground_truth is None:
            return None
        inside = (folder / self.ground_truth, folder / subfolder / self.ground_truth)
        for path in (*inside, self.ground_truth):
            if path.is_file():
                return path
        raise NotFound(
            self.ground_truth, f"no such file, neither as a path nor in {folder}",
            "give the path of a ground truth file",
        )  # fmt: skip
