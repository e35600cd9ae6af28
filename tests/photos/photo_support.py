"""Photos for the tests, made in memory: formats, orientations and damage."""

import io
import struct
import zlib

import numpy as np
import pillow_heif
from PIL import Image

RNG = np.random.default_rng(0)
SMOOTH = np.asarray(  # not symmetric, and smooth enough for JPEG
    Image.fromarray(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((96, 64), 3)
)


def encode(picture, kind="PNG", **options) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    if kind == "HEIC":
        if "exif" in options:
            options["exif"] = options["exif"].tobytes()
        pillow_heif.from_pillow(image).save(stream, **options)
    else:
        image.save(stream, kind, **options)
    return stream.getvalue()


STORED = {  # orientation -> how it stores the upright picture
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2)[::-1, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2)[::-1, ::-1],
}


def turned(orientation, upright=SMOOTH, kind="PNG", **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](upright))
    return encode(stored, kind, exif=exif, **options)


def png_claiming(width, height, depth=8, pixels=b"\0" * 1000):
    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    pixels = zlib.compress(pixels)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def mutated(data: bytes, rng) -> bytes:
    out = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at, length = int(rng.integers(len(out))), int(rng.integers(1, 9))
        what = rng.integers(3)
        junk = bytes(rng.integers(0, 256, length, dtype=np.uint8).tolist())
        if what == 0:
            out[at : at + length] = junk
        elif what == 1:
            del out[at : at + length]
        else:
            out[at:at] = junk
    return bytes(out)
