"""axe-core finds nothing on any tab, in either theme."""

from __future__ import annotations

import pytest
from browsing import settle

# of each theme the options of axe; names and roles are the same in both
THEMES = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}


def wear(page, theme: str) -> None:
    """The theme as the visitor's system has it, once every colour is there."""
    page.emulate_media(color_scheme=theme)
    page.wait_for_function(
        "dark => document.body.classList.contains('dark') === dark"
        " && document.getAnimations().every(a => a.playState !== 'running')",
        arg=theme == "dark",
        polling=100,
    )


def test_axe_finds_nothing(tab):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = []
    for name in [title.inner_text() for title in tab.get_by_role("tab").all() if title.is_visible()]:
        tab.get_by_role("tab", name=name, exact=True).click()
        settle(tab)
        for theme, options in THEMES.items():
            wear(tab, theme)
            options = options | {"resultTypes": ["violations"]}
            for violation in axe.run(tab, options=options).response["violations"]:
                nodes = violation["nodes"]
                found += [f"{name}, {theme}: {violation['id']}: {node['html'][:200]}" for node in nodes]
    tab.emulate_media(color_scheme="null")
    assert not found, "\n".join(found)
