"""LD-RPS against a literal writing of docs/methods/ld-rps.md: losses, trajectory, presets, economies."""

from __future__ import annotations

import functools

import pytest
import torch
from test_ld_rps import SMALL, picture, run

from restoration.priors.placement import Placement
from restoration.solvers.fpam import FPAM, Alignment, Discriminator, Weights, edges, fresh
from restoration.solvers.ld_rps import LDRPS, PRESETS


class Literal:
    """ψ, D1, D2 and their losses as the specification has them (§1.8, §1.9), written down once more and
    sharing with fpam the networks alone.
    """

    def __init__(self, y, w, width, generator, features=edges):
        self.y, self.w, self.features = y, w, features
        self.psi, self.d1, self.d2 = (
            fresh(kind, width, generator, y.device).to(y) for kind in (FPAM, Discriminator, Discriminator)
        )
        rates = (w.fit_rate, 1e-5), (w.critic_rate, 0.0), (w.critic_rate, 0.0)
        self.adams = [
            torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay)
            for network, (rate, decay) in zip((self.psi, self.d1, self.d2), rates, strict=True)
        ]
        self.clipped: list[bool] = []

    def descend(self, which, loss):
        self.adams[which].zero_grad()
        loss.backward()
        self.adams[which].step()

    @staticmethod
    def bce(logits, label):
        p = torch.sigmoid(logits)
        return -(label * p.log() + (1 - label) * (1 - p).log()).mean()

    def fit(self, x, guided):
        w, ys = self.w, torch.cat([self.y] * len(x))
        # real = y, y; fake = ψ(x)
        self.descend(1, self.bce(self.d1(ys), 1) + self.bce(self.d1(self.psi(x).detach()), 0))
        # held to its own input
        v = w.fit_perceptual * ((self.features(self.psi(x)) - self.features(x)) ** 2).mean()
        self.clipped.append(bool(v > 10))
        s = w.fit_pixel * ((self.psi(x) - x) ** 2).mean() + (0.2 * v if guided and v > 10 else v)
        self.descend(0, s + w.fit_adversarial * self.bce(self.d1(self.psi(x)), 1))

    def loss(self, x1, x, quality):
        w, ours = self.w, self.psi(x1)
        loss = ((ours - self.y) ** 2).mean() + w.perceptual * (
            (self.features(ours) - self.features(self.y)) ** 2
        ).mean()
        fake, real = x1 - self.y, (x - self.psi(x)).detach()
        self.descend(2, self.bce(self.d2(fake.detach()), 0) + self.bce(self.d2(real), 1))
        loss = loss + w.adversarial * self.bce(self.d2(fake), 1)
        if quality:
            side = x1.shape[-1] // w.patches
            exposure = ((torch.nn.functional.avg_pool2d(x1.mean(1, keepdim=True), side) - 0.5) ** 2).mean()
            r, g, b = x1.mean((0, 2, 3))
            loss = (
                loss
                + w.brightness * exposure
                + w.colour * ((r - g) ** 4 + (r - b) ** 4 + (b - g) ** 4 + 1e-12).sqrt()
            )
        return loss


@pytest.mark.parametrize("strength", [1.0, 60.0], ids=["below the clip", "clipped"])
def test_training_and_guidance_are_the_specifications(strength):
    """In float64, so that nothing is lost in rounding: every parameter and gradient of five steps, the first
    two before guidance.
    """

    def features(x):
        return strength * edges(x)

    weights = Weights(0.5, 0.3, 0.8, 0.2, 0.7, 0.4, 0.6, patches=4, fit_rate=5e-3, critic_rate=1e-3)
    y, *xs = (picture(seed).double() for seed in range(6))
    ours = Alignment(y, weights, 8, torch.Generator().manual_seed(3), features=features)
    for network in (ours.psi, ours.look, ours.residual):
        network.to(torch.float64)
    literal = Literal(y, weights, 8, torch.Generator().manual_seed(3), features)
    for k, x in enumerate(xs):
        pictures, guided = torch.cat([x, x.flip(-1)]), k > 1
        ours.fit(pictures, guided)
        literal.fit(pictures, guided)
        if guided:
            leaf = x.clone().requires_grad_()
            gradients = [torch.autograd.grad(a.loss(leaf, pictures, k > 2), leaf)[0] for a in (ours, literal)]
            assert torch.allclose(*gradients, rtol=1e-7, atol=1e-12)
    assert all(clipped == (strength > 1) for clipped in literal.clipped)
    for a, b in ((ours.psi, literal.psi), (ours.look, literal.d1), (ours.residual, literal.d2)):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=1e-7, atol=1e-10)


