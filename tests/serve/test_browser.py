"""The page in a real browser: Chromium without a window, driven by Selenium.

Skipped if Selenium or Chromium is not there. Every test ends with the check that the page asked no
other host and that the console has no error.
"""

import base64
import json
import math
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from PIL import Image

from placerec.index.build import build_index
from placerec.index.update import refresh_index
from placerec.records import Answer
from placerec.runtime import Runtime
from serve.serve_support import answer_of, running

pytest.importorskip("selenium", reason="the dev extra is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not there"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

from selenium.webdriver import ActionChains, Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

QUIET = ("--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
         "--disable-background-networking --disable-component-update")  # fmt: skip
EXPECTED = ("the server responded with a status of 422", "net::ERR_CONNECTION_REFUSED")
HOSTILE = """<img src=x onerror="document.title='run'">'&amp;\u202egpj.jpg"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*QUIET.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


class Page:
    """The page of a server in the browser."""

    def __init__(self, browser, server, fragment=""):
        self.browser, self.server = browser, server
        self.look()
        browser.get("about:blank")
        for kind in ("browser", "performance"):
            browser.get_log(kind)  # what came before
        browser.get(server.address + fragment)
        self.wait(lambda: "photos" in self.text("index"))

    def look(self, width=1200, height=900, scheme="light", mobile=False):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def wait(self, condition):
        WebDriverWait(self.browser, 20, 0.02).until(lambda _: condition())

    def find(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def script(self, text, *arguments):
        return self.browser.execute_script(text, *arguments)

    def text(self, name):
        text = self.script("return document.getElementById(arguments[0]).textContent", name)
        return text.replace("\u00a0", " ")

    def shown(self, name):
        return self.find(f"#{name}")[0].is_displayed()

    def choose(self, *paths):
        self.find("#files")[0].send_keys("\n".join(map(str, paths)))

    def press(self, *keys):
        self.browser.switch_to.active_element.send_keys(*keys)

    def address(self):
        return self.browser.current_url.partition("#")[2]

    def answered(self, number_of_places=6):
        self.wait(lambda: len(self.find("#strip button")) == number_of_places)

    def event(self, kind, data, name):
        """Drop or paste a file."""
        self.script(
            """
            const bytes = Uint8Array.from(atob(arguments[1]), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], arguments[2], {type: "image/jpeg"}));
            const event = arguments[0] === "paste"
              ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
              : new DragEvent(arguments[0], {dataTransfer: data, bubbles: true, cancelable: true});
            document.querySelector("main").dispatchEvent(event);
            """,
            kind, base64.b64encode(data).decode(), name,
        )  # fmt: skip


@pytest.fixture
def visit(browser):
    """``visit(server)``: its page; at the end, no other host was asked and nothing went wrong."""
    homes = ["about:"]

    def open_page(server, fragment="", others=()):
        homes.extend([server.address, *others])
        return Page(browser, server, fragment)

    yield open_page
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"].endswith("BeSent")]
    assert asked
    assert [address for address in asked if not address.startswith(tuple(homes))] == []
    said = [line["message"] for line in browser.get_log("browser")]
    assert [line for line in said if not any(reason in line for reason in EXPECTED)] == []


@pytest.fixture
def photo(town):
    return town / "queries" / "night_000.jpg"


def test_a_chosen_photo_gets_places_a_pair_a_map_and_an_address(visit, server, photo):
    page = visit(server)
    assert page.text("headline") == "Where was this photo taken?"
    assert page.shown("where")
    assert len(page.find("#near button")) == 6
    page.choose(photo)
    page.answered()
    assert page.text("headline") == "Most alike: place_000.jpg"
    page.wait(lambda: page.find("#matches g"))
    lines = len(page.find("#matches g"))
    assert page.text("slide-value") == f"{lines} of {lines}"
    assert page.text("near-title") == "Photos near here"
    assert page.find("#near .label")[0].text.startswith("40")
    assert page.find("#links a")[0].get_attribute("href").startswith("geo:45.0000162,30.0")
    page.find("#slider")[0].send_keys(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.text("slide-value") == f"2 of {lines}"
    assert sum(line.is_displayed() for line in page.find("#matches g")) == 2


def test_keys_choose_places_and_views_and_the_address_brings_them_back(visit, server, photo):
    page = visit(server)
    page.choose(photo)
    page.answered()
    page.press("3")
    page.wait(lambda: "place=3" in page.address())
    assert page.find("#strip [aria-current]")[0].text.startswith("3 ")
    page.press("1")
    page.press("t")
    page.wait(lambda: page.find("#then .over img"))
    assert "matrix(" in page.find("#then .over img")[0].get_attribute("style")
    page.press(Keys.TAB)
    address = page.address()
    page.browser.refresh()
    page.wait(lambda: page.find("#then .over img"))
    assert page.address() == address
    assert page.text("headline") == "Most alike: place_000.jpg"
    page.press("m")
    page.wait(lambda: page.find("#matches g") and page.shown("matches"))
    page.find(".brand")[0].click()
    page.wait(lambda: page.text("headline") == "Where was this photo taken?")
    page.browser.back()
    page.answered()


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_photo_is_dropped_or_pasted(visit, server, photo, kind):
    page = visit(server)
    if kind == "drop":
        page.event("dragenter", photo.read_bytes(), photo.name)
        assert page.shown("drop")
    page.event(kind, photo.read_bytes(), photo.name)
    page.answered()
    assert not page.shown("drop")
    assert page.text("headline") == "Most alike: place_000.jpg"


def test_several_photos_are_answered_one_after_the_other_and_a_bad_one_says_why(
    visit, server, town, tmp_path
):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    page = visit(server)
    names = [town / "queries" / f"night_00{number}.jpg" for number in (1, 2)]
    page.choose(names[0], bad, names[1])
    page.wait(lambda: page.text("headline") == "Most alike: place_002.jpg")
    assert [button.text for button in page.find("#queries button")] == [
        "night_001.jpg", "cannot be read", "night_002.jpg",
    ]  # fmt: skip
    page.find("#queries button")[1].click()
    assert page.text("headline") == "bad.jpg cannot be searched"
    assert "not an image of a known kind" in page.text("detail")
    page.find("#queries button")[0].click()
    page.wait(lambda: page.text("headline") == "Most alike: place_001.jpg")


@pytest.mark.parametrize(
    ("answer", "sentence", "detail"),
    [
        (answer_of("place_001.jpg"), "Most likely here, sure 97 %, \u00b1 12 m",
         "place_001.jpg \u00b7 45.000000, 30.001000 \u00b7 68 of 100 within 7 m, 95 within 12 m"),
        (answer_of("place_001.jpg", sure=0.9999, where=None),
         "Most likely here, sure over 99 %", "place_001.jpg \u00b7 45.000000, 30.001000"),
        (answer_of("place_001.jpg", in_map=False, sure=0.03), "Not in this map",
         "The photos below are the most similar ones, but they probably show other places."),
        (answer_of("place_001.jpg", in_map=None, sure=None, uncalibrated="only 6 photos"),
         "Most alike: place_001.jpg", "45.000000, 30.001000 \u00b7 no confidence: only 6 photos"),
        (Answer("x.jpg", (), "nothing to recognise"), "Nothing to recognise",
         "The photo shows no structure: one colour, or a covered lens."),
    ],
    ids=["here", "no radius", "not in the map", "uncalibrated", "blank"],
)  # fmt: skip
def test_the_sentence(visit, server, photo, answers, answer, sentence, detail):
    answers(answer)
    page = visit(server)
    page.choose(photo)
    page.wait(lambda: page.text("headline") == sentence)
    assert page.text("detail") == detail
    assert page.shown("ranked") == bool(answer.places)
    assert page.browser.title.replace("\u00a0", " ") == f"{sentence} - placerec"
    links = [link.get_attribute("href") for link in page.find("#links a")]
    assert ("geo:45.0000000,30.0010000;u=12" in links) == (answer.where is not None)
    assert any("geo:" in link for link in links) == (answer.in_map is not False and len(answer) > 0)


def test_a_program_that_has_ended_is_named(visit, town_index, photo):
    with running(town_index) as server:
        page = visit(server)
    page.choose(photo)
    page.wait(lambda: page.text("headline") == "night_000.jpg cannot be searched")
    assert page.text("detail") == "The program does not answer. Start it again: placerec serve."


def test_hostile_names_are_text(visit, own_index, photo, tmp_path):
    index, photos = own_index
    (photos / "place_000.jpg").rename(photos / HOSTILE)
    refresh_index(index)
    shutil.copy(photo, tmp_path / HOSTILE)
    (tmp_path / f"{HOSTILE}.png").write_bytes(b"no photo")
    shown = HOSTILE.replace("\u202e", "\\u202e")
    with running(index) as server:
        page = visit(server)
        page.choose(tmp_path / f"{HOSTILE}.png")
        page.wait(lambda: page.text("headline") == f"{shown}.png cannot be searched")
        page.choose(tmp_path / HOSTILE)
        page.answered()
        assert page.find("#queries button")[1].size["width"] < 120
        assert page.text("headline") == f"Most alike: {shown}"
        page.wait(lambda: page.find("#matches g"))
        page.find("#strip button")[0].click()
        page.find("#near button")[0].click()
        page.wait(lambda: page.shown("one"))
        assert page.browser.title != "run"
        assert page.find("img[src=x]") == []


def test_an_index_without_positions_is_a_list_of_photos(visit, photos, photo, tmp_path):
    for path in photos.iterdir():
        with Image.open(path) as image:
            image.load()
        image.save(path, quality=95, exif=b"")
    index = tmp_path / "no_positions.placerec"
    build_index(index, photos, runtime=Runtime(threads=2))
    with running(index) as server:
        page = visit(server)
        assert not page.shown("where")
        page.choose(photo)
        page.answered()
        assert page.text("near-title") == "Photos of this index (6)"
        assert "45." not in page.text("detail")
        page.find("#near button")[3].click()
        page.wait(lambda: page.text("headline") == "place_003.jpg")
        assert page.text("detail") == "no position"


def test_the_map_is_used_by_keyboard_and_by_pointer(visit, server):
    page = visit(server, "#photo=2")
    page.wait(lambda: page.text("headline") == "place_002.jpg")
    canvas = page.find("#map")[0]
    canvas.send_keys("+", "-", Keys.ARROW_UP, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)  # 40 m to the east
    canvas.send_keys(Keys.ENTER)
    page.wait(lambda: page.text("headline") == "place_003.jpg")
    ActionChains(page.browser).drag_and_drop_by_offset(canvas, 61, 0).click(canvas).perform()
    page.wait(lambda: page.text("headline") == "place_002.jpg")
    assert page.address() == "photo=2"
    near = {label.text.replace("\u00a0", " ") for label in page.find("#near .label")[:2]}
    assert near == {"40 m \u00b7 place_001.jpg", "40 m \u00b7 place_003.jpg"}


class _Tile(BaseHTTPRequestHandler):
    """Answers every request with one small picture, and notes what was asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        Image.new("RGB", (256, 256), "navy").save(self.wfile, "PNG")

    def log_message(self, *_):
        pass


