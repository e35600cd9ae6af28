"""How commands show their help, and what is meant by a command that does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from placerec.errors import NotAnIndex, NotFound, TrunkNeeded, UsageError
from placerec.settings import Settings

EVERYDAY = "Options"
DATA_SET = (
    "protocol", "radius", "degrees", "frames", "photos_a_panorama", "ground_truth", "queries_list",
    "half", "queries", "distractors",
)  # fmt: skip
SECTIONS = {  # the sections of a help below the everyday options, and the parameters in each
    "Data set options": DATA_SET,
    "Method options": ("method", "model", *Settings.__dataclass_fields__),
    "Runtime options": ("threads", "device", "precision"),
}
SECTION_OF = {name: title for title, names in SECTIONS.items() for name in names}


class Command(click.Command):
    """A command whose help has the everyday options first and then ``SECTIONS``.

    If the library needs a trunk that was not given, the command names the option that gives it.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except TrunkNeeded as error:
            if not any("--model" in parameter.opts for parameter in self.params):
                raise
            raise UsageError(f"{error}: --model FILE.onnx") from error

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section of options after the other."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in (EVERYDAY, *SECTIONS)}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx)):
                sections[SECTION_OF.get(option.name or "", EVERYDAY)].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(click.Group):
    """A group of such commands; it names the command that a mistyped one may mean."""

    command_class = Command
    group_class = type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return name, command and the other arguments, as ``click`` does."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            root = ctx.find_root()
            paths = [f"{root.command_path} {path}" for path in _meant(args[0], root.command)]
            hint = f"; did you mean: {' or '.join(paths)}?" if paths else ""
            ctx.fail(f"no such command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


def _meant(typed: str, root: click.Command) -> list[str]:
    """Return the commands whose last word is spelled like ``typed``."""
    last_words = {path: path.split()[-1] for path in _paths(root)}
    alike = get_close_matches(typed, set(last_words.values()), cutoff=0.75)
    return [path for path, word in last_words.items() if word in alike]


def _paths(command: click.Command) -> Iterator[str]:
    """Yield every command below a group, as it is typed."""
    for name, child in getattr(command, "commands", {}).items():
        below = [f"{name} {path}" for path in _paths(child)]
        yield from below or [name]


def refuse_swapped(command: str, index: Path, photo: Path) -> None:
    """Raise ``UsageError`` if ``photo`` is an index and ``index`` is not."""
    if not is_index(index) and is_index(photo):
        raise UsageError(
            f"{index}: not an index, and {photo} is one; did you mean: placerec {command} {photo} "
            f"{index}?"
        )


def is_index(path: Path) -> bool:
    """Say whether a file begins like an index; a damaged one may do so too."""
    from placerec.index.connection import look_at
    from placerec.index.store import is_lance

    if is_lance(path):
        return True
    try:
        look_at(path)
    except (NotAnIndex, NotFound):
        return False
    return True
