"""Each test file has a separate cache folder, so no test changes files outside."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _separate_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLACEREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
