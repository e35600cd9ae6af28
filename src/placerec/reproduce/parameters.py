"""The parameters of a table and its model, checked before anything is written or computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.scoring.metrics import RECALL_AT
from placerec.method.patches import patch_grid
from placerec.models.model import Model
from placerec.models.resolve import AUTO, Resolved, resolve
from placerec.reproduce.folder import file_name
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.settings import Size
from placerec.trunks import feature_map

RETRIEVAL_DIM = 512  # of the shortlist of every table, as in the paper's speed setting
DIM = 512  # of patch descriptors, unless a table varies it
CLUSTERS, PCA_DIM = 16, 4096  # of the published form, if a trunk is fitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What decides the numbers of a table; see the help of ``placerec reproduce``.

    ``model`` is a trunk, an ONNX file, or a fitted model in the published form. ``distractors``
    are folders of photos that join the database: PATH for every data set, SET=PATH for one.
    ``protocol`` and ``ground_truth`` are those of ``open_dataset``. ``queries_list`` is a CSV
    file, or a folder with one SET.csv per data set; ``half`` selects rows of it. ``queries`` is
    the size of a seeded choice; ``None`` means all. ``clusters`` and ``pca_dim`` are for the fit
    of a trunk; ``None`` means 16 and 4096. A smaller PCA is the leading part of the fitted one.
    """

    model: str | Path
    distractors: str | Path | Sequence[str | Path] = ()
    protocol: str | None = None
    ground_truth: str | Path | None = None
    queries_list: str | Path | None = None
    half: str | None = None
    queries: int | None = 100
    candidates: int = 20
    image_size: tuple[int, int] = (480, 640)
    clusters: int | None = None
    pca_dim: int | None = None

    def __post_init__(self) -> None:
        if self.queries is not None and self.queries < 1:
            raise UsageError("queries: must be at least 1")
        if self.candidates < max(RECALL_AT):
            raise UsageError(f"candidates: must be at least {max(RECALL_AT)}, for recall@10")

    def as_json(self) -> dict[str, object]:
        """Return the parameters as ``NAME.json`` stores them.

        Only the last two parts of a path are stored: the numbers depend on the photos, whose
        hashes are stored separately, and not on their location.
        """
        values = asdict(self)
        values |= {"clusters": self.clusters or CLUSTERS, "pca_dim": self.pca_dim or PCA_DIM}
        values["distractors"] = [
            f"{name}={_end(folder)}" if name else _end(folder)
            for name, folder in self._distractors()
        ]
        for name in ("ground_truth", "queries_list"):
            values[name] = values[name] and _end(Path(values[name]))
        return {**values, "model": str(self.model)}

    def distractors_of(self, set_name: str) -> list[Path]:
        """Return the distractor folders of one data set."""
        return [folder for name, folder in self._distractors() if name in ("", set_name)]

    def check_sets(self, names: list[str]) -> None:
        """Raise ``UsageError`` if the parameters do not fit the data sets ``names``."""
        files = [file_name(name) for name in names]
        for name, file in zip(names, files, strict=True):
            if files.count(file) > 1:
                raise UsageError(f"data set {name}: given twice; give folders of different names")
        for name, folder in self._distractors():
            if name not in ("", *names):
                raise UsageError(
                    f"distractors {name}={folder}: no such set; choose one of {', '.join(names)}"
                )
        if len(names) > 1 and self.ground_truth is not None:
            raise UsageError("ground_truth: one file needs one data set; give one data set")
        table = self.queries_list
        if len(names) > 1 and table is not None and not Path(table).is_dir():
            raise UsageError(
                "queries_list: one file needs one data set; give a folder with one SET.csv per set"
            )

    def _distractors(self) -> list[tuple[str, Path]]:
        """The distractor folders, each with the name of its data set ("" = every data set)."""
        given = self.distractors
        folders = [given] if isinstance(given, str | Path) else given
        parts = [str(text).rpartition("=") for text in folders]
        return [(name, Path(folder)) for name, _, folder in parts]


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


def _end(path: Path) -> str:
    return "/".join(path.parts[-2:])
