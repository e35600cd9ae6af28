"""A Model: a trunk, fitted tensors and settings. It turns one photo into its Features.

The fitted tensors are everything that is learnt from photos: the vocabulary and PCA of the global
descriptor, and those of the patch descriptors. ``fingerprint`` identifies the whole model: two
models with equal fingerprints describe a photo alike, and an index refuses any other model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from placerec.errors import UsageError, import_extra
from placerec.method.fusion import PUBLISHED_SIZES
from placerec.method.local import band_weights, local_features
from placerec.method.patches import patch_grid, patch_vlad, pooled_patches
from placerec.method.vlad import Vocabulary, normalise, vlad
from placerec.photos.decode import decode
from placerec.photos.prepare import prepare
from placerec.photos.structure import has_structure
from placerec.records import Array, Features, PatchSet, Photo
from placerec.settings import AnySettings
from placerec.text import printable
from placerec.trunks import feature_map, feature_maps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from placerec.method.pca import Projection
    from placerec.runtime import Runtime
    from placerec.trunks import Trunk


@dataclass(frozen=True, slots=True)
class Fitted:
    """The tensors that a fit learns.

    ``local_projection`` (local_dim, C), ``vocabulary`` and ``projection`` make the global
    descriptor; without a projection that step is omitted. ``patch_vocabulary`` is (K_patch, C);
    with K_patch = 1 its centre is the mean of the raw features. ``patch_projection`` maps
    K_patch * C values to a patch descriptor.
    """

    local_projection: Projection | None
    vocabulary: Vocabulary
    projection: Projection | None
    patch_vocabulary: Vocabulary | None
    patch_projection: Projection | None

    @classmethod
    def shared(cls, vocabulary: Vocabulary, projection: Projection | None) -> Fitted:
        """The published form: the photo and its patches share one vocabulary and one PCA."""
        return cls(None, vocabulary, projection, vocabulary, projection)


@dataclass(frozen=True, slots=True)
class Model:
    """A trunk with fitted tensors and settings.

    ``name``, ``training_data``, ``provenance`` (where the weights come from) and ``licence`` are
    texts for people. They may come from the name of a folder or file, so they become printable.
    """

    name: str
    trunk: Trunk = field(repr=False)
    fitted: Fitted = field(repr=False)
    settings: AnySettings
    training_data: str = ""
    provenance: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "training_data", "provenance", "licence"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def fingerprint(self) -> str:
        """The sha256 (hex) of the trunk's digest, the fitted tensors and the fixed settings."""
        digest = hashlib.sha256(f"{self.trunk.sha256}{self.settings.form}".encode())
        for name, value in self.settings.group("global", "patches").items():
            digest.update(f"{name}={value!r};".encode())
        for label, tensor in fitted_tensors(self.fitted).items():
            digest.update(f"{label}{tensor.shape}{tensor.dtype}".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def with_settings(self, settings: AnySettings) -> Model:
        """Return the same weights with other settings; a PCA is truncated to fewer dimensions.

        Raises ``UsageError`` if the weights do not allow these settings.
        """
        self.check_form(settings)
        fitted = self.fitted
        if settings.form == "published":
            projection = self._truncated(fitted.projection, settings.pca_dim)
            fitted = Fitted.shared(fitted.vocabulary, projection)
            return replace(self, fitted=fitted, settings=settings)
        if settings.patch_sizes and fitted.patch_projection is not None:
            projection = self._truncated(fitted.patch_projection, settings.pca_dim)
            fitted = replace(fitted, patch_projection=projection)
        if fitted.projection is not None:
            global_dim = min(settings.global_dim, fitted.projection.dimensions)
            fitted = replace(fitted, projection=fitted.projection.truncate(global_dim))
        return replace(self, fitted=fitted, settings=settings)

    def _truncated(self, projection: Projection | None, dimensions: int) -> Projection | None:
        available = 0 if projection is None else projection.dimensions
        if dimensions > available:
            raise UsageError(
                f"pca_dim {dimensions}: model {self.name} has only {available} dimensions; choose "
                f"at most that many, or fit a model with this pca_dim: placerec fit PHOTOS"
            )
        return projection.truncate(dimensions) if projection and dimensions else None

    def check_form(self, settings: AnySettings) -> None:
        """Raise ``UsageError`` if ``settings`` need another form or number of clusters."""
        if settings.form != self.settings.form:
            raise UsageError(
                f"model {self.name} has the {self.settings.form} form, and these settings need the "
                f"{settings.form} form: choose a method of that form, or fit a model: placerec fit "
                f"PHOTOS"
            )
        for name in ("k_patch", "clusters"):
            fitted, asked = getattr(self.settings, name), getattr(settings, name)
            if asked != fitted:
                command = "train" if settings.form == "published" else "fit"
                raise UsageError(
                    f"{name} {asked}: model {self.name} was fitted with {name} {fitted}; make a "
                    f"model with {asked}: placerec {command} with the same method or settings"
                )

    def read(self, path: Path, name: str | None = None) -> Photo:
        """Return the photo at ``path`` with as many pixels as the trunk uses; see ``decode``."""
        return decode(path, name, self.shrink_to)

    @property
    def shrink_to(self) -> tuple[int, int] | None:
        """The (height, width) in pixels that the trunk uses at most; see ``decode``."""
        return self.trunk.preprocessing(self.settings.image_size).shrink_to

    def prepare(self, pixels: Array) -> Array:
        """Return the input of the trunk (1, 3, H, W) float32 for a photo (H, W, 3) uint8 RGB."""
        return prepare(pixels, self.trunk.preprocessing(self.settings.image_size))

    def feature_map(self, pixels: Array) -> Array:
        """Return the trunk features (h, w, C) float32 of a photo (H, W, 3) uint8 RGB."""
        return feature_map(self.trunk, pixels, self.settings.image_size)

    def describe(self, pixels: Array, stride: int | None = None) -> Features:
        """Return the Features of a photo (H, W, 3) uint8 RGB.

        ``stride`` is the step between patches in cells. The default is the setting, which is for
        database photos; a query has stride 1. In the form "own" a photo without structure has only
        zeros, which match nothing; the published form describes it as published.
        """
        (features,) = self.describe_images([self.prepare(pixels)], stride)
        if self.settings.form == "own" and not has_structure(pixels):
            return self.blank(features)
        return features

    def blank(self, features: Features) -> Features:
        """Return the Features of a photo without structure: the same shapes, all zero."""
        patches = tuple(
            PatchSet(patches.grid, np.zeros_like(patches.descriptors))
            for patches in features.patches
        )
        return Features(np.zeros_like(features.global_descriptor), patches)

    def describe_map(self, features: Array, stride: int | None = None) -> Features:
        """Return the Features of a feature map (h, w, C) float32; ``stride`` as in ``describe``."""
        stride = stride or self.settings.stride
        patches = tuple(
            patch_set(features, self.fitted, self.settings, size, stride)
            for size in self.settings.patch_sizes
        )
        return Features(global_descriptor(features, self.fitted, self.settings), patches)

    def describe_images(self, images: Sequence[Array], stride: int | None = None) -> list[Features]:
        """Return the Features of images that ``prepare`` gave; on a GPU all of them at once."""
        return self.describe_maps(feature_maps(self.trunk, images), stride)

    def describe_maps(self, maps: Sequence[Array], stride: int | None = None) -> list[Features]:
        """Return the Features of feature maps of one shape; on a GPU all of them at once."""
        return [self.describe_map(features, stride) for features in maps]


def on_device(model: Model, runtime: Runtime) -> Model:
    """Return the model that describes on the GPU of ``runtime``; on a CPU, ``model`` itself.

    Raises ``UsageError`` if there is no such GPU, or no PyTorch.
    """
    if not runtime.on_gpu:
        return model
    import_extra("torch", f"device {runtime.device}", "torch")
    from placerec.models.on_device import DeviceModel

    return DeviceModel.of(model, runtime)


def global_descriptor(features: Array, fitted: Fitted, settings: AnySettings) -> Array:
    """Return the global descriptor (G,) float32 of unit length of a feature map (h, w, C)."""
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
    features: Array, fitted: Fitted, settings: AnySettings, size: tuple[int, int], stride: int
) -> PatchSet:
    """Return the patch descriptors of one size of a feature map (h, w, C)."""
    height, width, depth = features.shape
    patch_grid((height, width), size, stride)
    vocabulary, projection = fitted.patch_vocabulary, fitted.patch_projection
    if vocabulary is None:
        raise UsageError("this model has no patch descriptors: fit a model with patch_sizes")
    if len(vocabulary) == 1 and settings.form == "own":
        cells = features - vocabulary.centres[0]
        if projection is not None:
            cells = projection(cells.reshape(-1, depth)).reshape(height, width, -1)
        return pooled_patches(cells, size, stride, settings.patch_sums)
    unit = normalise(features)
    return patch_vlad(unit, vocabulary, projection, size, stride, settings.patch_sums)


