"""LD-RPS: the nine acceptance tests of its specification, what its economies save, and what it achieves on
the embedded prior.
"""

from __future__ import annotations

import dataclasses
import weakref

import pytest
import torch
from torch import Tensor

from restoration.diffusion import add_noise, clamp_quantile, ddim_step, randn
from restoration.record import Run
from restoration.run import restore
from restoration.solvers import ld_rps
from restoration.solvers.fpam import Alignment
from restoration.solvers.ld_rps import LDRPS

# the paper's algorithm, small enough for a tiny prior: 6 steps, 2 of them before guidance, one recurrence of
# 3
SMALL = LDRPS(
    first=899, steps=6, guide_below=700, again=449, recurrences=1, width=8, scale=2e4, quality_below=400,
    text_guidance=3.0, features="edges", estimate="proper",
)  # fmt: skip


def picture(seed=0, size=(24, 24)) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


def run(prior, y, solver=SMALL, **options):
    return list(restore(y, Run(solver, **options), prior))


def plain_ddim(prior, seed, shape, passes, clamp):
    """Unguided DDIM with clipping, written down once more."""
    generator = torch.Generator().manual_seed(seed)
    z = randn(shape, generator, prior.device)
    for number, times in enumerate(passes):
        if number:
            z = add_noise(z, randn(shape, generator, prior.device), prior.alpha_bar[times[0]])
        for t, t_next in zip(times, (*times[1:], 0), strict=True):
            z0, eps = prior.denoise(z, t)
            z = ddim_step(clamp_quantile(z0, clamp), eps, prior.alpha_bar[t_next])
    return z


def seeds_of(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [int(torch.randint(2**62, (), generator=generator)) for _ in range(2)]


def test_1_the_grid_and_the_levels(text_prior):
    first, *again = LDRPS(recurrences=2).passes()
    assert first == tuple(range(899, 0, -2)) and len(first) == 450
    assert again == [tuple(range(449, 0, -2))] * 2 and len(again[0]) == 225
    for t, alpha_bar in {899: 0.0143, 699: 0.0831, 449: 0.3485, 99: 0.895, 1: 0.9983, 0: 0.9991}.items():
        assert text_prior.alpha_bar[t].item() == pytest.approx(alpha_bar, abs=6e-4)
    assert sum(t >= 700 for t in first) == 100


# 2 (clipping) is test_prior.test_clamp_quantile, 3 (sizes) is test_fpam.test_sizes_of_the_paper


def test_4_without_guidance_it_is_plain_ddim(text_prior):
    solver = LDRPS(**vars(SMALL) | {"scale": 0.0, "recurrences": 0})
    steps = run(text_prior, picture(), solver)
    expected = plain_ddim(text_prior, seeds_of()[0], (1, 4, 12, 12), solver.passes(), solver.clamp)
    assert torch.allclose(steps[-1].image, text_prior.decode(expected, (24, 24)), atol=1e-4)


def test_4_the_companion_is_the_same_whatever_the_picture(text_prior, monkeypatch):
    seen: list[list[Tensor]] = [[], []]
    for record, y in zip(seen, (picture(0), picture(1)), strict=True):
        fit = Alignment.fit
        with monkeypatch.context() as patch:
            patch.setattr(
                Alignment,
                "fit",
                lambda self, x, guided, r=record, f=fit: r.append(x[1]) or f(self, x, guided),
            )
            run(text_prior, y)
    assert len(seen[0]) == 9 and all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_5_the_companion_has_no_gradient(text_prior):
    """Both latents in one graph, as the release has them: the companion's gradient is zero, the other's is
    that of the graph without it.
    """
    y, z = picture(), torch.randn(2, 4, 12, 12)

    def alignment():
        return Alignment(y, SMALL.weights(), 8, torch.Generator().manual_seed(0))

    leaf = z.clone().requires_grad_()
    both = text_prior.decode(leaf, (24, 24))
    (together,) = torch.autograd.grad(alignment().loss(both[:1], both.detach(), True), leaf)
    alone = z[:1].clone().requires_grad_()
    (single,) = torch.autograd.grad(
        alignment().loss(text_prior.decode(alone, (24, 24)), both.detach(), True), alone
    )
    assert (together[1] == 0).all() and single.abs().max() > 0
    assert torch.allclose(together[:1], single, rtol=1e-4, atol=1e-8)


def test_6_the_picture_acts_from_the_first_guided_step(text_prior):
    a, b = (run(text_prior, picture(seed)) for seed in (0, 1))
    early = [s.index for s in a if int(s.note.split()[-1]) >= 700 and s.note.startswith("pass 0")]
    assert early == [1, 2]
    for k in early:  # the latents are equal, ψ already differs
        assert torch.equal(a[k - 1].latent, b[k - 1].latent)
        assert not torch.equal(a[k - 1].views["ψ(estimate)"], b[k - 1].views["ψ(estimate)"])
    assert torch.equal(a[2].latent, b[2].latent) and not torch.equal(a[3].latent, b[3].latent)


@pytest.mark.parametrize("twice", [False, True])
def test_the_decoders_graph_is_gone_while_psi_learns_where_memory_is_short(text_prior, monkeypatch, twice):
    """It is most of what a large prior needs; what is restored stays the same to the last bit."""
    decode, fit, graphs, alive = text_prior.decode, Alignment.fit, [], []

    def decoding(z, size):
        x = decode(z, size)
        graphs.extend([weakref.ref(x)] if x.requires_grad else [])
        return x

    def learning(*arguments):
        alive.append(any(graph() is not None for graph in graphs))
        return fit(*arguments)

    before = run(text_prior, picture())[-1].image
    monkeypatch.setattr(text_prior, "decode", decoding)
    monkeypatch.setattr(Alignment, "fit", learning)
    text_prior.placement = dataclasses.replace(text_prior.placement, twice=twice)
    steps = run(text_prior, picture())
    assert (
        torch.equal(steps[-1].image, before)
        and len(graphs) == sum("residual" in s.scalars for s in steps) - 2
    )
    assert any(alive) != twice


def test_7_the_order_of_pictures_changes_nothing(text_prior):
    ys = [picture(seed) for seed in range(2)]
    forth = [run(text_prior, y)[-1].image for y in ys]
    back = [run(text_prior, y)[-1].image for y in reversed(ys)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forth, back, strict=True))


