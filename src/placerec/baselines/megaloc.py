"""``megaloc``: DINOv2 ViT-B/14, optimal-transport aggregation (SALAD), a linear layer.

Source: Berton and Masone, "MegaLoc: One retrieval to place them all", CVPR workshops 2025, and its
program (gmberton/MegaLoc); Izquierdo and Civera, "Optimal transport aggregation for visual place
recognition", CVPR 2024. Photos are resized to 322 x 322 pixels, the size of its evaluation, and
have ImageNet's mean and deviation. The weights are the authors' file, which the user converts once
to an ONNX graph (``megaloc_graph``). ONNX Runtime runs it; PyTorch is not needed.
"""

from __future__ import annotations

from pathlib import Path

from placerec.baselines.torch_module import About, GlobalModule
from placerec.errors import NotFound, UnsafeWeights, UsageError
from placerec.files import cache_folder
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.trunks.external import OnnxNetwork

METHOD = "megaloc"
HOW = (
    "placerec weights download megaloc, or placerec weights convert megaloc model.safetensors with "
    "the file of its authors"
)
PATCH = 14  # pixels, the side of a patch of DINOv2
SIZE = (322, 322)  # height and width in pixels
LICENCE = "MIT"
TRAINING_DATA = "GSV-Cities, Mapillary SLS, MegaScenes, ScanNet, San Francisco XL"


class MegaLoc(GlobalModule):
    """MegaLoc, a ``Retriever``: 8448 values per photo; nothing is fitted.

    ``weights`` is the converted file, by default that of the cache folder. ``image_size`` (height,
    width) in pixels is that of every photo, aspect not kept; sides are rounded to multiples of 14.
    Raises ``UsageError`` for a size of too few patches: there must be more than clusters (64).
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        image_size: tuple[int, int] = SIZE,
        runtime: Runtime = DEFAULT_RUNTIME,
    ) -> None:
        path = Path(weights) if weights else cache_folder() / f"{METHOD}.onnx"
        if not path.is_file():
            raise NotFound(path, f"the weights of {METHOD} are missing", f"make them: {HOW}")
        network = OnnxNetwork.from_file(path, runtime)
        clusters = network.header.get("clusters")
        if network.header.get("name") != METHOD or not isinstance(clusters, int):
            raise UnsafeWeights(path, f"not weights of {METHOD}", f"make them: {HOW}")
        rows, columns = (round(side / PATCH) for side in image_size)
        if rows * columns <= clusters:
            raise UsageError(
                f"image_size {image_size[0]}x{image_size[1]}: {rows} x {columns} patches of "
                f"{PATCH} pixels; {METHOD} needs more than {clusters}, so give a larger size"
            )
        network.name = METHOD
        size = rows * PATCH, columns * PATCH
        about = About(size, licence=LICENCE, training_data=TRAINING_DATA)
        super().__init__(network, about)
        self.name += "" if size == SIZE else f" ({size[0]}x{size[1]} px)"
        self.record = {"image_size": list(size), "weights": {path.name: network.sha256}}
