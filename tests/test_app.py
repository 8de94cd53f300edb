from __future__ import annotations

import dataclasses
import io
import json
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from restoration import pace
from restoration.degradations.advice import JPEG_NOISE
from restoration.degradations.linear import FILES
from restoration.evaluation import metrics
from restoration.files import images, recipe
from restoration.page import actions, compare_tab, device, display, endpoints, history, inspection, state
from restoration.page import layout as app
from restoration.page.state import CLEAN, DEGRADED, EXAMPLES
from restoration.priors.latent import load_prior
from restoration.record import Run
from restoration.run import restore
from restoration.solvers import SOLVERS, preset_for
from restoration.solvers.base import Step


def filled(photo: str | None, task: str = "denoise", method: str = "reld", **changes) -> dict:
    """The page's values as it opens, with a picture."""
    return state.opening_values(method) | {"photo": photo, "task": task} | changes


def press(values: dict, method: str = "reld") -> list[tuple]:
    return list(actions.run(method, values))


@pytest.fixture
def picture(tmp_path, photo) -> str:
    recipe.save_png(photo, tmp_path / "photo.png", {})
    return str(tmp_path / "photo.png")


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
        list(compare_tab.compared(picture, "denoise", ["reld · fast"], 8, ["embedded"]))
    monkeypatch.setattr(compare_tab.compare, "seconds", lambda *_: 0.0)
    *_, (said, *_) = compare_tab.compared(
        picture, "denoise", ["reld · fast", "reld · few-step"], 2, ["embedded"]
    )
    assert said.count("Not begun") == 2


def test_an_already_degraded_picture_has_no_reference(picture):
    values = filled(picture, "super-resolution", mode=DEGRADED) | {("super-resolution", "scale"): 2}
    scores = press(values)[-1][2]
    assert list(scores["metric"]) == ["NIQE (own fit) ↓", "consistency ↑"]


def test_a_metric_that_no_picture_has_is_left_out_and_said_once():
    rows = {
        "input": metrics.Scores({"PSNR": 20.0}, {"LPIPS": "no weights", "SSIM": "too small"}),
        "result": metrics.Scores({"PSNR": 21.0, "SSIM": 0.9}, {"LPIPS": "no weights"}),
    }
    table = display.score_table(rows)
    assert list(table["metric"]) == ["PSNR ↑", "SSIM ↑"] and list(table["input"]) == ["20.000", "too small"]
    assert display.left_out(rows) == "no LPIPS (no weights)"


def test_a_phones_picture_is_reduced_and_said(picture, monkeypatch):
    monkeypatch.setattr("restoration.files.sizes.MAX_PIXELS", 3000)
    monkeypatch.setattr(pace, "estimate_wait", lambda *_, **__: 1.0)
    for mode, side, factor in ((CLEAN, 54, 1), (DEGRADED, 27, 2)):
        values = filled(picture, "super-resolution", mode=mode) | {("super-resolution", "scale"): 2}
        assert actions.forecast("reld", values).startswith(
            f"96×96 pixels, reduced to {side}×{side}. Result: {side * factor}×{side * factor} pixels, in "
            "about 1 s"
        )
        assert Image.open(press(values)[-1][0][1]).size == (side * factor, side * factor)
    *_, (said, *_) = compare_tab.compared(picture, "denoise", ["reld · fast"], 1, ["embedded"])
    assert said.startswith("Done. ") and said.endswith(" dB. The picture: 96×96 pixels, reduced to 54×54.")


def test_where_a_photograph_was_taken_stays_with_its_owner(tmp_path, photo):
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (47.0, 22.0, 8.0)  # GPS latitude
    images.to_pil(photo).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(press(filled(str(tmp_path / "a.jpg")))[-1][5]) as result:
        assert not result.getexif() and result.info.keys() == {recipe.KEY, recipe.SCORES, recipe.INPUT}


