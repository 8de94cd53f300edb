"""axe-core finds nothing on any tab, in either theme."""

from __future__ import annotations

import pytest
from browsing import settle, visit


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser, address, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(browser, f"{address}?__theme={theme}", bypass_csp=True)  # axe is put into the page
    page.get_by_text("computed beforehand").first.wait_for()
    found = []
    for name in [tab.inner_text() for tab in page.get_by_role("tab").all() if tab.is_visible()]:
        page.get_by_role("tab", name=name, exact=True).click()
        settle(page)
        for violation in axe.run(page).response["violations"]:
            found += [f"{name}: {violation['id']}: {node['html'][:200]}" for node in violation["nodes"]]
    page.context.close()
    assert not found, "\n".join(found)
