"""The documentation site builds without a warning, has every page, and needs no network."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import placerec

pytest.importorskip("sphinx", reason="the docs extra is not installed")

ROOT = Path(__file__).parent.parent.parent
LOADING = {"href": ("link",), "src": (), "srcset": (), "data": ("object",), "poster": ()}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site with the options of ``make docs``."""
    folder = tmp_path_factory.mktemp("site")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (options,) = re.findall(r"-m sphinx (.*) -d build/doctrees docs build/docs", makefile)
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", *options.split(), "-d", folder / "doctrees",
         ROOT / "docs", folder / "html"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return folder / "html"


class Elements(HTMLParser):
    """Collect the addresses that a page loads, and the pages that it links to."""

    def __init__(self, page):
        super().__init__()
        self.loads, self.links = [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in LOADING and (not LOADING[name] or tag in LOADING[name]):
                self.loads.append(value)
            elif tag == "a" and name == "href":
                self.links.add(value.split("#")[0])


def test_every_page_is_on_the_site_and_is_linked_from_its_first_page(site):
    pages = {page.with_suffix(".html").name for page in (ROOT / "docs").glob("*.md")}
    assert pages <= {page.name for page in site.glob("*.html")}
    assert pages - {"index.html"} <= Elements(site / "index.html").links


def test_no_page_loads_anything_from_another_host(site):
    for page in site.glob("*.html"):
        for address in Elements(page).loads:
            assert not re.match(r"(\w+:)?//", address), (page.name, address)
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import)\s*['\"]?(\w+:)?//", text), style
    for script in site.rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"(import|fetch|src\s*=)\W*['\"](\w+:)?//", text), script


def test_every_public_name_is_described(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    names = {f"placerec.{name}" for name in placerec.__all__} - {"placerec.__version__"}
    for name in names:
        assert f'id="{name}"' in page, name
