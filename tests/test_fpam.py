from __future__ import annotations

import pytest
import torch

from restoration.solvers import fpam
from restoration.solvers.fpam import FPAM, Alignment, Discriminator, Weights, fresh

CPU = torch.device("cpu")


def count(module):
    return sum(p.numel() for p in module.parameters())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(**changes):
    settings = dict.fromkeys(Weights.__dataclass_fields__, 0.0) | {
        "patches": 4,
        "fit_rate": 5e-3,
        "critic_rate": 1e-3,
    }
    return Weights(**settings | changes)


def test_sizes_of_the_paper():
    with torch.device("meta"):
        psi, critic = FPAM(), Discriminator()
    assert (count(psi), count(psi.h2), count(critic)) == (373_577, 371_587, 371_073)
    assert Discriminator(6)(torch.rand(1, 3, 64, 40)).shape == (1, 1, 8, 5)


def test_fresh_networks_come_from_the_generator_alone():
    state = torch.random.get_rng_state()
    a, b, c = (fresh(FPAM, 8, seeded(s), CPU).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a) and not torch.equal(a["h2.0.weight"], c["h2.0.weight"])
    assert torch.equal(state, torch.random.get_rng_state())
    assert (a["p"] == 1).all() and (a["h1.0.bias"] == 0).all()
    wide = fresh(FPAM, 64, seeded(), CPU).h2[2].weight
    assert abs(wide.std().item() - (2 / (9 * 64)) ** 0.5) < 2e-3  # Kaiming: √(2 / fan-in)


def test_grey_world_has_a_finite_gradient_at_grey():
    x = torch.full((1, 3, 8, 8), 0.4, requires_grad=True)
    fpam.grey_world(x).backward()
    assert torch.isfinite(x.grad).all()
    tinted = torch.tensor([0.5, 0.4, 0.4])[:, None, None].expand(1, 3, 8, 8)
    assert fpam.grey_world(tinted).item() == pytest.approx((2 * 0.1**4) ** 0.5, rel=1e-3)


def test_brightness_and_edges():
    assert fpam.brightness(torch.full((1, 3, 30, 41), 0.5), 4).item() == 0
    assert fpam.brightness(torch.full((1, 3, 30, 41), 0.2), 4).item() == pytest.approx(0.09, abs=1e-6)
    x = torch.rand(1, 3, 17, 23)
    assert torch.allclose(fpam.edges(x), fpam.edges(x + 0.3), atol=1e-6)
    step = torch.zeros(1, 3, 16, 16)
    step[..., 8:] = 1
    assert fpam.edges(step).square().mean().item() == pytest.approx(1 / 15 + 1 / 7 + 1 / 3, rel=1e-4)


def test_psi_learns_the_look_of_the_picture():
    """By the adversarial loss alone the brightness of ψ of other pictures comes from far off to near that of
    y.
    """
    y = 0.1 + 0.1 * torch.rand(1, 3, 32, 32, generator=seeded())
    alignment = Alignment(y, weights(fit_adversarial=1.0), 8, seeded())
    pictures = torch.rand(2, 3, 32, 32, generator=seeded(1))

    def distance():
        return abs(alignment.psi(pictures).mean().item() - y.mean().item())

    before = distance()
    for _ in range(40):
        alignment.fit(pictures, guided=True)
    assert before > 1 and distance() < 0.5 * before


def test_psi_fits_a_known_gain():
    x = torch.rand(1, 3, 16, 16, generator=seeded())
    psi = fresh(FPAM, 8, seeded(), CPU)
    adam = torch.optim.Adam(psi.parameters(), 1e-2)
    for _ in range(120):
        loss = (psi(x) - 0.3 * x).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss.item() < 5e-3


def test_every_loss_reaches_the_estimate():
    y = torch.rand(1, 3, 32, 32, generator=seeded())
    pictures = torch.rand(2, 3, 32, 32, generator=seeded(1))
    for term in ("perceptual", "adversarial", "brightness", "colour"):
        gradients = []
        for settings in ({}, {term: 1.0}):
            alignment = Alignment(y, weights(**settings), 8, seeded())
            x = torch.rand(1, 3, 32, 32, generator=seeded(2)).requires_grad_()
            gradients.append(torch.autograd.grad(alignment.loss(x, pictures, True), x)[0])
        assert torch.isfinite(gradients[1]).all() and not torch.allclose(*gradients), term


def test_vgg_from_safetensors(tmp_path):
    from safetensors.torch import save_file

    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128)}
    tensors = {f"features.{n}.weight": torch.randn(a, b, 3, 3) * 0.05 for n, (a, b) in shapes.items()}
    tensors |= {f"features.{n}.bias": torch.zeros(a) for n, (a, _) in shapes.items()}
    save_file(tensors, tmp_path / "vgg.safetensors")
    features = fpam.vgg_features(str(tmp_path / "vgg.safetensors"))
    assert fpam.vgg_features(str(tmp_path / "vgg.safetensors")) is features  # read once, not for each picture
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    out = features(x)
    assert out.shape == (1, 128, 16, 16) and out.min() >= 0
    out.sum().backward()
    assert x.grad.abs().sum() > 0


def test_learning_in_tiles_is_learning_from_the_whole_picture():
    """Losses are of the whole picture, so that tiles change roundings alone."""
    given = {"fit_pixel": 0.5, "fit_adversarial": 0.8, "adversarial": 0.5, "brightness": 0.3}
    y, x = (torch.rand(1, 3, 40, 56, generator=seeded(seed)) for seed in (1, 2))
    slopes, learned = [], []
    for tile in (0, 16):
        alignment = Alignment(y, weights(**given), 6, seeded(), tile=tile)
        alignment.fit(torch.cat([x, y]), guided=True)
        slopes.append(alignment.slope(x, torch.cat([x, y]), True))
        learned.append([*alignment.psi.parameters(), *alignment.residual.parameters()])
    assert torch.allclose(*slopes, rtol=1e-3, atol=1e-7)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*learned, strict=True))
