"""A page of HTML as its elements, its words, and the points that it draws."""

import re
from html.parser import HTMLParser

EMPTY = {"meta", "br", "img", "col"}


class Page(HTMLParser):
    """Every element with its attributes; checks that each element is closed at its depth."""

    def __init__(self, source):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag, **attributes):
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            found for name, found in self.elements
            if name == tag and wanted.items() <= found.items()
        ]  # fmt: skip


def coordinates(page):
    """Yield SVG size, x and y of every point drawn with absolute coordinates."""
    size = None
    for tag, attrs in page.elements:
        if tag == "svg":
            size = [float(value) for value in attrs["viewbox"].split()][2:]
        for across, down in (("x", "y"), ("x1", "y1"), ("x2", "y2"), ("cx", "cy")):
            if size and across in attrs and down in attrs:
                yield size, float(attrs[across]), float(attrs[down])
        for across, down in re.findall(r"[ML](\S+?) ([-\d.naif]+)", attrs.get("d", "")):
            yield size, float(across), float(down)
