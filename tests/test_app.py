"""What a press of the page's buttons does, without a browser."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from PIL import Image
from presses import filled, press

from restoration import pace
from restoration.degradations.linear import FILES
from restoration.files import images, recipe
from restoration.page import actions, compare_actions, device, display, endpoints, history, state
from restoration.page.state import CLEAN, DEGRADED
from restoration.priors.latent import load_prior
from restoration.solvers.base import Step

QUICK = {("reld", "steps"): 1}  # where it matters what goes in and comes out, and not how good it is


@pytest.mark.parametrize("task", ["denoise", "deblur", "motion-deblur", "super-resolution", "inpaint"])
def test_a_click_gives_picture_scores_and_file(picture, task):
    (before, after), status, scores, curve, _, file = press(filled(picture, task))[-1]
    assert Image.open(before).size == Image.open(after).size == (96, 96) and "pixels in" in status
    assert list(scores.columns) == ["metric", "input", "result", "prior's round trip"]
    assert torch.equal(images.read_image(file), images.read_image(after))
    assert f"{recipe.read_png(file, recipe.SCORES)['PSNR']:.3f}" == scores["result"][0]
    assert len(curve) >= 1


def test_a_file_that_a_browser_may_be_reading_is_not_written_again(picture):
    """Gradio saves equal pixels, of two visitors or of result and history, to one path."""
    values = filled(picture)
    shown = press(values)[-1]
    recalled = history.recall("reld", history.entry("reld", values, shown))[1][0]
    handed_out = [*shown[0], *press(values)[-1][0], *recalled]
    assert len(set(handed_out)) == len(handed_out) == 6 and all(
        Path(path).suffix == ".png" for path in handed_out
    )


def test_the_history_brings_back_what_went_in_and_what_came_out(picture, monkeypatch):
    values = filled(picture, "deblur", seed=3)
    *early, shown = press(values)
    assert not history.entry("reld", values, early[0])  # nothing before the end
    text = history.entry("reld", values, shown)
    again, outputs = history.recall("reld", text)
    assert Path(again["photo"]).read_bytes() == Path(picture).read_bytes()
    again_chosen = {k: v for k, v in again.items() if k != "photo" and k[-1] not in FILES}
    assert again_chosen == {k: v for k, v in values.items() if k != "photo" and k[-1] not in FILES}
    assert outputs[1] == shown[1] and outputs[2].equals(shown[2])
    assert all(
        torch.equal(images.read_image(a), images.read_image(b))
        for a, b in zip(outputs[0], shown[0], strict=True)
    )
    # enough for the two, not for the third
    monkeypatch.setattr(history, "RUN_BYTES", len(text) - Path(picture).stat().st_size)
    again, outputs = history.recall("reld", history.entry("reld", values, shown))
    assert again["photo"] is None and "choose it again" in outputs[1]
    monkeypatch.setattr(history, "RUN_BYTES", 0)
    kept = json.loads(history.entry("reld", values, shown))  # smaller, but it is there
    assert all(picture.startswith("data:image/jpeg") for picture in kept["pictures"])
    assert history.recall("reld", json.dumps(kept))[1][1].startswith(shown[1] + history.SMALLER)
    eps = io.BytesIO()
    Image.new("RGB", (32, 32)).save(eps, format="EPS")  # Pillow would hand it to Ghostscript
    foreign = json.loads(text) | {"pictures": [display.data_uri(eps.getvalue())] * 2}
    for garbage in (
        "",
        "[]",
        text.replace("scores", "cores"),
        text.replace("iVBOR", "iVBOX"),
        json.dumps(foreign),
    ):
        with pytest.raises(gr.Error, match="cannot be read"):
            history.recall("reld", garbage)


def test_one_press_has_one_limit(picture, monkeypatch):
    """Several runs of one press share it, and what cannot be over by then does not begin."""
    with pytest.raises(gr.Error, match="fewer seeds"):
        monkeypatch.setattr(device, "TIME_LIMIT", 0.001)
        list(compare_actions.compared(picture, "denoise", ["reld · fast"], 8, ["embedded"]))
    monkeypatch.setattr(compare_actions.compare, "seconds", lambda *_, **__: 0.0)
    *_, (said, *_) = compare_actions.compared(
        picture, "denoise", ["reld · fast", "reld · few-step"], 2, ["embedded"]
    )
    assert said.count("Not begun") == 2


def test_an_already_degraded_picture_has_no_reference(picture):
    values = filled(picture, "super-resolution", mode=DEGRADED) | {("super-resolution", "scale"): 2} | QUICK
    scores = press(values)[-1][2]
    assert list(scores["metric"]) == ["NIQE (own fit) ↓", "consistency ↑"]


def test_a_phones_picture_is_reduced_and_said(picture, monkeypatch):
    monkeypatch.setattr("restoration.files.sizes.MAX_PIXELS", 3000)
    monkeypatch.setattr(pace, "estimate_wait", lambda *_, **__: 1.0)
    for mode, side, factor in ((CLEAN, 54, 1), (DEGRADED, 27, 2)):
        values = filled(picture, "super-resolution", mode=mode) | {("super-resolution", "scale"): 2} | QUICK
        first = "It is damaged first. " if mode == CLEAN else ""
        assert actions.forecast("reld", values).startswith(
            f"96×96 pixels, reduced to {side}×{side}. {first}"
            f"Result: {side * factor}×{side * factor} pixels, in about 1 s"
        )
        assert Image.open(press(values)[-1][0][1]).size == (side * factor, side * factor)
    *_, (said, *_) = compare_actions.compared(picture, "denoise", ["reld · fast"], 1, ["embedded"])
    assert said.startswith("Done. ") and said.endswith(" dB. The picture: 96×96 pixels, reduced to 54×54.")


def test_where_a_photograph_was_taken_stays_with_its_owner(tmp_path, photo):
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (47.0, 22.0, 8.0)  # GPS latitude
    images.to_pil(photo).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(press(filled(str(tmp_path / "a.jpg")))[-1][5]) as result:
        assert not result.getexif() and result.info.keys() == {recipe.KEY, recipe.SCORES, recipe.INPUT}


def test_a_run_without_guidance_has_no_curve(picture):
    values = filled(picture, "camera-light", "latent-indigo") | {("latent-indigo", "guidance"): "none"}
    assert press(values, "latent-indigo")[-1][3] is None


def test_a_caption_is_an_experiment(tmp_path, photo, text_prior, monkeypatch):
    """One press, one seed: each of the two pictures is the one that Restore gives, the latter the one to
    download.
    """
    monkeypatch.setattr(actions, "load_prior", lambda *_: text_prior)
    recipe.save_png(photo[..., :48, :48], tmp_path / "photo.png", {})
    small = {"prior": "sd-turbo"} | {
        ("ld-rps", name): value for name, value in {"steps": 4, "prompt": "red"}.items()
    }
    values = filled(str(tmp_path / "photo.png"), "noise", "ld-rps", seed=3) | small
    (_, last), _, scores, _, views, file = list(actions.caption_pair("ld-rps", values))[-1]
    alone = [press(values | {("ld-rps", "prompt"): words}, "ld-rps")[-1] for words in ("", "red")]
    shown = [images.read_image(path) for path, _ in views[:2]]
    assert all(torch.equal(x, images.read_image(run[0][1])) for x, run in zip(shown, alone, strict=True))
    assert not torch.equal(*shown) and views[1][0] == last
    assert [title.split(":")[0] for _, title in views[:2]] == ["without caption", "with caption"]
    assert list(scores.columns) == [
        "metric",
        "input",
        "without caption",
        "with caption",
        "prior's round trip",
    ]
    assert [list(scores.iloc[:, k]) for k in (2, 3)] == [list(run[2]["result"]) for run in alone]
    assert recipe.read_png(file)["settings"]["prompt"] == "red"
    for change, said in (
        ({("ld-rps", "prompt"): " "}, "Write a caption first"),
        ({"prior": "embedded"}, "reads no text"),
    ):
        with pytest.raises(gr.Error, match=said):
            next(actions.caption_pair("ld-rps", values | change))


def test_transparency_comes_back_in_the_download(tmp_path, photo):
    """Over white it is the picture that was shown and scored; the alpha is the uploaded one, enlarged and
    cropped with the picture.
    """
    alpha = Image.linear_gradient("L").resize((96, 96))
    (logo := images.to_pil(photo)).putalpha(alpha)
    logo.crop((0, 0, 95, 96)).save(tmp_path / "logo.png")
    for mode, size in ((CLEAN, (94, 96)), (DEGRADED, (190, 192))):
        values = (
            filled(str(tmp_path / "logo.png"), "super-resolution", mode=mode)
            | {("super-resolution", "scale"): 2}
            | QUICK
        )
        (_, result), status, *_, file = press(values)[-1]
        with Image.open(file) as download, Image.open(result) as shown:
            assert (
                download.mode == "RGBA"
                and download.size == shown.size == size
                and "transparent again" in status
            )
            whole = alpha.crop((0, 0, 95, 96))
            expected = (
                whole.crop((0, 0, *size)) if mode == CLEAN else whole.resize(size, Image.Resampling.LANCZOS)
            )
            assert download.getchannel("A").tobytes() == expected.tobytes()
            over_white, black = images.to_tensor(shown), 1 - images.to_tensor(expected.convert("RGB"))
            assert (images.read_image(file) - over_white.maximum(black)).abs().max() < 1.5 / 255
            assert (over_white >= black).float().mean() > 0.8
        assert recipe.read_input(file).shape[1] == 3
    logo.putalpha(255)
    logo.save(tmp_path / "whole.png")
    with Image.open(press(filled(str(tmp_path / "whole.png")))[-1][5]) as download:
        assert download.mode == "RGB"


def test_zero_noise_is_zero_noise(picture):
    values = filled(picture, mode=DEGRADED)
    press(values | {("denoise", "noise_std"): 0})


def test_bad_input_is_one_sentence(tmp_path, picture):
    (tmp_path / "x.png").write_bytes(b"nonsense")
    for values in (filled(None), filled(str(tmp_path / "x.png")), filled(picture, "kernel-deblur")):
        with pytest.raises(gr.Error):
            press(values)
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    with pytest.raises(gr.Error, match="at least 16 pixels"):
        press(filled(str(tmp_path / "small.png")))


def test_an_error_takes_the_place_of_the_status(picture):
    """Of "Getting ready…", and what was there before the press goes."""
    for values in (filled(picture, "kernel-deblur"), filled(None)):
        runs = actions.with_last_words(actions.run("reld", values), 6, 1, 5)
        with pytest.raises(gr.Error) as raised:
            for shown in runs:
                last = shown
        assert last[1] == last[6] == raised.value.message and not last[5]


def test_after_a_run_its_forecast_is_made_anew(blocks):
    """In a method's tab and in Compare: what it took was measured, and settings may be others by now."""
    events = list(blocks.fns.values())
    for name, made in (
        ("restored", "foresee"),
        ("restored_twice", "foresee"),
        ("with_last_words", "forecast"),
    ):
        runs = [event for event in events if event.name == name]
        assert runs
        for run in runs:
            after = [event for event in events if event.trigger_after == run._id and event.name == made]
            assert len(after) == 1 and after[0].inputs and not after[0].trigger_only_on_success