def test_what_a_run_costs_is_said_before_it(picture, monkeypatch):
    values = filled(picture, "super-resolution")
    monkeypatch.setattr(actions, "in_memory", lambda *_: False)
    monkeypatch.setattr(pace, "estimate_seconds", lambda *_: 700.0)
    assert actions.forecast("reld", values).endswith(
        "about 12 min, the model loaded first, but a run is stopped after 600 s: "
        "use fewer steps or a smaller picture."
    )
    monkeypatch.setattr(pace, "estimate_seconds", lambda *_: 14.0)
    monkeypatch.setattr(device, "ZERO_GPU", True)
    assert actions.forecast("reld", values).endswith(", 31 s of your GPU quota.")


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
        values = filled(str(tmp_path / "logo.png"), "super-resolution", mode=mode) | {
            ("super-resolution", "scale"): 2
        }
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


def test_the_page_builds_and_shows_png():
    page = app.build()
    pictures = [b for b in page.blocks.values() if isinstance(b, gr.Image | gr.ImageSlider)]
    assert pictures and all(p.format == "png" for p in pictures)


@pytest.mark.parametrize(
    "row", [row for method in SOLVERS for row in state.stored_examples(method)], ids=lambda row: row["title"]
)
def test_a_stored_example_repeats_itself(row, embedded):
    """What a visitor sees first is what pressing Restore gives."""
    values, method = state.example_values(row), row["solver"]
    assert values.keys() == state.opening_values(method).keys()
    (_, stored), _, table, *_ = display.example_outputs(row)
    job = state.job(method, values)
    *_, last = restore(job.y, job.run, embedded)
    # other processors round differently
    assert metrics.psnr(images.read_image(stored), last.result.image) > 50
    scored = [name for name in [*metrics.METRICS, "consistency"] if name in row["scores"]["result"]]
    assert [name.partition(" ↑")[0].partition(" ↓")[0] for name in table["metric"]] == scored


def test_a_tab_without_an_example_says_why():
    request, said = SimpleNamespace(query_params={}), []
    for function in app.build().fns.values():
        if function.name == "open_page":
            status = function.fn(request).values()
            said += [value for value in status if isinstance(value, str) and "No example is stored" in value]
    assert len(said) == sum(not state.stored_examples(method) for method in SOLVERS) > 0


def test_repeating_with_other_weights_warns_and_goes_on(picture, monkeypatch):
    warnings: list[str] = []
    monkeypatch.setattr(gr, "Warning", warnings.append)
    file = press(filled(picture))[-1][-1]
    assert list(actions.repeat(file))[-1][-1] and not warnings
    monkeypatch.setattr(load_prior("embedded"), "weights", "others")
    assert list(actions.repeat(file))[-1][-1] and "The weights of prior" in warnings[0]


def test_the_progress_line_counts_down(monkeypatch):
    step = Step(index=2, total=8, latent=torch.zeros(1), note="found: a < b, pass 0, timestep 59", scalars={})
    monkeypatch.setattr(time, "monotonic", lambda: 11.0)
    assert display.progress(step, 10.0).endswith(">Step 2 of 8 · found: a &lt; b · 3 s left")
    for note in ("pass 3, timestep 9", "noise level 12.5/255"):
        assert display.progress(dataclasses.replace(step, note=note), 10.0).endswith(
            ">Step 2 of 8 · 3 s left"
        )


def test_a_result_that_is_clearly_worse_is_said_to_be():
    for before, after, worse in (
        ({"PSNR": 25.0, "NIQE (own fit)": 5.0}, {"PSNR": 24.0, "NIQE (own fit)": 4.0}, True),
        ({"PSNR": 25.0, "NIQE (own fit)": 5.0}, {"PSNR": 24.8, "NIQE (own fit)": 9.0}, False),
        ({"NIQE (own fit)": 4.5}, {"NIQE (own fit)": 27.6}, True),
        ({"NIQE (own fit)": 4.5}, {"NIQE (own fit)": 5.0}, False),
        ({"NIQE (own fit)": 4.5}, {}, False),
    ):
        assert bool(display.doubt({"input": before, "result": after})) == worse


