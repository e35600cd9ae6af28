"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from placerec.settings import FORMS, FUSIONS, METHODS, PATCH_SUMS, SCORER_NAMES, Settings

if TYPE_CHECKING:
    from placerec.evaluation.dataset import Dataset

Command = TypeVar("Command", bound=Callable[..., Any])


class _Numbers(click.ParamType[tuple[Any, ...]]):
    """A comma-separated list, each item read by ``read``."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._read(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not of the form {self.name}", param, ctx)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def _image_size(context: click.Context, param: click.Parameter, value: Any) -> Any:
    if value is not None and len(value) != 2:
        raise click.BadParameter("give two numbers, HEIGHT,WIDTH", context, param)
    return value


image_size_option = click.option(
    "--image-size", type=_Numbers("480,640", int), callback=_image_size,
    help="Height,width in pixels that photos are resized to; default: 480,640.",
)  # fmt: skip
_SETTINGS = (
    click.option("--scorer", type=click.Choice(SCORER_NAMES), help="How patch matches are scored."),
    click.option("--patch-sizes", type=_Numbers("2,5,8 or 2x4", _size),
                 help="Patch sizes in feature cells: 2,5,8 or HEIGHTxWIDTH."),
    click.option("--stride", type=click.IntRange(1), help="Step between patches in cells."),
    click.option("--scale-weights", type=_Numbers(".45,.15,.4", float),
                 help="Weight of each patch size, sum 1."),
    click.option("--k-patch", type=click.IntRange(1),
                 help="Clusters of a patch descriptor; 1 = pooled features."),
    click.option("--pca-dim", type=click.IntRange(1), help="Dimensions of a patch descriptor."),
    click.option("--fusion", type=click.Choice(FUSIONS), help="How patch sizes are joined."),
    click.option("--spatial-form", type=click.Choice(FORMS),
                 help="The rapid spatial score as published in code or in the paper."),
    click.option("--patch-sums", type=click.Choice(PATCH_SUMS),
                 help="integral: the published float32 integral image, for comparison only."),
    click.option("--candidates", type=click.IntRange(0),
                 help="Photos of the shortlist that are re-ranked; 0 = retrieval only."),
    image_size_option,
)  # fmt: skip
_MODEL = (
    click.option("--model", default="auto", show_default=True,
                 help="auto, generic, a trunk (efficientnet-lite0, vgg16), or a file "
                      "(.safetensors model, .onnx trunk)."),
    click.option("--threads", type=click.IntRange(1), help="Threads; default: all cores."),
    click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
)  # fmt: skip
_QUERY_LIST = (
    click.option("--queries-list", type=click.Path(path_type=Path),
                 help="CSV file with a column query (and half): only these queries are asked."),
    click.option("--half", type=click.Choice(["validation", "test"]),
                 help="Of --queries-list, only this half."),
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
    click.option("--queries", type=click.IntRange(1), help="Ask so many, a seeded choice."),
    click.option("--distractors", multiple=True, type=click.Path(path_type=Path), metavar="FOLDER",
                 help="Photos that join the database and are never correct; repeatable."),
)  # fmt: skip
_DATASET_NAMES = ("protocol", "radius", "degrees", "frames", "photos_a_panorama", "ground_truth")
_METHOD = click.option(
    "--method", type=click.Choice(list(METHODS)),
    help="The algorithm; without it, that of a model file, else default. netvlad = retrieval only, "
         "paper-* = the published presets on VGG16.",
)  # fmt: skip


def model_options(command: Command) -> Command:
    """--model, --threads, --device."""
    return _decorate(command, _MODEL)


def setting_options(command: Command) -> Command:
    """Everything of ``Settings`` that the command line offers."""
    return _decorate(command, _SETTINGS)


def method_option(command: Command) -> Command:
    """--method."""
    return _METHOD(command)


def dataset_options(command: Command) -> Command:
    """The queries, the database, and the protocol that scores the answers."""
    return _decorate(command, _DATASET)


def chosen_dataset(folder: Path, options: dict[str, Any]) -> Dataset:
    """The data set that ``dataset_options`` describe; takes them out of ``options``."""
    from placerec.evaluation.layouts import open_dataset
    from placerec.evaluation.query_lists import sample_queries, select_queries, with_distractors

    dataset = open_dataset(folder, **{name: options.pop(name) for name in _DATASET_NAMES})
    dataset = select_queries(dataset, options.pop("queries_list"), options.pop("half"))
    return with_distractors(
        sample_queries(dataset, options.pop("queries")), options.pop("distractors")
    )


def query_list_options(command: Command) -> Command:
    """--queries-list, --half."""
    return _decorate(command, _QUERY_LIST)


def chosen_settings(model: str, method: str | None, options: dict[str, Any]) -> Settings:
    """The settings of a model and a method with the options that were given."""
    from placerec.models.resolve import settings_for

    return settings_for(model, method, **given(options))


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given at all."""
    return {name: value for name, value in options.items() if value is not None}


def _decorate(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
