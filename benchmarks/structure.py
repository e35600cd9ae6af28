"""How far real photos and photos that say nothing are from the rule of ``photos/structure.py``.

    python benchmarks/structure.py DATA_FOLDER

It measures every photo below each folder of DATA_FOLDER, a drawn town by night and in fog, and
drawn photos of 480 x 640 through a covered lens: black, vignetting, light from one side, and light
past a finger, with and without the noise of a sensor, as JPEG of several qualities. It runs for
about two minutes.

Writes results/structure.csv and the table in docs/PHOTOS.md.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from table import ROOT, append_rows, page_table, read_rows, write_page

from placerec.demo import demo_pose, render
from placerec.photos import decode, find_photos
from placerec.photos.structure import edge_strength
from placerec.records import Array

RESULTS = ROOT / "results" / "structure.csv"
PAGE = ROOT / "docs" / "PHOTOS.md"
COLUMNS = ("kind", "photos", "least", "most")
PLACES = 20
X, Y = np.linspace(-1, 1, 640)[None, :, None], np.linspace(-1, 1, 480)[:, None, None]
LIGHTS = {
    "black": 0 * (X + Y),
    "vignetting": 1 / (1 + (X**2 + Y**2) / 2) ** 2,
    "from one side": (X + Y + 2) / 4,
    "past a finger": np.exp(-((X - 0.3) ** 2 + (Y + 0.2) ** 2) / 0.5),
}
AMPLITUDES, NOISES = (6, 60, 200), (0, 2, 4, 8)  # grey levels
QUALITIES = (None, 90, 75, 50)  # of the JPEG file; None is no compression


def covered(noise: float) -> Iterator[Array]:
    """Yield photos through a covered lens, with sensor noise of one deviation."""
    rng = np.random.default_rng(0)
    for light in LIGHTS.values():
        for amplitude in AMPLITUDES:
            values = 8 + amplitude * light + rng.normal(0, noise, (480, 640, 1))
            pixels = np.repeat(np.clip(np.round(values), 0, 255), 3, axis=2).astype(np.uint8)
            for quality in QUALITIES:
                yield compressed(pixels, quality) if quality else pixels


def compressed(pixels: Array, quality: int) -> Array:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def town(*, night: bool) -> Iterator[Array]:
    """Yield photos of the drawn town by night, or by day in fog."""
    for place in range(PLACES):
        pixels = render(0, demo_pose(0, place, night), night=night)
        yield pixels if night else (200 + (pixels.astype(int) - 128) * 0.15).astype(np.uint8)


def row(kind: str, photos: Iterable[Array]) -> dict[str, object]:
    """Return the least and the most of strength / threshold: above 1 is structure."""
    pairs = [edge_strength(pixels) for pixels in photos]
    ratios = [strength / threshold for strength, threshold in pairs]
    print(kind, len(ratios), flush=True)
    least, most = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    return {"kind": kind, "photos": len(ratios), "least": least, "most": most}


def rows(folder: Path) -> Iterator[dict[str, object]]:
    """Yield a row for each kind of photo."""
    for data in sorted(path for path in folder.iterdir() if path.is_dir()):
        photos = (decode(data / name).pixels for name in find_photos(data))
        yield row(data.name, photos)
    yield row("drawn town by night", town(night=True))
    yield row("drawn town in fog", town(night=False))
    for noise in NOISES:
        yield row(f"covered lens, noise {noise}", covered(noise))


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table of docs/PHOTOS.md."""
    head = ("photos of", "photos", "least", "most")
    return page_table(head, ([row[name] for name in COLUMNS] for row in rows))


def main() -> None:
    measured = list(rows(Path(sys.argv[1])))
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, COLUMNS, measured)
    write_page(PAGE, "structure", markdown(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
