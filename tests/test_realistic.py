"""The cameras that LatentINDIGO's networks learn from."""

from __future__ import annotations

import dataclasses
import io
import math

import pytest
import torch
from PIL import Image

from restoration.degradations import realistic
from restoration.degradations.resampling import SuperResolution
from restoration.files import images
from restoration.files.images import enlarge


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

    for name in ("convolve", "resize", "noisy", "jpeg"):
        note(name)
    sinc = realistic.sinc_kernel(2.0)
    realistic.Realistic(2, (STAGE, SECOND), sinc, jpeg_last).degrade(
        torch.rand(1, 3, 40, 60), torch.Generator().manual_seed(0)
    )
    first = [("convolve", STAGE.kernel), ("resize", [28, 42]), ("noisy", STAGE), ("jpeg", 60)]
    second = [("convolve", SECOND.kernel), ("resize", [22, 33]), ("noisy", SECOND)]
    end = [("resize", [20, 30]), ("convolve", sinc)]
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
    strong = realistic.STRENGTHS["strong"]
    assert strong.first != light.first and strong.second != light.second
    for strength, pipeline in realistic.STRENGTHS.items():
        drawn = [realistic.draw(strength, 4, generator) for _ in range(300)]
        for number, ranges in enumerate((pipeline.first, pipeline.second)):
            stages = [camera.stages[number] for camera in drawn]
            gaussian, shot = ([s.level for s in stages if s.shot == kind] for kind in (False, True))
            for values, (low, high) in [
                (gaussian, ranges.noise),
                (shot, ranges.shot),
                ([s.ratio for s in stages], ranges.ratio),
                ([s.quality for s in stages], ranges.quality),
            ]:
                near = 0.1 * (high - low)
                assert low <= min(values) <= low + near and high - near <= max(values) <= high
            assert {s.mode for s in stages} == set(realistic.MODES)
            assert sum(s.grey for s in stages) / 300 == pytest.approx(0.4, abs=0.1)
            assert sum(s.kernel is not None for s in stages) / 300 == pytest.approx(ranges.blurred, abs=0.1)
        assert sum(camera.sinc is not None for camera in drawn) / 300 == pytest.approx(
            pipeline.ringing, abs=0.1
        )
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
