from __future__ import annotations

import pytest

from restoration import pace
from restoration.degradations.linear import TASKS
from restoration.solvers import PRESETS, SOLVERS

DEBLUR = TASKS["deblur"]()


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch):
    monkeypatch.setattr(pace, "PACES", {})
    monkeypatch.setattr(pace, "this_device", lambda: "cpu")


def solver(name: str):
    return SOLVERS[name](**PRESETS[name][next(iter(PRESETS[name]))])


def test_a_forecast_is_what_the_last_run_of_its_kind_took():
    steps = solver("reld").iterations(DEBLUR)
    pace.learn(solver("reld"), "embedded", "cpu", 500 * 400, steps, 7.0)
    assert pace.estimate_seconds(solver("reld"), DEBLUR, 400, 500) == pytest.approx(7.0)


def test_one_methods_run_tells_how_fast_this_machine_is():
    """Four times slower with one method: foretold of another, of which nothing was measured."""
    usual = pace.estimate_seconds(solver("ld-rps"), None, 256, 256)
    steps = solver("reld").iterations(DEBLUR)
    slow = 4 * pace.estimate_seconds(solver("reld"), DEBLUR, 256, 256)
    pace.learn(solver("reld"), "embedded", "cpu", 256 * 256, steps, slow)
    assert pace.estimate_seconds(solver("ld-rps"), None, 256, 256) == pytest.approx(4 * usual)


def test_a_method_of_more_effort_is_foretold_so():
    """And a machine is no slower for having run it first."""
    usual = pace.estimate_seconds(solver("reld"), DEBLUR, 256, 256)
    indigo = solver("latent-indigo")
    each = pace.estimate_seconds(indigo, None, 64, 64) / indigo.iterations(None)
    assert each == pytest.approx(indigo.effort * usual / solver("reld").iterations(DEBLUR))
    steps = indigo.iterations(None)
    pace.learn(indigo, "embedded", "cpu", 256 * 256, steps, steps * each)
    assert pace.estimate_seconds(solver("reld"), DEBLUR, 256, 256) == pytest.approx(usual)


def test_loading_and_scores_count_too():
    assert pace.estimate_wait(1.0, "embedded", 65536, loaded=False) > 1 + pace.LOADING
    pace.learn_loading("embedded", 9.0)
    pace.learn_rest(1e6, 2.0)
    pixels = 250_000
    there = pace.estimate_wait(1.0, "embedded", pixels, loaded=True)
    assert there == pytest.approx(1 + pace.FIXED + (2.0 - pace.FIXED) / 4)
    assert pace.estimate_wait(1.0, "embedded", pixels, loaded=False) == pytest.approx(there + 9)


def test_a_method_that_takes_fewer_steps_of_large_pictures_is_foretold_so():
    small, large = (pace.estimate_seconds(solver("ld-rps"), None, side, 1000) for side in (500, 2000))
    assert large == pytest.approx(small * 4 / solver("ld-rps").steps)
    pace.learn(solver("ld-rps"), "embedded", "cpu", 2e6, solver("ld-rps").iterations(None, 2e6), 9.0)
    assert pace.estimate_seconds(solver("ld-rps"), None, 2000, 1000) == pytest.approx(9.0)


@pytest.mark.parametrize("seconds, words", [(0.2, "1 s"), (1.01, "2 s"), (99, "99 s"), (121, "3 min")])
def test_forecasts_are_rounded_up(seconds, words):
    assert pace.about(seconds) == f"about {words}"


def test_a_run_that_a_busy_machine_slowed_down_does_not_spoil_the_forecasts():
    steps = solver("reld").iterations(DEBLUR)
    for seconds in (9.0, 3.0):  # as the page opened, and afterwards
        pace.learn(solver("reld"), "embedded", "cpu", 500 * 400, steps, seconds)
    assert pace.estimate_seconds(solver("reld"), DEBLUR, 400, 500) == pytest.approx(3.0)
    for seconds in (3.2, 40.0):
        pace.learn(solver("reld"), "embedded", "cpu", 500 * 400, steps, seconds)
    assert pace.estimate_seconds(solver("reld"), DEBLUR, 400, 500) < 3.5
    for _ in range(3):  # a machine that stays busy
        pace.learn(solver("reld"), "embedded", "cpu", 500 * 400, steps, 40.0)
    assert pace.estimate_seconds(solver("reld"), DEBLUR, 400, 500) == pytest.approx(40.0)
