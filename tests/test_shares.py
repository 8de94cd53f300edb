"""Shared results: what is kept, for whom and how long; then in two browsers."""

from __future__ import annotations

import os
import re
import time
import zipfile
from pathlib import Path

import pytest
from browsing import visit
from PIL import Image

from restoration.files import images, recipe
from restoration.page import actions, comparisons, history, shares, state
from restoration.page.compare_cells import Cell
from restoration.page.comparisons import Asked
from restoration.page.display import example_outputs


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """An own folder of shares, and an own cache."""
    monkeypatch.setenv("RESTORATION_SHARES", str(tmp_path / "shares"))
    monkeypatch.setattr(shares, "get_upload_folder", lambda: str(tmp_path / "cache"))
    return tmp_path / "shares"


@pytest.fixture
def pictures(tmp_path) -> dict[str, Path]:
    (tmp_path / "x").write_bytes(b"pixels" * 100)
    return {"before.png": tmp_path / "x", "after.png": tmp_path / "x"}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_saved_is_loaded(kept, pictures):
    token, _ = shares.save("words", pictures)
    manifest, loaded = shares.load(token)
    assert manifest == "words" and loaded.keys() == pictures.keys()
    assert all(path.read_bytes() == b"pixels" * 100 for path in loaded.values())
    assert files(kept) == {f"{token}.zip"}  # nothing unfinished


def test_opening_a_link_again_takes_no_more_space(kept, pictures):
    token, _ = shares.save("words", pictures)
    assert shares.load(token) == shares.load(token)
    assert len([path for path in (kept.parent / "cache").rglob("*") if path.is_file()]) == 2


HOSTILE = [
    "", "x", "../" * 8 + "etc/passwd", "/etc/passwd", "a" * 31, "a" * 33, "a" * 31 + "/", "a" * 31 + ".",
    "." * 32,
    "a" * 32 + "\n", "a" * 31 + "\0", "é" * 32, "%2e%2e%2f" * 4, "a" * 10_000_000, None, 7, ["a" * 32],
    b"a" * 32,
]  # fmt: skip


