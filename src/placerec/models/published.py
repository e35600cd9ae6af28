"""Published weights by name: what they are, where they come from, and where they are here.

``placerec.download`` fetches them. Everything that takes a model also takes the name of a model in
this list, such as ``mapillary-512``. The sizes are calculated from the shapes of the tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from placerec.errors import NotFound
from placerec.files import cache_folder, is_file, path_of

MODEL_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Published:
    """Weights in a public repository: the file ``file`` of ``repository`` on a hub.

    ``megabytes`` is the size of this file. ``target`` is the name of the converted file in the
    cache folder.
    """

    name: str
    what: str
    method: str
    repository: str
    file: str
    megabytes: int
    licence: str
    training_data: str
    target: str

    @property
    def is_model(self) -> bool:
        """Whether this is a model; other weights are those of a baseline."""
        return self.target.endswith(MODEL_SUFFIX)

    @property
    def path(self) -> Path:
        """The converted file on this machine; it may not be there."""
        return cache_folder() / self.target

    @property
    def here(self) -> Path | None:
        """The converted file if it is on this machine."""
        return self.path if is_file(self.path) else None

    @property
    def source(self) -> str:
        """The repository and the file in it."""
        return f"{self.repository}/{self.file}"


def _patch_netvlad(data: str, dimensions: int, megabytes: int) -> Published:
    clusters, training_data = TRAINED_ON[data]
    method = {128: "paper-storage", 512: "paper-speed", 4096: "paper-performance"}[dimensions]
    return Published(
        f"{data}-{dimensions}",
        f"Patch-NetVLAD: VGG16, NetVLAD K {clusters}, PCA {dimensions}",
        method,
        "TobiasRobotics/Patch-NetVLAD",
        f"{data}_WPCA{dimensions}.pth.tar",
        megabytes,
        "MIT, as the authors' program",
        training_data,
        f"{data}-{dimensions}{MODEL_SUFFIX}",
    )


TRAINED_ON = {  # K, and the training data with their terms
    "mapillary": (16, "Mapillary SLS (terms of its own: CC BY-NC-SA)"),
    "pitts": (64, "Pittsburgh 30k (photos of Google Street View: terms of their own)"),
}
PUBLISHED = {
    weights.name: weights
    for weights in (
        _patch_netvlad("mapillary", 128, 67),
        _patch_netvlad("mapillary", 512, 92),
        _patch_netvlad("mapillary", 4096, 327),
        _patch_netvlad("pitts", 128, 93),
        _patch_netvlad("pitts", 512, 193),
        _patch_netvlad("pitts", 4096, 1133),
        Published(
            "megaloc", "MegaLoc: DINOv2 ViT-B/14, optimal transport, 8448 values", "megaloc",
            "gberton/MegaLoc", "model.safetensors", 914, "MIT",
            "SF-XL, GSV-Cities, Mapillary SLS, MegaScenes, ScanNet (each has terms of its own)",
            "megaloc.onnx",
        ),
    )
}  # fmt: skip


def is_model_name(model: object) -> bool:
    """Return whether ``model`` is the name of a published model."""
    name = str(model)
    return name in PUBLISHED and PUBLISHED[name].is_model


def model_path(model: str | Path) -> Path:
    """Return the path of a model file; ``model`` is this path, or the name of a published model.

    Raises ``NotFound`` if a published model is not on this machine.
    """
    if not is_model_name(model):
        return path_of(model)
    weights = PUBLISHED[str(model)]
    if weights.here is None:
        remedy = f"download them: placerec weights download {model}"
        raise NotFound(weights.path, f"the weights {model} are not on this machine", remedy)
    return weights.path
