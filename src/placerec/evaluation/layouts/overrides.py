"""What the general protocols let a user choose; each choice enters the protocol's name.

The named protocols of the published sets take none of it: their numbers are their meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

from placerec.errors import NotFound, UsageError

RADIUS = 25.0  # metres: the rule of Pittsburgh, Tokyo 24/7 and Mapillary SLS


@dataclass(frozen=True, slots=True)
class Options:
    """``None`` is the protocol's own choice.

    ``radius`` metres and ``degrees`` between two headings: at most so much apart is a positive.
    ``frames``: as many either side. ``photos_a_panorama``: of so many consecutive database photos
    only the best stays on a shortlist. ``ground_truth``: a file, of the data set or elsewhere.
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
            raise UsageError(f"photos a panorama {self.photos_a_panorama}: give 1 or more")

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the options that have a value."""
        return tuple(one.name for one in fields(self) if getattr(self, one.name) is not None)

    def named(self, *parts: str) -> str:
        """A protocol's name: its ``parts``, and the panorama rule where there is one."""
        if self.panorama > 1:
            parts = (*parts, f"{self.panorama} photos a panorama")
        return ", ".join(parts)

    @property
    def panorama(self) -> int:
        """How many consecutive database photos are one panorama; 1 where none are."""
        return self.photos_a_panorama or 1

    def truth_in(self, folder: Path, *parts: str) -> Path | None:
        """The ground truth that was given, by its name in ``folder`` or its ``parts`` or as a path.

        ``None`` where none was given; ``NotFound`` where it lies nowhere.
        """
        if self.ground_truth is None:
            return None
        inside = [folder.joinpath(part, self.ground_truth) for part in ("", *parts)]
        for path in (*inside, self.ground_truth):
            if path.is_file():
                return path
        raise NotFound(
            self.ground_truth, f"no such file, neither as it stands nor in {folder}",
            "give the path of a ground truth file",
        )  # fmt: skip
