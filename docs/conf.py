"""The Sphinx settings of the documentation site: ``make docs`` builds it into build/docs."""

import re
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

from placerec.version import __version__

DOCS = Path(__file__).resolve().parent
CREATED_BY_USERS = ("placerec.Settings", "placerec.settings.PublishedSettings", "placerec.Runtime")

project = "placerec"
author = "the placerec authors"
copyright = "2026, the placerec authors"  # noqa: A001 (Sphinx fixes this name)
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"placerec {__version__}"
html_copy_source = False
html_show_sphinx = False

# Types of other packages cannot be linked: their inventories would need a network. Every type of
# placerec in a signature must be on a page.
nitpick_ignore_regex = [("py:.*", r"(?!placerec\b).*")]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80


def prepare_links(text: str) -> str:
    """Adapt links that a site cannot follow as they are.

    A link to a folder becomes its text. A page outside docs/ becomes a file to download.
    """

    def adapted(link: re.Match[str]) -> str:
        target = (DOCS / link["target"]).resolve()
        if target.is_dir():
            return link["text"]
        if target.suffix == ".md" and not target.is_relative_to(DOCS):
            return f"[{link['text']}](path:{link['target']})"
        return link[0]

    return re.sub(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#:]+)\)", adapted, text)


def read_page(app: Sphinx, page: str, content: list[str]) -> None:
    """Prepare the links of a page below docs/."""
    content[0] = prepare_links(content[0])


def read_included(app: Sphinx, path: Path, page: str, content: list[str]) -> None:
    """Make the links of a page from the root folder relative to docs/."""
    moved = re.sub(r"\]\((?!\w+:|#)", "](../", content[0]).replace("](../docs/", "](")
    content[0] = prepare_links(moved)


def hide_constructor(
    app: Sphinx,
    what: str,
    name: str,
    item: object,
    options: object,
    signature: str | None,
    _: object,
) -> tuple[str, str] | None:
    """Show the arguments of a class only if a user creates its objects."""
    is_class = what in ("class", "exception")
    return ("", "") if is_class and signature and name not in CREATED_BY_USERS else None


def setup(app: Sphinx) -> None:
    """Register the link rules, and the block of docs/ARCHITECTURE.md that a test reads."""
    app.add_lexer("layers", TextLexer)
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    app.connect("autodoc-process-signature", hide_constructor)
