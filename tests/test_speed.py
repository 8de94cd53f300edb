"""What is meant to make an accelerator quicker, tried on the host: the codec in bfloat16 where it bears that,
and torch.compile behind its switch.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from tiny_models import load

from restoration.priors import compiling, precision
from restoration.priors.architectures import random_prior
from restoration.priors.latent import LatentPrior
from restoration.priors.placement import Placement

BF16 = torch.bfloat16


@pytest.fixture(autouse=True)
def small_trial(monkeypatch):
    monkeypatch.setattr(precision, "SIDE", 32)


def test_a_codec_is_halved_where_its_own_error_hides_it(folders):
    parts = load(folders["sd1"]).parts
    half = copy.deepcopy(parts.vae).to(BF16)
    level = precision.lowest(parts)
    assert level == pytest.approx(0.0292 / 0.13025, rel=0.01)
    assert precision.bears(parts.vae, half, level)
    assert not precision.bears(
        parts.vae, half, level / 1000
    )  # the denoiser would see what it does to latents
    half.decoder.conv_out.bias += float("nan")
    assert not precision.bears(parts.vae, half, level)


class Lossless(SimpleNamespace):
    """A codec that gives back what it was given, in its precision."""

    device = "cpu"

    def encode(self, x):
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: x))

    def decode(self, z):
        return SimpleNamespace(sample=z)


def test_a_codec_that_loses_nothing_stays_exact():
    assert not precision.bears(Lossless(dtype=torch.float32), Lossless(dtype=BF16), 1.0)


def test_float16_and_other_devices_are_not_tried(folders):
    assert precision.suits(Placement("cuda:0", BF16))
    parts = load(folders["sd1"]).parts
    for where in (Placement("cuda:0", torch.float16), Placement("cuda:0"), Placement("cpu", BF16)):
        assert precision.fitted(parts, where) == (parts, where)


def test_a_prior_with_a_halved_codec_keeps_float32_latents_and_says_so(folders, monkeypatch):
    prior = load(folders["sd1"], BF16)
    monkeypatch.setattr(precision, "suits", lambda where: True)
    half = LatentPrior("half", *precision.fitted(prior.parts, prior.placement))
    assert half.parts.vae.dtype == BF16 and prior.parts.vae.dtype == torch.float32
    assert half.placement.note == "On cpu in bfloat16, the VAE too." and "too" not in prior.placement.note
    x = torch.rand(1, 3, 16, 19)
    z = half.encode(x)
    assert z.dtype == half.decode(z, (16, 19)).dtype == torch.float32
    assert (z - prior.encode(x)).abs().max() < 0.1 * z.std()
    assert half.costs.decode < 0.7 * prior.costs.decode
    with half.borrowed():
        assert half.save_memory() and half.parts.vae.dtype == BF16


def test_networks_are_compiled_behind_a_switch(monkeypatch):
    """By a backend that needs no compiler here."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    plain, z = random_prior("tiny", 32, "cpu", BF16), torch.randn(1, 4, 8, 8)
    monkeypatch.setenv(compiling.SWITCH, "default")
    prior = LatentPrior("compiled", copy.deepcopy(plain.parts), plain.placement)
    networks = prior.parts.unet, prior.parts.vae.encoder, prior.parts.vae.decoder
    assert all(network._compiled_call_impl for network in networks)
    assert torch.allclose(prior.denoise(z, 500).z0, plain.denoise(z, 500).z0, atol=1e-2)
    prior.device = torch.device("meta")  # where networks may take turns
    with prior.borrowed():
        assert prior.save_memory() and prior.save_memory() and prior.placement.offload
        assert not any(network._compiled_call_impl for network in networks)
    assert all(network._compiled_call_impl for network in networks)


@pytest.mark.parametrize(("mode", "zero"), [("", ""), ("default", "1")])
def test_nothing_is_compiled_unless_asked_for_and_on_zero_gpu_never(folders, monkeypatch, mode, zero):
    monkeypatch.setenv(compiling.SWITCH, mode)
    monkeypatch.setenv("SPACES_ZERO_GPU", zero)
    assert load(folders["sd1"], BF16).parts.unet._compiled_call_impl is None


def test_another_word_is_refused(folders, monkeypatch):
    monkeypatch.setenv(compiling.SWITCH, "yes")
    with pytest.raises(ValueError, match="RESTORATION_COMPILE is 'yes'; it can be default, reduce-overhead"):
        load(folders["sd1"], BF16)


def test_float32_is_not_compiled(folders, monkeypatch):
    monkeypatch.setenv(compiling.SWITCH, "default")
    assert load(folders["sd1"]).parts.unet._compiled_call_impl is None
