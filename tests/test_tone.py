"""Tone curves: what more light does to a picture, and that less undoes it."""

from __future__ import annotations

import pytest
import torch

from restoration.degradations.tone import curve, relit, straight


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_curve_has_its_inverse(share):
    y = torch.linspace(0, 1, 1001)
    assert torch.allclose(curve(straight(y, share), share), y, atol=5e-3 if share == 0 else 1e-5)
    assert (straight(y, share).diff() >= 0).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_light_that_is_taken_comes_back(share):
    y = 0.05 + 0.9 * torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    stops = torch.linspace(0, 4, 30).expand(1, 1, 20, 30)
    dark = relit(y, -stops, share)
    assert (dark <= y + 1e-3).all() and dark[..., -1].mean() < 0.3 * y[..., -1].mean()
    assert torch.allclose(relit(dark, stops, share), y, atol=1e-2)


def test_colours_keep_their_ratios_in_linear_light_and_nothing_leaves_the_range():
    grey = torch.full((1, 3, 4, 4), 0.2)
    lit = relit(grey, 2.0)
    assert (lit.amax(1) - lit.amin(1)).max() < 1e-6 and lit.mean() > 0.4
    assert relit(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2), 8.0).tolist() == [[[[0.0, 1.0]]]]
