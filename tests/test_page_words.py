"""What the page says before a run, while it goes on and of its result."""

from __future__ import annotations

import dataclasses
import math
import time

import gradio as gr
import pytest
import torch
from presses import filled, press

from restoration import pace
from restoration.degradations.meter import Damage, Estimate
from restoration.evaluation import metrics
from restoration.page import actions, device, display, endpoints, state, words
from restoration.page.state import DEGRADED
from restoration.priors.latent import load_prior
from restoration.record import Run
from restoration.solvers import PRESETS, SOLVERS
from restoration.solvers.base import Step


def test_a_metric_that_no_picture_has_is_left_out_and_said_once():
    rows = {
        "input": metrics.Scores({"PSNR": 20.0}, {"LPIPS": "no weights", "SSIM": "too small"}),
        "result": metrics.Scores({"PSNR": 21.0, "SSIM": 0.9}, {"LPIPS": "no weights"}),
    }
    table = display.score_table(rows)
    assert list(table["metric"]) == ["PSNR ↑", "SSIM ↑"] and list(table["input"]) == ["20.000", "too small"]
    assert display.left_out(rows) == "no LPIPS (no weights)"


def test_what_a_run_costs_is_said_before_it(picture, monkeypatch):
    values = filled(picture, "super-resolution")
    monkeypatch.setattr(pace, "PACES", {})  # a busy machine has loaded the model slowly
    monkeypatch.setattr(actions, "in_memory", lambda *_: False)
    monkeypatch.setattr(pace, "estimate_seconds", lambda *_: 700.0)
    assert actions.forecast("reld", values).endswith(
        "about 12 min, the model loaded first, but a run is stopped after 10 min: "
        "use fewer steps or a smaller picture."
    )
    monkeypatch.setattr(pace, "estimate_seconds", lambda *_: 14.0)
    monkeypatch.setattr(device, "ZERO_GPU", True)
    assert actions.forecast("reld", values).endswith(", 31 s of your GPU quota.")


def test_of_a_long_run_it_is_said_when_a_first_picture_is_there(picture, monkeypatch):
    monkeypatch.setattr(actions, "in_memory", lambda *_: True)
    monkeypatch.setattr(pace, "PACES", {})
    monkeypatch.setattr(pace, "estimate_seconds", lambda *_: 40.0)
    values = filled(picture, "deblur") | {("reld", "steps"): 48}
    steps = actions.plan("reld", values).steps
    first = math.ceil(pace.FIXED + 40 * actions.PREVIEWED / steps)
    assert actions.forecast("reld", values).endswith(f" a first picture after about {first} s.")
    monkeypatch.setattr(pace, "estimate_seconds", lambda *_: 2.0)
    assert "first picture" not in actions.forecast("reld", values)


@pytest.mark.parametrize(
    ("method", "task", "preset", "test", "title"),
    [
        ("ld-rps", "low-light", "dehaze", False, "Hazy"),  # the task is what a test would do
        ("ld-rps", "low-light", "dehaze", True, "Test: Too dark, as from a short exposure"),
        ("reld", "denoise", "fast", False, "Noise or grain"),
        ("latent-indigo", "camera-light", "vivid", False, "Vivid"),
    ],
)
def test_a_run_is_called_by_what_was_done(method, task, preset, test, title):
    assert words.run(method, task, preset, 0, test) == title
    assert words.run(method, task, preset, 7, test) == f"{title}, seed 7"


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
    assert display.remaining(540) == "9 min left"
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


def test_what_was_told_wrong_is_said_beside_the_result(picture, monkeypatch):
    """Noise of far too little told: the run's warnings are on the page, after what is worse."""
    monkeypatch.setattr(display, "doubt", lambda rows: display.WORSE)
    values = filled(picture, mode=DEGRADED) | {("denoise", "noise_std"): 0.1}
    assert press(values)[-1][1].startswith(f"{display.WORSE} 96×96 pixels in ")
    assert "“How strong the noise is” is 0.1" in press(values)[-1][1]


def test_what_is_refused_is_said_before_the_run(picture, tmp_path):
    (tmp_path / "garbage.png").write_bytes(b"not a picture")
    assert "is not a picture" in actions.forecast("reld", filled(str(tmp_path / "garbage.png")))
    assert "must lie between" in actions.forecast("reld", filled(picture) | {("denoise", "noise_std"): 1e9})


def test_the_caption_stands_beside_the_result():
    """And whether the prior reads it."""
    solver = dataclasses.replace(SOLVERS["ld-rps"](), prompt="a <b>cat</b>")
    job = state.Job(torch.zeros(1, 3, 8, 8), Run(solver, None), None)
    assert display.captioned(job) == "caption: “a <b>cat</b>”, which this prior does not read"
    read = dataclasses.replace(job, run=dataclasses.replace(job.run, prior="sd-1.5"))
    assert display.captioned(read) == "caption: “a <b>cat</b>”"
    silent = Run(SOLVERS["ld-rps"](prompt=""), None)
    assert display.captioned(dataclasses.replace(job, run=silent)) == ""


def test_what_a_large_prior_takes_without_a_gpu_is_said_before_its_download(monkeypatch):
    monkeypatch.setattr(pace, "PACES", {})  # what other runs have taught of this machine
    said = actions.about_prior("sdxl")
    assert "with sdxl take about 14 min" in said and "first run downloads it" in said
    assert "There is no GPU" not in actions.about_prior("embedded")
    monkeypatch.setattr(pace, "this_device", lambda: "cuda")
    assert "There is no GPU" not in actions.about_prior("sdxl")


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


def test_every_preset_says_what_it_means():
    """Before the name that it has in recipes, links and commands."""
    for method, presets in PRESETS.items():
        for name in presets:
            assert words.preset(method, name).endswith(f" ({name})"), (method, name)
    assert words.choice("reld", "fast") == "RELD: Usual (fast)"


def test_what_is_seen_is_said_in_plain_words():
    measured = [name for name, field in Damage.__dataclass_fields__.items() if field.type == "Estimate"]
    nothing = {"noise_curve": (0.0, 0.0), "noise_as_white": 1.0, "pixels": 10**6}
    nothing |= dict.fromkeys(measured, Estimate(0.0, 0.0))
    there = lambda value: Estimate(value, 1.0)  # noqa: E731
    seen = lambda **kinds: words.seen(Damage(**nothing | kinds))  # noqa: E731
    assert seen() == "Nothing seems wrong with it."
    assert seen(pixels=200 * 200) == "Nothing seems wrong with it, but it is small."
    assert seen(noise=there(2 / 255)) == "It is noisy, slightly."
    assert seen(noise=there(9 / 255), blur=there(4.0)) == "It is noisy. It is blurred, strongly."
    assert seen(jpeg=there(30.0)) == "Compression (JPEG) has left traces, strongly."
    assert seen(darkness=there(2.0), backlight=there(3.0)) == (
        "It is too dark: it needs about 4.0 times as much light."
    )
    assert words.plain("found: too dark (2.1 stops where it is darkest) · noisy (5/255)") == (
        "found: too dark · noisy"
    )
