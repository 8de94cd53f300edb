from __future__ import annotations

import threading

import gradio as gr
import pytest
import torch
from browsing import PATIENCE, upload

from restoration.degradations.blur import GaussianBlur
from restoration.files import images, recipe
from restoration.page import actions, strengths
from restoration.page.state import CLEAN, DEGRADED


@pytest.fixture
def blurred(tmp_path, photo):
    """The file of a photograph, 192×192, blurred by 1.6 pixels."""
    large = images.lanczos(photo, 192, 192)
    recipe.save_png(GaussianBlur(std=1.6).degrade(large, torch.Generator()), tmp_path / "own.png", {})
    return str(tmp_path / "own.png")


def test_a_small_part_is_deblurred_at_every_strength(tmp_path, monkeypatch, tiny_prior):
    """At a cost that does not grow with the photograph."""
    monkeypatch.setattr(actions, "loaded", lambda name: tiny_prior)
    monkeypatch.setattr(strengths, "SIDE", 32)
    recipe.save_png(torch.rand(1, 3, 60, 90), tmp_path / "own.png", {})
    *_, shown = strengths.tried("reld", str(tmp_path / "own.png"), "large", DEGRADED, 2.0, "embedded")
    assert [caption for _, caption in shown][1:] == [f"{std:g} pixels" for std in strengths.STRENGTHS]
    pictures = [images.read_image(path) for path, _ in shown]
    assert all(picture.shape == (1, 3, 32, 32) for picture in pictures)
    assert torch.equal(pictures[0], images.read_image(tmp_path / "own.png")[..., 14:46, 29:61])
    assert not torch.equal(pictures[1], pictures[-1])


@pytest.mark.parametrize(
    "photo_given, size, mode, noise, prior",
    [(False, "large", DEGRADED, 1.0, "embedded"), (True, "large", CLEAN, 1.0, "embedded"),
     (True, "large", DEGRADED, 1e9, "embedded"), (True, "large", DEGRADED, 1.0, "/etc"),
     (True, "huge", DEGRADED, 1.0, "embedded")],
)  # fmt: skip
def test_what_cannot_be_tried_is_one_sentence(blurred, photo_given, size, mode, noise, prior):
    with pytest.raises(gr.Error):
        list(strengths.tried("reld", blurred if photo_given else None, size, mode, noise, prior))


def test_a_click_sets_the_strength(lend, blurred, monkeypatch):
    def held(*asked):
        going_on.wait(PATIENCE / 1000)
        yield from steps_of(*asked)

    going_on, steps_of = threading.Event(), actions.steps_of
    monkeypatch.setattr(actions, "steps_of", held)
    monkeypatch.setattr(strengths, "SIDE", 32)
    page = lend()
    upload(page, blurred)
    page.locator("#seen-reld [data-width]").wait_for(state="attached")
    page.locator("#start-reld:has-text('Restore'):enabled").wait_for()
    damage = page.locator("input[aria-label=Damage]:visible")
    damage.fill("deblur")
    damage.press("Enter")
    page.locator("#try-reld:visible").click()
    for pressed in ("start", "try"):  # also where it was pressed, far below on a phone
        page.locator(f"#{pressed}-reld:has-text('Trying strengths'):disabled").wait_for()
    page.get_by_role("button", name="Stop").wait_for()
    going_on.set()
    page.locator("#strengths-reld img").nth(5).wait_for()
    page.locator("#strengths-reld img").nth(4).click()
    width = page.get_by_label("number input for How wide the blur is").locator("visible=true").first
    page.wait_for_function("e => e.value === '2.4'", arg=width.element_handle())
    page.locator("#start-reld:has-text('Restore'):enabled").wait_for()
    page.get_by_role("button", name="Denoise", exact=True).click()  # another picture
    page.locator("#strengths-reld").wait_for(state="detached")


@pytest.mark.parametrize("index", [None, -1, 0, 6, 2.0, "1", True])
def test_no_other_click_changes_anything(index):
    event = gr.SelectData(None, {"index": index, "value": None})
    assert all(change == gr.skip() for change in strengths.picked(event))
