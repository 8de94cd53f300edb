"""The invertible network, the degradations it learns from, and the command that trains it."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import tarfile
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from restoration.degradations import realistic
from restoration.degradations.resampling import SuperResolution
from restoration.evaluation.metrics import psnr
from restoration.files import images
from restoration.files.images import enlarge
from restoration.solvers.inn import LiftingINN
from restoration.solvers.inn_weights import INNS, _load, codec_of, load_inn, load_restorer
from restoration.solvers.restorer import Restorer
from restoration.training import data
from restoration.training import inn as training

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
        ValueError, match=r"--domain latent --prior tiny --scale 4.*or choose the pixel domain"
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
    assert load_inn("pixel", 4, tiny_prior).config.codec == ()


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


def test_enlarging_is_pillows():
    y = torch.rand(1, 3, 20, 31)
    assert (enlarge(y, 4) - SuperResolution().start(y).clamp(0, 1)).abs().max() < 1e-4


@pytest.mark.parametrize("strength", realistic.STRENGTHS)
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_cameras(strength, scale):
    x, state = torch.rand(1, 3, 41, 30), torch.random.get_rng_state()
    for seed in range(4):
        y, again = (
            realistic.draw(strength, scale, g).degrade(x, g)
            for g in (torch.Generator().manual_seed(seed) for _ in range(2))
        )
        camera = realistic.draw(strength, scale, torch.Generator().manual_seed(seed))
        assert torch.equal(y, again)
        assert y.shape == camera.forward(x).shape == (1, 3, -(-41 // scale), -(-30 // scale))
        assert y.min() >= 0 and y.max() <= 1
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_what_a_camera_does_to_gratings(scale):
    plain = realistic.Stage(None, 1.0, "area", False, 0.0, False, 100)
    assert (realistic.Realistic(1, (plain, plain), None, True).transfer() - 1).abs().max() < 1e-4
    # a Gaussian's transfer is exp(-2π²σ²f²), f in periods per pixel: σ is 2 pixels before the reduction
    generator = torch.Generator().manual_seed(0)
    kernel = torch.outer(*[torch.exp(-((torch.arange(21) - 10) ** 2) / (2 * 2.0**2))] * 2)
    blurred = realistic.Realistic(
        scale, (dataclasses.replace(plain, kernel=kernel / kernel.sum()), plain), None, True
    ).transfer()
    coarse = torch.tensor(realistic.WAVES).square().sum(1) < 10
    expected = torch.exp(
        -2 * math.pi**2 * (2 / scale) ** 2 * torch.tensor(realistic.WAVES).square().sum(1) / 24**2
    )
    assert (blurred - expected)[coarse].abs().max() < 0.05
    drawn = torch.stack([realistic.draw("light", scale, generator).transfer() for _ in range(8)])
    assert drawn.abs().max() < 1.3 and drawn[:, 0].mean() > drawn[:, 8].mean()


STAGE = realistic.Stage(torch.ones(3, 3) / 9, 0.7, "bilinear", False, 5.0, False, 60)
SECOND = dataclasses.replace(
    STAGE, kernel=torch.eye(5) / 5, ratio=1.1, mode="bicubic", shot=True, level=1.0, grey=True, quality=30
)


@pytest.mark.parametrize("jpeg_last", [False, True])
def test_the_order_of_what_a_camera_does(monkeypatch, jpeg_last):
    """y = JPEG(sinc(resize(N₂(resize(blur₂(JPEG(N₁(resize(blur₁(x))))))))), or with the last JPEG before the
    last resizing.
    """
    done: list = []

    def note(name: str) -> None:
        original = getattr(realistic, name)

        def noted(x, first, *more):
            done.append((name, first))
            return original(x, first, *more)

        monkeypatch.setattr(realistic, name, noted)

    for name in ("_convolve", "_resize", "noisy", "jpeg"):
        note(name)
    sinc = realistic.sinc_kernel(2.0)
    realistic.Realistic(2, (STAGE, SECOND), sinc, jpeg_last).degrade(
        torch.rand(1, 3, 40, 60), torch.Generator().manual_seed(0)
    )
    first = [("_convolve", STAGE.kernel), ("_resize", [28, 42]), ("noisy", STAGE), ("jpeg", 60)]
    second = [("_convolve", SECOND.kernel), ("_resize", [22, 33]), ("noisy", SECOND)]
    end = [("_resize", [20, 30]), ("_convolve", sinc)]
    expected = [*first, *second, *end, ("jpeg", 30)] if jpeg_last else [*first, *second, ("jpeg", 30), *end]
    assert [name for name, _ in done] == [name for name, _ in expected]
    assert all(
        a is b or (isinstance(a, list | int) and a == b)
        for (_, a), (_, b) in zip(done, expected, strict=True)
    )


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(("shot", "level"), [(False, 12.0), (True, 0.8)])
def test_noise_is_as_strong_as_it_says(shot, level, grey):
    x = torch.tensor([0.3, 0.5, 0.4])[:, None, None].expand(1, 3, 200, 200)
    stage = dataclasses.replace(STAGE, shot=shot, level=level, grey=grey)
    noise = realistic.noisy(x, stage, torch.Generator().manual_seed(0)) - x
    light = torch.full((3,), 0.4) if grey else torch.tensor([0.3, 0.5, 0.4])
    expected = level * (256 * light).sqrt() / 256 if shot else torch.full((3,), level / 255)
    assert torch.allclose(noise.std((0, 2, 3)), expected, rtol=0.03) and noise.mean().abs() < 1e-3
    assert torch.corrcoef(noise[0].flatten(1))[0, 1].abs() == pytest.approx(float(grey), abs=0.03)


def test_jpeg_is_pillows(photo):
    errors = [(realistic.jpeg(photo, quality) - photo).square().mean().sqrt() for quality in (95, 60, 10)]
    assert 0.002 < errors[0] < errors[1] < errors[2]
    buffer = io.BytesIO()
    images.to_pil(photo).save(buffer, "JPEG", quality=60)
    assert torch.equal(realistic.jpeg(photo, 60), images.read_image(Image.open(buffer), 1))


def test_drawn_stages_fill_the_ranges_of_their_strength():
    """Levels, ratios and qualities of 300 drawn cameras come near both ends of what the table says, and never
    beyond.
    """
    generator, light = torch.Generator().manual_seed(0), realistic.STRENGTHS["light"]
    assert all(strong != weak for strong, weak in zip(realistic.STRENGTHS["strong"], light, strict=True))
    for strength, both in realistic.STRENGTHS.items():
        drawn = [realistic.draw(strength, 4, generator) for _ in range(300)]
        for number, ranges in enumerate(both):
            stages = [camera.stages[number] for camera in drawn]
            gaussian, shot = ([s.level for s in stages if s.shot == kind] for kind in (False, True))
            for values, (low, high) in [
                (gaussian, ranges.noise),
                (shot, ranges.shot),
                ([s.ratio for s in stages], ranges.ratio),
                ([s.quality for s in stages], ranges.quality),
            ]:
                near = 0.1 * (high - low)
                assert low <= min(values) < low + near and high - near < max(values) <= high
            assert {s.mode for s in stages} == set(realistic.MODES)
            assert sum(s.grey for s in stages) / 300 == pytest.approx(0.4, abs=0.1)
            assert sum(s.kernel is not None for s in stages) / 300 == pytest.approx(ranges.blurred, abs=0.1)
        assert sum(camera.sinc is not None for camera in drawn) / 300 == pytest.approx(0.8, abs=0.1)
        assert sum(camera.jpeg_last for camera in drawn) / 300 == pytest.approx(0.5, abs=0.1)


def test_the_noise_is_around_the_deterministic_part(photo):
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        camera = realistic.draw("light", 2, generator)
        mean = torch.stack([camera.degrade(photo, generator) for _ in range(3)]).mean(0)
        assert (mean - camera.forward(photo)).abs().mean() < 0.05


def test_unknown_strength():
    with pytest.raises(ValueError, match="light, strong"):
        realistic.draw("nonsense", 4, torch.Generator())


@pytest.fixture
def shard(tmp_path) -> str:
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for number in range(4):
            buffer = io.BytesIO()
            Image.effect_noise((200, 208), 20 * (number + 1)).convert("RGB").save(buffer, "PNG")
            info = tarfile.TarInfo(f"{number}.png")
            info.size = buffer.tell()
            buffer.seek(0)
            archive.addfile(info, buffer)
    return str(tmp_path / "photos.tar")


def options(shard: str, domain: str, *more: str) -> list[str]:
    """The smallest training there is."""
    sizes = {"scale": 2, "holdout": 2, "batch": 2, "crop": 32, "width": 8, "cells": 1, "pairs": 1}
    return [
        shard,
        "--domain",
        domain,
        *(word for name, size in sizes.items() for word in (f"--{name}", str(size))),
        *more,
    ]


@pytest.mark.parametrize("domain", ["pixel", "latent", "first"])
def test_training_continues_where_it_stopped(tmp_path, shard, domain, embedded, capsys):
    def train(name: str, steps: int) -> dict:
        files = ["--out", str(tmp_path / name), "--checkpoint", str(tmp_path / f"{name}.pt")]
        training.main(options(shard, domain, *files, "--steps", str(steps)))
        return json.loads(capsys.readouterr().out.strip().splitlines()[-1])

    assert train("a", 2)["step"] == 2
    begun = torch.load(tmp_path / "a.pt")["model"]
    assert train("a", 4) == train("undisturbed", 4)
    # so early the rate still warms up, whatever --steps is
    states = [torch.load(tmp_path / f"{name}.pt") for name in ("a", "undisturbed")]
    for part in ("model", "average"):
        assert all(torch.equal(value, states[1][part][name]) for name, value in states[0][part].items())
    assert not all(torch.equal(value, states[0]["model"][name]) for name, value in begun.items())
    kind, name = (
        (Restorer, "first-x2")
        if domain == "first"
        else (LiftingINN, "latent-embedded-x2" if domain == "latent" else "pixel-x2")
    )
    config = kind.from_pretrained(tmp_path / "a" / name).config
    assert config.scale == (1 if domain == "latent" else 2)
    assert domain != "latent" or tuple(config.codec) == codec_of(embedded)


@pytest.fixture
def set_up(tmp_path, shard, monkeypatch):
    """(domain, *options) -> (untrained model, loss, evaluate), as the command hands them to the loop."""

    def build(domain: str, *more: str) -> tuple:
        seen: list = []
        monkeypatch.setattr("restoration.training.loop.train", lambda *arguments: seen.extend(arguments))
        training.main(
            options(shard, domain, "--out", str(tmp_path), "--checkpoint", str(tmp_path / "c.pt"), *more)
        )
        return tuple(seen[:3])

    return build


@pytest.mark.parametrize("domain", ["pixel", "latent"])
def test_every_loss_teaches_its_part(set_up, domain):
    """At the start only the swap reaches the predictors, whose outputs the forward model does not see yet,
    and only gratings reach T.
    """

    def slopes(weight: str) -> list[float]:
        model, loss, _ = set_up(domain, "--swap", weight)
        loss(model, 0).backward()
        parts = (model.updaters[0].leave, model.predictors[0].leave, model.encoder.transfer)
        return [part.weight.grad.abs().sum().item() for part in parts]

    forward, predict, transfer = slopes("0")
    assert forward > 0 and predict == 0 and transfer > 0
    swapped = slopes("1")
    assert swapped[1] > 0 and swapped[2] == pytest.approx(transfer, rel=1e-3)
    model, loss, _ = set_up("first")
    loss(model, 0).backward()
    assert model.leave.weight.grad.abs().sum() > 0


def test_what_training_reports_is_measured_on_the_right_pictures(set_up, shard):
    """Of the untrained network, which is the mean of blocks, on the photographs held out and cameras drawn
    with seed 0.
    """
    model, _, evaluate = set_up("pixel")
    x = (data.centre_crops(data.load_photographs([shard])[-2:], 192) + 1) / 2
    generator = torch.Generator().manual_seed(0)
    cameras = [realistic.draw("light", 2, generator) for _ in x]
    y = torch.cat([camera.degrade(row, generator) for camera, row in zip(cameras, x.split(1), strict=True)])
    clean = torch.cat([camera.forward(row) for camera, row in zip(cameras, x.split(1), strict=True)])
    mean, reduced = F.avg_pool2d(x, 2), F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)
    big = enlarge(y, 2)
    expected = {
        "forward": (mean, clean),
        "forward_observed": (mean, y),
        "bicubic_down": (reduced, clean),
        "bicubic_down_observed": (reduced, y),
        "noise": (clean, y),
        "bicubic_up": (big, x),
        "swap": (big + F.interpolate(y - F.avg_pool2d(big, 2), scale_factor=2), x),
    }
    figures = evaluate(model)
    assert figures.keys() == expected.keys()
    for name, (a, b) in expected.items():
        decibels = [
            -10 * (row - other).square().mean().log10().item() for row, other in zip(a, b, strict=True)
        ]
        assert figures[name] == pytest.approx(sum(decibels) / 2, abs=0.01), name


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_untrained_restorer_is_the_enlargement(scale):
    y = torch.rand(1, 3, 21, 18)
    assert torch.equal(Restorer(scale)(y), enlarge(y, scale))


@pytest.mark.parametrize("folder", sorted(INNS.glob("*-x*")), ids=lambda f: f.name)
def test_committed_networks(folder, photo, embedded):
    assert max(f.stat().st_size for f in folder.iterdir()) < 15e6
    domain, *_, scale = folder.name.split("-")
    if domain == "first":
        assert load_restorer(int(scale[1:]))(torch.rand(1, 3, 16, 16)).shape[-1] == 16 * int(scale[1:])
        return
    inn = load_inn(domain, int(scale[1:]), embedded)
    x = (
        torch.rand(1, len(inn.config.spread), 64, 64)
        if domain == "pixel"
        else torch.randn(1, embedded.channels, 32, 32) * inn.unit
    )
    gamma = inn.embed(photo)
    assert (inn.inverse(*inn(x, gamma), gamma) - x).abs().max() < 1e-4


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_committed_pixel_networks_know_this_pictures_camera(photo, embedded, scale):
    """Better than bicubic reduction by more than 6 dB against the noise-free y, and worse once γ comes from
    another camera's picture.
    """
    inn, generators = (
        load_inn("pixel", scale, embedded),
        [torch.Generator().manual_seed(seed) for seed in range(8)],
    )
    cameras = [realistic.draw("light", scale, generator) for generator in generators]
    gammas = [
        inn.embed(camera.degrade(photo, generator))
        for camera, generator in zip(cameras, generators, strict=True)
    ]
    gains, exchanged, errors = [], [], []
    for number, camera in enumerate(cameras):
        clean = camera.forward(photo)
        reduced = psnr(F.interpolate(photo, clean.shape[-2:], mode="bicubic", antialias=True), clean)
        gains.append(psnr(inn.measure(photo, gammas[number]), clean) - reduced)
        exchanged.append(psnr(inn.measure(photo, gammas[number - 1]), clean) - reduced)
        errors.append((inn.transfer(gammas[number]) - camera.transfer()).abs().mean().item())
    assert sum(gains) / 8 > 6 and sum(exchanged) / 8 < sum(gains) / 8 - 1
    assert sum(errors) / 8 < 0.1
