"""Options that several commands share, and how their text is parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from placerec.errors import UsageError
from placerec.files import path_of
from placerec.runtime import MOST_THREADS
from placerec.settings import CHOICES, METHODS, AnySettings, Settings

if TYPE_CHECKING:
    from placerec.evaluation.dataset import Dataset

Command = TypeVar("Command", bound=Callable[..., Any])


class _Path(click.Path):
    """A path; the library says what is wrong with it."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:  # noqa: ARG002
        """Return the path."""
        return path_of(value)


PATH = _Path()


class _Numbers(click.ParamType[tuple[Any, ...]]):
    """A comma-separated list of ``count`` items (or any number); ``read`` converts each item."""

    def __init__(self, name: str, read: Callable[[str], Any], count: int | None = None) -> None:
        self.name, self._read, self._count = name, read, count

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        try:
            numbers = tuple(self._read(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or len(numbers) != (self._count or len(numbers)):
            self.fail(f"{value!r} does not have the form {self.name}", param, ctx)
        return numbers


def _pixels(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError("a photo has at least one pixel")
    return number


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width or height)


TYPES: dict[str, Any] = {  # of the settings that are neither a choice nor a number of at least 1
    "image_size": _Numbers("480,640", _pixels, count=2),
    "patch_sizes": _Numbers("2,5,8 or 2x4", _size),
    "scale_weights": _Numbers(".45,.15,.4", float),
    "candidates": click.IntRange(0),
    "stop_at": click.FloatRange(0, 1),
}
HELP = {  # of the fields of Settings that are options
    "scorer": "How the matches of patches are scored. displacement: how many distinctive ones move "
              "alike; spatial: the rapid score of the paper; ransac: how many agree with a plane "
              "seen from two sides (a homography).",
    "patch_sizes": "Patches that are compared, in cells of the trunk's feature map: 2,5,8 or "
                   "HEIGHTxWIDTH.",
    "stride": "Step between the patches of a database photo, in cells.",
    "scale_weights": "Weight of each patch size in the score, sum 1.",
    "k_patch": "Clusters of a patch descriptor (VLAD); 1 = the mean of the features.",
    "pca_dim": "Numbers in a patch descriptor, after a projection (PCA).",
    "fusion": "How the scores of several patch sizes are added: raw, or z-score (each size is "
              "first scaled over the candidates).",
    "spatial_form": "The rapid spatial score of the published program or of the paper.",
    "patch_sums": "integral: the published float32 integral image, for comparison only.",
    "candidates": "Photos of the shortlist that are re-ranked by their patches; 0 = retrieval "
                  f"only. Default: {Settings().candidates}; the paper's presets: 100.",
    "stop_at": "No more candidates are compared once the best one has this confidence; 1 = all "
               f"are. Default: {Settings().stop_at}; the paper's presets: 1.",
    "image_size": "Height,width in pixels to which photos are resized; default: 480,640.",
}  # fmt: skip


class _TrunksInHelp(click.Option):
    """An option whose help lists the trunks; it imports them only to show the help."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from placerec.trunks import TRUNKS

        self.help = (self.help or "").replace("{trunks}", ", ".join(TRUNKS))
        return super().get_help_record(ctx)


def flags(names: Iterable[str]) -> str:
    """Return the options of these names as they are typed."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def field_option(
    name: str, text: str, kind: Any, choices: Sequence[Any] = (), flag: str = "",
    *, hidden: bool = False,
) -> Callable[[Command], Command]:  # fmt: skip
    """Return the option of a field of Settings or Schedule; its value is None if omitted."""
    kind = click.Choice([str(choice) for choice in choices]) if choices else kind
    return click.option(flag or flags([name]), name, type=kind, help=text, hidden=hidden)


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds all ``options`` to a command."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object.")
false_alarm_option = click.option(
    "--false-alarm", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05,
    show_default=True, help="Share of photos from elsewhere that may be called in the map.",
)  # fmt: skip
image_size_option = field_option("image_size", HELP["image_size"], TYPES["image_size"])


def _setting_options(names: Iterable[str], *, hidden: bool = False) -> Callable[[Command], Command]:
    return together(
        *(
            field_option(
                name, HELP[name], TYPES.get(name, click.IntRange(1)), CHOICES.get(name, ()),
                hidden=hidden,
            )
            for name in names
        )
    )  # fmt: skip


