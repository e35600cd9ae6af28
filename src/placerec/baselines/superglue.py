"""``superpoint-superglue``: SuperPoint's keypoints, matched by SuperGlue.

Sources: DeTone, Malisiewicz and Rabinovich, "SuperPoint", CVPR workshops 2018; Sarlin, DeTone,
Malisiewicz and Rabinovich, "SuperGlue", CVPR 2020. The networks are those of the ``transformers``
package (extra ``superglue``). The weights are a local folder with ``config.json`` and
``model.safetensors``, as this package saves them. Nothing is downloaded, no code of the folder is
run, and pickled weights are refused. Commercial use of the published weights is not allowed.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from placerec.baselines.contract import Local, Provenance
from placerec.baselines.keypoints import KeypointReranker, fingerprint
from placerec.errors import NotFound, UnsafeWeights, UsageError, import_extra
from placerec.files import file_sha256
from placerec.records import Array

if TYPE_CHECKING:
    import torch

METHOD = "superpoint-superglue"
CONFIG, MODEL = "config.json", "model.safetensors"
HOW = f"give as weights a folder with the {CONFIG} and {MODEL} of superglue_outdoor"
LICENCE = "non-commercial research only (Magic Leap)"
TRAINING_DATA = "SuperPoint: COCO; SuperGlue: MegaDepth (outdoor) or ScanNet (indoor)"
THRESHOLD = 0.2  # of a match's confidence; the published default


def superpoint_superglue(*, weights: str | Path | None = None, **options: Any) -> KeypointReranker:
    """Return the networks of the folder ``weights``; ``options`` as for ``KeypointReranker``."""
    if weights is None:
        raise UsageError(f"{METHOD}: its weights are not free and do not ship; {HOW}")
    network = SuperGlue(Path(weights))
    provenance = Provenance(LICENCE, TRAINING_DATA, network.real)
    return KeypointReranker(METHOD, network, provenance, **options)


class SuperGlue:
    """SuperPoint with SuperGlue, a ``Network``.

    ``real`` is false if the folder's config has ``"placerec_seeded": true``, as in tests.
    """

    def __init__(self, folder: Path) -> None:
        config = _checked_config(folder)
        transformers = import_extra("transformers", f"method {METHOD}", "superglue")
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        try:
            module, faults = transformers.SuperGlueForKeypointMatching.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
        except Exception as error:  # the package can raise any exception
            why = " ".join(str(error).split())[:160]
            raise UnsafeWeights(folder, why, HOW) from error
        wrong = sorted(str(key) for keys in faults.values() for key in keys)
        if wrong:
            raise UnsafeWeights(folder, f"tensor {wrong[0]} is missing or does not fit", HOW)
        self._module = module.eval()
        self.real = not config.get("placerec_seeded", False)
        digest = file_sha256(folder / MODEL)
        self.weights = {MODEL: digest}
        self.sha256 = fingerprint(
            digest, config, "transformers", version("transformers"), THRESHOLD
        )

    def detect(self, image: torch.Tensor, count: int) -> dict[str, Array]:
        """Return the strongest keypoints, at whole pixels, with their ``scores`` (N,) float32."""
        red, green, blue = image.unbind(1)
        grey = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None].expand(-1, 3, -1, -1)
        features = self._module.keypoint_detector(grey)
        order = features.scores[0].argsort(descending=True, stable=True)[:count]
        keypoints = features.keypoints[0]
        pixels = keypoints * keypoints.new_tensor([grey.shape[3], grey.shape[2]])
        return {
            "keypoints": pixels[order].numpy().astype(np.float32),
            "scores": features.scores[0][order].numpy().astype(np.float32),
            "descriptors": features.descriptors[0][order].numpy().astype(np.float16),
        }

    def match(self, query: Local, candidate: Local) -> Array:
        """Return matches (M, 2) int64 with a confidence above the threshold."""
        import torch

        counts = [len(query["keypoints"]), len(candidate["keypoints"])]
        # The module takes one size for both photos and measures keypoints from the centre. So the
        # candidate's keypoints are moved until its centre is that of the query.
        moved = (query["size"].astype(np.float32) - candidate["size"]) / 2
        mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        width, height = (int(side) for side in query["size"])
        matches, scores = self._module._match_image_pair(
            _padded(query["keypoints"], candidate["keypoints"] + moved),
            _padded(query["descriptors"], candidate["descriptors"]),
            _padded(query["scores"], candidate["scores"]),
            height, width, mask=mask[None].int(),
        )[:2]  # fmt: skip
        matched, confident = matches[0, 0].numpy(), scores[0, 0].numpy() > THRESHOLD
        rows = np.flatnonzero((matched >= 0) & confident)
        return np.stack([rows, matched[rows]], axis=1).astype(np.int64)


def _padded(first: Array, second: Array) -> torch.Tensor:
    """Return arrays with N and M rows as one (1, 2, max(N, M), ...) float32, zeros at the end."""
    import torch

    both = np.zeros((1, 2, max(len(first), len(second)), *first.shape[1:]), np.float32)
    both[0, 0, : len(first)], both[0, 1, : len(second)] = first, second
    return torch.from_numpy(both)


def _checked_config(folder: Path) -> dict[str, Any]:
    """Return ``config.json`` if it is of these two networks and refers to no code."""
    if not folder.is_dir():
        raise NotFound(folder, "no such weights folder", HOW)
    for name in (CONFIG, MODEL):
        if not (folder / name).is_file():
            raise UnsafeWeights(folder, f"it has no {name}", HOW)
    try:
        config = dict(json.loads((folder / CONFIG).read_text("utf-8")))
        detector = config["keypoint_detector_config"]
        types = config["model_type"], detector["model_type"]
        if types == ("superglue", "superpoint") and "auto_map" not in {**config, **detector}:
            return config
    except (ValueError, KeyError, TypeError):  # reported below
        pass
    raise UnsafeWeights(folder, f"its {CONFIG} is not of SuperPoint with SuperGlue", HOW)
