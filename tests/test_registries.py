"""A solver, a damage and a metric are one file and one line: nothing else knows them by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from restoration.commands import benchmark, restore
from restoration.degradations import blind, linear
from restoration.degradations.base import LinearDegradation
from restoration.evaluation import metrics
from restoration.files import recipe
from restoration.knobs import knob
from restoration.page import compare, compare_cells, compare_choices, endpoints, layout, state
from restoration.record import Run
from restoration.run import restore as run_steps
from restoration.solvers import PRESETS, SOLVERS
from restoration.solvers.base import Solver, Step


@dataclass(frozen=True)
class Toy(Solver):
    """Half of the codec's round trip, half of the first guess."""

    title: ClassVar[str] = "Toy"
    half: float = knob(0.5, "Share of the round trip", low=0.0, high=1.0)

    def iterations(self, degradation, pixels=0):
        return 1

    def restore(self, prior, y, degradation, *, generator):
        x = degradation.start(y) if degradation else y
        z = prior.encode(x)
        image = x.lerp(prior.decode(z, x.shape[-2:]).detach(), self.half).clamp(0, 1)
        yield Step(1, 1, z.detach(), "toy", {}, image)


@dataclass(frozen=True)
class BlindToy(Toy):
    title: ClassVar[str] = "Blind toy"
    blind: ClassVar[bool] = True


@dataclass(frozen=True)
class Dim(LinearDegradation):
    """y = share · x."""

    share: float = knob(0.5, "Share of the light", low=0.1, high=1.0)

    def forward(self, x):
        return self.share * x

    adjoint = forward

    def solve(self, r, rho):
        return r / (self.share**2 + rho)


@pytest.fixture
def toys(monkeypatch) -> None:
    for name, solver in (("toy", Toy), ("blind-toy", BlindToy)):
        monkeypatch.setitem(SOLVERS, name, solver)
        monkeypatch.setitem(PRESETS, name, {"plain": {}, "all": {"half": 1.0}})
    monkeypatch.setitem(linear.TASKS, "dim", Dim)
    monkeypatch.setitem(
        blind.CORRUPTIONS, "darker", blind.Corruption("Half as bright", (lambda x, generator: x / 2,))
    )
    monkeypatch.setitem(
        metrics.METRICS, "mean error", metrics.Metric(lambda x, r: (x - r).abs().mean().item(), False)
    )


def test_the_page_offers_them(toys):
    components = layout.build().get_config_file()
    titles = {part["props"].get("label") for part in components["components"] if part["type"] == "tabitem"}
    assert titles >= {"Toy", "Blind toy"}
    names = {event["api_name"] for event in components["dependencies"]}
    assert names >= {
        "restore_toy",
        "restore_blindtoy",
        "restore_reld",
        "restore_ldrps",
        "restore_latentindigo",
    }
    offered = [name for part in components["components"] for name, _ in part["props"].get("choices") or []]
    assert endpoints.presets("toy") == ["plain", "all"] and {"plain", "all", "dim"} <= set(offered)
    assert (
        state.opening_values("toy")["dim", "share"] == 0.5
        and state.opening_values("toy")["toy", "half"] == 0.5
    )
    assert "darker" in BlindToy.damages() and "dim" in Toy.damages()


def test_compare_takes_them(toys, tiny_prior, photo):
    runs, seeds, _ = compare_choices.checked("dim", ["toy · plain", "blind-toy · all"], 1, ["embedded"])
    assert "dim" in compare_choices.damages() and "darker" in compare_choices.damages()
    steps = lambda job, prior: run_steps(job.y, job.run, prior, reference=job.reference)  # noqa: E731
    *_, last = compare.compare(
        photo[..., :48, :48], "dim", runs, seeds, {"embedded": lambda: tiny_prior}, steps
    )
    assert [cell.title for cell in last.cells][-2:] == ["Toy · plain", "Blind toy · all"]
    assert "mean error ↓" in compare_cells.score_table(last.cells)


@pytest.mark.parametrize(
    "run", [Run(Toy(half=1.0), Dim(share=0.3), seed=4), Run(BlindToy(), periodic=True)], ids=repr
)
def test_a_recipe_repeats_them(toys, tmp_path, tiny_prior, photo, run):
    *_, step = run_steps(photo[..., :48, :48], run, tiny_prior)
    recipe.save_png(step.result.image, tmp_path / "a.png", step.result.recipe)
    again = Run.from_recipe(recipe.read(tmp_path / "a.png"))
    assert (again.solver, again.degradation, again.seed, again.periodic) == (
        run.solver,
        run.degradation,
        run.seed,
        run.periodic,
    )


def test_the_help_lists_them(toys, capsys):
    with pytest.raises(SystemExit):
        restore.main(["--help"])
    text = capsys.readouterr().out
    for words in (
        "toy            plain, all",
        "half=0.5: 0 to 1. Share of the round trip",
        "the task dim",
        "darker",
        "example:",
    ):
        assert words in text


def test_the_benchmark_runs_them(toys, tmp_path, photo, capsys):
    (tmp_path / "clean").mkdir()
    recipe.save_png(photo[..., :48, :48], tmp_path / "clean" / "a.png", {})
    options = ["--clean", str(tmp_path / "clean"), "--json", str(tmp_path / "scores.json")]
    assert benchmark.main([*options, "--solver", "toy", "--task", "dim", "--set", "share=0.8"]) == 0
    assert "Toy plain" in (table := capsys.readouterr().out) and "mean error" in table
    assert "mean error" in json.loads((tmp_path / "scores.json").read_text())["mean"]["result"]
    assert benchmark.main([*options[:2], "--solver", "blind-toy", "--task", "darker"]) == 0
    assert "Blind toy plain" in capsys.readouterr().out
    assert torch.is_grad_enabled()
