"""The pictures of a running restoration are written while it goes on."""

from __future__ import annotations

import threading

import gradio as gr
import torch
from PIL import Image

from restoration.degradations.linear import Denoise
from restoration.page import actions, previews, state
from restoration.record import Run
from restoration.solvers.base import Step
from restoration.solvers.reld_fast import RELDFast


def shown(embedded, steps_of, monkeypatch) -> list:
    """What a run with these steps shows, a preview being due at each."""
    monkeypatch.setattr(actions, "steps_of", lambda *_: steps_of())
    monkeypatch.setattr(actions, "previewed", lambda *_: torch.zeros(1, 3, 8, 8))
    monkeypatch.setattr(actions, "PREVIEW_EVERY", 0.0)
    monkeypatch.setattr(actions, "PREVIEW_SHARE", 1e9)
    job = state.Job(torch.zeros(1, 3, 8, 8), Run(RELDFast(), Denoise()), None, None)
    return [pair for pair, *_ in actions.show(job, embedded, 1e9)][1:]


def test_a_run_does_not_wait_for_its_pictures_to_be_written(embedded, monkeypatch, upload_folder):
    """They appear with a later step."""
    second_step, written, waits = threading.Event(), threading.Event(), []

    def as_file(x):
        waits.append(second_step.wait(30))
        return "preview.png"

    def steps():
        yield Step(1, 4, torch.zeros(1), "", {})
        second_step.set()
        written.wait(30)
        yield Step(2, 4, torch.zeros(1), "", {})

    give = previews.Previews.give

    def given(self, x):
        give(self, x)
        self._file.add_done_callback(lambda _: written.set())

    monkeypatch.setattr(previews, "for_the_eye", as_file)
    monkeypatch.setattr(previews.Previews, "give", given)
    first, second = shown(embedded, steps, monkeypatch)
    assert waits[0] and isinstance(first, type(gr.skip())) and second[1] == "preview.png"


def test_a_picture_that_cannot_be_written_costs_nothing(embedded, monkeypatch, upload_folder):
    def full(x):
        raise OSError("disk full")

    monkeypatch.setattr(previews, "for_the_eye", full)
    steps = [Step(index, 4, torch.zeros(1), "", {}) for index in (1, 2, 3)]
    assert all(
        isinstance(pair, type(gr.skip())) for pair in shown(embedded, lambda: iter(steps), monkeypatch)
    )


def test_what_is_looked_at_alone_is_a_jpeg_where_a_png_would_be_large(upload_folder):
    small, large = torch.rand(1, 3, 4, 4), torch.full((1, 3, 1500, 3000), 0.5)
    assert previews.for_the_eye(small).endswith(".png")
    file = previews.for_the_eye(large)
    assert file.endswith(".jpg") and Image.open(file).size == (3000, 1500)
