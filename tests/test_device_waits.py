"""How often the host waits for the device during a run, and what it brings there at every step."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tiny_models import load
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from restoration.commands import memory
from restoration.commands.memory import Rehearsal
from restoration.degradations import estimate
from restoration.degradations.estimate import GUESSES, Guess, first_guess
from restoration.degradations.linear import TASKS
from restoration.priors.latent import LatentPrior
from restoration.record import Run
from restoration.run import restore
from restoration.solvers import PRESETS
from restoration.solvers.reld_fast import RELDFast


class Waits(TorchDispatchMode):
    """Counts how often the host asks for a number of the device: float32 or bool, for tables of levels are
    float64 and on the host.
    """

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default and args[0].dtype in (
            torch.float32,
            torch.bool,
        )
        return function(*args, **(kwargs or {}))


def test_a_step_waits_for_the_device_once(folders, photo):
    """For the residual; more would keep a GPU idle between its kernels."""
    prior, y, counts = load(folders["sd1"]), photo[..., :16, :16], []
    assert prior.gain > 0  # measured once
    for steps in (2, 4):
        with Waits() as waits:
            list(restore(y, Run(RELDFast(steps=steps), TASKS["inpaint"]()), prior))
        counts.append(waits.count)
    assert counts[1] - counts[0] == 3


class Traffic(Rehearsal):
    """Counts what the host asks of a device, and what it brings there, on tensors without values."""

    asked = brought = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.asked += function is torch.ops.aten._local_scalar_dense.default and args[0].is_meta
        self.asked += function is torch.ops.aten._to_copy.default and args[0].is_meta and self.on_host(kwargs)
        self.brought += (
            function is torch.ops.aten._to_copy.default and not args[0].is_meta and self.there(kwargs)
        )
        return super().__torch_dispatch__(function, types, args, kwargs)

    @staticmethod
    def on_host(kwargs):
        return str((kwargs or {}).get("device")) == "cpu"

    @staticmethod
    def there(kwargs):
        return str((kwargs or {}).get("device")) == "meta"


class Numbers(TorchFunctionMode):
    """Counts as brought what is made there of the host's numbers, which Traffic does not see."""

    def __init__(self, traffic: Traffic):
        super().__init__()
        self.traffic = traffic

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        made = function in {torch.tensor, torch.Tensor.new_tensor} or (
            function is torch.as_tensor and not isinstance(args[0], torch.Tensor)
        )
        self.traffic.brought += made and out.is_meta
        return out


def of_a_step(prior: LatentPrior, method: str, task: str | None, **settings: Any) -> tuple[int, int]:
    """(asked, brought) in a run's second step of three, when all that is kept has been brought."""
    known = TASKS[task]() if task else None
    side = {"super-resolution": 8, None: 16}.get(task, 32)  # of the input
    solver = dataclasses.replace(memory.SOLVERS[method][0], **{"steps": 3} | settings)
    assert solver.iterations(known) == 3
    with memory.stand_ins(), Traffic() as seen, Numbers(seen):
        y, counts = torch.zeros(1, 3, side, side, device="meta"), []
        for step in solver.restore(prior, y, known, generator=torch.Generator()):
            assert step.index == len(counts) + 1 < step.total
            counts.append((seen.asked, seen.brought))
            if step.index == 2:
                break
    (asked, brought), (asked_then, brought_then) = counts
    return asked_then - asked, brought_then - brought


@pytest.mark.parametrize(
    ("method", "task", "settings"),
    [
        ("reld", "deblur", {"steps": 20}),
        ("reld", "inpaint", {"steps": 2}),
        ("reld", "super-resolution", {"steps": 20}),
        ("reld-paper", "deblur", {}),
        ("ld-rps", None, {}),
        ("ld-rps-paper", None, {"first": 3 * 45, "guide_below": 1000}),
    ],
)
def test_the_host_waits_once_a_step_and_brings_nothing(valueless, method, task, settings):
    """What a GPU would wait for: one number or list a step, and no table, mask or timestep."""
    assert of_a_step(valueless, method, task, **settings) == (1, 0)


@pytest.mark.parametrize("preset", ["vivid", "faithful", "paper-like"])
def test_so_it_is_while_a_camera_guides(valueless, preset):
    settings = {key: value for key, value in PRESETS["latent-indigo"][preset].items() if key != "steps"}
    assert of_a_step(valueless, "latent-indigo", None, **settings) == (1, 0)


def test_light_is_taken_and_given_without_the_host():
    """At every step that shows what the damage makes of an estimate."""
    with Traffic() as seen, Numbers(seen):
        y = torch.zeros(1, 3, 32, 24, device="meta")
        guess = Guess(y[:, :1], 0.5, y[:, :1], 1.0, grey=False)
        vars(guess)["dark"] = True  # asked once
        guess.forward(guess.invert(y))
    assert seen.asked == seen.brought == 0


@pytest.mark.parametrize("kind", GUESSES)
@pytest.mark.parametrize("always", [False, True])
def test_a_damage_is_guessed_on_any_device(monkeypatch, kind, always):
    """Whatever is found, what is on a device never meets what is on the host."""
    monkeypatch.setattr(estimate, "DARK", dict.fromkeys(GUESSES, 0.0))
    monkeypatch.setattr(estimate, "_is_noisy", lambda *_: True)
    with Rehearsal():
        y = torch.zeros(1, 3, 32, 24, device="meta")
        guess = first_guess(y, kind, always)
        seen = guess.forward(guess.invert(y))
        assert seen.device.type == "meta" and guess.describe()


@pytest.fixture(scope="module")
def valueless() -> LatentPrior:
    """A tiny prior on the meta device."""
    prior = memory.valueless("tiny")
    vars(prior).update(isometric=False, gain=5.0)  # measured once
    return prior
