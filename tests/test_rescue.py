"""Runs whose memory or range of numbers is short: saved, said and taken back; previews by a small decoder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_models import load, pipeline_of

from restoration.degradations.linear import TASKS
from restoration.priors.catalogue import PRIORS, Entry
from restoration.priors.latent import LatentPrior
from restoration.priors.placement import Placement
from restoration.record import Run
from restoration.run import restore
from restoration.solvers.reld_fast import RELDFast


def breaking(prior: LatentPrior, times: int) -> None:
    """The prior's denoiser runs out of memory in the third call, so many runs long."""
    denoise, calls, left = prior.denoise, [0], [times]

    def broken(*args, **kwargs):
        calls[0] += 1
        if calls[0] == 3 and left[0]:
            calls[0], left[0] = 0, left[0] - 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return denoise(*args, **kwargs)

    prior.denoise = broken


def test_memory_that_runs_out_is_saved_and_said_and_taken_back(folders, photo):
    prior, task = load(folders["sd1"]), TASKS["inpaint"]()
    before, state = prior.placement, torch.random.get_rng_state()
    breaking(prior, 1)
    steps = list(restore(photo[..., :16, :19], Run(RELDFast(), task, seed=5), prior))
    assert [s.index for s in steps] == [1, 2, *range(1, RELDFast().iterations(task) + 1)]
    assert "VAE in tiles" in steps[-1].note and "again" in steps[-1].note and "again" not in steps[1].note
    assert prior.placement == before and not prior.parts.vae.decoder.gradient_checkpointing
    again = list(
        restore(photo[..., :16, :19], Run(RELDFast(), task, seed=5), load(folders["sd1"], tiled=True))
    )
    assert torch.equal(steps[-1].result.image, again[-1].result.image) and "again" not in again[-1].note
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_rescue_is_taken_back_where_nobody_waits_for_the_end(folders, photo):
    prior = load(folders["sd1"])
    before = prior.placement
    breaking(prior, 1)
    steps = restore(photo[..., :16, :19], Run(RELDFast(), TASKS["inpaint"]()), prior)
    assert any("again" in next(steps).note for _ in range(5)) and prior.placement != before
    steps.close()
    assert prior.placement == before


def test_a_run_begins_in_tiles_then_lets_networks_take_turns(folders, monkeypatch):
    """On a device other than the host, which is where the networks stay here."""
    prior = load(folders["sd1"])
    prior.device = torch.device("meta")
    before, z = prior.placement, torch.randn(1, 4, 8, 8)
    with prior.borrowed():
        assert prior.save_memory() and prior.placement.tiled and not prior.placement.offload
        assert prior.save_memory() and prior.placement.offload and hasattr(prior.parts.unet, "_hf_hook")
        assert not prior.save_memory()
    assert prior.placement == before and not any(
        hasattr(network, "_hf_hook") for network in prior.parts.networks
    )
    prior.device = torch.device("cpu")
    assert torch.equal(prior.denoise(z, 5).z0, load(folders["sd1"]).denoise(z, 5).z0)


def test_memory_that_runs_out_twice_is_one_sentence(folders, tiny_prior, photo):
    for prior in (load(folders["sd1"]), tiny_prior):
        before = prior.placement
        breaking(prior, 2)
        with pytest.raises(ValueError, match="Memory ran out on cpu at"):
            list(restore(photo[..., :16, :19], Run(RELDFast(), TASKS["inpaint"]()), prior))
        assert prior.placement == before


