"""python examples/pages.py: take README's pictures of the page again, page.png and page-ld-rps.png, in the
chromium of this machine, with what tests/requirements.txt installs.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from restoration.page import layout  # noqa: E402
from restoration.priors.latent import load_prior  # noqa: E402

WINDOW = {"width": 1280, "height": 900}
PAGES = {
    "page.png": ("", True),
    "page-ld-rps.png": ("?method=ld-rps", False),
}  # link, whether all of its page
SETTLED = 4000  # milliseconds until all that the page opens with is drawn


def take(browser: Browser, address: str, whole: bool) -> Image.Image:
    """A page as it opens, in 256 colours: a third of the bytes."""
    page = browser.new_page(viewport=WINDOW, color_scheme="light")
    page.goto(address)
    page.locator("[role=tabpanel]:visible .status:has-text('computed beforehand')").first.wait_for()
    page.wait_for_timeout(SETTLED)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    page.close()
    return picture.quantize(256, dither=Image.Dither.NONE)


if __name__ == "__main__":
    load_prior("embedded")  # as on a page that has run for a while
    demo = layout.build()
    _, address, _ = demo.launch(
        prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **layout.LAUNCH
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (link, whole) in PAGES.items():
            take(browser, address + link, whole).save(HERE / name, optimize=True)
        browser.close()
    demo.close()