def fitted_tensors(fitted: Fitted) -> dict[str, Array]:
    """Return the tensors of a fit by name, in a fixed order; shared tensors once."""
    tensors: dict[str, Array | None] = {}
    parts = [
        ("local_", None, fitted.local_projection),
        ("", fitted.vocabulary, fitted.projection),
    ]
    if fitted.patch_vocabulary is not fitted.vocabulary:  # the published form shares them
        parts.append(("patch_", fitted.patch_vocabulary, fitted.patch_projection))
    for prefix, vocabulary, projection in parts:
        if vocabulary is not None:
            tensors[prefix + "vocabulary.centres"] = vocabulary.centres
            tensors[prefix + "vocabulary.weights"] = vocabulary.weights
            tensors[prefix + "vocabulary.bias"] = vocabulary.bias
        if projection is not None:
            tensors[prefix + "pca.weight"] = projection.weight
            tensors[prefix + "pca.bias"] = projection.bias
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def published_features(model: Model, pixels: Array) -> dict[str, Array]:
    """Return every array that the published method computes of a photo (H, W, 3) uint8 RGB.

    Names, shapes and order are those of the published program (Patch-NetVLAD, sections 3.1 to 3.3).
    All arrays are float32:
    ``encoder`` (C, h, w); ``global_vlad`` (K * C,); ``global_pca`` (D,); ``patch2_pca``,
    ``patch5_pca``, ``patch8_pca`` (D, P), one column per patch, row by row, one cell apart.
    ``model`` must have the published form (one PCA for the photo and its patches) and a PCA.
    """
    if model.settings.form != "published" or model.fitted.projection is None:
        raise UsageError(
            f"model {model.name}: it does not have the published form with a PCA; import a "
            f"checkpoint that has one: placerec weights import CHECKPOINT OUT.safetensors"
        )
    settings = model.settings.replace(patch_sizes=PUBLISHED_SIZES, scale_weights=None, stride=1)
    features = model.feature_map(pixels)
    local = normalise(features).reshape(-1, features.shape[2])
    described = model.with_settings(settings).describe_map(features)
    arrays = {
        "encoder": features.transpose(2, 0, 1),
        "global_vlad": vlad(local, model.fitted.vocabulary),
        "global_pca": described.global_descriptor,
    }
    for patches in described.patches:
        arrays[f"patch{patches.grid.size[0]}_pca"] = patches.descriptors.T
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