def literal(prior, y, solver, seed=0):
    """The algorithm as the paper's box has it (specification §1.7, §1.12), with none of the economies and
    none of the project's arithmetic.
    """
    size, generator = (y.shape[-2], y.shape[-1]), torch.Generator().manual_seed(seed)
    own, other = (
        torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator))) for _ in range(2)
    )
    alignment = Literal(y, solver.weights(), solver.width, generator)
    shape = 1, 4, size[0] // 2, size[1] // 2
    z = torch.cat([torch.randn(shape, generator=g) for g in (own, other)])
    text = torch.cat([prior.embed(""), prior.embed(solver.prompt)[-1:]])

    def clipped(z0):
        bounds = [max(1.0, min(100.0, row.abs().flatten().quantile(solver.clamp).item())) for row in z0]
        return torch.stack([row.clip(-bound, bound) for row, bound in zip(z0, bounds, strict=True)])

    for number, times in enumerate(solver.passes()):
        if number:
            if solver.renoise == "image":
                z = prior.encode(prior.decode(z, size).clamp(0, 1)).detach()
            noise = torch.cat([torch.randn(shape, generator=g) for g in (generator, other)])
            a = prior.alpha_bar[times[0]].item()
            z = a**0.5 * z + (1 - a) ** 0.5 * noise
        for t, t_next in zip(times, (*times[1:], 0), strict=True):
            a, a_next = prior.alpha_bar[t].item(), prior.alpha_bar[t_next].item()
            z0, eps = prior.denoise(z, t, text, solver.text_guidance)
            z0 = clipped(z0)
            z = a_next**0.5 * z0 + (1 - a_next) ** 0.5 * eps
            # the release's slip: the next latent with this one's coefficients
            if solver.estimate == "official":
                z0 = clipped((z - (1 - a) ** 0.5 * eps) / a**0.5)
            z0 = z0.detach().requires_grad_()
            x = prior.decode(z0, size)
            alignment.fit(x.detach(), t < solver.guide_below)
            if t < solver.guide_below:
                loss = alignment.loss(x[:1], x.detach(), t < solver.quality_below)
                z = z - solver.scale * size[0] * size[1] / 512**2 * torch.autograd.grad(loss, z0)[0]
    return prior.decode(z[:1], size).detach()


class Exact:
    """A prior of random convolutions in float64, whose estimate depends on the latent, its level and the
    text.
    """

    factor, channels, placement = 2, 4, Placement("cpu")

    def __init__(self, alpha_bar):
        generator = torch.Generator().manual_seed(0)
        self.alpha_bar = alpha_bar
        self.seen, self.shown = (0.2 * torch.randn(out, 4, 3, 3, generator=generator) for out in (4, 3))

    def embed(self, prompt, negative=""):
        return torch.tensor([[[0.1]], [[0.5]]][: 1 + bool(prompt)])

    def denoise(self, z, t, text, guidance):
        plain, worded = (
            torch.nn.functional.conv2d(z, self.seen, padding=1).tanh() * (1 + words)
            for words in (text[0], text[-1])
        )
        eps = plain + guidance * (worded - plain)
        a = self.alpha_bar[t].item()
        return (z - (1 - a) ** 0.5 * eps) / a**0.5, eps

    def decode(self, z, size):
        return (
            0.5
            + 0.3
            * torch.nn.functional.interpolate(
                torch.nn.functional.conv2d(z, self.shown, padding=1), size
            ).tanh()
        )

    def picture(self, z, size):
        return self.decode(z, size).clamp(0, 1)


def test_the_trajectory_is_the_algorithm_boxs(text_prior):
    """In float64, so that only the algorithm can differ; the official estimate is another trajectory than the
    proper one.
    """
    torch.set_default_dtype(torch.float64)
    try:
        results = []
        for form in ("official", "proper"):
            solver = LDRPS(
                **vars(SMALL)
                | {"steps": 30, "scale": 8e4, "patches": 4, "prompt": "red door", "estimate": form}
            )
            y, prior = picture(), Exact(text_prior.alpha_bar)
            *_, last = solver.restore(prior, y, None, generator=torch.Generator().manual_seed(0))
            assert torch.allclose(last.image, literal(prior, y, solver), rtol=0, atol=1e-9)
            results.append(last.image)
        assert (results[0] - results[1]).abs().max() > 1e-3
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS = [{}, {"prompt": "red door"}, {"estimate": "official"}, {"renoise": "image"}]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: " ".join(map(str, s.values())) or "plain")
def test_the_economies_change_nothing(text_prior, settings):
    # the first noise of the guided trajectory is its own seed's here and in the solver
    solver = LDRPS(**vars(SMALL) | {"scale": 8e4, "patches": 4} | settings)
    assert torch.allclose(
        run(text_prior, picture(), solver)[-1].image, literal(text_prior, picture(), solver), atol=3e-4
    )


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("paper", (2, 80_000, 2e-3, 5e-5, 1e-2, 16, 1e-2, 100, 0.02, 0.3, 0.8, 5e-4, 4e-5)),
        ("paper dehaze", (3, 25_000, 5e-3, 0, 1e-2, 8, 1e-3, 150, 0.2, 0.5, 0.2, 5e-4, 1e-4)),
        ("paper denoise", (1, 40_000, 0, 0, 0, None, 0, None, 3, 0.002, 0.001, 5e-4, 1e-4)),
    ],
)
def test_the_papers_presets_are_the_specifications_table(preset, expected):
    """§2, with the patch of p×p pixels at 512 as 512/p patches a side; None where the weight is 0."""
    solver = LDRPS(**PRESETS[preset])
    names = [
        "recurrences",
        "scale",
        "perceptual",
        "adversarial",
        "brightness",
        "patches",
        "colour",
        "quality_below",
    ]
    names += ["fit_pixel", "fit_perceptual", "fit_adversarial", "fit_rate", "critic_rate"]
    assert all(
        getattr(solver, name) == value
        for name, value in zip(names, expected, strict=True)
        if value is not None
    )
    common = (solver.first, solver.steps, solver.again, solver.guide_below, solver.clamp, solver.estimate)
    assert common == (899, 450, 449, 700, 0.995, "official")
    assert (solver.width, solver.renoise, solver.features, solver.text_guidance) == (64, "latent", "auto", 8)


