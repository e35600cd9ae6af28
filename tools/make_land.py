"""Make the outline of the land that ``placerec serve`` draws behind its map.

python tools/make_land.py land-110m.json   (from the registry package world-atlas)

The input is TopoJSON: arcs of whole steps, each relative to the one before, and polygons that join
arcs. The output is one JSON list of rings. A ring is a flat list of whole numbers, hundredths of a
degree: longitude and latitude of its first point, then the steps from point to point.
"""

import json
import sys
from itertools import accumulate, pairwise
from pathlib import Path

OUT = Path(__file__).parent.parent / "src" / "placerec" / "serve" / "static" / "land.json"


def main(source: Path) -> None:
    """Write ``OUT`` from a TopoJSON file."""
    world = json.loads(source.read_text(encoding="utf-8"))
    (land,) = world["objects"]["land"]["geometries"]
    rings = [ring for polygon in land["arcs"] for ring in polygon]
    lines = [flat(points_of(ring, world)) for ring in rings]
    OUT.write_text(json.dumps(lines, separators=(",", ":")) + "\n", encoding="utf-8")


def points_of(ring: list[int], world: dict) -> list[tuple[int, int]]:
    """Return the points of a ring in hundredths of a degree, without repeated points."""
    (scale_x, scale_y), (first_x, first_y) = (
        world["transform"][key] for key in ("scale", "translate")
    )
    points: list[tuple[int, int]] = []
    for number in ring:
        steps = world["arcs"][number if number >= 0 else ~number]
        arc = list(accumulate(steps, lambda here, step: [here[0] + step[0], here[1] + step[1]]))
        for x, y in arc if number >= 0 else reversed(arc):
            point = round(100 * (x * scale_x + first_x)), round(100 * (y * scale_y + first_y))
            if points[-1:] != [point]:
                points.append(point)
    return points


def flat(points: list[tuple[int, int]]) -> list[int]:
    """Return the first point and the steps from point to point."""
    steps = [(x - before_x, y - before_y) for (before_x, before_y), (x, y) in pairwise(points)]
    return [value for pair in [points[0], *steps] for value in pair]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
