"""The invertible network, the degradations it learns from, and the command that trains it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restoration.files.images import enlarge
from restoration.solvers.inn import LiftingINN
from restoration.solvers.inn_weights import _load, load_inn
from restoration.solvers.restorer import Restorer

SHAPES = [
    {"scale": 8, "patch": 8},
    {"scale": 4},
    {"scale": 2},
    {"scale": 1},
    {"scale": 1, "patch": 2, "offset": 0.0, "spread": (1.8, 0.5, 0.2, 0.05)},
]


def random_inn(std: float = 0.05, **options) -> LiftingINN:
    """With random instead of zero outputs."""
    torch.manual_seed(0)
    inn = LiftingINN(width=16, pairs=2, embedding=8, **options)
    for name, weight in inn.named_parameters():
        if name.endswith(("leave.weight", "linear.weight", "second.weight")):
            nn.init.normal_(weight, std=std)
    return inn.requires_grad_(False)


def example(inn: LiftingINN, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(x, γ)"""
    return torch.rand(2, len(inn.config.spread), height, width), inn.embed(torch.rand(2, 3, 20, 22))


@pytest.mark.parametrize("options", SHAPES)
@pytest.mark.parametrize("size", [(32, 48), (37, 45)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_round_trip(options, size, dtype, tolerance):
    inn = random_inn(**options)
    x, gamma = (t.to(dtype) for t in example(inn, *size))
    inn = inn.to(dtype)
    again = inn.inverse(*inn(x, gamma), gamma)
    assert again.shape == x.shape and (again - x).abs().max() < tolerance


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_swapping_the_coarse_part_is_exact(scale, dtype, tolerance):
    inn = random_inn(scale=scale, patch=8)
    x, gamma = (t.to(dtype) for t in example(inn, 32, 48))
    inn, y = inn.to(dtype), torch.rand(2, 3, 32 // scale, 48 // scale, dtype=dtype)
    swapped, measured = inn.swap(x, y, gamma)
    assert (inn.measure(swapped, gamma) - y).abs().max() < tolerance
    assert torch.equal(measured, inn.measure(x, gamma))


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_untrained_it_is_the_wavelet(scale):
    inn = LiftingINN(scale=scale, patch=8)
    x, gamma = example(inn, 32, 48)
    assert torch.allclose(inn.measure(x, gamma), F.avg_pool2d(x, scale), atol=1e-6)


def test_no_weights_can_make_it_explode():
    inn = random_inn(std=3.0)
    x, gamma = example(inn, 32, 32)
    coarse, details = inn(x, gamma)
    assert coarse.abs().max() < 4
    assert (inn.inverse(coarse, details, gamma) - x).abs().max() < 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype):
    inn = random_inn()
    x, gamma = example(inn, 32, 32)
    with pytest.raises(TypeError, match="float32 only"):
        inn(x.to(dtype), gamma)
    coarse, details = inn(x, gamma)
    with pytest.raises(TypeError, match="float32 only"):
        inn.to(dtype).inverse(coarse, details, gamma)


def test_pictures_of_a_batch_do_not_mix():
    inn = random_inn()
    x, gamma = example(inn, 32, 32)
    assert torch.allclose(inn(x, gamma)[0][:1], inn(x[:1], gamma[:1])[0], atol=1e-6)


def test_every_parameter_learns():
    inn = random_inn().requires_grad_()
    x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 8, 8)
    gamma = inn.embed(y)
    swapped, measured = inn.swap(x, y, gamma)
    (swapped.square().mean() + measured.square().mean() + inn.transfer(gamma).square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in inn.parameters())


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="multiple of scale"):
        LiftingINN(scale=8, patch=4)
    with pytest.raises(ValueError, match="power of two"):
        LiftingINN(scale=3, patch=3)


def test_save_and_load(tmp_path):
    inn = random_inn(scale=2)
    inn.save_pretrained(tmp_path)
    x, gamma = example(inn, 32, 32)
    assert torch.equal(LiftingINN.from_pretrained(tmp_path)(x, gamma)[0], inn(x, gamma)[0])


def test_an_untrained_combination_says_what_to_do(tiny_prior):
    with pytest.raises(
        ValueError, match=r"choose the pixel domain .*--domain latent --scale 4.*--prior tiny"
    ):
        load_inn("latent", 4, tiny_prior)


def test_a_latent_network_serves_one_codec_whatever_the_prior_is_called(tiny_prior, embedded):
    assert load_inn(
        "latent", 4, SimpleNamespace(name="/home/me/embedded", device="cpu", encode=embedded.encode)
    ).config.codec
    tiny_prior.name = "/home/me/embedded"
    scaled = SimpleNamespace(name="embedded", device="cpu", encode=lambda x: 0.9 * embedded.encode(x))
    fewer = SimpleNamespace(name="embedded", device="cpu", encode=lambda x: embedded.encode(x)[:, :4])
    for other in (tiny_prior, scaled, fewer):
        with pytest.raises(
            ValueError, match="latent-embedded-x4 was trained with another codec than that of the prior"
        ):
            load_inn("latent", 4, other)
    assert not load_inn("pixel", 4, tiny_prior).config.codec


@pytest.mark.parametrize("harm", [float("nan"), 1e8])
def test_a_damaged_network_is_refused(tmp_path, embedded, monkeypatch, harm):
    inn = random_inn()
    inn.updaters[0].leave.bias[0] = harm
    inn.register_to_config(gain=1e9)
    inn.save_pretrained(tmp_path / "pixel-x4")
    monkeypatch.setattr("restoration.solvers.inn_weights.INNS", tmp_path)
    _load.cache_clear()
    with pytest.raises(ValueError, match="pixel-x4 is damaged: forth and back it errs by"):
        load_inn("pixel", 4, embedded)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_untrained_restorer_is_the_enlargement(scale):
    y = torch.rand(1, 3, 21, 18)
    assert torch.equal(Restorer(scale)(y), enlarge(y, scale))
