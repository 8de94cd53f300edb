"""A mask painted over the photograph, in a real browser; skipped where there is none."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from browsing import PATIENCE, told, touches, upload
from PIL import Image
from playwright.sync_api import expect

from restoration.files import recipe


def mouse(page, points):
    page.mouse.move(*points[0])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(x, y)
    page.mouse.up()


def finger(page, points):
    touches(page, [[point] for point in points])


@pytest.mark.parametrize("width, paint", [(390, finger), (1280, mouse)])
def test_a_painted_mask_is_inpainted(lend, address, width, paint, tmp_path):
    """Pixel by pixel where the stroke went, and nowhere else; a press right after the stroke waits for it."""
    page = lend(width)
    recipe.save_png(torch.full((1, 3, 96, 128), 0.5), tmp_path / "own.png", {})
    upload(page, tmp_path / "own.png")
    page.locator("#seen-reld [data-width='128'][data-height='96']").wait_for(state="attached")
    page.locator("#start-reld:has-text('Restore'):enabled").wait_for()
    damage = page.locator("input[aria-label=Damage]:visible")
    damage.fill("inpaint")
    damage.press("Enter")
    canvas = page.locator(".draw:not(.empty) canvas:visible")
    canvas.wait_for()
    page.wait_for_function("document.querySelector('.draw img').naturalWidth === 128")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    at = lambda u, v: (box["x"] + u * box["width"], box["y"] + v * box["height"])  # noqa: E731
    paint(page, [at(0.25, 0.5), at(0.5, 0.5), at(0.75, 0.5)])
    with page.expect_response("**/upload") as sent:
        page.locator("#start-reld").click()
    told(page, "128×96 pixels in")
    mask = page.request.get(f"{address}gradio_api/file={sent.value.json()[0]}").body()
    missing = np.asarray(Image.open(io.BytesIO(mask)).convert("L")) < 128
    assert missing.shape == (96, 128) and missing[48, 33:95].all()
    assert not missing[:40].any() and not missing[56:].any() and not missing[:, :26].any()
    painted = page.get_by_text("mask.png")
    page.locator(".draw button:visible").first.click()
    painted.wait_for(state="detached")
    page.evaluate("scrollTo(0, 0)")
    page.locator("#start-reld:has-text('Restore'):enabled").click()
    page.locator("#status-reld:has-text('Which parts are missing')").wait_for()
    asked = page.locator(".draw [role=alert]")  # beside the place to paint, which is brought into view
    expect(asked).to_contain_text("Paint over them", timeout=PATIENCE)
    expect(asked).to_be_in_viewport(timeout=PATIENCE)
    canvas.click()
    expect(asked).to_be_hidden(timeout=PATIENCE)
