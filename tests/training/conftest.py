"""A cache folder of its own for each file of tests, so that nothing outside is touched."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLACEREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
