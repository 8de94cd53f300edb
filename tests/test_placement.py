"""The decision where a prior runs, for given numbers, and the measuring of this machine."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from restoration.commands import memory
from restoration.degradations.linear import TASKS
from restoration.priors import placement
from restoration.priors.latent import LatentPrior
from restoration.priors.memory import Costs, Demand
from restoration.priors.placement import Device, place, release
from restoration.record import Run
from restoration.run import restore
from restoration.solvers.ld_rps import LDRPS
from restoration.solvers.reld_fast import RELDFast

GB = 1e9
SD21 = {"unet": 866e6, "text_encoder": 340e6, "vae": 84e6}
SDXL = {"unet": 2567e6, "text_encoder": 123e6, "text_encoder_2": 695e6, "vae": 84e6}
EMBEDDED = {"unet": 9.8e6, "vae": 0.25e6}


def on(gpu: float, host: float = 32, parameters=SD21, side: int = 512, half=torch.bfloat16):
    """The placement on a machine with so many GB free on its GPU and its host."""
    devices = [Device("cuda:0", gpu * GB, half), Device("cpu", host * GB, torch.float32)]
    return place(parameters, side, devices, host * GB)


@pytest.mark.parametrize(
    ("gpu", "parameters", "side", "tiled", "offload"),
    [
        (80, SD21, 512, False, False),
        (12, SD21, 512, False, False),
        (8, SD21, 512, True, False),
        (6, SD21, 512, True, True),
        (80, SDXL, 1024, False, False),
        (24, SDXL, 1024, True, False),
        (9.5, SDXL, 1024, True, True),
        (1, EMBEDDED, 512, False, False),
    ],
)
def test_savings_grow_as_memory_falls(gpu, parameters, side, tiled, offload):
    found = on(gpu, parameters=parameters, side=side)
    assert (found.device, found.tiled, found.offload) == ("cuda:0", tiled, offload)
    assert found.dtype == (torch.float32 if parameters is EMBEDDED else torch.bfloat16)
    assert (
        ("tiles" in found.note) == tiled
        and ("taking turns" in found.note) == offload
        and (f"{gpu:.1f} GB free" in found.note) == tiled
    )


def test_what_nothing_refers_to_is_given_back():
    holder = torch.nn.Module()
    holder.itself, gone = holder, weakref.ref(holder)
    del holder
    release()
    assert gone() is None


def test_a_full_accelerator_leaves_the_host():
    found = on(3, host=24)
    assert (found.device, found.dtype, found.offload) == ("cpu", torch.float32, False)
    assert found.note == "On cpu in float32: cuda:0 has 3.0 GB free of 5.8 GB."


def test_networks_wait_only_where_there_is_room():
    with pytest.raises(
        ValueError, match=r"512×512 pixels.*cuda:0 has 6.0 GB free of .*cpu has 2.0 GB free of"
    ):
        on(6, host=2)


def test_precision_is_the_devices():
    assert on(80, half=torch.float16).dtype == torch.float16
    assert place(SD21, 512, [Device("cpu", 64 * GB, torch.float32)], 64 * GB).dtype == torch.float32


def accelerators(monkeypatch, free: list[float]) -> list[str]:
    """A machine whose accelerators have so many GB free; returns the names of those that are measured, as
    they are.
    """
    measured = []

    def look(index: int) -> tuple[float, float]:
        measured.append(f"xpu:{index}")
        return free[index] * GB, 48 * GB

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: len(free))
    monkeypatch.setattr(torch.accelerator, "get_memory_info", look)
    return measured


def host_with(monkeypatch, container: Path, free: float) -> None:
    """So much of the host's memory is free, and the container's limits, if any, are in a folder's files."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setattr(placement, "CONTAINER", container)


@pytest.mark.parametrize(
    ("free", "wanted", "chosen", "looked_at"),
    [
        ([40, 40], None, "xpu:0", ["xpu:0"]),  # a context on the second would take memory of somebody else's
        ([8, 40], None, "xpu:1", ["xpu:0", "xpu:1"]),
        ([8, 7], None, "xpu:0", ["xpu:0", "xpu:1"]),
        ([40, 8], "xpu:1", "xpu:1", ["xpu:1"]),
        ([1, 1], None, "cpu", ["xpu:0", "xpu:1"]),
    ],
)
def test_accelerators_are_looked_at_one_after_the_other(
    monkeypatch, tmp_path, free, wanted, chosen, looked_at
):
    measured = accelerators(monkeypatch, free)
    host_with(monkeypatch, tmp_path, 64 * GB)
    assert placement.names() == ["xpu:0", "xpu:1", "cpu"]
    assert placement.choose(SD21, 512, wanted).device == chosen and measured == looked_at
    with pytest.raises(ValueError, match="no device 'cuda' here, only xpu:0, xpu:1, cpu"):
        placement.choose(SD21, 512, "cuda")


def test_this_machine():
    assert placement.names()[-1] == "cpu" and 0 < placement.free("cpu") < 1e14


