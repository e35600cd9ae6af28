"""``placerec query INDEX VIDEO``: each frame is a query with its time."""

import json
import shutil

import pytest
from PIL import Image

from drawn_video import write_video
from placerec.cli.frames import Seconds
from placerec.demo import demo_pose, render


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of 3 seconds that shows places 0, 1 and 2 of the town, each for a second."""
    places = [render(0, demo_pose(0, place, False), size=(240, 320)) for place in range(3)]
    folder = tmp_path_factory.mktemp("video")
    return write_video(folder / "walk.mkv", [places[n // 4] for n in range(12)])


def best(answers):
    return [(answer["query"], answer["places"][0]["path"]) for answer in answers]


def test_each_second_of_a_video_is_a_query(command, video, quick_index):
    code, out, _ = command("query", quick_index, video, "--json", "--candidates", 3)
    assert code == 0
    assert best(json.loads(out)) == [
        (f"{video}#t={second}.000", f"place_00{second}.jpg") for second in range(3)
    ]


def test_a_video_and_photos_keep_their_order(command, video, town, quick_index):
    night = town / "queries" / "night_000.jpg"
    words = ("--every", "1500ms", "--candidates", 0, "--json")
    _, out, _ = command("query", quick_index, video, night, *words)
    assert [answer["query"] for answer in json.loads(out)] == [
        f"{video}#t=0.000", f"{video}#t=1.500", str(night)
    ]  # fmt: skip


def test_a_frame_is_drawn_into_a_folder_with_its_time(command, video, quick_index, tmp_path):
    words = ("--every", "2", "--candidates", 2, "--picture", tmp_path / "out")
    for _ in range(2):  # a second time, over its own pictures
        code, out, _ = command("query", quick_index, video, *words)
        assert code == 0
    assert f"picture: {tmp_path / 'out' / '001_walk_t2.000.png'}" in out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["001_walk_t0.000.png", "001_walk_t2.000.png"]
    Image.new("RGB", (9, 9)).save(tmp_path / "out" / "001_walk_t1.000.png")
    code, _, err = command("query", quick_index, video, *words)
    assert code == 2
    assert "001_walk_t1.000.png" in err


def test_one_picture_for_many_frames_is_refused(command, video, quick_index, tmp_path):
    code, _, err = command("query", quick_index, video, "--picture", tmp_path / "a.png")
    assert code == 2
    assert "several photos or frames; give --picture a folder" in err


def test_a_video_that_is_cut_off_is_answered_as_far_as_it_goes(
    command, video, quick_index, tmp_path
):
    data = video.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    words = ("--candidates", 0, "--json")
    code, out, err = command("query", quick_index, tmp_path / "cut.mkv", *words)
    assert code == 5
    assert best(json.loads(out))[0] == (f"{tmp_path / 'cut.mkv'}#t=0.000", "place_000.jpg")
    assert "cut.mkv: cut off: " in err


def test_a_file_that_is_no_video_ends_the_command_or_is_skipped(
    command, town, quick_index, tmp_path
):
    (tmp_path / "a.mp4").write_bytes(b"hello" * 99)
    code, out, err = command("query", quick_index, tmp_path / "a.mp4")
    assert (code, out) == (5, "")
    assert "a.mp4: not a video of a known kind" in err
    night = town / "queries" / "night_000.jpg"
    words = ("--candidates", 0, "--json")
    code, out, err = command("query", quick_index, tmp_path / "a.mp4", night, *words)
    assert code == 5
    assert [answer["query"] for answer in json.loads(out)] == [str(night)]
    assert "skipped 1 photo" in err


def test_a_photo_with_the_suffix_of_a_video_is_a_photo(command, town, quick_index, tmp_path):
    shutil.copy(town / "queries" / "night_000.jpg", tmp_path / "a.mp4")
    words = ("--candidates", 0, "--json")
    code, out, _ = command("query", quick_index, tmp_path / "a.mp4", *words)
    assert (code, json.loads(out)[0]["query"]) == (0, str(tmp_path / "a.mp4"))


def test_a_time_between_frames_is_for_videos(command, town, quick_index):
    night = town / "queries" / "night_000.jpg"
    code, _, err = command("query", quick_index, night, "--every", "1s")
    assert code == 2
    assert "--every: changes nothing, because no video is given" in err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("0.5s", 0.5), ("500ms", 0.5), ("2", 2), (" 2 s", 2), (".5", 0.5), ("0", 0)],
)
def test_a_time_is_written_with_its_unit(text, seconds):
    assert Seconds().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1", "1m", "1e3", "nan", "1,5s", "9" * 400])
def test_what_is_no_time_is_refused(text, command, video, quick_index):
    code, _, err = command("query", quick_index, video, "--every", text)
    assert code == 2
    assert "is no time; write 1s, 0.5s or 500ms" in err
