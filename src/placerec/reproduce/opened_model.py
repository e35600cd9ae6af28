"""The model of a table, opened and checked before anything is written or computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from placerec.errors import UsageError
from placerec.method.patches import patch_grid
from placerec.models.model import Model
from placerec.models.resolve import AUTO, Resolved, resolve
from placerec.reproduce.parameters import Parameters
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.settings import Size
from placerec.trunks import feature_map


def open_for_table(
    parameters: Parameters,
    sizes: Sequence[Size] = (),
    published: bool = True,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Resolved:
    """Open the model of ``parameters`` for a table with patches of ``sizes``.

    ``published``: a model file must have one PCA for photo and patches. Raises ``UsageError`` if
    the model or the image size does not fit the table.
    """
    if parameters.model == AUTO:  # a table must name what it measures
        raise UsageError(f"model {AUTO}: choose a trunk, such as vgg16, or a model file")
    opened = resolve(parameters.model, runtime=runtime.one_thread)
    if published and opened.model is not None:
        _check_published(opened.model, parameters)
    (height, width), stride = parameters.image_size, opened.trunk.stride
    if min(height, width) < stride:
        raise UsageError(
            f"image_size {height}x{width}: the trunk {opened.trunk.name} needs at least {stride} "
            f"pixels in each direction; choose a larger image_size"
        )
    blank = np.zeros((height, width, 3), np.uint8)
    rows, columns, _ = feature_map(opened.trunk, blank, parameters.image_size).shape
    for size in sizes:
        patch_grid((rows, columns), size, 1)
    return opened


def _check_published(model: Model, parameters: Parameters) -> None:
    if model.settings.form != "published" or model.fitted.patch_projection is None:
        raise UsageError(
            f"model {parameters.model}: has no PCA in the published form; import a model with "
            f"placerec weights import, fit one with placerec fit and the method paper-speed, or "
            f"name a trunk"
        )
    for name in ("clusters", "pca_dim"):
        value, fitted = getattr(parameters, name), getattr(model.settings, name)
        if value not in (None, fitted):
            raise UsageError(
                f"{name} {value}: model {parameters.model} is fitted with {fitted}; omit {name}, "
                f"or name a trunk"
            )