@pytest.mark.parametrize("limit", ["max", "3000000000"])
def test_a_containers_limit_counts(monkeypatch, tmp_path, limit):
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text("2500000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 1000000000\n")
    host_with(monkeypatch, tmp_path, 9e9)
    assert placement.free("cpu") == (9e9 if limit == "max" else 1.5e9)


@pytest.mark.parametrize(("free", "tiled"), [(0.1, True), (1000.0, False)])
def test_a_run_takes_tiles_where_its_picture_is_too_large_for_the_memory_that_is_free(
    monkeypatch, tiny_prior, free, tiled
):
    """For that run alone, whoever the solver is, and before memory runs out."""
    y, before = torch.rand(1, 3, 48, 40), tiny_prior.placement
    monkeypatch.setattr(placement, "free", lambda name: free * 1e6)
    steps = list(restore(y, Run(RELDFast(steps=2), TASKS["inpaint"]()), tiny_prior))
    assert tiny_prior.placement == before and (tiny_prior.needs(Demand(48 * 40)) <= free * 1e6) != tiled
    assert all("tiles" not in step.note for step in steps)
    with tiny_prior.borrowed():
        tiny_prior.fit(Demand(48 * 40))
        assert (
            tiny_prior.placement.tiled == tiled and ("memory is short" in tiny_prior.placement.note) == tiled
        )


@pytest.fixture(scope="module")
def full_size() -> LatentPrior:
    """Stable Diffusion 2.1's networks, without values."""
    return memory.valueless("sd-2.1-base")


@pytest.mark.parametrize(
    ("method", "side", "place"),
    [
        ("reld", 256, "whole"),
        ("reld-paper", 512, "tiled"),
        ("ld-rps", 256, "whole"),
        ("ld-rps-paper", 256, "twice"),
    ],
)
def test_what_a_run_is_said_to_need_is_what_it_takes(full_size, method, side, place):
    """Every tensor of a run with the real sizes is counted; `restoration.memory` prints all other cases."""
    solver, known = memory.SOLVERS[method]
    full_size.placement = replace(full_size.placement, **(memory.NOWHERE | memory.PLACES[place]))
    with full_size.borrowed():
        full_size._move(full_size.placement)
        predicted = full_size.predicted(solver.demand(side**2))
        assert predicted == pytest.approx(memory.counted(full_size, solver, known, side), rel=0.1)


def test_latent_indigo_encodes_one_picture_with_its_surroundings(full_size):
    """Beside the weights, which would hide what it takes at this size."""
    solver, known = memory.SOLVERS["latent-indigo"]
    full_size._move(replace(full_size.placement, **memory.NOWHERE))
    weights = full_size.predicted(Demand(0))
    counted = memory.counted(full_size, solver, known, 256) - weights
    assert full_size.predicted(solver.demand(256**2)) - weights == pytest.approx(counted, rel=0.1)


def test_the_bytes_per_pixel_are_counted(full_size):
    """What a prior is placed by before its networks are there."""
    assert full_size.costs.gradient == pytest.approx(placement.GRADIENT, rel=0.03)
    assert full_size.costs.checkpointed == pytest.approx(placement.CHECKPOINTED, rel=0.03)


COSTS = Costs(2560, 3072, placement.GRADIENT, placement.CHECKPOINTED, 22_764, 263)  # of Stable Diffusion 2.1


@pytest.mark.parametrize(
    ("free", "twice", "tiled"), [(30, False, False), (10, True, False), (7, False, True)]
)
def test_a_method_that_learns_decodes_twice_before_anything_is_tiled(
    monkeypatch, text_prior, free, twice, tiled
):
    monkeypatch.setattr(placement, "free", lambda name: free * GB)
    text_prior.costs = COSTS
    with text_prior.borrowed():
        text_prior.fit(LDRPS().demand(512**2))
        assert (text_prior.placement.twice, text_prior.placement.tiled) == (twice, tiled)
        assert ("decoding twice" in text_prior.placement.note) == twice
    assert not text_prior.placement.again


def test_text_encoders_leave_the_device_when_they_have_read(text_prior, monkeypatch):
    (encoder,) = text_prior.parts.text_encoders
    went, move = [], encoder.to
    monkeypatch.setattr(encoder, "to", lambda device: went.append(str(device)) or move(device))
    text_prior.placement = replace(text_prior.placement, device="cpu:0")
    text_prior.embed("red door")
    assert went == ["cpu:0", "cpu"]


def test_tiles_keep_memory_from_growing_with_the_picture():
    """But for whole pictures, and the method's own networks, which see them whole."""
    small, large = (Demand(side**2, gradient=True).bytes(COSTS, 512, 512) for side in (512, 2048))
    assert large - small < 0.05 * (Demand(2048**2, gradient=True).bytes(COSTS) - small)


def test_tiles_chosen_at_loading_are_given_up_by_a_run_that_needs_none(monkeypatch, tiny_prior):
    """RELD's fast form on SDXL needs a third of what the decoder's gradient does."""
    prior = LatentPrior("tiny", tiny_prior.parts, replace(tiny_prior.placement, tiled=True))
    monkeypatch.setattr(placement, "MOST", 1e12)
    with prior.borrowed():
        prior.fit(Demand(48 * 40))
        assert not prior.placement.tiled
    assert prior.placement.tiled
