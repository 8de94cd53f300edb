"""The decision where a prior runs, for given numbers, and the measuring of this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from restoration.degradations.linear import TASKS
from restoration.priors import architectures, placement
from restoration.priors.latent import LatentPrior
from restoration.priors.memory import Costs, Demand, Live
from restoration.priors.placement import Device, place
from restoration.record import Run
from restoration.run import restore
from restoration.solvers.ld_rps import LDRPS
from restoration.solvers.reld import RELD
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


@pytest.mark.parametrize(
    ("checkpointed", "per_pixel"), [(False, placement.GRADIENT), (True, placement.CHECKPOINTED)]
)
def test_the_bytes_per_pixel_are_counted(checkpointed, per_pixel):
    """The full-size decoder and its gradient at 512×512 on fake tensors, which have sizes but no memory."""
    from diffusers import AutoencoderKL

    with FakeTensorMode():
        vae = AutoencoderKL(**architectures.KL).requires_grad_(False)
        if checkpointed:
            vae.enable_gradient_checkpointing()
        z = torch.zeros(1, 4, 64, 64, requires_grad=True)
        with Live() as live:
            torch.autograd.grad(vae.decode(z).sample.sum(), z)
    assert live.peak / 512**2 == pytest.approx(per_pixel, rel=0.02)


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


KL_COSTS = Costs(2560, 3088, placement.GRADIENT, placement.CHECKPOINTED, 260)
SDXL_COSTS = KL_COSTS._replace(denoise=160)


@pytest.mark.parametrize(
    ("parameters", "costs", "side", "solver", "counted"),
    [
        (SD21, KL_COSTS, 512, RELDFast(), 3.56),
        (SD21, KL_COSTS, 512, RELD(), 8.86),
        (SD21, KL_COSTS, 512, LDRPS(), 11.75),
        (SDXL, SDXL_COSTS, 1024, RELDFast(), 10.3),
        (SDXL, SDXL_COSTS, 1024, RELD(), 31.6),
        (SDXL, SDXL_COSTS, 1024, LDRPS(), 43.1),
    ],
)
def test_what_a_run_needs_is_what_was_counted(parameters, costs, side, solver, counted):
    """GB of whole runs with random weights of the real sizes, every tensor counted, weights included, without
    a context.
    """
    weights = sum(count * (4 if name == "vae" else 2) for name, count in parameters.items())
    demand = Demand(side**2, solver.differentiates, solver.own_bytes)
    assert (weights + demand.bytes(costs)) / GB == pytest.approx(counted, rel=0.1)


def test_tiles_keep_memory_from_growing_with_the_picture():
    """But for whole pictures, and the method's own networks, which see them whole."""
    small, large = (Demand(side**2, gradient=True).bytes(KL_COSTS, 512, 512) for side in (512, 2048))
    assert large - small < 0.05 * (Demand(2048**2, gradient=True).bytes(KL_COSTS) - small)


def test_tiles_chosen_at_loading_are_given_up_by_a_run_that_needs_none(monkeypatch, tiny_prior):
    """RELD's fast form on SDXL needs a third of what the decoder's gradient does."""
    prior = LatentPrior("tiny", tiny_prior.parts, replace(tiny_prior.placement, tiled=True))
    monkeypatch.setattr(placement, "MOST", 1e12)
    with prior.borrowed():
        prior.fit(Demand(48 * 40))
        assert not prior.placement.tiled
    assert prior.placement.tiled