def test_an_error_takes_the_place_of_the_status(picture):
    """Of "Getting ready…", and what was there before the press goes."""
    for values in (filled(picture, "kernel-deblur"), filled(None)):
        runs = actions.with_last_words(actions.run("reld", values), 6, 1, 5)
        with pytest.raises(gr.Error) as raised:
            for shown in runs:
                last = shown
        assert last[1] == last[6] == raised.value.message and not last[5]


def test_what_was_told_wrong_is_said_beside_the_result(picture):
    """Noise of far too little told: the run's warnings are on the page."""
    values = filled(picture, mode=DEGRADED) | {("denoise", "noise_std"): 0.1}
    assert "noise_std is 0.1" in press(values)[-1][1]


def test_what_is_refused_is_said_before_the_run(picture, tmp_path):
    (tmp_path / "garbage.png").write_bytes(b"not a picture")
    assert "is not a picture" in actions.forecast("reld", filled(str(tmp_path / "garbage.png")))
    assert "must lie between" in actions.forecast("reld", filled(picture) | {("denoise", "noise_std"): 1e9})


@pytest.mark.parametrize("seed", [-1, 0.5, 2**64, "x", True])
def test_a_seed_that_is_none_is_refused(picture, seed):
    for answer in (
        lambda: press(filled(picture, seed=seed)),
        lambda: endpoints.endpoint("reld")(picture, "denoise", "fast", "{}", seed),
    ):
        with pytest.raises(gr.Error, match="must be a whole number"):
            answer()
    assert all(
        press(filled(picture, seed=none))[-1][1].split("seed ")[1].startswith("0") for none in (None, 0.0)
    )


