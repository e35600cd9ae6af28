"""Draw docs/page.png: the page with an answer, in Chromium without a window.

    placerec demo --out demo
    python tools/draw_page.py demo

It needs the extra ``dev``, and the programs chromium and chromedriver.
"""

import io
import shutil
import sys
import threading
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from placerec.serve import PageServer, ServedIndex

OUT = Path(__file__).parent.parent / "docs" / "page.png"
SIZE = {"width": 1160, "height": 800, "deviceScaleFactor": 1, "mobile": False}
COLOURS = 256  # keeps the file small


def main(demo: Path) -> None:
    """Ask the page for a night photo of the town and write what the browser shows."""
    with ServedIndex.open(demo / "town.placerec") as served, PageServer(served) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        picture = screenshot(server.address, demo / "photos" / "queries" / "night_030.jpg")
        server.shutdown()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(COLOURS).save(OUT, optimize=True)


def screenshot(address: str, photo: Path) -> bytes:
    """Return the page as PNG after it has answered the photo."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SIZE)
        browser.get(address)
        browser.find_element(By.ID, "files").send_keys(str(photo.resolve()))
        ready = (
            "return document.querySelector('#matches g') !== null && "
            "[...document.images].every((image) => image.complete || image.loading === 'lazy')"
        )
        WebDriverWait(browser, 30).until(lambda _: browser.execute_script(ready))
        browser.execute_async_script("setTimeout(arguments[0], 1000)")  # the photos of the pair
        return browser.get_screenshot_as_png()
    finally:
        browser.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
