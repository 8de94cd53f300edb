from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F

from restoration import diffusion
from restoration.degradations.linear import TASKS
from restoration.priors import tiling
from restoration.priors.latent import LatentPrior
from restoration.record import Run
from restoration.run import restore
from restoration.solvers import PRESETS, SOLVERS, tiles
from restoration.solvers.fpam import FPAM, HALO, Discriminator, fresh


@pytest.mark.parametrize(("length", "tile"), [(10, 16), (16, 16), (17, 16), (100, 16), (384, 64)])
def test_tiles_cover_everything_and_overlap(length, tile):
    first = tiling.starts(length, tile)
    assert first[0] == 0 and first[-1] + min(tile, length) == length
    assert all(0 < b - a <= tile - tile // 4 for a, b in itertools.pairwise(first))


@pytest.mark.parametrize("factor", [1, 2])
def test_a_pointwise_function_is_not_changed(factor):
    x = torch.rand(1, 3, 40, 57)
    out = tiling.tiled(
        lambda part: F.interpolate(part, scale_factor=factor, mode="nearest") ** 2, x, 16, factor
    )
    assert torch.allclose(out, F.interpolate(x, scale_factor=factor, mode="nearest") ** 2, atol=1e-5)


def test_gradients_pass(embedded):
    z = torch.randn(1, embedded.channels, 24, 20)
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(tiles.decode(embedded, leaf, (96, 80), 16).square().sum(), leaf)
    (whole,) = torch.autograd.grad(embedded.decode(leaf, (96, 80)).square().sum(), leaf)
    assert (gradient - whole).norm() < 0.05 * whole.norm()


@pytest.mark.parametrize("picture", ["ramp", "photo"])
def test_no_seams(embedded, photo, picture):
    """The largest jump across the tiles' borders is not above that elsewhere; colours stay, and tiles change
    next to nothing.
    """
    ramp = torch.linspace(0.2, 0.8, 288).expand(1, 3, 192, 288) * torch.tensor([1.0, 0.8, 0.6])[:, None, None]
    z = embedded.encode(ramp if picture == "ramp" else F.interpolate(photo, (192, 288), mode="bicubic"))
    t = embedded.timestep(0.2)
    z_t = (z + 0.2 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))) * embedded.alpha_bar[
        t
    ].sqrt().float()
    tiled = tiles.decode(embedded, tiles.denoise(embedded, z_t, t, 32), (190, 287), 32)
    whole = embedded.decode(embedded.denoise(z_t, t).z0, (190, 287))
    jumps = tiled.diff(dim=-1).abs().mean((0, 1, 2))
    borders = torch.zeros(len(jumps), dtype=torch.bool)
    borders[
        [4 * edge - 1 for first in tiling.starts(72, 32) for edge in (first, first + 32) if 0 < edge < 72]
    ] = True
    assert (
        jumps[borders].max() <= jumps[~borders].max()
        and jumps[borders].mean() < 1.05 * whole.diff(dim=-1).abs().mean((0, 1, 2))[borders].mean()
    )
    assert (tiled - whole).mean().abs() < 0.1 / 255 and (tiled - whole).square().mean().sqrt() < 0.2 / 255


def memory_short(prior) -> LatentPrior:
    """The same networks in a prior that works in tiles, here of 32 latent pixels a side."""
    tiles = LatentPrior(prior.name, prior.parts, dataclasses.replace(prior.placement, tiled=True))
    tiles.codec_tile = tiles.denoiser_tile = 32
    return tiles


def test_a_prior_short_of_memory_does_in_tiles_what_it_would_do_whole(embedded, photo):
    """All four verbs, whoever calls them, on a picture of 3×2 tiles and odd sides; inside, between the
    borders, and across them.
    """
    tiles, x = memory_short(embedded), F.interpolate(photo, (190, 287), mode="bicubic").clamp(0, 1)
    z = embedded.encode(x)
    assert torch.allclose(tiles.encode(x), z, atol=1e-5)
    t = embedded.timestep(0.2)
    z_t = (z + 0.2 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))) * embedded.alpha_bar[
        t
    ].sqrt().float()
    whole, merged = embedded.denoise(z_t, t), tiles.denoise(z_t, t)
    assert (merged.z0 - whole.z0).abs().mean() < 0.2 / 255 and (
        merged.z0 - whole.z0
    ).mean().abs() < 0.02 / 255
    again = diffusion.add_noise(merged.z0, merged.eps, embedded.alpha_bar[t])
    assert (again - z_t).abs().max() < 1e-4
    assert (tiles.decode(z, (190, 287)) - embedded.decode(z, (190, 287))).abs().max() < 1 / 255
    leaf = z.clone().requires_grad_()
    ours, theirs = (
        torch.autograd.grad(p.decode(leaf, (190, 287)).square().sum(), leaf)[0] for p in (tiles, embedded)
    )
    assert (ours - theirs).norm() < 0.02 * theirs.norm()


@pytest.mark.parametrize(("method", "task"), [("reld", "deblur"), ("ld-rps", None), ("latent-indigo", None)])
def test_every_method_runs_in_tiles(embedded, photo, method, task):
    tiles, solver = (
        memory_short(embedded),
        SOLVERS[method](**next(iter(PRESETS[method].values())) | {"steps": 2}),
    )
    y = (
        photo[..., :48, :40]
        if method == "latent-indigo"
        else F.interpolate(photo, (160, 144), mode="bicubic").clamp(0, 1)
    )
    whole, merged = (
        list(restore(y, Run(solver, TASKS[task]() if task else None), p))[-1].result.image
        for p in (embedded, tiles)
    )
    assert (whole - merged).abs().mean() < 0.5 / 255


@pytest.mark.parametrize("size", [(40, 57), (33, 16), (64, 80)])
def test_local_functions_in_tiles_are_what_they_are_as_a_whole(size):
    """ψ, its critics and VGG's first layers, values and both gradients: nothing is merged or lost."""
    generator, x = torch.Generator().manual_seed(0), torch.rand(2, 3, *size)
    psi, critic = (fresh(kind, 6, generator, x.device) for kind in (FPAM, Discriminator))
    pooled = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5, padding=2), torch.nn.MaxPool2d(2))
    for network, shrink in ((psi, 1), (critic, 8), (pooled, 2)):
        results = []
        for tile in (0, 16):
            leaf = x.clone().requires_grad_()
            out = tiling.local(network, leaf, tile, HALO, shrink)
            slopes = torch.autograd.grad(out.square().sum(), [leaf, *network.parameters()])
            results.append((out, *slopes))
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(*results, strict=True))
