"""A run on the page in a real browser, while it goes on and when it ends; skipped where there is none."""

from __future__ import annotations

import threading
import time
from typing import Any

import torch
from browsing import (
    PATIENCE,
    denoise_own,
    restore_in_steps,
    shown_result,
    told,
    upload,
    visible,
    visit_method,
)

from restoration.files import images, recipe
from restoration.page import actions
from restoration.page.state import EXAMPLES
from restoration.run import restore


def test_stop_ends_the_run(tab, monkeypatch):
    def slowly(*args):  # a busy machine is long about a click
        for step in steps_of(*args):
            time.sleep(1)
            yield step

    steps_of = actions.steps_of
    monkeypatch.setattr(actions, "steps_of", slowly)
    assert tab.get_by_role("button", name="Stop").count() == 0  # there is nothing to stop
    restore_in_steps(tab, 200)
    tab.get_by_text("of 24").wait_for()
    tab.get_by_role("button", name="Stop").click()
    tab.get_by_text("Stopped").wait_for()
    monkeypatch.undo()
    # the queue is free again
    tab.get_by_role("button", name="Denoise", exact=True).click()
    tab.get_by_text("Denoise: computed beforehand").wait_for()
    tab.get_by_role("button", name="Restore").click()
    told(tab, "256×256 pixels in")


def test_two_visitors_do_not_see_each_others_pictures(lend, tmp_path):
    pages = []
    for name in ("chelsea", "coffee"):
        clean = images.lanczos(images.read_image(EXAMPLES / f"{name}.png"), 64, 64)
        recipe.save_png(clean, tmp_path / f"{name}.png", {})
        page = lend(who="one" if name == "chelsea" else "another")
        denoise_own(page, tmp_path / f"{name}.png")
        pages.append((clean, page))
    for _, page in pages:
        visible(page, "button:has-text('Restore')").click()
    for clean, page in pages:
        told(page, "64×64 pixels in")
        assert (shown_result(page) - clean).abs().mean() < 0.05


def held(monkeypatch) -> threading.Event:
    """Every run waits after each step until the event is set."""
    going_on = threading.Event()

    def waiting(*args, **options):
        for step in restore(*args, **options):
            yield step
            going_on.wait(PATIENCE / 1000)

    monkeypatch.setattr(actions, "restore", waiting)
    return going_on


def test_an_upload_ends_the_run_of_the_picture_before(tab, monkeypatch, tmp_path):
    """Its result would stand beside the photograph of a visitor who did not make it."""
    going_on = held(monkeypatch)
    restore_in_steps(tab, 20)
    tab.get_by_text("Step 1 of 3").wait_for()
    recipe.save_png(torch.rand(1, 3, 64, 64), tmp_path / "own.png", {})
    upload(tab, tmp_path / "own.png")
    told(tab, "Press Restore.")
    with tab.expect_response("**/queue/join*"):  # Gradio's client may lose it while it closes the run before
        visible(tab, "button:has-text('Restore')").click()  # while that run is still in its step
    going_on.set()
    told(tab, "64×64 pixels in")


def test_the_link_is_of_the_run_that_is_shown(tab, monkeypatch):
    """Not of what the controls say when it ends."""
    changed = held(monkeypatch)
    restore_in_steps(tab, 20)
    tab.get_by_text("Step 1 of 3").wait_for()
    tab.get_by_label("Seed", exact=True).first.fill("7")
    changed.set()
    told(tab, "256×256 pixels in")
    link = visible(tab, "label:has-text('Settings link')").locator("input, textarea").first
    tab.wait_for_function("box => box.value.includes('steps=20')", arg=link.element_handle())
    assert "seed=0" in link.input_value()
    tab.get_by_role("button", name="Denoise", exact=True).click()
    tab.get_by_text("Denoise: computed beforehand").wait_for()
    link.wait_for(state="hidden")


def test_opening_the_page_takes_no_place_in_the_queue(tab, browser, address, monkeypatch):
    """While one run holds the only place, another visitor opens the page and looks at an example."""
    over = held(monkeypatch)
    restore_in_steps(tab, 200)
    tab.get_by_text("Step 1 of 24").wait_for()
    page = visit_method(browser, address)
    page.get_by_role("button", name="Denoise", exact=True).click()
    page.get_by_text("Denoise: computed beforehand").wait_for()
    assert page.get_by_text("busy").count() == 0 and page.get_by_text("queue").count() == 0
    page.context.close()
    tab.get_by_text("Step 1 of 24").wait_for()
    tab.get_by_role("button", name="Stop").click()
    over.set()
    tab.get_by_text("Stopped").wait_for()


