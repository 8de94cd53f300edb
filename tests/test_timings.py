"""The timing command on tiny networks, and that the architectures are those of the table of priors."""

from __future__ import annotations

import json

import pytest
import torch

from restoration.commands import timings
from restoration.priors import architectures
from restoration.priors.catalogue import PRIORS
from restoration.priors.placement import Placement
from restoration.solvers.reld_fast import RELDFast


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("sd-1.5", "sd-1.5"),
        ("sd-2.1-base", "sd-2.1-base"),
        ("sd-turbo", "sd-2.1-base"),
        ("sdxl", "sdxl"),
        ("sdxl-lightning", "sdxl"),
        ("lcm-lora", "sd-1.5"),
    ],
)
def test_the_tables_sizes_are_the_architectures(name, like):
    with torch.device("meta"):
        parts = architectures.networks(architectures.ARCHITECTURES[like], torch.bfloat16)
    millions = {part: sum(p.numel() for p in network.parameters()) / 1e6 for part, network in parts.items()}
    entry = PRIORS[name]
    assert entry.unet == pytest.approx(millions["unet"], abs=0.1) and entry.vae == pytest.approx(
        millions["vae"], abs=0.1
    )
    assert entry.text == pytest.approx(
        sum(count for part, count in millions.items() if "text" in part), abs=0.1
    )
    assert (
        parts["unet"].dtype == torch.bfloat16
        and parts["vae"].dtype == torch.float32
        and torch.get_default_dtype() == torch.float32
    )


def test_networks_are_made_on_the_device_and_tried_by_what_the_host_draws(monkeypatch):
    """The codec's trial draws with a generator of the host, which a default device refuses: it once ended the
    command on every accelerator.
    """
    monkeypatch.setattr(architectures.placement, "choose", lambda *_: Placement("meta"))
    monkeypatch.setattr(
        architectures, "assembled", lambda name, parts, where: (parts, torch.get_default_device())
    )
    parts, device = architectures.random_prior("sd-1.5", 512)
    assert parts["unet"].device.type == "meta" and device.type == "cpu"


def test_the_command(tmp_path, capsys, monkeypatch):
    # times of so small networks say nothing
    monkeypatch.setattr(timings, "seconds", lambda action, *_: (action(), 1.0)[1])
    arguments = [
        "--prior",
        "tiny",
        "--task",
        "deblur",
        "--side",
        "32",
        "--repeats",
        "1",
        "--batch",
        "3",
        "--device",
        "cpu",
        "--set",
        "steps=8",
    ]
    assert timings.main([*arguments, "--json", str(tmp_path / "t.json")]) == 0
    figures = json.loads((tmp_path / "t.json").read_text())["figures"]
    assert (figures["calls of decode"], figures["calls of denoise"]) == (1, 1) and figures[
        "peak memory"
    ] is None
    assert 1e-5 < figures["predicted memory"] < 1e-2
    calls = sum(count for name, count in figures.items() if name.startswith("calls of"))
    assert figures["network calls alone"] == calls and figures["run / network calls"] == 1 / calls
    assert figures["batch of 3 against 3 single ones"] == 3
    text = capsys.readouterr().out
    assert "random weights" in text and "On cpu in float32" in text and "| run |" in text
    assert timings.main([*arguments, "--device", "nonsense"]) == 2
    assert "There is no device 'nonsense' here" in capsys.readouterr().err


def test_counting_sees_gradients_and_ends_with_the_block():
    prior = architectures.random_prior("tiny", 32, "cpu")
    z = torch.randn(1, 4, 16, 16)
    with timings.counted(prior) as calls:
        prior.decode(z, (32, 32))
        prior.decode(z.clone().requires_grad_(), (32, 32))
        prior.denoise(z, 5, prior.embed("a"), 3.0)
        prior.denoise_at(z, 0.1)
    assert (
        calls["decode", (1, 4, 16, 16), ((32, 32), False)]
        == calls["decode", (1, 4, 16, 16), ((32, 32), True)]
        == 1
    )
    assert calls["denoise", (1, 4, 16, 16), (2, False)] == calls["denoise", (1, 4, 16, 16), (1, False)] == 1
    assert "decode" not in vars(prior) and all(timings.isolated(prior, call, 1) > 0 for call in calls)


def test_a_batch_is_restored_as_its_pictures_are():
    from restoration.degradations.linear import TASKS

    prior, task = architectures.random_prior("tiny", 32, "cpu"), TASKS["deblur"]()
    y = torch.rand(3, 3, 28, 32)

    def restored(y: torch.Tensor) -> torch.Tensor:
        return list(RELDFast(steps=2).restore(prior, y, task, generator=torch.Generator()))[-1].image

    assert torch.allclose(restored(y), torch.cat([restored(row[None]) for row in y]), atol=1e-4)
