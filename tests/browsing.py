"""What a visitor does in a real browser."""

from __future__ import annotations

import io

import torch
from PIL import Image

from restoration.files import images

PATIENCE = 180_000  # milliseconds: a busy machine draws slowly


def settle(page) -> None:
    """Wait until the page has drawn all that it has to: nothing is added for a quarter of a second."""
    drawn, before = page.evaluate("document.querySelectorAll('*').length"), 0
    while drawn != before:
        page.wait_for_timeout(250)
        drawn, before = page.evaluate("document.querySelectorAll('*').length"), drawn


def visit(browser, address, width=1280, **options):
    """A page of a visitor of its own."""
    options = {"viewport": {"width": width, "height": 900}} | options
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    return page


def visit_method(browser, address, width=1280, method="reld", **options):
    """A page of a visitor of its own, opened at a method's tab."""
    page = visit(browser, f"{address}?method={method}", width, **options)
    page.locator(f"#status-{method}:has-text('computed beforehand')").wait_for()
    return page


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


def restore_in_steps(page, steps: int) -> None:
    """Press Restore for a run long enough to look at."""
    page.get_by_text("Method settings").click()
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