_AT_QUERY_TIME = [name for name in HELP if name in Settings().group("query")]
_ONE_CANDIDATE = ("candidates", "fusion", "stop_at")  # of a shortlist, which a pair has not
setting_options = _setting_options(HELP)
# An index fixes the other settings: they are not shown, and the answer to one says its value.
query_setting_options = together(
    _setting_options(_AT_QUERY_TIME),
    _setting_options([name for name in HELP if name not in _AT_QUERY_TIME], hidden=True),
)
# fmt: off
_method_option = click.option(
    "--method", type=click.Choice(list(METHODS)),
    help="The algorithm. Default: that of a model file, else default. netvlad: retrieval only; "
         "patch-netvlad, paper-*: the published re-ranking, on VGG16 for paper-*.",
)
runtime_options = together(
    click.option("--threads", type=click.IntRange(1, MOST_THREADS),
                 help="Threads; default: all cores."),
    click.option("--device", default="cpu", show_default=True,
                 help="cpu, or a GPU: cuda, cuda:1, mps (docs/GPU.md)."),
)
model_options = together(
    click.option("--model", default="auto", show_default=True, cls=_TrunksInHelp,
                 help="What describes a photo: auto, generic (ships in the package), a trunk (the "
                      "network before the descriptors: {trunks}), the name of downloaded weights "
                      "(placerec weights list), or a file (.safetensors model, .onnx trunk)."),
    runtime_options,
)
index_model_options = together(
    click.option("--model", default="auto", help="The .onnx file of an index that was built with "
                                                 "one; any other index has its model."),
    runtime_options,
)
algorithm_options = together(_method_option, model_options, setting_options)
pair_options = together(
    _method_option, model_options,
    _setting_options([name for name in HELP if name not in _ONE_CANDIDATE]),
)
query_list_options = together(
    click.option("--queries-list", type=PATH,
                 help="Ask only these queries: one name a line, or a CSV file with a column "
                      "query (and half)."),
    click.option("--half", type=click.Choice(["validation", "test"]),
                 help="Only this half of --queries-list."),
)
dataset_options = together(
    click.option("--protocol", metavar="NAME",
                 help="How the data set is read and scored (docs/DATASETS.md); required for a "
                      "published set; default: the general protocol that fits the folder."),
    click.option("--radius", type=float, help="Metres within which a database photo is an answer."),
    click.option("--degrees", type=float, help="Degrees by which its heading may differ."),
    click.option("--frames", type=int, help="Frames before and after the query that count."),
    click.option("--photos-a-panorama", type=int,
                 help="Only the best of this number of consecutive photos stays on a shortlist."),
    click.option("--ground-truth", type=PATH,
                 help="CSV file query,database (or .npz of lists), in the data set or elsewhere."),
    query_list_options,
    click.option("--queries", type=click.IntRange(1),
                 help="Ask this many queries, a seeded choice."),
    click.option("--distractors", multiple=True, type=PATH, metavar="FOLDER",
                 help="Photos that join the database and are never correct; repeatable."),
)
# fmt: on


def chosen_dataset(folder: Path, options: dict[str, Any]) -> Dataset:
    """Return the data set of ``dataset_options``, and remove these from ``options``."""
    from placerec.evaluation.layouts import open_dataset
    from placerec.evaluation.query_lists import sample_queries, select_queries, with_distractors

    names = ("protocol", "radius", "degrees", "frames", "photos_a_panorama", "ground_truth")
    dataset = open_dataset(folder, **{name: options.pop(name) for name in names})
    dataset = select_queries(dataset, options.pop("queries_list"), options.pop("half"))
    return with_distractors(
        sample_queries(dataset, options.pop("queries")), options.pop("distractors")
    )


def chosen_settings(model: str, method: str | None, options: dict[str, Any]) -> AnySettings:
    """Return the settings of a model and a method, changed by the given options.

    Raises ``UsageError`` for an option that changes nothing.
    """
    from placerec.models.resolve import settings_for

    settings = settings_for(model, method, **given(options))
    refuse_unused(settings, options)
    return settings


def refuse_unused(settings: AnySettings, options: dict[str, Any]) -> None:
    """Raise ``UsageError`` for a given option that changes nothing of ``settings``."""
    for name in given(options):
        if why := settings.why_unused("stop_at" if name == "budget_ms" else name):
            raise UsageError(f"{flags([name])}: changes nothing, because {why}; omit it")


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have a value."""
    return {name: value for name, value in options.items() if value is not None}
