"""HTML and SVG that cannot be broken by what is put into them.

Text becomes ``Markup`` in one place, ``text``, and only there; ``element`` calls it for every
child and attribute that is not ``Markup`` yet. So a photo name, a label or an error message can
never open a tag, end an attribute or turn the reading direction of the rest of the page.
"""

from __future__ import annotations

import html

EMPTY = frozenset({"br", "col", "img", "meta"})  # HTML elements that have no end


class Markup(str):
    """Text that is HTML or SVG already."""

    __slots__ = ()


def text(value: object) -> Markup:
    r"""``value`` as plain text; characters that cannot be shown or written appear as ``\x1b``.

    Those are control and direction characters and the surrogates that stand for bytes of file
    names that are not UTF-8.
    """
    if isinstance(value, Markup):
        return value
    shown = "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode("ascii")
        for one in str(value)
    )
    return Markup(html.escape(shown, quote=True))


def element(name: str, /, *content: object, **attributes: object) -> Markup:
    """``<name attributes>content</name>``.

    An attribute that is ``None`` is left out. A trailing underscore is dropped and others become
    hyphens: ``class_``, ``stroke_width``; numbers are written as ``number`` does.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in EMPTY:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def joined(parts: object) -> Markup:
    """Several pieces as one; a piece may itself be a list or tuple of pieces, or ``None``."""
    if parts is None:
        return Markup("")
    if isinstance(parts, list | tuple):
        return Markup("".join(joined(part) for part in parts))
    return text(parts)


def number(value: float) -> str:
    """A coordinate of a drawing, to a hundredth: ``12``, ``3.5``."""
    shown = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def _attribute(value: object) -> Markup:
    return text(number(value) if isinstance(value, float) else value)
