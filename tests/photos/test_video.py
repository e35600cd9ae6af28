"""The frames of a video: their times, their orientation, and what is damaged."""

import itertools
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from photo_support import SMOOTH, STORED, encode
from PIL import Image

from drawn_video import write_video
from placerec.errors import (
    MissingExtra,
    NotAPhoto,
    NotFound,
    PhotoError,
    PhotoTooLarge,
    TruncatedPhoto,
    UsageError,
)
from placerec.photos import video
from placerec.photos.video import is_video, read_video

ONE = 1 << 16
MATRICES = {  # EXIF orientation -> the linear part of the display matrix: x' = a x + c y, ...
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip


def grey(level):
    return np.full((48, 64, 3), level, np.uint8)


def ramp(count):
    """Frames that become brighter: frame n has the level 10 n."""
    return [grey(10 * number) for number in range(count)]


def levels(path, every):
    """The times of the frames, and which frame each is."""
    return [(round(t, 3), round(photo.pixels.mean() / 10)) for t, photo in read_video(path, every)]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "mpeg4"), ("a.MOV", "mpeg4"), ("a.mkv", "mpeg4"), ("a.avi", "mpeg4"),
     ("a.webm", "libvpx"), ("a.m4v", "libx264")],
)  # fmt: skip
def test_one_frame_a_second_with_its_time_of_each_kind_of_video(name, codec, tmp_path):
    path = write_video(tmp_path / name.lower(), ramp(12), codec=codec)
    path = path.rename(tmp_path / name)
    assert is_video(path)
    assert levels(path, 1.0) == [(0, 0), (1, 4), (2, 8)]
    assert levels(path, 0.5) == [(0, 0), (0.5, 2), (1, 4), (1.5, 6), (2, 8), (2.5, 10)]
    assert len(levels(path, 0)) == 12
    assert levels(path, 60) == [(0, 0)]
    photo = next(itertools.islice(read_video(path), 1, None))[1]
    assert photo.path == f"{path}#t=1.000"
    assert photo.pixels.shape == (48, 64, 3)


def test_times_are_those_of_the_stream_if_the_rate_changes(tmp_path):
    times = [0, 40, 80, 2500, 2540, 5030, 5900, 9000]
    path = write_video(tmp_path / "a.mkv", ramp(8), times=times)
    assert levels(path, 1.0) == [(0, 0), (2.5, 3), (5.03, 5), (9, 7)]


@pytest.mark.parametrize("orientation", MATRICES)
def test_the_display_matrix_turns_a_frame_upright(orientation, tmp_path):
    stored = STORED[orientation](SMOOTH)
    path = write_video(tmp_path / "a.mp4", [stored] * 2)
    data = bytearray(path.read_bytes())
    a, b, c, d = (ONE * part for part in MATRICES[orientation])
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    (_, photo), *_ = read_video(path)
    assert photo.pixels.shape == SMOOTH.shape
    assert photo.pixels.flags.c_contiguous
    assert np.abs(photo.pixels.astype(int) - SMOOTH).mean() < 12


def test_a_video_that_is_cut_off_gives_its_frames_and_then_the_error(tmp_path):
    whole = write_video(tmp_path / "whole.mkv", ramp(24)).read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) // 2])
    frames = read_video(tmp_path / "a.mkv", 0.25)
    seen = []
    with pytest.raises(TruncatedPhoto, match=r"a\.mkv: cut off: .* of 6\.0 seconds can be read"):
        seen.extend(photo for _, photo in frames)
    assert 6 <= len(seen) < 20


def test_an_mp4_that_begins_with_its_table_is_cut_off_too(tmp_path):
    whole = write_video(tmp_path / "w.mp4", ramp(24), movflags="faststart").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: -len(whole) // 3])
    seen = []
    with pytest.raises(TruncatedPhoto, match=r"a\.mp4: (cut off|parts of it are damaged)"):
        seen.extend(read_video(tmp_path / "a.mp4", 0))
    assert seen


