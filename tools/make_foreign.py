"""Make the feature maps of photos from elsewhere, which ship in the package.

Usage, from the top of the repository::

    python tools/make_foreign.py DATA_FOLDER/gsv_cambridge_train/photos

The script writes ``src/placerec/models/weights/foreign.npz``: 40 street photos, evenly spread, as
the trunk of the default method sees them. An index answers them
when it is built, and so learns how much evidence a photo has that is not in the map.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from placerec.models.foreign import FILE, pack
from placerec.photos.decode import decode
from placerec.photos.find import evenly_spread, find_photos
from placerec.settings import Settings
from placerec.trunks import feature_map, open_trunk

OUT = Path(__file__).parent.parent / "src" / "placerec" / "models" / "weights" / FILE
PHOTOS = 40


def main() -> None:
    """Describe the photos and write the file."""
    folder, settings = Path(sys.argv[1]), Settings()
    trunk, names = open_trunk(settings.trunk), find_photos(folder)
    chosen = [names[number] for number in evenly_spread(len(names), PHOTOS)]
    maps = [
        feature_map(trunk, decode(folder / name).pixels, settings.image_size) for name in chosen
    ]
    np.savez_compressed(
        OUT, trunk_sha256=trunk.sha256, image_size=settings.image_size, **pack(np.stack(maps))
    )
    print(f"{OUT}: {len(maps)} photos, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
