"""Text for people: a name from a disk or a file, shown so that it cannot change the output."""

from __future__ import annotations

import re

UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: newline, tab, escape and others
    "\u2028\u2029"  # line and paragraph separator
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi controls, which turn text round
    "\ud800-\udfff]"  # surrogates: bytes of a name that are not UTF-8 (PEP 383)
)

STORE = re.compile(r"\blance:([a-z0-9]+):/(?=[^/])")  # an address whose path has lost a slash


def printable(text: object) -> str:
    r"""Return ``text`` on one line, with escapes for what a terminal would obey or cannot show.

    Control characters, line separators and bidi controls become ``\n``, ``\x1b``, ``\u202e``;
    bytes that are not UTF-8 become ``\xe9``. Everything else stays, a backslash too. A text that
    was made printable stays the same. The address of an object store, ``lance:s3://...``, gets back
    the slash that every ``Path`` takes from it.
    """
    addressed = STORE.sub(r"lance:\1://", str(text))
    return UNPRINTABLE.sub(lambda match: _escape(match[0]), addressed)


def is_word(name: str) -> bool:
    """Whether a name can stand in a line of names with blanks between them; # begins a comment."""
    return name.split() == [name] and not name.startswith("#")


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