def test_a_damaged_part_does_not_lose_the_frames_behind_it(tmp_path):
    path = write_video(tmp_path / "a.avi", [SMOOTH] * 40, codec="png", kind="rgb24")
    data = bytearray(path.read_bytes())
    middle = data.index(b"00dc", len(data) // 2) + 8
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    seen = []
    with pytest.raises(TruncatedPhoto, match="parts of it are damaged"):
        seen.extend(seconds for seconds, _ in read_video(path, 0))
    assert len(seen) >= 38
    assert seen[-1] == pytest.approx(9.75)


@pytest.mark.parametrize(
    ("name", "data", "error", "reason"),
    [
        ("a.mp4", b"", NotAPhoto, "not a video"),
        ("a.mp4", b"hello" * 99, NotAPhoto, "not a video"),
        ("a.mp4", encode(SMOOTH, "JPEG"), NotAPhoto, "not a video"),
        ("a.mp4", b"\0\0\0\x20ftypisom" + bytes(99), TruncatedPhoto, "begins like a video"),
        ("a.m3u8", b"#EXTM3U\n#EXTINF:10,\nwhole.mp4\n", NotAPhoto, "not a video"),
        ("a.mp4", b"ffconcat version 1.0\nfile whole.mp4\n", NotAPhoto, "not a video"),
    ],
)
def test_what_is_no_video_is_refused_and_opens_no_other_file(name, data, error, reason, tmp_path):
    write_video(tmp_path / "whole.mp4", ramp(2))
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=reason) as raised:
        list(read_video(tmp_path / name))
    assert raised.value.path == tmp_path / name


def test_a_file_of_sound_is_refused(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(NotAPhoto, match="sound, but no picture"):
        list(read_video(tmp_path / "a.mp4"))


def test_a_wrong_argument_is_refused_at_once(tmp_path):
    write_video(tmp_path / "a.mp4", ramp(2))
    with pytest.raises(NotFound, match="no such video"):
        read_video(tmp_path / "b.mp4")
    with pytest.raises(NotAPhoto, match="not a file"):
        read_video(tmp_path)
    for every in (-1, "1s", None, float("nan"), True):
        with pytest.raises(UsageError, match="every: must be a number"):
            read_video(tmp_path / "a.mp4", every)


def test_any_name_of_a_file_is_only_a_name(tmp_path):
    for name in ("concat:a|b.mp4", "http:%41.mp4", os.fsdecode(b"caf\xe9.mp4")):
        path = write_video(tmp_path / "a.mp4", ramp(2)).rename(tmp_path / name)
        assert [photo.path for _, photo in read_video(path)] == [f"{path}#t=0.000"]


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", ramp(2))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtra, match=r'pip install "placerec\[video\]"'):
        read_video(path)


def test_a_frame_with_too_many_pixels_is_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", ramp(2))
    monkeypatch.setattr(video, "MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(PhotoTooLarge, match="64 x 48 is more than 3071 pixels"):
        list(read_video(path))


def test_a_video_that_may_not_be_read_is_a_named_error(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", ramp(2))

    def refuse(*words, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(PhotoError, match=r"cannot be read \(Permission denied\)"):
        list(read_video(path))


def test_only_the_frame_in_turn_is_in_memory(tmp_path):
    path = write_video(tmp_path / "a.mkv", [np.zeros((240, 320, 3), np.uint8)] * 60)
    tracemalloc.start()
    for _, photo in read_video(path, 0):
        assert photo.pixels.shape == (240, 320, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * photo.pixels.nbytes


@pytest.mark.parametrize("name", ["a.jpg", "a.mp4", "a"])
def test_the_content_says_what_is_a_video(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(encode(SMOOTH, "JPEG"))
    assert not is_video(path)
    Image.fromarray(SMOOTH).save(path, "AVIF")  # its first box is like that of an MP4
    assert not is_video(path)
    path.write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\1")  # a photo of a camera, CR3
    assert not is_video(path)
    write_video(tmp_path / "v.webm", ramp(2), codec="libvpx").rename(path)
    assert is_video(path)


def test_a_pipe_or_an_impossible_path_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    for path in (tmp_path / "a.jpg", tmp_path, Path("a\0"), Path("a" * 300)):
        assert not is_video(path)
    with pytest.raises(NotAPhoto, match="not a file"):
        read_video(tmp_path / "a.jpg")


def test_without_content_the_suffix_says_what_is_a_video(tmp_path):
    assert is_video(tmp_path / "a.MP4")
    assert not is_video(tmp_path / "a.jpg")
