"""What a visitor does in a real browser."""

from __future__ import annotations

import io

import torch
from PIL import Image

from restoration.files import images
from restoration.page.controls import TITLES

PATIENCE = 180_000  # milliseconds: a busy machine draws slowly
# what a visitor sees, but for the history and pictures that are made anew for everyone
SEEN = """() => JSON.stringify([...document.querySelectorAll(
    'input, textarea, button, img, canvas, table, [role=slider], .status, .notice, [id^=seen-], .zoom')]
    .filter(e => e.checkVisibility() && !e.closest('.past'))
    .map(e => [e.tagName, e.value ?? e.innerText, e.checked, e.disabled, e.className,
        e.getAttribute('aria-selected'), e.getAttribute('aria-valuenow'), e.src?.startsWith('data:'),
        e.classList.contains('zoom') && e.style.getPropertyValue('--zoom') > 1]))"""
# Gradio draws without end, though nothing moves: not while nobody looks
SLEEP = """{
    const draw = window.requestAnimationFrame.bind(window), waiting = [];
    window.requestAnimationFrame = f => window.asleep ? waiting.push(f) : draw(f);
    window.sleep = () => { window.asleep = true; };
    window.wake = () => { window.asleep = false; waiting.splice(0).forEach(f => draw(f)); };
}"""
FOLDS = """() => Object.fromEntries([...document.querySelectorAll('button.label-wrap')]
    .filter(e => e.checkVisibility()).map(e => [e.innerText, e.classList.contains('open')]))"""


def settle(page) -> None:
    """Wait until the page has drawn all that it has to: nothing is added for a quarter of a second."""
    drawn, before = page.evaluate("document.querySelectorAll('*').length"), 0
    while drawn != before:
        page.wait_for_timeout(250)
        drawn, before = page.evaluate("document.querySelectorAll('*').length"), drawn


def visit(browser, address, width=1280, script="", **options):
    """A page of a visitor of its own; script: runs before those of the page."""
    options = {"viewport": {"width": width, "height": 900}} | options
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(PATIENCE)
    page.add_init_script(script)
    page.goto(address)
    return page


def visit_method(browser, address, width=1280, method="reld", **options):
    """A page of a visitor of its own, opened at a method's tab."""
    page = visit(browser, f"{address}?method={method}", width, **options)
    page.locator(f"#status-{method}:has-text('computed beforehand')").wait_for()
    return page


class Visitor:
    """One whose page is lent to one test after the other, as opening a page takes four seconds of a core.

    Each test gets it as it opened, at a method's tab or, without one, at Compare; what the browser has kept
    is forgotten.
    """

    def __init__(self, browser, address, width=1280, method="reld"):
        self.browser, self.address, self.width, self.method = browser, address, width, method
        self.page = None

    def lend(self):
        """The page as it opened."""
        if self.is_open and not self._returned():
            self.close()
        if not self.is_open:
            query = f"?method={self.method}" if self.method else ""
            options = {"has_touch": True} if self.width < 500 else {}
            self.page = visit(self.browser, self.address + query, self.width, SLEEP, **options)
            status = f"#status-{self.method or 'compare'}:has-text('computed beforehand')"
            self.page.locator(status).wait_for()
            settle(self.page)
            self.seen, self.folds = self.page.evaluate(SEEN), self.page.evaluate(FOLDS)
        return self.page

    @property
    def is_open(self) -> bool:
        """False before the first test, and where a test has closed a page that no example brings back."""
        return self.page is not None and not self.page.is_closed()

    def take_back(self):
        if self.is_open:
            self.page.evaluate("sleep()")

    def close(self):
        if self.is_open:
            self.page.context.close()

    def _returned(self) -> bool:
        """Whether the page is as it opened, after a try to make it so."""
        page = self.page
        page.evaluate("wake()")
        page.set_viewport_size({"width": self.width, "height": 900})
        page.evaluate("localStorage.clear(); scrollTo(0, 0); document.activeElement?.blur()")
        # messages would go after ten seconds
        page.evaluate("document.querySelectorAll('.toast-close').forEach(button => button.click())")
        page.get_by_role("tab", name=TITLES[self.method][0] if self.method else "Compare", exact=True).click()
        if self._folded():
            return True
        if not self.method:
            return False
        with page.expect_response("**/run/predict*"):  # the example that it opens with
            page.locator("[role=tabpanel]:visible .gallery-item").first.click()
        return any(self._folded() for _ in range(3))  # an answer may be drawn late on a busy machine

    def _folded(self) -> bool:
        """Whether the page is as it opened, its folds brought back."""
        for name, is_open in self.page.evaluate(FOLDS).items():
            if self.folds.get(name, is_open) != is_open:
                self.page.locator("button.label-wrap:visible", has_text=name.split("\n")[0]).first.click()
        settle(self.page)
        return self.page.evaluate(SEEN) == self.seen


