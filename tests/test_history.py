"""What a browser has stored of earlier runs, and may have changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import parse_qsl

import gradio as gr
import pytest
import torch
from strangers import past_run

from restoration.degradations.linear import FILES
from restoration.files import images
from restoration.page import compare_cells, compare_tab, comparisons, display, history, state
from restoration.page.state import EXAMPLES

HOSTILE = [
    {"values": {"kernel-deblur.file": "/etc/hostname"}},
    {"values": {"reld.nonsense": 1}},
    {"values": {"reld.steps": {"__type__": "update", "value": 3}}},
    {"values": {"reld.steps": 1e9}},
    {"values": {"reld.steps": True}},
    {"values": {"photo": "/etc/hostname"}},
    {"photo": ["x.png", "bm90IGEgcGljdHVyZQ=="]},
    {"photo": "/etc/hostname"},
    {"photo": {"path": "/etc/hostname"}},
    {"pictures": ["/etc/hostname", "/etc/hostname"]},
    {"pictures": []},
    {"status": ["<b>"]},
    {"scores": {"PSNR": [{"__type__": "update"}]}},
    {"method": "ld-rps"},
    {"reference": "/etc/hostname"},
    {"chosen": {"mode": "x", "task": "deblur", "seed": 0, "prior": "embedded", "preset": "fast"}},
    {"chosen": {"mode": state.DEGRADED, "task": "deblur", "seed": 0, "prior": "../x", "preset": "fast"}},
    {"chosen": {"mode": state.DEGRADED, "task": "deblur", "seed": -1, "prior": "embedded", "preset": "fast"}},
    {"chosen": past_run()["chosen"] | {"photo": "/etc/hostname"}},
]


@pytest.mark.parametrize("changes", HOSTILE, ids=str)
def test_nothing_of_the_history_is_trusted(upload_folder, changes):
    assert history.recall("reld", json.dumps(past_run()))[0]["photo"] is None
    with pytest.raises(gr.Error, match="cannot be read"):
        history.recall("reld", json.dumps(past_run(**changes)))


def test_a_picture_of_the_history_keeps_no_folder_and_no_other_kind(upload_folder):
    content = display.data_uri((EXAMPLES / "rocket-haze-input.png").read_bytes()).partition(",")[2]
    for name, kept in (("../../a.png", "a.png"), ("a.html", "picture.png"), ("a.png", "a.png")):
        values, (pair, status, *_) = history.recall(
            "reld", json.dumps(past_run(photo=[name, content], status="<img src=x>"))
        )
        assert Path(values["photo"]).name == kept and Path(values["photo"]).is_relative_to(upload_folder)
        assert (
            status == "&lt;img src=x&gt;"
            and len(pair) == 2
            and not any(values[key] for key in values if key[-1] in FILES)
        )


def past_comparison(**changes) -> str:
    """An entry of the history that is taken, as the page opens with."""
    return json.dumps(json.loads(comparisons.entry(*compare_tab.stored())) | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "reld"},
        {"damage": "x"},
        {"choices": ["reld · x"]},
        {"choices": "reld · fast"},
        {"seeds": 99},
        {"seeds": True},
        {"priors": ["../x"]},
        {"pictures": ["/etc/hostname"] * 6},
        {"pictures": []},
        {"rows": []},
        {"rows": [{"title": "x", "scores": {"PSNR": "<b>"}}] * 6},
        {"rows": [{"title": "x", "scores": {}}] * 61},
        {"photo": ["x.png", "bm90IGEgcGljdHVyZQ=="]},
        {"photo": "/etc/hostname"},
        {"photo": ["../LICENSE", ""]},
        {"files": ["/etc/hostname"]},
        {"status": "x" * 3_000_000},
        {"best": {"__type__": "update"}},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_nothing_of_a_past_comparison_is_trusted(upload_folder, changes):
    with pytest.raises(gr.Error, match="cannot be read"):
        comparisons.recall(past_comparison(**changes))


def test_pictures_of_the_history_are_few_pixels(upload_folder, monkeypatch):
    """Small files can hold large pictures, whose reading has a limit all together."""
    monkeypatch.setattr(comparisons, "MOST_PIXELS", 6 * 256**2 - 1)
    with pytest.raises(gr.Error, match="cannot be read"):
        comparisons.recall(past_comparison())


def test_a_comparison_comes_back_from_the_history(upload_folder, monkeypatch):
    """Whole; smaller where the browser has too little space; its text as text."""
    past = compare_tab.stored()
    again = comparisons.recall(past_comparison(status="<img src=x>"))
    assert again.status.startswith("&lt;img src=x&gt;") and again.asked[1:] == past.asked[1:]
    assert [figure[:2] for figure in again.figures] == [figure[:2] for figure in past.figures]
    pairs = [(a.file, b.file) for a, b in zip(again.figures, past.figures, strict=True)]
    assert all(torch.equal(*map(images.read_image, pair)) for pair in pairs)
    assert all(Path(figure.file).is_relative_to(upload_folder) for figure in again.figures)
    monkeypatch.setattr(history, "RUN_BYTES", 100_000)
    small = comparisons.entry(*past)
    assert len(small) < 105_000 and json.loads(small)["pictures"][0].startswith("data:image/jpeg")
    again = comparisons.recall(small)
    assert again.asked == past.asked and history.SMALLER in again.status  # an example is there anyway
    own = str(shutil.copy(past.asked.photo, upload_folder / "own.png"))
    again = comparisons.recall(comparisons.entry(past.asked._replace(photo=own), *past[1:]))
    assert again.asked.photo is None and history.GONE in again.status


def test_a_title_is_text(upload_folder):
    rows = json.loads(past_comparison())["rows"]
    rows[0]["title"] = '"><img src=x onerror=1>'
    figures = comparisons.recall(past_comparison(rows=rows)).figures
    assert "<img src=x" not in compare_cells.grid(figures) and len(figures) == 6
    comparisons.archives(figures)


def test_a_comparison_has_a_link():
    asked = compare_tab.stored().asked
    query = dict(parse_qsl(comparisons.to_query(asked).removeprefix("?")))
    assert query["choices"].startswith("reld:fast,") and comparisons.from_query(query) == asked
    assert comparisons.to_query(asked._replace(damage="real")) == ""
    assert comparisons.to_query(asked._replace(photo=None)) == ""
