"""Loop closure on a drawn walk that comes back twice."""

import numpy as np
import pytest

from placerec import LoopDetector
from placerec.demo import render
from placerec.demo.town import Pose
from placerec.errors import NotFound, UsageError
from placerec.index.presets import SMALL
from placerec.models.resolve import generic_model
from placerec.recognise import loop
from placerec.runtime import Runtime
from placerec.settings import METHODS, Settings

LAP, AGAIN, STEP, SKIP = 13, 6, 6.0, 3.0  # frames, frames, metres, seconds
FEWEST = 8  # in place of 20: a short walk takes less time


def frame(place, aside=0.0):
    """The view at a place of the walk, ``aside`` metres to the left."""
    return render(5, Pose(STEP * place, aside, 1.6, 20.0), size=(120, 160))


@pytest.fixture(scope="module")
def walk():
    """A detector that saw a lap of 13 frames, twice its first 6, and frame 11; its answers."""
    places = [*range(LAP), *range(AGAIN), *range(AGAIN), 11]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "FEWEST_PHOTOS", FEWEST)
        small = generic_model().with_settings(Settings(image_size=(240, 320)))  # a quarter of time
        patch.setattr(loop, "pair_model", lambda *_: small)
        patch.setattr(loop, "no_confidence", lambda _: "")
        detector = LoopDetector(SKIP, runtime=Runtime(threads=2))
        answers = [
            detector.add(frame(place, 0.5 * (second >= LAP)), float(second), top=20)
            for second, place in enumerate(places)
        ]
    return detector, places, answers


def test_the_walk_that_comes_back_closes_loops_at_the_right_frames(walk):
    _, places, answers = walk
    accepted = [loops[0] for loops in answers if loops and loops[0].accepted]
    assert all(places[pair.earlier] == places[pair.frame] for pair in accepted)
    assert {pair.frame for pair in accepted} >= {*range(LAP + 5, LAP + AGAIN)}
    assert all(pair.confidence >= 0.8 for pair in accepted)


def test_a_place_that_was_seen_twice_is_no_rival_of_itself(walk):
    _, places, answers = walk
    for number in range(LAP + AGAIN + 5, LAP + 2 * AGAIN):
        best = answers[number][0]
        assert best.accepted
        assert places[best.earlier] == places[number]
        same = [pair for pair in answers[number] if places[pair.earlier] == places[number]]
        assert len(same) == 2  # of both laps


def test_the_first_lap_closes_no_loop(walk):
    _, _, answers = walk
    assert not any(pair.accepted for loops in answers[:LAP] for pair in loops)
    assert all(answers[number] == () for number in range(FEWEST + int(SKIP) - 1))


def test_one_frame_alone_closes_no_loop(walk):
    _, places, answers = walk
    alone = answers[-1][0]
    assert places[alone.earlier] == places[alone.frame]
    assert alone.confidence >= 0.8
    assert not alone.accepted


def test_the_last_seconds_are_no_answer(walk):
    _, _, answers = walk
    for loops in answers:
        assert all(pair.seconds - pair.earlier_seconds >= SKIP for pair in loops)
    assert any(pair.seconds - pair.earlier_seconds == SKIP for loops in answers for pair in loops)


def test_loops_come_best_first_with_their_evidence(walk):
    detector, _, answers = walk
    assert len(detector) == len(answers)
    best, *others = answers[LAP + AGAIN + 5]
    assert len(others) == 19
    scores = [pair.score for pair in answers[LAP + AGAIN + 5]]
    assert scores == sorted(scores, reverse=True)
    assert best.frame == LAP + AGAIN + 5
    assert best.matches[0].inliers > 9
    query = detector.describe(frame(5, 0.5)).global_descriptor
    other = detector.describe(frame(5, 0.5 * (best.earlier >= LAP))).global_descriptor
    assert best.global_score == pytest.approx(float(query @ other), abs=0.01)


def test_what_is_refused_is_not_stored(walk):
    detector, _, _ = walk
    count, pixels = len(detector), frame(0)
    for arguments, message in (
        ((pixels, 1.0), "seconds: must be at least those before"),
        ((pixels, float("nan")), "seconds: must be a number"),
        ((pixels / 255, 99.0), "float64"),
        ((None, 99.0), "uint8 RGB"),
    ):
        with pytest.raises(UsageError, match=message):
            detector.add(*arguments)
    with pytest.raises(UsageError, match="top: must be"):
        detector.add(pixels, 99.0, top=0)
    with pytest.raises(NotFound):
        detector.add("gone.png", 99.0)
    assert len(detector) == count


def test_a_frame_that_says_nothing_is_counted_and_stored_nowhere():
    detector = LoopDetector(0.0)
    assert detector.add(np.zeros((120, 160, 3), np.uint8), 0.0) == ()
    assert detector.add(frame(0)[..., ::-1], 0.0, bgr=True) == ()
    assert len(detector) == 2
    assert [stored.number for stored in detector._frames] == [1]
    assert 5_000 < detector.stored_bytes < 8_000  # as much as a photo of an index
    assert detector._blocks[0].dtype is SMALL.descriptor
    expected = detector.describe(frame(0)).global_descriptor
    assert detector.describe(frame(0)[..., ::-1], bgr=True).global_descriptor.tolist() == (
        expected.tolist()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"skip_seconds": -1}, "skip_seconds: must be at least 0"),
        ({"skip_seconds": "3"}, "skip_seconds: must be a number"),
        ({"sure": 1.0}, "sure: must be between 0 and 1"),
        ({"sure": None}, "sure: must be a number"),
        ({"model": "no-such"}, "no-such"),
        ({"runtime": 3}, "runtime"),
    ],
)
def test_a_wrong_argument_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        LoopDetector(**arguments)


def test_a_model_without_a_confidence_is_refused(many_photos, tmp_path):
    from placerec import fit_on_folder, save_model

    settings = METHODS["default"].replace(image_size=(96, 128))
    model, _ = fit_on_folder(many_photos, settings=settings)
    save_model(model, tmp_path / "small.safetensors")
    with pytest.raises(UsageError, match=r"a loop needs a confidence, and only the default method"):
        LoopDetector(model=str(tmp_path / "small.safetensors"))
