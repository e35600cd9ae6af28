"""Videos of drawn frames, made by PyAV itself."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    times=None,
    rate=4,
    codec="mpeg4",
    kind="yuv420p",
    **options,
) -> Path:  # fmt: skip
    """Write frames (H, W, 3) ``rate`` a second, or at ``times`` in milliseconds.

    ``kind`` is the form of the pixels in the file.
    """
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.pix_fmt, stream.bit_rate = kind, 4_000_000
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
