"""A running page for the tests of the room."""

import shutil

import pytest

from placerec import PlaceRecognizer
from placerec.index.update import refresh_index
from serve.serve_support import running


@pytest.fixture(scope="session")
def server(town_index):
    """One server of the town's index for all tests. It has no faults of its own to say."""
    faults = []
    with running(town_index, log=faults.append) as server:
        yield server
    assert faults == []


@pytest.fixture
def own_index(town_index, photos, tmp_path):
    """A copy of the town's index beside its own photos."""
    index = shutil.copy(town_index, tmp_path / "own.placerec")
    refresh_index(index, folder=photos)
    return index, photos


@pytest.fixture
def answers(monkeypatch):
    """``answers(answer)``: every search has this answer."""

    def set_answer(answer):
        monkeypatch.setattr(PlaceRecognizer, "query", lambda *_: answer)

    return set_answer
