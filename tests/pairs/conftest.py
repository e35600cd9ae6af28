"""A drawn walk: 3 places, each seen 3 times."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from placerec.demo import demo_pose, render
from placerec.index.build import build_index
from placerec.recognise import PlaceRecognizer
from placerec.settings import Settings

PLACES, VIEWS, SEED = (0, 7, 15), 3, 0
SMALL = Settings(image_size=(192, 256))


@pytest.fixture(scope="session")
def walk(tmp_path_factory) -> Path:
    """A folder with ``p0/v0.png`` and others. Do not change it."""
    folder = tmp_path_factory.mktemp("walk")
    for number, place in enumerate(PLACES):
        (folder / f"p{number}").mkdir()
        pose = demo_pose(SEED, place, False)
        for view in range(VIEWS):
            moved = replace(pose, x=pose.x + 0.8 * view, yaw=pose.yaw + 3 * view)
            pixels = render(SEED, moved, False, size=(240, 320))
            Image.fromarray(pixels).save(folder / f"p{number}" / f"v{view}.png")
    return folder


@pytest.fixture(scope="session")
def walk_positions(tmp_path_factory) -> Path:
    """A table with the positions of the walk: places 1 km apart, views 2 m."""
    table = tmp_path_factory.mktemp("table") / "where.csv"
    lines = [
        f"p{place}/v{view}.png,{45 + 0.009 * place:.6f},{30 + 0.000025 * view:.6f}"
        for place in range(len(PLACES))
        for view in range(VIEWS)
    ]
    table.write_text("\n".join(["image,latitude,longitude", *lines]) + "\n")
    return table


@pytest.fixture(scope="session")
def walk_index(walk, walk_positions, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("index") / "walk.placerec"
    build_index(path, walk, positions=walk_positions, settings=SMALL)
    return path


@pytest.fixture(scope="session")
def recognizer(walk_index):
    """The open index of the walk."""
    with PlaceRecognizer.open(walk_index) as opened:
        yield opened
