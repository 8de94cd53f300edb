"""The page in a real browser; skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

import app

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    page = app.build().queue()
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, max_file_size="20mb", server_name="127.0.0.1")
    yield url
    page.close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(180_000)
    page.goto(address)
    page.get_by_text("computed beforehand").wait_for()
    yield page
    page.close()


def test_a_visitor_sees_a_result_without_computation_and_repeats_it(tab):
    tab.get_by_text("PSNR ↑").wait_for()
    tab.get_by_role("button", name="Denoise", exact=True).click()
    tab.get_by_text("Denoise: computed beforehand").wait_for()
    tab.get_by_role("button", name="Restore").click()
    tab.get_by_text("256×256 pixels in").wait_for()


def test_stop_ends_the_run(tab):
    tab.get_by_text("Method settings").click()
    tab.get_by_label("number input for Steps").fill("200")
    tab.get_by_role("button", name="Restore").click()
    tab.get_by_text("of 200").wait_for()
    tab.get_by_role("button", name="Stop").click()
    tab.get_by_text("Stopped").wait_for()
    # the queue is free again
    tab.get_by_role("button", name="Denoise", exact=True).click()
    tab.get_by_text("Denoise: computed beforehand").wait_for()
    tab.get_by_role("button", name="Restore").click()
    tab.get_by_text("256×256 pixels in").wait_for()


def test_garbage_is_answered_with_one_sentence(tab, tmp_path):
    (tmp_path / "garbage.png").write_bytes(b"not a picture")
    tab.get_by_label("Remove Image").or_(tab.get_by_label("Clear")).first.click()
    tab.locator("input[type=file]").first.set_input_files(tmp_path / "garbage.png")
    tab.get_by_role("button", name="Restore").click()
    tab.get_by_text("is not a picture that can be read here").wait_for()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(browser, address, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(address)
    page.get_by_text("computed beforehand").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
