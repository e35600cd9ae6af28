"""Read XML (GPX, XMP) that another person wrote, without what can make XML harmful.

A document type is refused, because its entities can read other files or fill the memory.
"""

from __future__ import annotations

from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat


class MarkupError(ValueError):
    """A text that is not XML, or XML with a document type."""


def parse(data: bytes) -> Element:
    """Return the root element of XML, with the names of ElementTree: ``{namespace}name``.

    Raises ``MarkupError``.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler = lambda name, attributes: builder.start(
        _qualified(name), {_qualified(key): value for key, value in attributes.items()}
    )
    parser.EndElementHandler = lambda name: builder.end(_qualified(name))
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
        return builder.close()
    except MarkupError:
        raise
    except (expat.ExpatError, AssertionError, LookupError, ValueError) as error:  # odd encodings
        raise MarkupError(f"not XML ({error})") from error


def _qualified(name: str) -> str:
    return "{" + name if "}" in name else name


def _refuse(*_: object) -> NoReturn:
    raise MarkupError("XML with a document type, which is refused")