class Counting:
    """A prior that only counts what it is asked for."""

    factor, channels, device, placement = 8, 4, torch.device("cpu"), Placement("cpu")

    def __init__(self, alpha_bar):
        self.alpha_bar, self.rows, self.decoded, self.with_graph = alpha_bar, 0, 0, 0

    def embed(self, prompt, negative=""):
        return torch.zeros(1 + bool(prompt), 1, 1)

    def denoise(self, z, t, text, guidance):
        self.rows += len(z) * len(text)
        return 0.9 * z, 0.1 * z

    def decode(self, z, size):
        self.decoded += len(z)
        self.with_graph += len(z) if z.requires_grad else 0
        return torch.nn.functional.interpolate(z[:, :3], size)

    def picture(self, z, size):  # the picture at the end of a pass, not a step's
        return torch.zeros(1, 3, *size)


@functools.cache
def stable_diffusion_flops():
    """FLOPs at 512×512 of Stable Diffusion 2.1-base's parts and of ψ, by torch's counter on meta tensors."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    def count(function):
        with FlopCounterMode(display=False) as counter:
            function()
        return counter.get_total_flops()

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
        )
        down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
        vae = AutoencoderKL(
            down_block_types=down,
            up_block_types=up,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        )
        psi, critic = FPAM(), Discriminator()
        z, x = torch.empty(1, 4, 64, 64), torch.empty(2, 3, 512, 512)
        words, t = torch.empty(1, 77, 1024), torch.empty(1)
    vae.requires_grad_(False)
    with torch.no_grad():
        parts = {
            "unet": count(lambda: unet(z, t, words)),
            "decode": count(lambda: vae.decode(z)),
            "encode": count(lambda: vae.encode(x[:1])),
        }
    parts["back"] = count(lambda: vae.decode(z.requires_grad_()).sample.sum().backward()) - parts["decode"]
    parts["fit"] = (
        count(lambda: critic(psi(x)).sum().backward()) + count(lambda: critic(x).sum().backward()) * 2
    )
    parts["guide"] = count(lambda: psi(x[:1].requires_grad_()).sum().backward())
    return parts


# the release (specification §5, §7.2): both latents and both texts always; every decode with graph and its
# gradient; an unused encode
@pytest.mark.parametrize(
    ("preset", "prompt", "spare_decodes", "least"),
    [("paper", "red door", 0, 1.2), ("paper denoise", "", 1, 1.4), ("paper dehaze", "", 4, 1.8)],
    ids=["low-light", "denoise", "dehaze"],
)
def test_the_economies_in_flops(text_prior, preset, prompt, spare_decodes, least):
    # 4 of 18 steps unguided and 9 again, as 100 of 450 and 225
    solver = LDRPS(**PRESETS[preset] | {"steps": 18, "prompt": prompt, "width": 6, "features": "edges"})
    prior = Counting(text_prior.alpha_bar)
    y = picture(size=(16, 16))
    steps = len(list(solver.restore(prior, y, None, generator=torch.Generator().manual_seed(0))))
    f = stable_diffusion_flops()
    both = steps * f["fit"] + (steps - 4) * f["guide"]
    ours = prior.rows * f["unet"] + prior.decoded * f["decode"] + prior.with_graph * f["back"] + both
    each = 4 * f["unet"] + 2 * (f["decode"] + f["back"] + f["encode"]) + spare_decodes * f["decode"]
    assert steps * each + both + 4 * f["guide"] > least * ours
