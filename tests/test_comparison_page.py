"""The page's first tab, Compare, in a real browser; skipped where there is none."""

from __future__ import annotations

import re

import pytest
import torch
from browsing import told, touches, upload, visit
from skimage.data import astronaut

from restoration.files import images, recipe
from restoration.page import actions
from restoration.page.controls import TITLES


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """The file of a noisy photograph, 192×192."""
    x = images.to_tensor(astronaut()[:192, 140:332])
    x = images.quantise(x + 30 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    path = tmp_path_factory.mktemp("photograph") / "own.png"
    recipe.save_png(x, path, {})
    return path


def view(page) -> list[float]:
    """[zoom, x, y] of the grid that is seen, the place in percent of a frame."""
    grid = page.locator(".zoom:visible")
    return grid.evaluate("e => ['--zoom', '--x', '--y'].map(n => parseFloat(e.style.getPropertyValue(n)))")


def middle(locator) -> tuple[float, float, float]:
    """(x, y) of a picture's middle on the screen, and its frame's width."""
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"]


def sources(page) -> list[str]:
    """What the pictures of the grid that is seen load."""
    return page.locator(".zoom:visible img").evaluate_all("all => all.map(i => i.src)")


def files(page) -> list[bytes]:
    return [page.request.get(source).body() for source in sources(page)]


@pytest.fixture
def opened(lend):
    return lend(1280, "")


def test_all_pictures_zoom_and_move_together(opened):
    """By wheel, drag, buttons and keys; one to one; and the input shows while its key is held."""
    grid = opened.locator(".zoom:visible")
    grid.scroll_into_view_if_needed()
    x, y, width = middle(grid.locator("img").nth(1))
    opened.mouse.move(x, y)
    opened.mouse.wheel(0, -100)
    opened.mouse.wheel(0, -100)
    opened.wait_for_function("document.querySelector('.zoom').style.getPropertyValue('--zoom') > 1.5")
    zoom, left, top = view(opened)
    assert zoom == pytest.approx(1.5625) and left == pytest.approx(50 * (1 - zoom), abs=1)
    opened.mouse.down()
    opened.mouse.move(x + 0.1 * width, y - 0.05 * width, steps=3)
    opened.mouse.up()
    assert view(opened) == pytest.approx([zoom, left + 10, top - 5], abs=0.5)
    transforms = grid.locator("img").evaluate_all("all => all.map(i => getComputedStyle(i).transform)")
    assert len(set(transforms)) == 1 and len(transforms) == 6
    grid.focus()
    opened.keyboard.press("ArrowRight")
    assert view(opened)[1] == pytest.approx(left, abs=0.5)
    opened.keyboard.press("0")
    assert view(opened) == [1, 0, 0]
    opened.get_by_role("button", name="One to one").click()
    shown = grid.locator("img").first.evaluate("i => i.getBoundingClientRect().width * devicePixelRatio")
    assert shown == pytest.approx(256, abs=0.5)
    before = sources(opened)
    grid.focus()
    opened.keyboard.down("i")
    assert set(sources(opened)) == {before[1]}
    opened.keyboard.up("i")
    assert sources(opened) == before
    opened.keyboard.press("0")


def test_one_upload_is_compared_and_is_in_every_tab(opened, noisy):
    """In both directions; looked at once; and the method that is likely the best is a button away, the only
    one that stands out.
    """
    assert opened.locator("button.primary:visible").all_inner_texts() == ["Compare"]
    upload(opened, noisy)
    opened.locator("#seen-compare:has-text('It is noisy'):has-text('RELD is likely the best')").wait_for()
    opened.locator("#start-compare.secondary").wait_for()
    assert opened.locator("button.primary:visible").all_inner_texts() == ["Restore"]
    opened.locator("#start-compare:has-text('Compare'):enabled").click()
    opened.locator("#status-compare:has-text('Done.')").wait_for()
    titles = opened.locator(".zoom:visible figcaption").all_inner_texts()
    assert [title.partition(" ★")[0].partition(" ·")[0] for title in titles] == [
        "input",
        "classical: non-local means",
        "RELD",
        "LatentINDIGO",
        "LD-RPS",
    ]
    opened.locator("#start-compare:has-text('Compare'):enabled").wait_for()
    opened.locator("#quick").click()
    told(opened, "192×192 pixels in")
    assert "It is noisy" in opened.locator("#seen-reld").inner_text()
    opened.get_by_role("tab", name=TITLES["ld-rps"][0]).click()
    upload(opened, noisy.with_name("own.png"))
    opened.locator("#status-ld-rps:has-text('Press Restore.')").wait_for()
    opened.locator("#start-ld-rps:has-text('Restore'):enabled").wait_for()
    opened.get_by_role("tab", name="Compare", exact=True).click()
    opened.locator("#status-compare:has-text('Press Restore, or Compare.')").wait_for()
    assert opened.locator(".zoom:visible").count() == 0 and opened.locator("#photo-compare img").count() == 1


def test_two_fingers_zoom_on_a_phone(lend):
    """Where the page fills the screen's width, and every control of it can be hit with a thumb."""
    page = lend(390, "")
    picture = page.locator(".zoom:visible img").first
    picture.scroll_into_view_if_needed()
    x, y, width = middle(picture)
    assert width >= 300
    apart = [[(x - way, y), (x + way, y)] for way in (30, 45, 60)]
    touches(page, apart)
    assert view(page)[0] == pytest.approx(2, abs=0.1)
    small = page.locator("button:visible").evaluate_all(
        "all => all.filter(b => b.closest('.tools, .share') && b.getBoundingClientRect().height < 40)"
        ".map(b => b.outerHTML)"
    )
    assert small == []


def test_a_comparison_is_linked_kept_and_shared(browser, address, tmp_path, monkeypatch):
    """A settings link compares by itself; the history brings it back; a second browser, a phone, sees it at
    once, without computing.
    """
    monkeypatch.setenv("RESTORATION_SHARES", str(tmp_path))
    one = visit(browser, f"{address}?method=compare&image=chelsea.png&choices=reld:fast&damage=denoise")
    one.context.grant_permissions(["clipboard-read", "clipboard-write"])
    told(one, "Done.")
    titles = one.locator(".zoom:visible figcaption").all_inner_texts()
    assert [title.split(" ★")[0] for title in titles][-1] == "RELD · fast" and len(titles) == 4
    one.locator("#start-compare:has-text('Compare'):enabled").wait_for()
    one.evaluate("document.querySelector('.zoom').remove()")
    one.locator(".past:visible button:has-text('Test: Noise or grain, 1 result')").click()
    one.locator(".zoom:visible").wait_for()
    assert one.locator(".zoom:visible figcaption").all_inner_texts() == titles
    one.locator("#share-compare").click()
    one.get_by_text("Copied.").wait_for()
    link = one.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(re.escape(address) + r"\?method=compare&share=[\w-]{32}", link)
    remover = one.locator("label:has-text('Delete link')").locator("input, textarea").first.input_value()
    pictures = files(one)
    one.context.close()

    monkeypatch.setattr(actions, "restore", lambda *args, **options: pytest.fail("a share was computed"))
    two = visit(browser, link, 390, has_touch=True)
    two.get_by_text("Somebody shared this comparison with you").wait_for()
    assert two.get_by_role("tab", name="Compare", exact=True).get_attribute("aria-selected") == "true"
    assert two.locator(".zoom:visible figcaption").all_inner_texts() == titles and files(two) == pictures
    two.locator(":text-matches('^[0-9.]+ ★$'):visible").first.wait_for()
    two.locator("[role=tabpanel]:visible a.download-link").nth(1).wait_for()
    picture = two.locator(".zoom:visible img").nth(1)
    picture.scroll_into_view_if_needed()
    x, y, width = middle(picture)
    assert width >= 320
    touches(two, [[(x - way, y), (x + way, y)] for way in (30, 45, 60)])
    assert view(two)[0] == pytest.approx(2, abs=0.1)
    before = sources(two)
    two.locator(".zoom:visible").focus()
    two.keyboard.down("i")
    assert set(sources(two)) == {before[1]}
    two.keyboard.up("i")
    assert sources(two) == before

    two.goto(remover)
    two.get_by_role("button", name="Delete the shared comparison").click()
    two.get_by_text("Deleted: its link").wait_for()
    assert not [*tmp_path.iterdir()]
    two.goto(link)
    told(two, "This shared result is not here any more")
    assert two.locator(".zoom:visible").count() == 0
    two.context.close()
