"""axe-core finds nothing on any tab, in either theme."""

from __future__ import annotations

import pytest
import torch
from browsing import settle, told, upload, visible

from restoration.files import recipe
from restoration.page.state import EXAMPLES

# of each theme the options of axe; names and roles are the same in both
THEMES = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}


def wear(page, theme: str) -> None:
    """The theme as the visitor's system has it, once every colour is there; a message goes on counting."""
    page.emulate_media(color_scheme=theme)
    page.wait_for_function(
        "dark => document.body.classList.contains('dark') === dark"
        " && document.getAnimations().every("
        "a => a.playState !== 'running' || a.effect.target.closest('.toast-body'))",
        arg=theme == "dark",
        polling=100,
    )


def violations(page, state: str) -> list[str]:
    """What axe finds in either theme, each with the state that the page is in."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = []
    for theme, options in THEMES.items():
        wear(page, theme)
        for violation in axe.run(page, options=options | {"resultTypes": ["violations"]}).response[
            "violations"
        ]:
            nodes = violation["nodes"]
            found += [f"{state}, {theme}: {violation['id']}: {node['html'][:200]}" for node in nodes]
    page.emulate_media(color_scheme="null")
    return found


def test_axe_finds_nothing(tab):
    found = []
    for name in [title.inner_text() for title in tab.get_by_role("tab").all() if title.is_visible()]:
        tab.get_by_role("tab", name=name, exact=True).click()
        settle(tab)
        found += violations(tab, name)
    assert not found, "\n".join(found)


def test_axe_finds_nothing_in_what_a_visitor_makes_of_a_tab(lend, tmp_path):
    """A part of a photograph, a result with its folds open, shared; an error; a recipe."""
    page = lend(390)
    recipe.save_png(torch.rand(1, 3, 64, 64), tmp_path / "own.png", {})
    upload(page, tmp_path / "own.png")
    visible(page, "[id^=seen-] [data-width]").wait_for()
    page.locator("#part-reld button.label-wrap").click()
    page.locator("#start-reld:has-text('Restore'):enabled").click()
    told(page, "64×64 pixels in")
    page.locator("#share-reld").click()
    page.locator("label:visible", has_text="Delete link").wait_for()
    for fold in ("Side by side", "Course of the run", "Method settings"):
        page.locator("button.label-wrap:visible", has_text=fold).click()
    settle(page)
    found = violations(page, "shared")
    (tmp_path / "garbage.png").write_bytes(b"not a picture")
    upload(page, tmp_path / "garbage.png")
    page.locator("#seen-reld:has-text('is not a picture')").wait_for()  # it ends what was pressed before
    page.locator("#start-reld:has-text('Restore'):enabled").click()
    page.locator(".toast-body").wait_for()
    settle(page)
    found += violations(page, "error")
    page.get_by_role("tab", name="Repeat").click()
    box = page.locator("[role=tabpanel]:visible input[type=file]").first
    box.set_input_files(EXAMPLES / "chelsea-denoise-reld.png")
    page.get_by_text("input_sha256").first.wait_for()
    found += violations(page, "recipe")
    assert not found, "\n".join(found)
