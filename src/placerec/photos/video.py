"""The frames of a video, one at a time, with their times; needs PyAV (the extra ``video``).

A time is in seconds from the start of the video, as a player shows it (the presentation time stamp
of the stream), also if the frame rate changes. Frames are upright: the display matrix is applied,
which telephones write instead of turning the pixels.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from placerec.errors import (
    NotAPhoto,
    NotFound,
    PhotoError,
    PhotoTooLarge,
    TruncatedPhoto,
    import_extra,
)
from placerec.files import AnyPath, is_file, path_of
from placerec.photos.decode import MAX_PIXELS, SIGNATURES, UNSUPPORTED
from placerec.photos.find import VIDEO_SUFFIXES
from placerec.records import Array, Photo
from placerec.settings import require, require_number

FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg"  # FFmpeg's names; no playlists
HEAD = 512  # bytes that show the format
BEGINNINGS = (
    rb"....ftyp|....moov|....mdat|....wide|....free"  # MP4, MOV
    rb"|\x1a\x45\xdf\xa3"  # Matroska, WebM
    rb"|RIFF....AVI |FLV\x01|OggS|\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # the last is ASF, WMV
    rb"|\0\0\x01[\xb3\xba]|\x47.{187}\x47|.{4}\x47.{191}\x47"  # MPEG; transport streams
)
MISSING = 1.0  # seconds at the end of a video that may lack: sound may be longer than the picture
SHORTEST = 1e-6  # seconds between two frames; less means each frame
SHARE_OF_STEP = 0.01  # a frame may be earlier than asked by this share of ``every``: rounding


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its first bytes, or else by its suffix. It is not decoded."""
    head = b""
    if is_file(path):  # a pipe would block a reader
        with suppress(OSError), path.open("rb") as stream:
            head = stream.read(HEAD)
    if any(re.match(sign, head, re.DOTALL) for sign in {**SIGNATURES, **UNSUPPORTED}.values()):
        return False
    return bool(re.match(BEGINNINGS, head, re.DOTALL)) or path.suffix.lower() in VIDEO_SUFFIXES


def read_video(path: AnyPath, every: float = 1.0) -> Iterator[tuple[float, Photo]]:
    """Yield the seconds from the start and the frame, ``every`` so many seconds; 0: each frame.

    The path of a frame is ``VIDEO#t=12.000``. Only the frame in turn is in memory. Raises
    ``MissingExtra`` without PyAV, ``NotFound``, ``NotAPhoto`` for a file that is no video,
    ``PhotoTooLarge``, and after the frames that could be read ``TruncatedPhoto`` for a video that
    is damaged or cut off.
    """
    path, every = path_of(path), require_number("every", every)
    require(every >= 0.0, "every", f"a number of seconds, not {every:g}")
    if not is_file(path):
        raise NotAPhoto(path, "not a file") if path.exists() else NotFound(path, "no such video")
    step = every if every > SHORTEST else 0.0
    return _frames(import_extra("av", "a video", "video"), path, step)


def _frames(av: Any, path: Path, every: float) -> Iterator[tuple[float, Photo]]:
    with _file(path) as file, _container(av, file, path) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise NotAPhoto(path, "it has sound, but no picture")
        _check_size(path, stream)  # before a frame is decoded
        stream.thread_type = "AUTO"
        decoding = _Decoding(av, container, stream)
        due, seconds = -math.inf, 0.0
        for seconds, frame in decoding:
            if seconds < due - SHARE_OF_STEP * every:
                continue
            if every:
                due = (math.floor(seconds / every + SHARE_OF_STEP) + 1) * every
            _check_size(path, frame)
            yield seconds, Photo(f"{path}#t={seconds:.3f}", "", _upright(frame))
        if decoding.problem:
            raise TruncatedPhoto(path, decoding.problem)


def _check_size(path: Path, picture: Any) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        size = f"{picture.width} x {picture.height}"
        raise PhotoTooLarge(path, f"{size} is more than {MAX_PIXELS} pixels")


def _file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise PhotoError(path, f"cannot be read ({error.strerror})") from error


def _container(av: Any, file: BinaryIO, path: Path) -> Any:
    """Open the file itself, not its name: to FFmpeg a name may be an address or a list of files."""
    try:
        return av.open(file, options={"format_whitelist": FORMATS})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        file.seek(0)
        if re.match(BEGINNINGS, file.read(HEAD), re.DOTALL):
            reason = f"begins like a video, but it is damaged or cut off ({_why(error)})"
            raise TruncatedPhoto(path, reason) from error
        raise NotAPhoto(path, "not a video of a known kind") from error


class _Decoding:
    """The frames of a stream with their seconds; after them ``problem`` says what was wrong."""

    def __init__(self, av: Any, container: Any, stream: Any) -> None:
        self.problem = ""
        self._av, self._container, self._stream = av, container, stream

    def __iter__(self) -> Iterator[tuple[float, Any]]:
        start = (self._container.start_time or 0) / self._av.time_base
        step = 1.0 / float(self._stream.average_rate or self._stream.guessed_rate or 25)
        seconds = end = 0.0
        for frame in self._intact():
            seconds = end if frame.pts is None else float(frame.pts * frame.time_base) - start
            length = float((frame.duration or 0) * (frame.time_base or 0)) or step
            end = max(end, seconds + length)
            yield max(seconds, 0.0), frame
        whole = self._seconds()
        if not end:
            self.problem = self.problem or "it has no frame that can be read"
        elif whole - end > MISSING:
            self.problem = f"cut off: {end:.1f} of {whole:.1f} seconds can be read"

    def _intact(self) -> Iterator[Any]:
        """Yield the frames; a part that cannot be decoded is left out and noted."""
        packets = self._container.demux(self._stream)
        while True:
            frames: list[Any] = []
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except self._av.error.EOFError:
                return
            except (self._av.error.FFmpegError, ValueError) as error:
                self.problem = f"parts of it are damaged ({_why(error)})"
            for frame in frames:
                if frame.is_corrupt:
                    self.problem = self.problem or "parts of it are damaged"
                else:
                    yield frame

    def _seconds(self) -> float:
        """Return how long the video should be, or 0 if it does not say."""
        lengths = [float((self._container.duration or 0) / self._av.time_base)]
        if self._stream.duration and self._stream.time_base:
            lengths.append(float(self._stream.duration * self._stream.time_base))
        return min(lengths)


def _upright(frame: Any) -> Array:
    """Return the pixels (H, W, 3) uint8 RGB of a frame, turned and mirrored as it says."""
    pixels: Array = frame.to_ndarray(format="rgb24")
    with suppress(KeyError):
        matrix = struct.unpack("9i", bytes(frame.side_data["DISPLAYMATRIX"]))
        right, down, _, right2, down2, *_ = matrix
        # A pixel (x, y) is shown at (right x + right2 y, down x + down2 y).
        if abs(right) < abs(down):
            pixels, right, down2 = pixels.transpose(1, 0, 2), right2, down
        pixels = pixels[:: -1 if down2 < 0 else 1, :: -1 if right < 0 else 1]
    return np.ascontiguousarray(pixels)


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
