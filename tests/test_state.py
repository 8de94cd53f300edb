from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
import torch

from restoration.files import recipe
from restoration.page import state
from restoration.page.state import DEGRADED, EXAMPLES
from restoration.solvers import PRESETS, SOLVERS


def with_example(method: str) -> dict:
    return state.opening_values(method) | {"photo": str(EXAMPLES / "chelsea.png")}


@pytest.mark.parametrize("method", SOLVERS)
def test_a_link_restores_the_page(method):
    values = (
        with_example(method)
        | {"seed": 7, "task": SOLVERS[method].damages()[-1]}
        | state.preset_values(method, list(PRESETS[method])[-1])
    )
    number = next(f for f in state.knobs(SOLVERS[method]) if f.metadata["low"] is not None)
    values[method, number.name] = type(number.default)(number.metadata["high"])
    query = state.to_query(method, values)
    assert query.startswith("?method=") and len(query) < 300
    assert state.from_query(dict(parse_qsl(query[1:]))) == (method, values)


def test_a_link_says_little():
    assert (
        state.to_query("reld", with_example("reld"))
        == "?method=reld&image=chelsea.png&task=denoise&preset=fast&seed=0"
    )


def test_no_link_to_an_own_picture(tmp_path):
    recipe.save_png(torch.rand(1, 3, 32, 32), tmp_path / "chelsea.png", {})
    for values in (
        with_example("reld") | {"photo": str(tmp_path / "chelsea.png")},
        with_example("reld") | {"mode": DEGRADED},
    ):
        assert state.to_query("reld", values) == ""


@pytest.mark.parametrize(
    "query",
    [
        {"method": "x", "image": "chelsea.png"},
        {"method": "reld", "image": "../app.py"},
        {"method": "reld", "image": "chelsea.png", "task": "x"},
        {"method": "reld", "image": "chelsea.png", "preset": "x"},
        {"method": "reld", "image": "chelsea.png", "steps": "many"},
    ],
)
def test_a_wrong_link_is_one_sentence(query):
    with pytest.raises(ValueError, match="The link"):
        state.from_query(query)


def test_a_link_opens_no_file():
    values = state.from_query(
        {"method": "reld", "image": "chelsea.png", "task": "kernel-deblur", "file": "/etc/passwd"}
    )[1]
    assert values["kernel-deblur", "file"] is None


def test_settings_by_name():
    assert state.settings_values("reld", "deblur", '{"std": 2.0, "steps": 4}') == {
        ("deblur", "std"): 2.0,
        ("reld", "steps"): 4,
    }
    for text in ('{"x": 1}', "[1]", "{", '{"file": "/etc/passwd"}'):
        with pytest.raises(ValueError):
            state.settings_values("reld", "kernel-deblur", text)
