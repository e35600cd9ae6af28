"""Unlabelled photos and a trunk to start from: what an invariance training begins with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from placerec.errors import NotFound, PhotoError, UsageError
from placerec.files import AnyPath, path_of
from placerec.models.photo_source import first_reasons
from placerec.photos.decode import decode
from placerec.photos.find import evenly_spread, look_through
from placerec.photos.prepare import Preprocessing, prepare
from placerec.photos.structure import has_structure
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.schedule import InvarianceSchedule
from placerec.text import printable
from placerec.training.trainable import TrainableTrunk
from placerec.trunks.efficientnet_lite import NAME, shipped_onnx
from placerec.trunks.external import Channels, NetworkTrunk, OnnxNetwork, read_onnx
from placerec.workers import map_all, map_in_order

DISAPPEARED = "it disappeared during the training"
DEFAULT_NAMES = ("auto", NAME)


@dataclass(frozen=True, slots=True)
class TrunkStart:
    """An ONNX trunk to start from: its bytes, and what is stated about it.

    ``mean`` and ``std`` are those of the input, in 0..255.
    """

    data: bytes = field(repr=False)
    name: str
    mean: Channels
    std: Channels
    licence: str

    @property
    def sha256(self) -> str:
        """The sha256 (hex) of the bytes."""
        return hashlib.sha256(self.data).hexdigest()

    def try_out(self, schedule: InvarianceSchedule) -> None:
        """Raise ``UsageError`` if the trunk gives no feature map at a size of ``schedule``.

        It runs once on a view, and once on a photo of the judgement.
        """
        height, width = schedule.image_size
        try:
            with torch.inference_mode():
                shape = TrainableTrunk(self.data, self.name)(torch.zeros(1, 3, height, width)).shape
            failure = "" if len(shape) == 4 and 0 not in shape else f"its output is {tuple(shape)}"
        except Exception as error:  # PyTorch raises many types of errors
            failure = str(error) or type(error).__name__
        if failure:
            raise UsageError(
                f"{self.name}: it fails on a view of {height} x {width} pixels: {failure}; use "
                f"another image_size, or train another trunk"
            )
        size = schedule.judged_size
        trunk = self.opened(self.data, DEFAULT_RUNTIME)
        trunk(prepare(np.zeros((*size, 3), np.uint8), trunk.preprocessing(size)))

    def opened(self, data: bytes, runtime: Runtime) -> NetworkTrunk:
        """Return the trunk in ``data``, another file of the same network."""
        network = OnnxNetwork(data, self.name, runtime.one_thread)
        return NetworkTrunk(network, self.mean, self.std)


def starting_trunk(model: str | Path = "auto") -> TrunkStart:
    """Return the trunk that ships in the package (``auto``, ``efficientnet-lite0``) or a file's.

    Raises ``UsageError`` if ``model`` is neither.
    """
    path = path_of(model)
    if str(model) in DEFAULT_NAMES:
        name, data = NAME, shipped_onnx()
    elif path.suffix.lower() == ".onnx":
        name, data = printable(path.name), read_onnx(path)
    else:
        raise UsageError(
            f"model {str(model)!r}: this recipe trains {' or '.join(DEFAULT_NAMES)}, or an .onnx "
            f"file"
        )
    TrainableTrunk(data, name)  # refuses what cannot be trained
    header = OnnxNetwork(data, name).header
    licence = str(header.get("licence", "not stated"))
    return TrunkStart(data, name, header["mean"], header["std"], licence)


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Photos to learn from: ``trained`` ones, and those that are ``held_back`` for the judgement.

    ``name`` is that of their folder. ``sha256`` covers all names and files. ``skipped`` are the
    photos that cannot be used.
    """

    name: str
    trained: tuple[Path, ...] = field(repr=False)
    held_back: tuple[Path, ...] = field(repr=False)
    sha256: str
    skipped: tuple[PhotoError, ...] = ()


def read_unlabelled(folder: AnyPath, schedule: InvarianceSchedule, runtime: Runtime) -> Unlabelled:
    """Return the photos below ``folder`` that show something; every one is read once.

    One of ``schedule.held_back`` photos is held back, evenly spread over their sorted names.
    Raises ``NotFound`` for a folder without photos, and ``UsageError`` if there are too few.
    """
    folder = path_of(folder)
    content = look_through(folder)
    if not content.photos:
        raise NotFound(folder, "no photo in this folder", "give a folder with .jpg or .png files")
    skipped = [PhotoError(name, "the folder cannot be read") for name in content.unreadable]
    usable: list[Path] = []
    digest = hashlib.sha256()
    examine = partial(_examine, folder, schedule.image_size)
    for done, (name, sha256) in enumerate(
        zip(content.photos, map_in_order(examine, content.photos, runtime.cores), strict=True), 1
    ):
        if isinstance(sha256, PhotoError):
            skipped.append(sha256)
        else:
            usable.append(folder / name)
            digest.update(f"{name}\0{sha256}\0".encode("utf-8", "surrogateescape"))
        runtime.progress("reading photos", done, len(content.photos))
    count = len(usable) // schedule.held_back
    if count < schedule.fewest_held_back:
        needed = schedule.held_back * schedule.fewest_held_back
        raise UsageError(
            f"{folder}: {len(usable)} usable photos; {needed} are needed, because one of "
            f"{schedule.held_back} judges the result{not_usable(skipped)}; add photos"
        )
    chosen = set(evenly_spread(len(usable), min(count, schedule.most_held_back)))
    return Unlabelled(
        "/".join(folder.resolve().parts[-2:]),
        tuple(path for row, path in enumerate(usable) if row not in chosen),
        tuple(path for row, path in enumerate(usable) if row in chosen),
        digest.hexdigest(), tuple(skipped),
    )  # fmt: skip


def not_usable(skipped: Sequence[PhotoError]) -> str:
    """Return the part of a message that says which photos cannot be used and why, if any."""
    if not skipped:
        return ""
    photos = f"{len(skipped)} photo{'s' if len(skipped) > 1 else ''}"
    return f"; {photos} cannot be used ({first_reasons(skipped)})"


def read_images(
    paths: Sequence[Path], size: tuple[int, int], threads: int
) -> tuple[Array, list[PhotoError]]:
    """Return photos as images (n, 3, height, width) float32 in 0..1, and those that are skipped.

    A photo may vanish or break during a training. Raises its ``PhotoError`` if no photo is left.
    """
    preprocessing = Preprocessing(size, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0), shrink=True)

    def image(path: Path) -> Array | PhotoError:
        try:
            return prepare(decode(path, None, preprocessing.shrink_to).pixels, preprocessing)
        except NotFound:
            return PhotoError(path, DISAPPEARED)
        except PhotoError as error:
            return error

    read = map_all(image, paths, threads)
    images = [one for one in read if not isinstance(one, PhotoError)]
    skipped = [one for one in read if isinstance(one, PhotoError)]
    if not images:
        raise skipped[0]
    return np.concatenate(images), skipped


def _examine(folder: Path, size: tuple[int, int], name: str) -> str | PhotoError:
    """Return the sha256 (hex) of a photo's file, or why the photo cannot be used."""
    try:
        photo = decode(folder / name, name, (2 * size[0], 2 * size[1]))
    except NotFound:
        return PhotoError(name, "it disappeared while the folder was read")
    except PhotoError as error:
        return type(error)(name, error.reason)
    if not has_structure(photo.pixels):
        return PhotoError(name, "it shows nothing that could be recognised")
    return photo.sha256