def test_why_a_file_cannot_be_repeated_is_said(picture, tmp_path):
    """In the tab, with the recipe where there is one."""
    file = press(filled(picture) | QUICK)[-1][5]
    text, said = actions.read_recipe(file)
    assert json.loads(text)["seed"] == 0 and not said
    stored = recipe.read(file)
    recipe.save_png(images.read_image(file), tmp_path / "without.png", stored)
    text, said = actions.read_recipe(str(tmp_path / "without.png"))
    assert json.loads(text) == stored and "does not carry the picture" in said
    recipe.save_png(images.read_image(file), tmp_path / "other.png", stored | {"prior": "<b>"})
    assert "&lt;b&gt;" in actions.read_recipe(str(tmp_path / "other.png"))[1]
    assert "holds no recipe" in actions.read_recipe(picture)[1] and actions.read_recipe(None) == ("", "")


@pytest.mark.parametrize("seed", [-1, 0.5, 2**64, "x", True])
def test_a_seed_that_is_none_is_refused(picture, seed):
    for answer in (
        lambda: press(filled(picture, seed=seed)),
        lambda: endpoints.endpoint("reld")(picture, "denoise", "fast", "{}", seed),
    ):
        with pytest.raises(gr.Error, match="must be a whole number"):
            answer()


@pytest.mark.parametrize("none", [None, 0.0])
def test_without_a_seed_it_is_0(picture, none):
    assert recipe.read(press(filled(picture, seed=none))[-1][5])["seed"] == 0


def test_without_a_mask_nothing_is_inpainted(picture):
    values = filled(picture, "inpaint", mode=DEGRADED)
    with pytest.raises(gr.Error, match="Which parts are missing"):
        press(values)
    assert "Which parts are missing" in actions.forecast("reld", values)


def test_pictures_of_a_running_restoration_take_little_of_its_time(monkeypatch, picture):
    """However long one takes: here a second, as a step."""
    clock, made = [0.0], []

    def steps_of(*_):
        for index in range(1, 101):
            clock[0] += 1
            yield Step(index, 101, torch.zeros(1), "", {})

    def previewed(*_):
        clock[0] += 1
        made.append(clock[0])

    monkeypatch.setattr(actions, "steps_of", steps_of)
    monkeypatch.setattr(actions, "previewed", previewed)
    monkeypatch.setattr(actions, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(actions, "progress", lambda *_: "")
    list(actions.show(state.job("reld", filled(picture)), load_prior("embedded", "cpu"), 1e9))
    assert 2 <= len(made) <= 6
