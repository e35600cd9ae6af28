"""One cache folder for all tests of the room, so that nothing outside it is touched."""

import os

import pytest


@pytest.fixture(scope="package", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    before = os.environ.get("PLACEREC_CACHE")
    os.environ["PLACEREC_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["PLACEREC_CACHE"]
    else:
        os.environ["PLACEREC_CACHE"] = before
