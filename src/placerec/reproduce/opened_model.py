"""What ``--model`` is to a table, opened and checked before anything is written or computed.

A trunk is fitted on each set; a model file must be of the published form, but for tables that make
fits of their own. Every patch size of the table must fit the map of a photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from placerec.errors import UsageError
from placerec.method.patches import patch_grid
from placerec.models.model import Model
from placerec.models.resolve import open_named, trunk_named
from placerec.photos.prepare import prepare
from placerec.reproduce.parameters import Options
from placerec.settings import Size
from placerec.trunks import Trunk


@dataclass(frozen=True, slots=True)
class Subject:
    """The trunk, run by one thread a photo, and the ready model where ``--model`` is one."""

    trunk: Trunk
    ready: Model | None


def open_subject(options: Options, sizes: Sequence[Size] = (), published: bool = True) -> Subject:
    """What ``options.model`` names, fit for a table of patch ``sizes``.

    ``published``: a ready model must have one PCA for photo and patches.
    """
    ready, trunk = None, trunk_named(options.model)
    if trunk is None:
        ready = open_named(options.model)
        if ready is None:
            raise UsageError(f"model {options.model}: name a trunk, such as vgg16, or a file")
        trunk = ready.trunk
    if published and ready and not (ready.settings.shared_pca and ready.fitted.patch_projection):
        raise UsageError(
            f"model {options.model}: has no PCA in the published form; import one with "
            f"placerec weights import, fit one with placerec fit PHOTOS --method paper-speed, "
            f"or name a trunk"
        )
    for name in ("clusters", "pca_dim"):
        asked = getattr(options, name)
        if published and ready and asked not in (None, getattr(ready.settings, name)):
            raise UsageError(
                f"{name.replace('_', ' ')} {asked}: model {options.model} is fitted with "
                f"{getattr(ready.settings, name)}; leave it away, or name a trunk"
            )
    cells = _map_size(trunk, options.image_size)
    for size in sizes:
        patch_grid(cells, size, 1)
    return Subject(trunk, ready)


def _map_size(trunk: Trunk, image_size: Size) -> Size:
    """Height and width in cells of the map of a photo, as the trunk gives it."""
    if min(image_size) < trunk.stride:
        raise UsageError(
            f"image size {image_size[0]}x{image_size[1]}: the trunk {trunk.name} needs at least "
            f"{trunk.stride} pixels each way; choose another --image-size"
        )
    blank = np.zeros((*image_size, 3), np.uint8)
    height, width = trunk(prepare(blank, trunk.preprocessing(image_size))).shape[1:]
    return height, width