@pytest.mark.parametrize("token", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_token_becomes_no_path(kept, token, monkeypatch):
    monkeypatch.setattr(shares, "folder", lambda: pytest.fail("a path was made"))
    for function in (shares.load, lambda token: shares.delete(token, "secret")):
        with pytest.raises(shares.Gone):
            function(token)


def test_a_share_expires(kept, pictures, monkeypatch):
    token, secret = shares.save("words", pictures)
    old = time.time() - 3 * 86_400
    os.utime(kept / f"{token}.zip", (old, old))
    shares.load(token)
    monkeypatch.setattr(shares, "DAYS", 2)
    with pytest.raises(shares.Gone, match="kept for 2 days"):
        shares.load(token)
    with pytest.raises(shares.Gone):
        shares.delete(token, secret)
    assert not files(kept)


def test_what_expires_unseen_is_swept(kept, pictures, monkeypatch):
    token, _ = shares.save("words", pictures)
    os.utime(kept / f"{token}.zip", (0, 0))
    shares.sweep()
    assert not files(kept)


def test_the_oldest_go_first(kept, pictures, monkeypatch):
    monkeypatch.setattr(shares, "MOST", 3)
    (kept / "notes.zip").parent.mkdir()
    (kept / "notes.zip").write_text("of the host")
    tokens = []
    for age in (40, 10, 30, 20):
        tokens.append(shares.save("words", pictures)[0])
        os.utime(kept / f"{tokens[-1]}.zip", (time.time() - age,) * 2)
    shares.sweep()
    assert files(kept) == {f"{token}.zip" for token in tokens[1:]} | {"notes.zip"}
    monkeypatch.setattr(shares, "MOST_BYTES", 2 * (kept / f"{tokens[1]}.zip").stat().st_size)
    shares.sweep()
    assert files(kept) == {f"{tokens[1]}.zip", f"{tokens[3]}.zip", "notes.zip"}


def test_limits_of_one_share_and_of_one_address(kept, pictures, monkeypatch):
    monkeypatch.setattr(shares, "HOURLY", 2)
    for address in ("8.8.8.8", "8.8.8.8", "9.9.9.9", "", "", ""):
        shares.save("words", pictures, address)
    with pytest.raises(ValueError, match="shared 2 results within an hour"):
        shares.save("words", pictures, "8.8.8.8")
    monkeypatch.setattr(shares, "LARGEST", 1000)
    with pytest.raises(ValueError, match="too large"):
        shares.save("words", pictures)


def test_only_the_secret_deletes(kept, pictures):
    token, secret = shares.save("words", pictures)
    copies = shares.load(token)[1]
    for wrong in ("", "x", secret[:-1], token, None, 7):
        with pytest.raises(ValueError, match="cannot delete"):
            shares.delete(token, wrong)
    shares.delete(token, secret)
    assert not files(kept) and not any(path.exists() for path in copies.values())
    with pytest.raises(shares.Gone):
        shares.load(token)


def test_a_damaged_share_is_gone(kept, pictures):
    token, _ = shares.save("words", pictures)
    path = kept / f"{token}.zip"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(shares.Gone):
        shares.load(token)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_nobody_else_provides_the_folder(kept, pictures, monkeypatch, tmp_path):
    monkeypatch.delenv("RESTORATION_SHARES")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache-shares").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="somebody else"):
        shares.save("words", pictures)


def test_a_shared_run_comes_back_with_its_settings_and_without_what_the_camera_wrote(kept, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "where it was taken"
    row = state.stored_examples("reld")[0]
    values = state.example_values(row) | {"seed": 5, ("reld", "steps"): 7}
    picture = images.to_pil(images.read_image(values["photo"]))
    picture.save(tmp_path / "mine.png", exif=exif)
    values["photo"] = str(tmp_path / "mine.png")
    run = history.finished("reld", values, example_outputs(row))
    token, _ = history.share(run, "")
    assert b"where it was taken" in Path(values["photo"]).read_bytes()
    assert b"where it was taken" not in (kept / f"{token}.zip").read_bytes()
    again, shown = history.shared("reld", token)
    assert {k: v for k, v in again.items() if k != "photo"} == {
        k: v for k, v in values.items() if k != "photo"
    }
    assert images.to_pil(images.read_image(again["photo"])).tobytes() == picture.tobytes()
    assert [Path(side).read_bytes() for side in shown[0]] == [
        Path(side).read_bytes() for side in example_outputs(row)[0]
    ]
    assert shown[2].equals(example_outputs(row)[2])
    with pytest.raises(ValueError, match="another method"):
        history.shared("ld-rps", token)


@pytest.fixture
def comparison(tmp_path, photo) -> comparisons.Shown:
    """Of a photograph into whose file the camera has written, with a run's recipe."""
    exif = Image.Exif()
    exif[0x010E] = "where it was taken"
    images.to_pil(photo).save(tmp_path / "mine.png", exif=exif)
    cells = [
        Cell("input", images.quantise(photo), {"NIQE (own fit)": 5.0}),
        Cell("RELD · fast", images.quantise(photo / 2), {"NIQE (own fit)": 4.0, "seconds": 1.5}, {"seed": 7}),
    ]
    asked = Asked(str(tmp_path / "mine.png"), "real", ["reld · fast"], 1, ["embedded"])
    return comparisons.Shown(asked, "Done. &lt;b&gt;", [cell.figure for cell in cells])


def test_a_shared_comparison_comes_back_with_everything(kept, upload_folder, comparison):
    """Pictures, scores, recipes, choices, downloads; without what the camera wrote; opened twice it takes the
    space of once."""
    token, secret = comparisons.share(comparison.run, "")
    assert b"where it was taken" in Path(comparison.asked.photo).read_bytes()
    assert b"where it was taken" not in (kept / f"{token}.zip").read_bytes()
    for _ in range(2):
        again = comparisons.shared(token)
        assert again.asked._replace(photo="") == comparison.asked._replace(photo="")
        assert again.status == comparison.status
        assert [figure[:2] for figure in again.figures] == [figure[:2] for figure in comparison.figures]
        pairs = [(a.file, b.file) for a, b in zip(again.figures, comparison.figures, strict=True)]
        assert all(Path(a).read_bytes() == Path(b).read_bytes() for a, b in pairs)
        everything, results = comparisons.shared_archives(again.run)
        assert len([path for path in (kept.parent / "cache").rglob("*") if path.is_file()]) == 5
    assert recipe.read_png(again.figures[1].file) == {"seed": 7}
    assert (
        images.to_pil(images.read_image(again.asked.photo)).tobytes()
        == images.to_pil(images.read_image(comparison.asked.photo)).tobytes()
    )
    with zipfile.ZipFile(everything) as one, zipfile.ZipFile(results) as other:
        names = {"00-input.png", "01-RELD-fast.png", "contact-sheet.png", "scores.csv"}
        assert set(one.namelist()) == names
        assert set(other.namelist()) == {"00-RELD-fast.png", "contact-sheet.png", "scores.csv"}
    shares.delete(token, secret)
    assert not [path for path in (kept.parent / "cache").rglob("*") if path.is_file()]


def test_what_is_no_comparison_is_not_shown_as_one(kept, comparison, upload_folder):
    manifest = comparison.run.manifest
    row = state.stored_examples("reld")[0]
    run = history.finished("reld", state.example_values(row), example_outputs(row))
    files = {"cell-00.png": Path(comparison.figures[0].file)}
    for text in (run.manifest, manifest, manifest.replace('"real"', '"x"')):
        token, _ = shares.save(text, files)
        with pytest.raises(ValueError):
            comparisons.shared(token)
    token, _ = comparisons.share(comparison.run, "")
    with pytest.raises(ValueError):
        history.shared("reld", token)
    assert comparisons.shared_archives(comparison.run) == []  # only a share has a folder of its own


def test_a_comparison_that_cannot_be_shared_says_why(kept, upload_folder, comparison, monkeypatch):
    """In one sentence; nothing is kept."""
    many = comparison._replace(figures=comparison.figures * 40)
    with pytest.raises(ValueError, match="has 80 pictures, and 60 is the most"):
        comparisons.share(many.run, "")
    assert comparisons.entry(*many) == ""
    Path(comparison.figures[0].file).unlink()
    with pytest.raises(ValueError, match="compare once more"):
        comparisons.share(comparison.run, "")
    monkeypatch.setattr(shares, "LARGEST", 1000)
    with pytest.raises(ValueError, match="too large"):
        comparisons.share(comparison._replace(figures=comparison.figures[1:]).run, "")
    assert not kept.exists()


def test_a_second_browser_sees_the_result_at_once(lend, browser, address, tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORATION_SHARES", str(tmp_path))
    one = lend()
    one.context.grant_permissions(["clipboard-read", "clipboard-write"])
    one.locator("#share-reld").click()
    one.get_by_text("Copied.").wait_for()
    link = one.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(re.escape(address) + r"\?method=reld&share=[\w-]{32}", link)
    remover = one.locator("label:has-text('Delete link')").locator("input, textarea").first.input_value()
    assert remover.startswith(link + "&delete=")
    slider = '[role="tabpanel"]:visible .slider-wrap img'
    mine = one.locator(slider).evaluate_all("all => all.map(i => i.src)")[:2]

    # a share computes nothing
    monkeypatch.setattr(actions, "restore", lambda *args, **options: pytest.fail("a share was computed"))
    two = visit(browser, link, 390)
    two.get_by_text("Somebody shared this result with you").wait_for()
    two.get_by_text("Deblur: computed beforehand").wait_for()
    two.locator(":text('PSNR ↑'):visible").first.wait_for()
    theirs = two.locator(slider).evaluate_all("all => all.map(i => i.src)")[:2]
    pixels = [[page.request.get(url).body() for url in urls] for page, urls in ((one, mine), (two, theirs))]
    assert pixels[0] == pixels[1] and len(pixels[0]) == 2
    assert two.get_by_role("button", name="Delete the shared result").count() == 0

    eraser = visit(browser, remover)
    eraser.get_by_role("button", name="Delete the shared result").click()
    eraser.get_by_text("Deleted: its link").wait_for()
    assert not files(tmp_path)
    for page in (two, eraser):
        page.context.close()
    # another result is neither what the links open nor what the button deletes
    ours = one.locator("label:has-text('Delete link')"), one.get_by_role("button", name="Delete the shared")
    assert all(place.is_visible() for place in ours)
    one.get_by_role("button", name="Denoise", exact=True).click()
    for place in ours:
        place.wait_for(state="hidden")
    one.context.clear_permissions()