class Lender:
    """Visitors' pages for tests, kept open while tests of the browser follow each other."""

    def __init__(self, browser, address):
        self.browser, self.address, self.visitors = browser, address, {}

    def __call__(self, width=1280, method="reld", who="one"):
        """A visitor's page as it opened; who: of another name, another visitor's."""
        place = width, method, who
        if place not in self.visitors:
            self.visitors[place] = Visitor(self.browser, self.address, width, method)
        return self.visitors[place].lend()

    def take_back(self):
        for visitor in self.visitors.values():
            visitor.take_back()

    def close(self):
        for visitor in self.visitors.values():
            visitor.close()


def upload(page, file):
    """Put a file into the picture's box of the tab that is open."""
    tab = page.locator('[role="tabpanel"]:visible')
    tab.get_by_label("Remove Image").or_(tab.get_by_label("Clear")).first.click()
    tab.locator("input[type=file]").first.set_input_files(file)


def touches(page, moves):
    """Fingers that are put down, moved and lifted; moves: their places, (x, y) on the screen, by moment."""
    session = page.context.new_cdp_session(page)
    for number, places in enumerate(moves):
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
        kind = "touchMove" if number else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def visible(page, selector):
    return page.locator(f"{selector}:visible").first


def told(page, words) -> None:
    """Wait until the status line of the tab that is open says so."""
    page.locator(f"[role=tabpanel]:visible .status:has-text('{words}')").first.wait_for()


def restore_in_steps(page, steps: int) -> None:
    """Press Restore for a run long enough to look at: RELD's network stands for most of the steps."""
    page.locator("button.label-wrap:visible", has_text="Method settings").click()
    box = page.get_by_label("number input for Steps")
    box.wait_for()
    # the opening value may still be on its way into a box that has just been drawn
    page.wait_for_timeout(1000)
    box.fill(str(steps))
    box.press("Tab")
    page.get_by_role("button", name="Restore").click()


def denoise_own(page, file) -> None:
    """Set the page to denoising and upload a picture."""
    page.get_by_role("button", name="Denoise", exact=True).click()
    page.get_by_text("Denoise: computed beforehand").wait_for()
    upload(page, file)
    told(page, "Press Restore.")  # a press before the file has arrived would be for the example


def shown_result(page) -> torch.Tensor:
    """The pixels of the result as the page shows it."""
    sources = page.locator(
        '[role="tabpanel"]:visible .slider-wrap img, '
        '[role="tabpanel"]:visible [data-testid="imageslider-image"] img'
    )
    address, before = sources.last.get_attribute("src"), ""
    while address != before:  # the slider may change a moment after the line that the caller waited for
        page.wait_for_timeout(400)
        address, before = sources.last.get_attribute("src"), address
    answer = page.request.get(address)
    assert answer.headers["content-type"] == "image/png"
    return images.read_image(Image.open(io.BytesIO(answer.body())))
