"""``superpoint-superglue``: SuperPoint's keypoints, matched by SuperGlue.

Sources: DeTone, Malisiewicz and Rabinovich, "SuperPoint", CVPR workshops 2018; Sarlin, DeTone,
Malisiewicz and Rabinovich, "SuperGlue", CVPR 2020. The networks are those of the ``transformers``
package (extra ``superglue``), the weights a local folder with ``config.json`` and
``model.safetensors``, as that package saves them: nothing is looked up or downloaded, no code comes
with them, pickled weights are refused. The published weights may not be used commercially.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from placerec.baselines.contract import Local, Provenance
from placerec.baselines.keypoints import KeypointReranker, fingerprint
from placerec.errors import MissingExtra, NotFound, UnsafeWeights, UsageError
from placerec.records import Array

if TYPE_CHECKING:
    import torch

METHOD = "superpoint-superglue"
HOW = "give --weights FOLDER, with the config.json and model.safetensors of superglue_outdoor"
LICENCE = "non-commercial research only (Magic Leap)"
TRAINING_DATA = "SuperPoint: COCO; SuperGlue: MegaDepth (outdoor) or ScanNet (indoor)"
THRESHOLD = 0.2  # of a match's confidence; the published default


def superpoint_superglue(*, weights: str | Path | None = None, **options: Any) -> KeypointReranker:
    """The networks in the folder ``weights``; ``options`` are those of ``KeypointReranker``."""
    if weights is None:
        raise UsageError(f"{METHOD}: its weights are not free, so none are at hand; {HOW}")
    network = SuperGlue(Path(weights))
    provenance = Provenance(LICENCE, TRAINING_DATA, network.real)
    return KeypointReranker(METHOD, network, provenance, **options)


class SuperGlue:
    """SuperPoint with SuperGlue, a ``Network``.

    ``real`` is false where the folder's config says ``"placerec_seeded": true``, as tests do.
    """

    def __init__(self, folder: Path) -> None:
        config = _checked_config(folder)
        try:
            from transformers import SuperGlueForKeypointMatching
            from transformers.utils import logging
        except ImportError as error:
            raise MissingExtra(f"method {METHOD}", "superglue") from error
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            module, odd = SuperGlueForKeypointMatching.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
        except Exception as error:  # the package raises nearly anything
            why = " ".join(str(error).split())[:160]
            raise UnsafeWeights(folder, why, HOW) from error
        wrong = sorted(str(key) for kind in odd.values() for key in kind)
        if wrong:
            raise UnsafeWeights(folder, f"tensor {wrong[0]} is missing, unknown or odd", HOW)
        self._module = module.eval()
        self.real = not config.get("placerec_seeded", False)
        with (folder / "model.safetensors").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.weights = {"model.safetensors": digest}
        self.sha256 = fingerprint(
            digest, config, "transformers", version("transformers"), THRESHOLD
        )

    def detect(self, image: torch.Tensor, count: int) -> dict[str, Array]:
        """The strongest keypoints with their ``scores`` (N,) float32, at whole pixels."""
        red, green, blue = image.unbind(1)
        grey = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None].expand(-1, 3, -1, -1)
        found = self._module.keypoint_detector(grey)
        order = found.scores[0].argsort(descending=True, stable=True)[:count]
        pixels = found.keypoints[0] * found.keypoints.new_tensor([grey.shape[3], grey.shape[2]])
        return {
            "keypoints": pixels[order].numpy().astype(np.float32),
            "scores": found.scores[0][order].numpy().astype(np.float32),
            "descriptors": found.descriptors[0][order].numpy().astype(np.float16),
        }

    def match(self, query: Local, candidate: Local) -> Array:
        """Matches (M, 2) int64 that are surer than the threshold."""
        import torch

        sides = (query, candidate)
        counts = [len(side["keypoints"]) for side in sides]
        # The module takes one size for both photos: the candidate's keypoints are moved so that
        # the centre of its photo, from which they are counted, is that of the query's.
        moved = (query["size"].astype(np.float32) - candidate["size"]) / 2
        keypoints = [query["keypoints"], candidate["keypoints"] + moved]
        mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        width, height = (int(v) for v in query["size"])
        matches, scores = self._module._match_image_pair(
            _padded(keypoints),
            _padded([side["descriptors"] for side in sides]),
            _padded([side["scores"] for side in sides]),
            height, width, mask=mask[None].int(),
        )[:2]  # fmt: skip
        matched, sure = matches[0, 0].numpy(), scores[0, 0].numpy() > THRESHOLD
        rows = np.flatnonzero((matched >= 0) & sure)
        return np.stack([rows, matched[rows]], axis=1).astype(np.int64)


def _padded(sides: list[Array]) -> torch.Tensor:
    """Two arrays with N and M rows as one (1, 2, max(N, M), ...) float32, zeros behind."""
    import torch

    both = np.zeros((1, 2, max(map(len, sides)), *sides[0].shape[1:]), np.float32)
    for number, side in enumerate(sides):
        both[0, number, : len(side)] = side
    return torch.from_numpy(both)


def _checked_config(folder: Path) -> Mapping[str, Any]:
    """What ``config.json`` says, if it is of these two networks and brings no code."""
    if not folder.is_dir():
        raise NotFound(folder, "no such weights folder", HOW)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UnsafeWeights(folder, f"it has no {name}", HOW)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kinds = config["model_type"], config["keypoint_detector_config"]["model_type"]
        code = "auto_map" in config or "auto_map" in config["keypoint_detector_config"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnsafeWeights(folder, "its config.json is not of SuperGlue", HOW) from error
    if kinds != ("superglue", "superpoint") or code:
        raise UnsafeWeights(folder, "its config.json is not of SuperPoint with SuperGlue", HOW)
    return dict(config)
