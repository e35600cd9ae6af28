"""Every invalid photo raises one photo error with its own reason."""

import contextlib
import os
import resource
import stat
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photo_support import SMOOTH, encode, mutated, png_claiming, turned
from PIL import Image

from placerec.errors import (
    LimitReached,
    NotAPhoto,
    NotFound,
    PhotoError,
    PhotoTooLarge,
    TruncatedPhoto,
)
from placerec.photos import decode


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        (b"", NotAPhoto, r"empty file \(0 bytes\): a placeholder whose content is in a cloud\?"),
        (b"hello, I am a text file\n", NotAPhoto, "not an image of a known kind"),
        (b"\xff\xd8\xff", TruncatedPhoto, "begins like JPEG"),
        (encode(SMOOTH, "JPEG")[:200], TruncatedPhoto, "begins like JPEG|damaged or cut"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", TruncatedPhoto, "begins like HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", TruncatedPhoto, "begins like AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", NotAPhoto, "JPEG 2000.*convert it to JPEG"),
        (b"BMore text", TruncatedPhoto, "begins like BMP"),
        (b"%PDF-1.4", NotAPhoto, "known kind"),
    ],
)
def test_each_bad_file_has_its_own_reason(decoded, data, error, why):
    with pytest.raises(error, match=why) as caught:
        decoded(data)
    assert caught.value.path.name == "photo.jpg"
    assert "photo.jpg" not in caught.value.reason


def test_a_small_photo_needs_little_memory(decoded):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    room = pages * resource.getpagesize() + (300 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (room, before[1]))
    try:
        assert decoded(encode(SMOOTH, "PNG")).pixels.shape == SMOOTH.shape
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_machine_without_free_files_is_no_fault_of_a_photo(tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode(SMOOTH, "PNG"))
    before, files = resource.getrlimit(resource.RLIMIT_NOFILE), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                files.append(os.open(photo, os.O_RDONLY))
        with pytest.raises(LimitReached, match=r"Too many open files.*raise limits"):
            decode(photo)
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_camera_raw_is_refused_instead_of_its_thumbnail(decoded):
    with pytest.raises(NotAPhoto, match="camera raw is not supported"):
        decoded(encode(SMOOTH, "TIFF"), name="photo.DNG")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("TIFF", {}),
     ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("PPM", {})],
)  # fmt: skip
def test_a_cut_of_any_length_is_an_error(decoded, kind, options):
    data = encode(SMOOTH, kind, **options)
    for length in (len(data) - 1 if kind != "PNG" else len(data) - 8, len(data) - 20,
                 len(data) * 9 // 10, len(data) // 2, len(data) // 4):  # fmt: skip
        with pytest.raises(TruncatedPhoto):
            decoded(data[:length])


def test_trailing_bytes_as_in_a_motion_photo_are_ignored(decoded):
    for kind in ("JPEG", "PNG"):
        data = encode(SMOOTH, kind)
        assert np.array_equal(
            decoded(data + b"\0\0\0\x18ftypmp42" * 50).pixels, decoded(data).pixels
        )


@pytest.mark.parametrize("side", [10_000, 30_000])  # Pillow warns of the first, refuses the second
def test_a_bomb_is_refused_before_its_pixels_are_decoded(decoded, side, monkeypatch):
    monkeypatch.setattr(Image.core, "new", lambda *_: pytest.fail("pixels were allocated"))
    with pytest.raises(PhotoTooLarge):
        decoded(png_claiming(side, side))


def test_a_huge_text_chunk_is_refused(decoded):
    data = png_claiming(8, 8)
    body = b"k\0\0" + zlib.compress(b"\0" * 8_000_000)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + body))
    with pytest.raises(PhotoError):
        decoded(data[:33] + chunk + data[33:])


def test_missing_paths_and_paths_that_are_not_files(tmp_path, monkeypatch):
    with pytest.raises(NotFound, match="no such photo"):
        decode(tmp_path / "none.jpg")
    with pytest.raises(NotAPhoto, match="not a file"):
        decode(tmp_path)
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    with pytest.raises(PhotoError, match="cannot be read"):
        decode(tmp_path / "self.jpg")
    with pytest.raises(PhotoError, match="cannot be read"):
        decode(Path("nul\0.jpg"))
    (tmp_path / "locked.jpg").write_bytes(encode(SMOOTH))
    monkeypatch.setattr(Path, "open", lambda *_: os.open("/", os.O_RDWR) and None)
    with pytest.raises(PhotoError, match="cannot be read"):
        decode(tmp_path / "locked.jpg")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read anything")
def test_a_photo_without_permission_is_a_photo_error(tmp_path):
    path = tmp_path / "locked.jpg"
    path.write_bytes(encode(SMOOTH))
    path.chmod(0)
    with pytest.raises(PhotoError, match="Permission denied"):
        decode(path)
    path.chmod(stat.S_IRWXU)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(NotAPhoto, match="not a file"):
        decode(tmp_path / "pipe.jpg")


# --- arbitrary bytes ---------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "MPO"])
def test_decode_raises_only_photo_errors_for_changed_bytes(decoded, kind, capfd):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0), 3: "E", 4: (1.0, 2.0, 3.0)}
    takes_exif = kind in ("JPEG", "PNG", "WEBP", "MPO")
    data = encode(SMOOTH[::2, ::2], kind, **({"exif": exif} if takes_exif else {}))
    rng = np.random.default_rng(23)
    outcomes = set()
    for _ in range(200 if kind == "JPEG" else 60):
        try:
            photo = decoded(mutated(data, rng))
            assert photo.pixels.ndim == 3
            outcomes.add("decoded")
        except PhotoError as error:
            outcomes.add(type(error).__name__)
    assert len(outcomes) > 1
    assert capfd.readouterr() == ("", "")


@given(st.sampled_from([b"", b"\xff\xd8\xff", b"II*\0", b"GIF89a", b"BM", b"P6 "]), st.binary())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_bytes_give_a_photo_or_a_photo_error(decoded, head, tail):
    with contextlib.suppress(PhotoError):
        assert decoded(head + tail).pixels.size


def test_threads_agree_and_do_not_change_the_warning_filters(tmp_path):
    noisy = turned(1, kind="TIFF")
    files = {
        "good.jpg": encode(SMOOTH, "JPEG"),
        "noisy.tif": noisy,
        "bomb.png": png_claiming(10_000, 10_000),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def outcome(name):
        try:
            return decode(tmp_path / name).pixels.sum()
        except PhotoError as error:
            return str(error)

    names, before = list(files) * 30, list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, names)) == [outcome(name) for name in names]
    assert warnings.filters == before