def test_a_run_ends_with_the_page_that_started_it(lend, monkeypatch):
    ended = threading.Event()

    def endless(*args, **options):
        first = next(restore(*args, **options))
        try:
            while True:
                yield first
                time.sleep(0.05)
        finally:
            ended.set()

    monkeypatch.setattr(actions, "restore", endless)
    page = lend(who="another")
    restore_in_steps(page, 200)
    page.get_by_text("Step 1 of 24").wait_for()
    page.context.close()
    assert ended.wait(PATIENCE / 1000)


def test_what_was_before_stays_while_a_run_waits(tab):
    """On either side, and the page does not move; the old result goes."""
    pair = "[role=tabpanel]:visible .slider-wrap img"
    before, after = (image.get_attribute("src") for image in tab.locator(pair).all())
    assert before != after
    waiting: list[Any] = []
    tab.route("**/queue/join*", lambda route: waiting.append(route))
    tab.locator("#start-reld").click()
    told(tab, "Waiting for a place in the queue")
    tab.wait_for_function(
        "([pair, before]) => [...document.querySelectorAll(pair)].filter(e => e.offsetParent)"
        ".every(image => image.src === before)",
        arg=[pair.replace(":visible", ""), before],
    )
    assert tab.locator(pair).count() == 2
    for held_back in waiting:
        held_back.continue_()
    tab.unroute("**/queue/join*")
    told(tab, "256×256 pixels in")


def test_a_place_in_the_queue_is_seen(lend, monkeypatch):
    """Beside the line that waits, both plain to read; and Stop says that nothing was begun."""
    going_on = held(monkeypatch)
    first, second = lend(), lend(390, who="another")
    restore_in_steps(first, 20)
    first.get_by_text("Step 1 of 3").wait_for()
    assert first.locator("[role=tabpanel]:visible .of-result:visible").count() == 0  # nothing to share
    second.locator("#start-reld").click()
    status = second.locator("#status-reld")
    status.locator(".progress-text:has-text('queue: 1/1')").wait_for()
    within = """status => {
        const place = status.querySelector('.progress-text'), clip = getComputedStyle(place.parentElement);
        const [inner, line, outer] = [place, status.querySelector('.prose'), status].map(
            e => e.getBoundingClientRect());
        return clip.overflow === 'visible' && inner.left >= outer.left && inner.right <= outer.right
            && inner.top >= line.bottom - 1 && inner.bottom <= outer.bottom
            && getComputedStyle(status.querySelector('.html-container')).opacity === '1';
    }"""
    assert status.evaluate(within)
    second.get_by_role("button", name="Stop").first.click()
    told(second, "Stopped before it began.")
    second.locator("#start-reld:has-text('Restore'):enabled").wait_for()
    first.get_by_role("button", name="Stop").first.click()
    going_on.set()
    told(first, "Stopped: this is how far it got.")
    assert first.locator("[role=tabpanel]:visible .of-result:visible").count() == 0


def test_a_press_is_answered_where_it_can_be_seen(lend, monkeypatch):
    """On a phone the progress comes into view; the button says that a run goes on; an error replaces all
    that.
    """
    going_on = held(monkeypatch)
    page = lend(390)
    restore_in_steps(page, 20)
    page.get_by_text("Step 1 of 3").wait_for()
    button, status = page.locator("#start-reld"), page.locator("#status-reld")
    assert button.inner_text() == "Restoring…" and button.is_disabled()
    box = status.bounding_box()
    assert 0 <= box["y"] < box["y"] + box["height"] <= 900
    stop = page.get_by_role("button", name="Stop").first
    assert 0 <= stop.bounding_box()["y"] <= box["y"]  # beside the line, not above the screen
    stop.click()
    page.get_by_text("Stopping…").wait_for()
    going_on.set()
    page.get_by_text("Stopped").wait_for()
    page.locator("#start-reld:has-text('Restore'):enabled").wait_for()
    visible(page, "[aria-label='Remove Image']").click()
    button.click()
    status.get_by_text("Choose a picture first").wait_for()
    page.locator("#start-reld:has-text('Restore'):enabled").wait_for()
    assert page.locator(".slider-wrap:visible").count() == 0
