"""The only place that prints: data on stdout, messages on stderr.

Text shows every name by ``text.printable``, so a name with a newline or an escape sequence stays
one line and changes no terminal. JSON keeps the true names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from placerec.errors import PhotoError, PlacerecError
from placerec.text import printable

UNLIMITED = 100_000  # columns: a file or a pipe has no width, so nothing is cut or wrapped


def say(*lines: object) -> None:
    """Print lines of data."""
    for line in lines:
        click.echo(printable(line))


def warn(*lines: object) -> None:
    """Print lines for a person on stderr."""
    for line in lines:
        click.echo(printable(line), err=True)


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON."""
    click.echo(json.dumps(value, indent=2))


def print_facts(facts: Mapping[str, Any], *, as_json: bool = False) -> None:
    """Print names and values, one per line or as one JSON object."""
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        say(f"{name}: {value}")


def print_table(columns: Mapping[str, bool], rows: Sequence[Sequence[str]]) -> None:
    """Print an aligned table; ``columns`` says of each title whether its values are numbers."""
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    for title, is_number in columns.items():
        table.add_column(title, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    width = None if sys.stdout.isatty() else UNLIMITED
    _Console(file=sys.stdout, width=width, soft_wrap=True).print(table)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the error of a closed pipe end the command; rich would exit with code 1."""
        raise


def list_skipped(skipped: Sequence[PlacerecError | str]) -> int:
    """Print every skipped photo with its reason, one per line, and return the exit code."""
    sys.stdout.flush()
    if not skipped:
        return 0
    warn(f"skipped {len(skipped)} photo{'s' if len(skipped) > 1 else ''}:")
    warn(*(f"  {error}" for error in skipped))
    return PhotoError.exit_code
