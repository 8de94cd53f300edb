"""What a browser has stored of earlier runs, and may have changed."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import pytest
from strangers import past_run

from restoration.degradations.linear import FILES
from restoration.page import display, history, state
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
