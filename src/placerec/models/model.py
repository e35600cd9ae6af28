"""A Model: trunk, fitted tensors and settings; one photo in, its Features out.

The fitted tensors are everything that was learnt from photos: the vocabulary and PCA of the global
descriptor, and those of the patch descriptors. ``fingerprint`` names the whole: two models with
equal fingerprints describe a photo alike, and an index refuses any other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from placerec.errors import UsageError
from placerec.method.local import band_weights, local_features
from placerec.method.patches import patch_grid, patch_vlad, pooled_patches
from placerec.method.vlad import Vocabulary, normalise, vlad
from placerec.photos.decode import decode
from placerec.photos.prepare import Preprocessing
from placerec.records import Array, Features, PatchSet, Photo
from placerec.settings import FIXED_BY_INDEX, Settings
from placerec.trunks import feature_map

if TYPE_CHECKING:
    from pathlib import Path

    from placerec.method.pca import Projection
    from placerec.trunks import Trunk

# Settings that older fingerprints do not know count only where they are not the default.
ADDED_LATER = ("shared_pca", "patch_sums")


@dataclass(frozen=True, slots=True)
class Fitted:
    """The tensors that a fit learns.

    ``local_projection`` (local_dim, C), ``vocabulary`` and ``projection`` make the global
    descriptor; without a projection that step is left out. ``patch_vocabulary`` is (K_patch, C);
    with K_patch = 1 its centre is the mean of the raw features. ``patch_projection``
    maps K_patch * C values to a patch descriptor. In the published form (``shared_pca``) the last
    two are the same objects as ``vocabulary`` and ``projection``.
    """

    local_projection: Projection | None
    vocabulary: Vocabulary
    projection: Projection | None
    patch_vocabulary: Vocabulary | None
    patch_projection: Projection | None

    @classmethod
    def shared(cls, vocabulary: Vocabulary, projection: Projection | None) -> Fitted:
        """The published form: one vocabulary and one PCA for the whole photo and its patches."""
        return cls(None, vocabulary, projection, vocabulary, projection)


@dataclass(frozen=True, slots=True)
class Model:
    """A trunk with fitted tensors and settings.

    ``name``, ``training_data``, ``provenance`` (where the weights come from) and ``licence`` are
    for people.
    """

    name: str
    trunk: Trunk = field(repr=False)
    fitted: Fitted = field(repr=False)
    settings: Settings
    training_data: str = ""
    provenance: str = ""
    licence: str = ""

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the trunk's digest, the fitted tensors and the fixed settings."""
        digest = hashlib.sha256(self.trunk.sha256.encode())
        for name in FIXED_BY_INDEX:
            if name in ADDED_LATER and getattr(self.settings, name) == getattr(Settings(), name):
                continue
            digest.update(f"{name}={getattr(self.settings, name)!r};".encode())
        for label, tensor in fitted_tensors(self.fitted).items():
            digest.update(f"{label}{tensor.shape}{tensor.dtype}".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def with_settings(self, settings: Settings) -> Model:
        """The same weights with other settings, as far as the weights allow them."""
        self.check_form(settings)
        if settings.shared_pca:
            return self._with_shared(settings)
        fitted, projection = self.fitted, self.fitted.patch_projection
        if settings.patch_sizes and projection is not None:
            if settings.pca_dim > projection.dimensions:
                raise self._too_many("pca_dim", settings.pca_dim, projection.dimensions)
            fitted = replace(fitted, patch_projection=projection.truncate(settings.pca_dim))
        if fitted.projection is not None:
            global_dim = min(settings.global_dim, fitted.projection.dimensions)
            fitted = replace(fitted, projection=fitted.projection.truncate(global_dim))
        return replace(self, fitted=fitted, settings=settings)

    def _with_shared(self, settings: Settings) -> Model:
        whole = self.fitted.projection
        have = 0 if whole is None else whole.dimensions
        if settings.global_dim > have:
            raise self._too_many("PCA", settings.global_dim, have)
        if whole is None or not settings.global_dim:
            fitted = Fitted.shared(self.fitted.vocabulary, None)
        else:
            fitted = Fitted.shared(self.fitted.vocabulary, whole.truncate(settings.global_dim))
        return replace(self, fitted=fitted, settings=settings)

    def check_form(self, settings: Settings) -> None:
        """Raise ``UsageError`` where ``settings`` need another form or number of clusters."""
        if settings.shared_pca != self.settings.shared_pca:
            form = (
                "one PCA for photo and patches" if self.settings.shared_pca else "its own patches"
            )
            raise UsageError(
                f"model {self.name} was fitted with {form}: choose a --method of that form, or fit "
                f"one: placerec fit PHOTOS --method METHOD --out MODEL.safetensors"
            )
        for name in ("k_patch", "clusters"):
            have, asked = getattr(self.settings, name), getattr(settings, name)
            if asked != have:
                make = f"fit PHOTOS --k-patch {asked} --out MODEL.safetensors"
                if settings.shared_pca:
                    make = f"train DATASET --clusters {asked} --out FOLDER"
                raise UsageError(
                    f"{name} {asked}: model {self.name} was fitted with {name} {have}; make one: "
                    f"placerec {make}"
                )

    def _too_many(self, what: str, asked: int, have: int) -> UsageError:
        method = "--method paper-speed " if self.settings.shared_pca else ""
        return UsageError(
            f"{what} {asked}: model {self.name} has only {have} dimensions; choose at most that "
            f"many, or fit one: placerec fit PHOTOS {method}--pca-dim {asked} --out "
            f"MODEL.safetensors"
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """How a photo is prepared for the trunk."""
        return self.trunk.preprocessing(self.settings.image_size)

    def read(self, path: Path, name: str | None = None) -> Photo:
        """The photo at ``path`` with as many pixels as the trunk can use; see ``decode``."""
        return decode(path, name, self.preprocessing.shrink_to)

    def feature_map(self, pixels: Array) -> Array:
        """Trunk features (h, w, C) float32 of a photo (H, W, 3) uint8 RGB."""
        return feature_map(self.trunk, pixels, self.settings.image_size)

    def describe(self, pixels: Array, stride: int | None = None) -> Features:
        """The Features of a photo (H, W, 3) uint8 RGB.

        ``stride`` of the patches: none = the settings', as a database photo; a query takes 1.
        """
        return self.describe_map(self.feature_map(pixels), stride)

    def describe_map(self, features: Array, stride: int | None = None) -> Features:
        """The Features of a feature map (h, w, C) float32; ``stride`` as in ``describe``."""
        stride = stride or self.settings.stride
        return Features(
            global_descriptor(features, self.fitted, self.settings),
            tuple(patch_set(features, self.fitted, self.settings, size, stride)
                  for size in self.settings.patch_sizes),
        )  # fmt: skip


def global_descriptor(features: Array, fitted: Fitted, settings: Settings) -> Array:
    """Global descriptor (G,) float32 of unit length of a feature map (h, w, C)."""
    local = local_features(
        features, settings.pooling, settings.image_centring, fitted.local_projection
    )
    rows, columns, depth = local.shape
    bands = band_weights(rows, columns, settings.bands)
    descriptor = vlad(local.reshape(-1, depth), fitted.vocabulary, bands)
    if fitted.projection is None:
        return descriptor
    return normalise(fitted.projection(descriptor))


def patch_set(
    features: Array, fitted: Fitted, settings: Settings, size: tuple[int, int], stride: int
) -> PatchSet:
    """Patch descriptors of one size of a feature map (h, w, C), by the vocabulary's K_patch."""
    height, width, depth = features.shape
    patch_grid((height, width), size, stride)
    vocabulary, projection = fitted.patch_vocabulary, fitted.patch_projection
    if vocabulary is None:
        raise UsageError("this model has no patch descriptors: fit one with patch sizes")
    if len(vocabulary) == 1 and not settings.shared_pca:
        cells = features - vocabulary.centres[0]
        if projection is not None:
            cells = projection(cells.reshape(-1, depth)).reshape(height, width, -1)
        return pooled_patches(cells, size, stride, settings.patch_sums)
    unit = normalise(features)
    return patch_vlad(unit, vocabulary, projection, size, stride, settings.patch_sums)


def fitted_tensors(fitted: Fitted) -> dict[str, Array]:
    """The tensors of a fit by name, in a fixed order; shared ones once."""
    named: dict[str, Array | None] = {}
    if fitted.local_projection is not None:
        named["local_pca.weight"] = fitted.local_projection.weight
        named["local_pca.bias"] = fitted.local_projection.bias
    for prefix, vocabulary, projection in (
        ("", fitted.vocabulary, fitted.projection),
        ("patch_", fitted.patch_vocabulary, fitted.patch_projection),
    ):
        if prefix and vocabulary is fitted.vocabulary:
            continue  # the published form shares them
        if vocabulary is not None:
            named[prefix + "vocabulary.centres"] = vocabulary.centres
            named[prefix + "vocabulary.weights"] = vocabulary.weights
            named[prefix + "vocabulary.bias"] = vocabulary.bias
        if projection is not None:
            named[prefix + "pca.weight"] = projection.weight
            named[prefix + "pca.bias"] = projection.bias
    return {name: tensor for name, tensor in named.items() if tensor is not None}