def test_an_uploaded_photograph_is_looked_at(tmp_path):
    """What is seen fills in every method; nothing is done to the picture first, and it stands as it came."""
    x = images.to_tensor(astronaut()[:192, 140:332])
    recipe.save_png(
        x + 30 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)),
        tmp_path / "n.png",
        {},
    )
    seen = inspection.inspect(str(tmp_path / "n.png"), "quick")
    assert "It is noisy" in seen.sentences and seen.method == "reld" and seen.values.keys() == SOLVERS.keys()
    assert Image.open(seen.before).size == (192, 192)
    for method, values in seen.values.items():
        values = state.opening_values(method) | values
        assert values["mode"] == DEGRADED and values["photo"] == str(tmp_path / "n.png")
        state.asked_for(method, state.checked(method, values))
    assert (
        seen.values["reld"]["task"] == "denoise"
        and seen.values["latent-indigo"]["latent-indigo", "scale"] == 4
    )
    assert all(abs(seen.values["reld"][task, "noise_std"] - 30) < 8 for task in ("denoise", "inpaint"))
    images.to_pil(x).save(tmp_path / "j.jpg", quality=30)
    seen = inspection.inspect(str(tmp_path / "j.jpg"), "quick")
    # JPEG's blocks are no detail to enlarge, and no noise to anything else
    told = {task: seen.values["reld"][task, "noise_std"] for task in ("super-resolution", "denoise")}
    assert told["super-resolution"] == pytest.approx(JPEG_NOISE * 4 * 70, abs=3) and told["denoise"] < 5
    (tmp_path / "garbage.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="is not a picture"):
        inspection.inspect(str(tmp_path / "garbage.png"), "quick")


def test_nothing_of_a_picture_is_thrown_away_to_enlarge_it():
    for width, height, scale in (
        (500, 500, 4),
        (501, 500, 2),
        (1000, 1000, 2),
        (1001, 1000, 1),
        (2000, 2000, 1),
        (4000, 3000, 1),
    ):
        assert inspection.enlargement(width * height) == scale
        if scale > 1:
            assert images.fitted(width, height, scale) == (width, height)


def test_without_a_mask_nothing_is_inpainted(picture):
    values = filled(picture, "inpaint", mode=DEGRADED)
    with pytest.raises(gr.Error, match="Which parts are missing"):
        press(values)
    assert "Which parts are missing" in actions.forecast("reld", values)


def test_the_caption_stands_beside_the_result():
    """And whether the prior reads it."""
    solver = dataclasses.replace(SOLVERS["ld-rps"](), prompt="a <b>cat</b>")
    job = state.Job(torch.zeros(1, 3, 8, 8), Run(solver, None), None)
    assert display.captioned(job) == "caption: “a <b>cat</b>”, which this prior does not read"
    read = dataclasses.replace(job, run=dataclasses.replace(job.run, prior="sd-1.5"))
    assert display.captioned(read) == "caption: “a <b>cat</b>”"
    silent = Run(SOLVERS["ld-rps"](prompt=""), None)
    assert display.captioned(dataclasses.replace(job, run=silent)) == ""


def test_some_examples_are_really_damaged():
    """Nothing is done to them first, and no score pretends that there is a clean picture."""
    rows = [row for method in SOLVERS for row in state.stored_examples(method) if row.get("damaged")]
    assert len(rows) >= 3 and {row["solver"] for row in rows} == {"reld", "latent-indigo", "ld-rps"}
    licences = (EXAMPLES / "LICENCES.md").read_text()
    for row in rows:
        values = state.example_values(row)
        job = state.job(row["solver"], values)
        assert job.reference is None and row["image"] in licences
        assert torch.equal(job.y, images.read_image(EXAMPLES / row["image"]))
        assert "PSNR" not in row["scores"]["result"]


@pytest.mark.parametrize(
    ("method", "prior", "chosen", "suited"),
    [
        ("reld", "sd-turbo", "fast", "few-step"),
        ("reld", "sd-1.5", "few-step", "fast"),
        ("reld", "sd-1.5", "fast", "fast"),
        ("latent-indigo", "sdxl", "fast", "vivid"),
        ("latent-indigo", "sdxl", "paper-like", "paper-like"),
        ("latent-indigo", "embedded", "bold", "bold"),
        ("ld-rps", "lcm", "denoise", "denoise"),
    ],
)
def test_a_prior_brings_a_preset_that_suits_it(method, prior, chosen, suited):
    assert preset_for(method, prior, chosen) == suited


def test_what_a_large_prior_takes_without_a_gpu_is_said_before_its_download(monkeypatch):
    assert "min" in actions.about_prior("sdxl") and "first run downloads it" in actions.about_prior("sdxl")
    assert "There is no GPU" not in actions.about_prior("embedded")
    monkeypatch.setattr(pace, "this_device", lambda: "cuda")
    assert "There is no GPU" not in actions.about_prior("sdxl")


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


def test_calls_of_a_program_and_repeats_ask_zero_gpu_for_what_they_need(picture, monkeypatch):
    """By the prior that they name, loading included; what is wrong with a call is left to the call."""
    monkeypatch.setattr(pace, "PACES", {})  # not those of runs that a busy machine slowed down
    call = picture, "denoise", "fast", "{}", 0
    small, large = (endpoints.needed("reld", *call, prior) for prior in ("embedded", "sdxl"))
    assert 0 < small < large / 50
    assert endpoints.needed("ld-rps", picture, "denoise", "{}", 0, "embedded") > 0
    for wrong in (("no", "fast", "{}", 0, "sdxl"), ("denoise", "fast", "{}", 0, "nonsense")):
        assert endpoints.needed("reld", picture, *wrong) == device.UNKNOWN_SECONDS
    file = press(filled(picture))[-1][5]
    seconds, prior = actions.repeat_needs(file)
    assert 0 < seconds != device.UNKNOWN_SECONDS and prior == "embedded"
    assert actions.repeat_needs(None) == (device.UNKNOWN_SECONDS, "embedded")
