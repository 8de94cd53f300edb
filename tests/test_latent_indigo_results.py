"""What whole runs of LatentINDIGO with the committed networks come to."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from restoration.degradations import realistic
from restoration.evaluation import metrics
from restoration.files import images
from restoration.files.images import enlarge
from restoration.priors import tiling
from restoration.record import Run
from restoration.run import restore
from restoration.solvers.latent_indigo import PRESETS, LatentINDIGO, levelled
from restoration.solvers.restorer import Restorer


def scored(prior, y, reference, **settings) -> float:
    """PSNR of the result."""
    return list(restore(y, Run(LatentINDIGO(**settings)), prior, reference=reference))[-1].result.scores[
        "PSNR"
    ]


@pytest.mark.parametrize("domain", ["latent", "pixel"])
def test_the_fidelity_weight_goes_from_the_clean_estimate_to_the_input(embedded, photo, domain):
    generator = torch.Generator().manual_seed(0)
    y = realistic.draw("light", 4, generator).degrade(photo, generator)
    runs = [
        list(restore(y, Run(LatentINDIGO(domain=domain, fidelity_weight=weight)), embedded))[-1]
        for weight in (0.0, 0.5, 1.0)
    ]
    unexplained = [step.scalars["residual"] for step in runs]
    assert unexplained[2] < unexplained[1] < unexplained[0]
    assert (runs[2].result.image - runs[0].result.image).square().mean().sqrt() > 1 / 255


def test_faithful_brings_back_what_the_first_estimate_smoothed_away(embedded, photo):
    """A small clean picture with grain, which the restorer takes for noise."""
    y = F.interpolate(photo, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1)
    faithful = PRESETS["faithful"] | {"scale": 2}
    alone = scored(embedded, y, photo, **faithful | {"guidance": "none"})
    assert scored(embedded, y, photo, **faithful) > alone + 0.2


def test_guidance_is_what_keeps_the_vivid_picture(embedded, photo):
    y = realistic.draw("mild", 4, generator := torch.Generator().manual_seed(0)).degrade(photo, generator)
    alone = scored(embedded, y, photo, **PRESETS["vivid"] | {"guidance": "none"})
    assert scored(embedded, y, photo, **PRESETS["vivid"]) > alone + 0.2


def test_any_size_in_tiles(embedded, photo, monkeypatch):
    """A whole run in tiles: no network of the prior that is tiled sees more, and the result is that of a run
    without them, borders included.
    """
    y = F.interpolate(photo, (21, 33), mode="area")
    largest: dict[str, int] = {}

    def watch(verb: str) -> None:
        original = getattr(embedded, verb)

        def watched(z, *more):
            largest[verb] = max(largest.get(verb, 0), *z.shape[-2:])
            return original(z, *more)

        monkeypatch.setattr(embedded, verb, watched)

    watch("denoise")
    watch("decode")
    images = {}
    for tile in (16, 512):
        largest.clear()
        step = list(
            LatentINDIGO(steps=2, tile=tile).restore(
                embedded, y, None, generator=torch.Generator().manual_seed(0)
            )
        )[-1]
        images[tile] = step.image
        # of the picture and its surroundings, 8 latent pixels a side
        assert largest == dict.fromkeys(("denoise", "decode"), min(tile, 33 + 16))
    difference = images[16] - images[512]
    assert images[16].shape == (1, 3, 84, 132) and difference.square().mean().sqrt() < 0.3 / 255
    for length, axis in ((21, -2), (33, -1)):
        edges = [
            4 * (edge - 8) - 1
            for first in tiling.starts(length + 16, 16)
            for edge in (first, first + 16)
            if 8 < edge < length + 8
        ]
        jumps = [
            image.diff(dim=axis).abs().mean([d for d in range(-4, 0) if d != axis])[edges].mean()
            for image in images.values()
        ]
        assert jumps[0] < 1.05 * jumps[1]


@pytest.mark.parametrize("domain", ["latent", "pixel"])
def test_quality(embedded, photo, domain):
    """Over drawn cameras the blind ×4 result beats the bicubic enlargement."""
    gains = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        y = realistic.draw("light", 4, generator).degrade(photo, generator)
        gains.append(scored(embedded, y, photo, domain=domain) - metrics.psnr(enlarge(y, 4), photo))
    assert sum(gains) / len(gains) > 0.2


@pytest.mark.parametrize("scale", [1, 4])
def test_flat_colours_stay_what_they_are_to_the_border(embedded, scale):
    """Saturated ones most of all, which the networks seldom saw: the light is the input's, with no frame."""
    y = torch.tensor([[220.0, 20.0, 30.0], [0.0, 255.0, 0.0]])[..., None, None].expand(2, 3, 24, 28) / 255
    *_, last = LatentINDIGO(scale=scale, steps=2).restore(
        embedded, y, None, generator=torch.Generator().manual_seed(0)
    )
    off = 255 * (last.image.clamp(0, 1) - y[..., :1, :1])
    assert last.image.shape[-2:] == (24 * scale, 28 * scale)
    assert off.mean((-1, -2)).abs().max() < 1 and off.abs().max() < 5


def test_light_comes_from_the_input_and_detail_from_the_networks():
    y = torch.rand(2, 3, 70, 81, generator=torch.Generator().manual_seed(0))
    image = y.repeat_interleave(2, -1).repeat_interleave(2, -2)
    fine = 0.1 * (torch.arange(162) % 2 * 2 - 1).float()
    assert torch.allclose(levelled(image + fine, y, 2), image + fine, atol=1e-5)
    assert torch.allclose(levelled(image + 0.05, y, 2), image, atol=1e-5)


@pytest.mark.parametrize("preset", ["vivid", "faithful"])
def test_a_sensors_noise_does_not_stay(embedded, photo, preset):
    """White noise is nothing that the restorers know; the damage meter does."""
    y = images.quantise(
        photo + 20 / 255 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    )
    solver = LatentINDIGO(**PRESETS[preset] | {"scale": 1})
    *_, last = restore(y, Run(solver), embedded, reference=photo)
    assert last.result.scores["PSNR"] > metrics.psnr(y, photo) + 6


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_first_estimate_keeps_the_colours_of_areas(scale):
    """Whatever its weights: a flat colour stays as it is, away from the border."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        restorer = Restorer(scale, width=8, cells=1).requires_grad_(False)
        torch.nn.init.normal_(restorer.leave.weight)
    y = torch.tensor([0.1, 0.8, 0.2])[None, :, None, None].expand(1, 3, 128 // scale, 128 // scale)
    change = (restorer(y) - enlarge(y, scale))[..., 48:80, 48:80]
    assert change.abs().max() > 0.01 and change.mean((2, 3)).abs().max() < 1e-4