@pytest.mark.parametrize("size", [(24, 24), (17, 33), (41, 22)])
def test_8_any_size_and_no_recurrence(text_prior, size):
    steps = run(text_prior, picture(size=size), LDRPS(**vars(SMALL) | {"recurrences": 0}))
    assert steps[-1].result.image.shape[-2:] == size and len(steps) == 6
    assert [name for name in steps[-1].views if name.startswith("pass")] == ["pass 0"]


# 9 (an empty prompt with and without the shortcut) is
# test_prior.test_an_empty_prompt_is_the_same_with_and_without_the_shortcut


def test_features_are_vgg_where_it_can_be_had(tiny_prior, monkeypatch):
    def one_step(**settings):
        solver = LDRPS(**vars(SMALL) | {"features": "auto", "steps": 1, "recurrences": 0} | settings)
        return run(tiny_prior, picture(), solver)[0].note

    def missing():
        raise OSError("not on this machine")

    monkeypatch.setattr(ld_rps, "vgg_features", lambda: lambda x: x)
    assert one_step().startswith("perceptual losses on VGG-16, pass 0")
    monkeypatch.setattr(ld_rps, "vgg_features", missing)
    assert one_step().startswith("perceptual losses on edges as VGG-16 cannot be loaded, pass 0")
    with pytest.raises(OSError, match="not on this machine"):
        one_step(features="vgg")
    # not even looked for
    assert one_step(features="vgg", perceptual=0.0, fit_perceptual=0.0).startswith("pass 0")


def test_both_forms_of_recurrence(text_prior):
    a, b = (
        run(text_prior, picture(), LDRPS(**vars(SMALL) | {"renoise": form}))[-1].image
        for form in ("latent", "image")
    )
    assert a.shape == b.shape and not torch.equal(a, b)


def test_the_prompt_matters_to_a_text_prior_only(text_prior, tiny_prior):
    solvers = [LDRPS(**vars(SMALL) | {"prompt": p, "recurrences": 0}) for p in ("", "red door")]
    a, b = (run(text_prior, picture(), s)[-1].image for s in solvers)
    assert not torch.equal(a, b)
    a, b = (run(tiny_prior, picture(), s)[-1].image for s in solvers)
    assert torch.equal(a, b)