def with_preview(folder: Path, small: Path, blocks: int, monkeypatch, **more: bool) -> LatentPrior:
    """A prior whose table names a small decoder, random too, that enlarges by 2 a block but the first."""
    from diffusers import AutoencoderTiny

    sides, depths = (
        ("encoder_block_out_channels", "decoder_block_out_channels"),
        ("num_encoder_blocks", "num_decoder_blocks"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        AutoencoderTiny(
            **dict.fromkeys(sides, (8,) * blocks), **dict.fromkeys(depths, (1,) * blocks)
        ).save_pretrained(small)
    monkeypatch.setitem(
        PRIORS,
        folder.name,
        Entry(str(folder), "", 16, 1.0, 1.0, 1.0, preview=str(small)),
    )
    return load(folder, **more)


def test_previews_are_what_a_pipeline_with_the_small_decoder_shows(folders, kind, tmp_path, monkeypatch):
    from diffusers import AutoencoderTiny

    prior, pipeline = with_preview(folders[kind], tmp_path, 2, monkeypatch), pipeline_of(folders[kind])
    pipeline.vae = AutoencoderTiny.from_pretrained(tmp_path)
    options = {"height": 24, "width": 16, "num_inference_steps": 1, "latents": torch.randn(1, 4, 12, 8)}
    z = pipeline("red door", output_type="latent", **options).images
    theirs = pipeline("red door", output_type="pt", **options).images
    assert torch.allclose(prior.preview(z, (24, 16)), theirs, atol=1e-5)
    assert prior.preview(z, (23, 15)).shape == (1, 3, 23, 15)
    assert torch.equal(prior.picture(z, (24, 16)), load(folders[kind]).decode(z, (24, 16)).clamp(0, 1))


def test_previews_are_made_of_tiles_where_the_pictures_are(folders, tmp_path, monkeypatch):
    whole, tiled = (
        with_preview(folders["sd1"], tmp_path, 4, monkeypatch, tiled=short) for short in (False, True)
    )
    z = torch.linspace(-1, 1, 80).expand(1, 4, 70, 80)
    a, b = (prior.preview(z, (560, 640)) for prior in (whole, tiled))
    assert a.shape == b.shape == (1, 3, 560, 640) and not a.requires_grad
    assert 0 < (a - b).abs().mean() < 0.01


@pytest.mark.parametrize("preview", ["", "some/missing"])
def test_without_a_small_decoder_the_preview_is_the_picture(folders, monkeypatch, preview):
    monkeypatch.setattr("restoration.priors.download.reachable", lambda: False)
    monkeypatch.setitem(
        PRIORS,
        "sd1",
        Entry(str(folders["sd1"]), "", 16, 1.0, 1.0, 1.0, preview=preview),
    )
    prior, z = load(folders["sd1"]), torch.randn(1, 4, 8, 8)
    assert torch.equal(prior.preview(z, (16, 16)), prior.picture(z, (16, 16)))


def overflowing(folder: Path, factor: float) -> LatentPrior:
    """A prior in float16 whose first layer's values grow by the factor; the normalisation behind it takes it
    back where there is range.
    """
    prior = load(folder, torch.float16)
    prior.parts.unet.conv_in.weight *= factor
    return prior


def test_numbers_that_leave_half_precision_are_made_anew_and_said(folders, photo):
    prior, wide, task, y = (
        overflowing(folders["sd1"], 2e5),
        overflowing(folders["sd1"], 2e5),
        TASKS["inpaint"](),
        photo[..., :16, :19],
    )
    text = prior.embed("red door")
    assert torch.isfinite(text).all() and prior.denoise(torch.randn(1, 4, 8, 8), 500).z0.isnan().all()
    state, weights = torch.random.get_rng_state(), prior.parts.unet.conv_in.weight.clone()
    steps = list(restore(y, Run(RELDFast(), task, seed=5), prior))
    count = RELDFast().iterations(task)
    assert [s.index for s in steps[-count:]] == list(range(1, count + 1))
    assert "begun again in float32" in steps[-1].note and "float16" in steps[-1].note
    assert all(torch.isfinite(s.latent).all() for s in steps)
    assert prior.placement.dtype == prior.parts.unet.dtype == torch.float16 and torch.equal(
        weights, prior.parts.unet.conv_in.weight
    )
    with wide.borrowed():
        assert wide.save_range() and not wide.save_range()
        again = list(restore(y, Run(RELDFast(), task, seed=5), wide))
    assert torch.equal(steps[-1].result.image, again[-1].result.image) and "again" not in again[-1].note
    assert torch.equal(state, torch.random.get_rng_state())


def test_numbers_that_leave_float32_are_one_sentence(folders, photo):
    prior = load(folders["sd1"], torch.float16)
    prior.parts.unet.conv_out.bias += float("nan")
    with pytest.raises(ValueError, match=r"left the range of float32: .* sd1's weights are damaged"):
        list(restore(photo[..., :16, :19], Run(RELDFast(), TASKS["inpaint"]()), prior))


def test_short_range_and_short_memory_in_one_run(folders, photo):
    prior = overflowing(folders["sd1"], 2e5)
    breaking(prior, 1)
    steps = list(restore(photo[..., :16, :19], Run(RELDFast(), TASKS["inpaint"]()), prior))
    assert "in float32, the VAE in tiles" in steps[-1].note and torch.isfinite(steps[-1].result.image).all()


def test_other_errors_are_not_hidden(folders, photo):
    prior = load(folders["sd1"])
    prior.denoise = lambda *args, **more: (_ for _ in ()).throw(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        list(restore(photo[..., :16, :19], Run(RELDFast(), TASKS["inpaint"]()), prior))
    assert dataclasses.replace(prior.placement) == Placement("cpu")
