"""Many photos at once: the same answers, and a bad photo loses no other."""

import itertools

import numpy as np
import pytest
from PIL import Image

from placerec.demo import demo_pose, render
from placerec.errors import StaleIndex, UsageError
from placerec.index.update import remove_photos
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.runtime import Runtime


@pytest.fixture(scope="module")
def frames():
    poses = [demo_pose(0, place, place % 2 == 1) for place in range(5)]
    return [render(0, pose, size=(120, 160)) for pose in poses]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_photos_have_the_answers_of_each_alone(threads, frames, town, quick_index):
    night = town / "queries" / "night_003.jpg"
    photos = [*frames, night, str(night), Image.open(night), np.zeros_like(frames[0])]
    with PlaceRecognizer.open(quick_index, runtime=Runtime(threads=threads)) as recognizer:
        alone = [recognizer.query(photo, top=3) for photo in photos]
        assert list(recognizer.query_many(iter(photos), top=3)) == alone
    assert alone[-1].note == "nothing to recognise"


def test_frames_of_opencv_are_said_to_be_such(frames, quick_index):
    with PlaceRecognizer.open(quick_index, candidates=2) as recognizer:
        alone = [recognizer.query(frame) for frame in frames]
        turned = np.stack(frames)[..., ::-1]
        assert list(recognizer.query_many(turned, bgr=True)) == alone


def test_a_bad_photo_is_an_answer_with_a_note_and_loses_no_other(frames, quick_index, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff broken")
    photos = [frames[0], tmp_path / "cut.jpg", str(tmp_path / "gone.jpg"), frames[1]]
    with PlaceRecognizer.open(quick_index, candidates=2) as recognizer:
        first, cut, gone, last = recognizer.query_many(photos)
        assert [first, last] == [recognizer.query(frame) for frame in frames[:2]]
    assert (cut.query, gone.query) == (str(tmp_path / "cut.jpg"), str(tmp_path / "gone.jpg"))
    assert cut.note.startswith("cannot be read: begins like JPEG, but the header is cut off")
    assert gone.note.startswith("cannot be read: ")
    assert "no such photo" in gone.note
    assert cut.places == gone.places == ()


def test_photos_are_taken_when_they_are_needed(frames, quick_index):
    taken = itertools.count()
    photos = (frame for frame in itertools.cycle(frames) if next(taken) >= 0)
    runtime = Runtime(threads=2)
    with PlaceRecognizer.open(quick_index, candidates=0, runtime=runtime) as recognizer:
        answers = recognizer.query_many(photos)
        assert len(list(itertools.islice(answers, 3))) == 3
        answers.close()
    assert next(taken) <= 3 + 2 * 2


@pytest.mark.parametrize("kind", [str, lambda path: path, Image.open])
def test_a_lone_photo_is_one_photo(kind, town, quick_index):
    night = town / "queries" / "night_003.jpg"
    with PlaceRecognizer.open(quick_index, candidates=2) as recognizer:
        assert list(recognizer.query_many(kind(night))) == [recognizer.query(kind(night))]
        pixels = recognizer.read(night).pixels
        assert list(recognizer.query_many(pixels)) == [recognizer.query(pixels)]


def test_what_is_no_photo_is_refused(frames, quick_index):
    with PlaceRecognizer.open(quick_index, candidates=0) as recognizer:
        for wrong in (None, 3, b"a.jpg"):
            with pytest.raises(UsageError, match="photos: must be"):
                recognizer.query_many(wrong)
        with pytest.raises(UsageError, match="top: must be"):
            recognizer.query_many(frames, top=0)
        answers = recognizer.query_many([frames[0], frames[0] / 255])
        assert next(answers) == recognizer.query(frames[0])
        with pytest.raises(UsageError, match=r"float64.*uint8 RGB"):
            next(answers)


def test_a_changed_index_is_no_fault_of_a_photo(frames, town, quick_index, tmp_path):
    index = tmp_path / "a.placerec"
    index.write_bytes(quick_index.read_bytes())
    with PlaceRecognizer.open(index) as recognizer:
        remove_photos(index, "place_000.jpg")
        with pytest.raises(StaleIndex):
            list(recognizer.query_many(frames))


def test_a_camera_may_write_its_next_frame_into_the_same_array(frames, quick_index):
    def camera():
        buffer = np.empty_like(frames[0])
        for frame in frames:
            buffer[:] = frame
            yield buffer

    with PlaceRecognizer.open(quick_index, runtime=Runtime(threads=2)) as recognizer:
        alone = [recognizer.query(frame) for frame in frames]
        assert list(recognizer.query_many(camera())) == alone
