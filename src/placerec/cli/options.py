"""Options that several commands share, and how their text is parsed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from placerec.settings import (
    FUSIONS,
    METHODS,
    PATCH_SUMS,
    SCORER_NAMES,
    SPATIAL_FORMS,
    AnySettings,
    Settings,
)
from placerec.trunks import TRUNKS

if TYPE_CHECKING:
    from placerec.evaluation.dataset import Dataset

Command = TypeVar("Command", bound=Callable[..., Any])


class _Numbers(click.ParamType[tuple[Any, ...]]):
    """A comma-separated list; ``read`` converts each item."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._read(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} does not have the form {self.name}", param, ctx)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def _image_size(context: click.Context, param: click.Parameter, value: Any) -> Any:
    if value is not None and len(value) != 2:
        raise click.BadParameter("give two numbers, HEIGHT,WIDTH", context, param)
    return value


image_size_option = click.option(
    "--image-size", type=_Numbers("480,640", int), callback=_image_size,
    help="Height,width in pixels to which photos are resized; default: 480,640.",
)  # fmt: skip
_SETTINGS = (
    click.option("--scorer", type=click.Choice(SCORER_NAMES), help="How patch matches are scored."),
    click.option("--patch-sizes", type=_Numbers("2,5,8 or 2x4", _size),
                 help="Patch sizes in feature cells: 2,5,8 or HEIGHTxWIDTH."),
    click.option("--stride", type=click.IntRange(1), help="Step between patches in cells."),
    click.option("--scale-weights", type=_Numbers(".45,.15,.4", float),
                 help="Weight of each patch size, sum 1."),
    click.option("--k-patch", type=click.IntRange(1),
                 help="Clusters per patch descriptor; 1 = pooled features."),
    click.option("--pca-dim", type=click.IntRange(1), help="Dimensions of a patch descriptor."),
    click.option("--fusion", type=click.Choice(FUSIONS),
                 help="How the scores of several patch sizes are combined."),
    click.option("--spatial-form", type=click.Choice(SPATIAL_FORMS),
                 help="The rapid spatial score of the published program or of the paper."),
    click.option("--patch-sums", type=click.Choice(PATCH_SUMS),
                 help="integral: the published float32 integral image, for comparison only."),
    click.option("--candidates", type=click.IntRange(0),
                 help="Photos of the shortlist that are re-ranked; 0 = retrieval only. Default: "
                      f"{Settings().candidates}; the paper's presets: 100."),
    image_size_option,
)  # fmt: skip
_MODEL = (
    click.option("--model", default="auto", show_default=True,
                 help=f"auto, generic, a trunk ({', '.join(TRUNKS)}), or a file (.safetensors "
                      "model, .onnx trunk)."),
    click.option("--threads", type=click.IntRange(1), help="Threads; default: all cores."),
    click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
)  # fmt: skip
_QUERY_LIST = (
    click.option("--queries-list", type=click.Path(path_type=Path),
                 help="CSV file with a column query (and half): ask only these queries."),
    click.option("--half", type=click.Choice(["validation", "test"]),
                 help="Only this half of --queries-list."),
)  # fmt: skip
_DATASET = (
    click.option("--protocol", metavar="NAME",
                 help="How the data set is read and scored (docs/DATASETS.md); required for a "
                      "published set; default: the general protocol that fits the folder."),
    click.option("--radius", type=float, help="Metres within which a database photo is an answer."),
    click.option("--degrees", type=float, help="Degrees by which its heading may differ."),
    click.option("--frames", type=int, help="Frames before and after the query that count."),
    click.option("--photos-a-panorama", type=int,
                 help="Only the best of this number of consecutive photos stays on a shortlist."),
    click.option("--ground-truth", type=click.Path(path_type=Path),
                 help="CSV file query,database (or .npz of lists), in the data set or elsewhere."),
    *_QUERY_LIST,
    click.option("--queries", type=click.IntRange(1),
                 help="Ask this many queries, a seeded choice."),
    click.option("--distractors", multiple=True, type=click.Path(path_type=Path), metavar="FOLDER",
                 help="Photos that join the database and are never correct; repeatable."),
)  # fmt: skip
_DATASET_NAMES = ("protocol", "radius", "degrees", "frames", "photos_a_panorama", "ground_truth")
_METHOD = click.option(
    "--method", type=click.Choice(list(METHODS)),
    help="The algorithm. Default: that of a model file, else default. netvlad: retrieval only; "
         "paper-*: the published presets on VGG16.",
)  # fmt: skip


def model_options(command: Command) -> Command:
    """Add --model, --threads, --device."""
    return _decorate(command, _MODEL)


def setting_options(command: Command) -> Command:
    """Add the settings that the command line offers."""
    return _decorate(command, _SETTINGS)


def method_option(command: Command) -> Command:
    """Add --method."""
    return _METHOD(command)


def dataset_options(command: Command) -> Command:
    """Add the options that say how a data set is read and judged."""
    return _decorate(command, _DATASET)


def chosen_dataset(folder: Path, options: dict[str, Any]) -> Dataset:
    """Return the data set of ``dataset_options``, and remove these from ``options``."""
    from placerec.evaluation.layouts import open_dataset
    from placerec.evaluation.query_lists import sample_queries, select_queries, with_distractors

    dataset = open_dataset(folder, **{name: options.pop(name) for name in _DATASET_NAMES})
    dataset = select_queries(dataset, options.pop("queries_list"), options.pop("half"))
    return with_distractors(
        sample_queries(dataset, options.pop("queries")), options.pop("distractors")
    )


def query_list_options(command: Command) -> Command:
    """Add --queries-list, --half."""
    return _decorate(command, _QUERY_LIST)


def chosen_settings(model: str, method: str | None, options: dict[str, Any]) -> AnySettings:
    """Return the settings of a model and a method, changed by the given options."""
    from placerec.models.resolve import settings_for

    return settings_for(model, method, **given(options))


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have a value."""
    return {name: value for name, value in options.items() if value is not None}


def _decorate(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