def test_tiles_are_loaded_from_the_host_that_was_named_and_only_then(visit, town_index):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Tile) as tiles:
        threading.Thread(target=tiles.serve_forever, args=(0.01,)).start()
        home = f"http://127.0.0.1:{tiles.server_port}/"
        with running(town_index, tiles=home + "{z}/{x}/{y}.png") as server:
            page = visit(server, others=[home])
            page.wait(lambda: _Tile.asked)
            depth = int(_Tile.asked[0].split("/")[1])
            # https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames
            north = math.asinh(math.tan(math.radians(45.0))) / math.pi
            column, row = 2**depth * (30.0013 + 180) / 360, 2**depth * (1 - north) / 2
            page.wait(lambda: f"/{depth}/{int(column)}/{int(row)}.png" in _Tile.asked)
            assert page.text("tiles") == f", but the map is from 127.0.0.1:{tiles.server_port}"
        tiles.shutdown()


def test_a_photo_in_the_address_is_opened_and_one_that_is_gone_is_named(visit, server):
    page = visit(server, "#photo=4")
    page.wait(lambda: page.text("headline") == "place_004.jpg")
    page.script("location.hash = '#photo=77'")
    page.wait(lambda: "not in the index any more" in page.text("detail"))


def test_the_page_fits_a_telephone_and_a_dark_room(visit, server, photo):
    page = visit(server)
    light = page.script("return getComputedStyle(document.body).backgroundColor")
    page.choose(photo)
    page.answered()
    page.wait(lambda: page.find("#matches g"))
    page.look(360, 740, "dark", mobile=True)
    page.browser.refresh()
    page.answered()
    page.wait(lambda: page.find("#matches g"))
    assert page.script("return document.documentElement.scrollWidth") == 360
    assert page.script("return getComputedStyle(document.body).backgroundColor") != light
    top, below = page.find("#matches image")
    assert below.rect["y"] >= top.rect["y"] + top.rect["height"]


def test_everything_that_can_be_used_has_a_name_for_a_screen_reader(visit, server, photo):
    page = visit(server)
    page.choose(photo)
    page.answered()
    page.wait(lambda: page.find("#matches g"))
    nodes = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "link", "slider", "image", "application", "group", "region"}
    seen = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
    assert {node["role"]["value"] for node in seen} == roles
    unnamed = [node["role"]["value"] for node in seen if not node["name"].get("value")]
    assert unnamed == []
    names = [node["name"]["value"] for node in nodes if "name" in node]
    assert "Most alike: place_000.jpg" in names
    assert {name.split(":")[0] for name in names if name.startswith("Place ")} == {
        f"Place {rank}" for rank in range(1, 7)
    }
