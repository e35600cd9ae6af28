"""A query compares no more candidates than its answer needs, or than its time allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from placerec import PlaceRecognizer, build_index
from placerec.errors import UsageError
from placerec.index.calibrate import no_confidence
from placerec.recognise import recognizer as room
from placerec.settings import METHODS, PublishedSettings, Settings


@pytest.fixture(scope="module")
def index(many_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "many.plr"
    build_index(path, many_photos)
    return path


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many candidates each step of a query matches."""
    counts: list[int] = []
    match = room.match_candidates

    def counted(*arguments, **options):
        matched = match(*arguments, **options)
        counts.append(len(matched))
        return matched

    monkeypatch.setattr(room, "match_candidates", counted)
    return counts


def ask(index: Path, photo: Path, top: int = 5, **options):
    changes = {name: options.pop(name) for name in ("stop_at",) if name in options}
    with PlaceRecognizer.open(index, **changes) as recognizer:
        return recognizer.query(photo, top, **options)


def test_a_sure_answer_needs_five_candidates(index, many_photos, compared):
    photo = sorted(many_photos.iterdir())[3]
    answer = ask(index, photo)
    assert compared == [5]
    assert answer.best.path == photo.name
    assert answer.best.confidence > 0.9
    assert answer.in_map


def test_at_one_all_candidates_are_compared_in_one_step(index, many_photos, compared):
    photo = sorted(many_photos.iterdir())[3]
    every = ask(index, photo, stop_at=1)
    assert compared == [20]
    assert every.best.path == photo.name


def test_an_answer_that_is_not_sure_doubles_its_candidates(index, compared, tmp_path, monkeypatch):
    monkeypatch.setattr(PlaceRecognizer, "_is_clear", lambda *_: False)
    photo = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    stopped = ask(index, photo)
    assert compared == [5, 5, 10]
    whole = ask(index, photo, stop_at=1)
    assert [place.path for place in stopped.places] == [place.path for place in whole.places]
    assert [p.score for p in stopped.places] == [p.score for p in whole.places]
    assert stopped.best.confidence == whole.best.confidence


def test_as_many_are_compared_as_are_asked_for(index, many_photos, compared):
    answer = ask(index, sorted(many_photos.iterdir())[3], top=12)
    assert compared == [12]
    assert all(place.matches for place in answer.places)


def test_places_that_were_not_compared_follow_with_no_confidence(index, many_photos, compared):
    with PlaceRecognizer.open(index) as recognizer:
        features = recognizer.describe(recognizer.read(sorted(many_photos.iterdir())[3]).pixels)
        scores, matches = recognizer.score(features, list(range(3, 20)), top=5)
        assert len(scores) == len(matches) == 5
        every, _ = recognizer.score(features, list(range(3, 20)), top=17)
    assert len(every) == 17


def test_without_time_the_global_ranking_is_the_answer(index, many_photos, compared):
    photo = sorted(many_photos.iterdir())[3]
    answer = ask(index, photo, budget_ms=1e-3)
    assert compared == []
    assert answer.best.path == photo.name
    assert answer.best.confidence is None
    assert answer.uncalibrated == "the time was too short to compare patches"


def test_photos_that_are_never_an_answer_end_no_comparison(index, many_photos, compared):
    photo = sorted(many_photos.iterdir())[3]
    with PlaceRecognizer.open(index) as recognizer:
        features = recognizer.describe(recognizer.read(photo).pixels)
        rows, _ = recognizer.shortlist(features, 20)
        for hidden in (rows[:5], rows):
            located = replace(recognizer, blank=frozenset(hidden.tolist()))
            compared.clear()
            answer = located.query(photo)
            assert compared == [5, 5, 10]
            assert photo.name not in [place.path for place in answer.places]
            assert len(answer.places) == 5
            assert (answer.best.confidence is None) == (len(hidden) == 20)
    assert answer.uncalibrated == "no photo whose patches were compared may be an answer"


def test_a_budget_compares_one_candidate_first_and_then_twice_as_many(
    index, many_photos, compared, monkeypatch
):
    monkeypatch.setattr(PlaceRecognizer, "_is_clear", lambda *_: False)
    photo = sorted(many_photos.iterdir())[3]
    ask(index, photo, 1, budget_ms=1e6)
    assert compared == [1, 1, 2, 4, 8, 4]


@pytest.mark.parametrize("budget", [0, -1, float("nan"), "soon"])
def test_a_budget_is_a_time(index, many_photos, budget):
    with pytest.raises(UsageError, match="budget_ms"):
        ask(index, sorted(many_photos.iterdir())[3], budget_ms=budget)


def test_the_presets_of_the_paper_compare_all_candidates():
    assert PublishedSettings().stop_at == 1
    assert METHODS["patch-netvlad"].stop_at == 1
    assert Settings().stop_at < 1
    assert no_confidence(Settings(stop_at=0.5)) == ""
    assert no_confidence(Settings(box=9)) != ""
