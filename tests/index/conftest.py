"""A folder with four small photos and its index, made once and copied for each test."""

import shutil
from pathlib import Path

import pytest
from index_support import Collection, draw

from placerec.index.build import build_index


@pytest.fixture(scope="session")
def one_collection(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    for place, name in enumerate(("0.png", "1.png", "sub/2.png", "sub/3.png")):
        draw(folder / "photos" / name, place)
    build_index(folder / "town.placerec", folder / "photos")
    return folder


@pytest.fixture
def collection(one_collection, tmp_path) -> Collection:
    folder = Path(shutil.copytree(one_collection, tmp_path / "here"))
    return Collection(folder, folder / "photos", folder / "town.placerec")


@pytest.fixture(scope="module")
def own_cache_folder(tmp_path_factory):
    """The cache folder of one file of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLACEREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
