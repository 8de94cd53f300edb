"""Contract of every solver, and what RELD achieves on the embedded prior."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from restoration.degradations.base import is_grey
from restoration.degradations.linear import TASKS
from restoration.evaluation import metrics
from restoration.evaluation.baselines import non_local_means
from restoration.files.images import quantise
from restoration.record import Run
from restoration.run import restore, restore_together
from restoration.solvers import PRESETS, SOLVERS, inn_weights, resolve, resolve_settings
from restoration.solvers.inn import LiftingINN
from restoration.solvers.latent_indigo import LatentINDIGO
from restoration.solvers.reld import RELD
from restoration.solvers.reld_fast import RELDFast
from restoration.solvers.restorer import Restorer

FORMS = [RELDFast(), RELD(splitting="pixel", steps=3), RELD(splitting="latent", steps=3)]
BLIND = [
    LatentINDIGO(scale=1, steps=3),
    LatentINDIGO(scale=2, steps=3, guidance="gradient", refine="gamma", regularise="resample", churn=0.5),
    LatentINDIGO(scale=2, steps=3, domain="pixel", refine="full", regularise="statistics", start="noise"),
    LatentINDIGO(
        scale=4, steps=3, domain="pixel", start="enlarged", guidance="gradient", regularise="pull", tile=16
    ),
]


@pytest.fixture
def networks(monkeypatch) -> None:
    """Random degradation networks of every kind for blind solvers."""
    latent = {"scale": 1, "patch": 1, "offset": 0.0, "spread": (1.0,) * 16}

    def load(domain, scale):
        torch.random.manual_seed(0)
        inn = LiftingINN(width=8, pairs=1, embedding=8, **latent if domain == "latent" else {"scale": scale})
        for lift in (*inn.predictors, *inn.updaters):
            torch.nn.init.normal_(lift.leave.weight, std=0.05)
        return inn.eval().requires_grad_(False)

    made = {(d, s): load(d, s) for d in ("latent", "pixel") for s in (1, 2, 4)}
    monkeypatch.setattr("restoration.solvers.inn_weights.missing", lambda *_: "")
    monkeypatch.setattr(
        "restoration.solvers.inn_weights.load_inn", lambda domain, scale, prior: made[domain, scale]
    )
    first = {s: Restorer(s, width=8, cells=1).requires_grad_(False) for s in (1, 2, 4)}
    monkeypatch.setattr(inn_weights, "load_restorer", lambda scale, device: first[scale])


def run(prior, y, solver, task, reference=None, **options):
    return list(restore(y, Run(solver, task, **options), prior, reference=reference))


@pytest.mark.parametrize("solver", FORMS, ids=repr)
@pytest.mark.parametrize("task", ["denoise", "deblur", "super-resolution", "inpaint"])
def test_contract(tiny_prior, solver, task):
    degradation = TASKS[task]()
    y = torch.rand(1, 3, 38, 45)
    state = torch.random.get_rng_state()
    steps = run(tiny_prior, y, solver, degradation)
    assert [s.index for s in steps] == list(range(1, steps[0].total + 1))
    assert all(s.image is None and not s.latent.requires_grad for s in steps[:-1])
    assert steps[-1].result.image.shape[-2:] == (38 * degradation.factor, 45 * degradation.factor)
    assert torch.equal(state, torch.random.get_rng_state()) and torch.is_grad_enabled()
    assert torch.equal(steps[-1].result.image, run(tiny_prior, y, solver, degradation)[-1].result.image)


@pytest.mark.parametrize("solver", BLIND, ids=lambda s: f"{s.domain}-{s.guidance}-x{s.scale}")
def test_contract_of_blind_solvers(tiny_prior, networks, solver):
    y = torch.rand(1, 3, 38, 21)
    state = torch.random.get_rng_state()
    steps = run(tiny_prior, y, solver, None)
    assert solver.blind and solver.factor(None) == solver.scale
    assert [s.index for s in steps] == list(range(1, steps[0].total + 1))
    assert all(s.image is None and not s.latent.requires_grad for s in steps[:-1])
    assert steps[-1].result.image.shape[-2:] == (38 * solver.scale, 21 * solver.scale)
    assert steps[-1].result.recipe["task"] == "blind"
    assert (
        all(v.shape[:2] == (1, 3) and v.min() >= 0 and v.max() <= 1 for s in steps for v in s.views.values())
        and steps[-1].views
    )
    assert torch.equal(state, torch.random.get_rng_state()) and torch.is_grad_enabled()
    assert torch.equal(steps[-1].result.image, run(tiny_prior, y, solver, None)[-1].result.image)
    with pytest.raises(ValueError, match="estimates the degradation itself"):
        run(tiny_prior, y, solver, TASKS["denoise"]())


@pytest.mark.parametrize("solver", [*FORMS, *BLIND], ids=repr)
def test_each_step_on_another_thread_and_closing_half_way(tiny_prior, networks, solver):
    steps = restore(
        torch.rand(1, 3, 64, 64), Run(solver, None if solver.blind else TASKS["motion-deblur"]()), tiny_prior
    )
    seen = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: seen.append((next(steps), torch.is_grad_enabled())))
        thread.start()
        thread.join()
    steps.close()
    assert [s.index for s, _ in seen] == [1, 2] and all(grad for _, grad in seen) and torch.is_grad_enabled()


BATCHES = [
    (solver, task)
    for solver in (RELDFast(renoise=0.5, steps=3), *FORMS[1:])
    for task in ("denoise", "deblur", "super-resolution", "inpaint")
]
BATCHES += [(dataclasses.replace(solver, refine="none"), "") for solver in BLIND]


@pytest.mark.parametrize(("solver", "task"), BATCHES, ids=repr)
def test_a_row_of_a_batch_is_what_its_picture_becomes_alone(tiny_prior, networks, solver, task):
    assert solver.batches
    degradation = TASKS[task]() if task else None
    y = torch.rand(3, 3, 26, 27, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [1.0, 0.5, 0.01]
    ).view(3, 1, 1, 1)

    def last(rows):
        return list(
            solver.restore(tiny_prior, y[rows], degradation, generator=torch.Generator().manual_seed(5))
        )[-1].image

    alone = [last([k]) for k in range(3)]
    for rows in ([0, 1, 2], [2, 0]):
        for image, k in zip(last(rows).split(1), rows, strict=True):
            assert torch.allclose(image, alone[k], atol=1e-4), k


def test_what_is_fitted_to_one_picture_takes_one(networks):
    assert not any(solver.batches for solver in (*BLIND[1:3], SOLVERS["ld-rps"]()))


def test_pictures_restored_together(tiny_prior):
    ys, task = [torch.rand(1, 3, 22, 27) for _ in range(3)], TASKS["deblur"]()
    options = {"seed": 2, "periodic": False}
    together = restore_together(
        ys, Run(RELDFast(renoise=1.0), task, **options), tiny_prior, references=[ys[0], None, ys[2]]
    )
    for y, reference, result in zip(ys, [ys[0], None, ys[2]], together, strict=True):
        alone = run(tiny_prior, y, RELDFast(renoise=1.0), task, reference=reference, **options)[-1].result
        assert result.recipe == alone.recipe and result.scores == pytest.approx(alone.scores, rel=1e-3)
        assert (result.image - alone.image).abs().max() <= 1.001 / 255
    with pytest.raises(ValueError, match="must be equal"):
        restore_together(
            ys, Run(RELDFast(), task), tiny_prior, references=[None, None, torch.rand(1, 3, 22, 28)]
        )


def test_presets_construct():
    for name, presets in PRESETS.items():
        for settings in presets.values():
            SOLVERS[name](**settings)
    with pytest.raises(ValueError, match="steps is 0"):
        RELDFast(steps=0)


def test_names_of_before():
    assert resolve("reld", "fast") == ("reld", "fast") and resolve("reld", "faithful") == (
        "reld-paper",
        "faithful",
    )
    old = {"end_level": 3.0, "output": "consistent", "penalty": 0.5, "renoise": 0.0, "splitting": "annealed"}
    old |= {"start_level": 49.0, "steps": 10, "strength": 1.0}
    faithful = old | {
        "splitting": "pixel",
        "steps": 100,
        "start_level": 12.0,
        "end_level": 12.0,
        "penalty": 1.0,
    }
    for settings, solver in (
        (old, RELDFast(steps=10, warm_start=0.0, end_level=3.0)),
        (faithful, RELD()),
        (faithful | {"splitting": "latent"}, RELD(splitting="latent")),
    ):
        name, today = resolve_settings("reld", settings)
        assert SOLVERS[name](**today) == solver
    for name, solver in (("reld", RELDFast(steps=3)), ("reld-paper", RELD(level=5.0))):
        assert resolve_settings(name, dataclasses.asdict(solver)) == (name, dataclasses.asdict(solver))


def test_reference_of_another_size(tiny_prior):
    with pytest.raises(ValueError, match="must be equal"):
        run(
            tiny_prior,
            torch.rand(1, 3, 32, 32),
            RELDFast(),
            TASKS["denoise"](),
            reference=torch.rand(1, 3, 30, 32),
        )


# gain over the input (or the bicubic enlargement) on one real photograph, with a margin below what was
# measured
@pytest.mark.parametrize(("task", "gain"), [("denoise", 6.0), ("deblur", 2.0), ("super-resolution", 0.2)])
def test_quality(embedded, photo, task, gain):
    degradation = TASKS[task]()
    y = degradation.degrade(photo, torch.Generator().manual_seed(0))
    result = run(embedded, y, RELDFast(), degradation, reference=photo, periodic=True)[-1].result
    assert result.scores["PSNR"] > metrics.psnr(degradation.start(y).clamp(0, 1), photo) + gain


def test_a_real_border_costs_little(embedded, photo):
    """What the camera saw of a larger scene: near a circular blur's result, and far better than the model of
    a torus makes it.
    """
    degradation = TASKS["motion-deblur"]()
    margin = degradation.margin
    scene = torch.nn.functional.pad(photo, (margin,) * 4, mode="reflect")
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    y = quantise(degradation.degrade(scene, torch.Generator().manual_seed(0))[inside])
    real = run(embedded, y, RELDFast(steps=6), degradation, reference=photo)[-1].result
    torus = quantise(degradation.degrade(photo, torch.Generator().manual_seed(0)))
    ideal = run(embedded, torus, RELDFast(steps=6), degradation, reference=photo, periodic=True)[-1].result
    wrong = run(embedded, y, RELDFast(steps=6), degradation, reference=photo, periodic=True)[-1].result
    assert real.scores["PSNR"] > ideal.scores["PSNR"] - 3 and real.scores["PSNR"] > metrics.psnr(y, photo) + 8
    assert real.scores["PSNR"] > wrong.scores["PSNR"] + 3
    assert not real.warnings and not ideal.warnings


def test_clipped_lights_do_not_ring(embedded, photo):
    degradation, scene = TASKS["motion-deblur"](size=11), 0.3 * photo
    scene[..., 30, 40], scene[..., 70, 20] = 12.0, 12.0
    y = quantise(degradation.degrade(scene, torch.Generator().manual_seed(0)))
    clean = scene.clamp(0, 1)
    result = run(embedded, y, RELDFast(steps=4), degradation, reference=clean)[-1].result
    assert result.scores["PSNR"] > metrics.psnr(y, clean) + 4 and result.scores["consistency"] > 36


def test_a_grey_picture_stays_grey_and_loses_its_noise(embedded, photo):
    grey, degradation = photo.mean(1, keepdim=True).expand_as(photo), TASKS["denoise"]()
    y = quantise(degradation.degrade(grey, torch.Generator().manual_seed(0)))
    result = run(embedded, y, RELDFast(), degradation, reference=grey)[-1].result
    assert is_grey(result.image) and result.scores["PSNR"] > metrics.psnr(non_local_means(y, 25 / 255), grey)


def test_grey_and_coloured_pictures_restored_together(tiny_prior):
    ys = [torch.rand(1, 3, 22, 27), torch.rand(1, 1, 22, 27).expand(1, 3, -1, -1), torch.rand(1, 3, 22, 27)]
    together = restore_together(ys, Run(RELDFast(), TASKS["denoise"]()), tiny_prior, references=[None] * 3)
    for y, result in zip(ys, together, strict=True):
        assert (
            result.image - run(tiny_prior, y, RELDFast(), TASKS["denoise"]())[-1].result.image
        ).abs().max() <= 1.001 / 255


def test_holes_count_in_no_score(tiny_prior, tmp_path):
    mask = torch.rand(40, 40) > 0.3
    Image.fromarray((255 * mask.numpy()).astype(np.uint8)).save(tmp_path / "mask.png")
    degradation, x = TASKS["inpaint"](mask=str(tmp_path / "mask.png")), torch.rand(1, 3, 40, 40)
    steps = [
        run(tiny_prior, torch.where(mask, x, hole), RELDFast(steps=2), degradation)[-1] for hole in (0.0, 1.0)
    ]
    assert (
        steps[0].scalars["residual"] == pytest.approx(steps[1].scalars["residual"])
        and steps[0].scalars["residual"] < 0.02
    )
    assert steps[0].result.scores["consistency"] == pytest.approx(steps[1].result.scores["consistency"])
    assert steps[0].result.scores["consistency"] > 40


def test_what_can_hardly_be_is_said_with_the_result(embedded, photo):
    right = TASKS["motion-deblur"](size=15)
    y = quantise(right.degrade(photo, torch.Generator().manual_seed(0)))
    wide = run(embedded, y, RELDFast(steps=4), TASKS["deblur"](std=4.0), periodic=True)[-1].result
    assert "it may be blurred less than was told" in wide.warnings[-1]
    assert not run(embedded, y, RELDFast(steps=4), right, periodic=True)[-1].result.warnings
    assert (
        "units of 1/255"
        in run(embedded, y, RELDFast(steps=1), TASKS["motion-deblur"](noise_std=0.01))[-1].result.warnings[0]
    )


def test_a_real_blur_is_judged_where_its_border_does_not_reach(embedded, photo):
    """The centre of a larger blurred picture: its border shows what lies outside, and only the inside can
    agree."""
    degradation = TASKS["deblur"](noise_std=0.0)
    blurred = degradation.forward(photo)[..., 16:-16, 16:-16]
    result = run(embedded, blurred, RELDFast(), degradation)[-1].result
    edge = degradation.margin
    inside = (degradation.forward(result.image) - blurred)[..., edge:-edge, edge:-edge]
    assert result.scores["consistency"] == pytest.approx(
        -10 * inside.square().mean().log10().item(), abs=1e-3
    )
    assert result.scores["consistency"] > metrics.psnr(degradation.forward(result.image), blurred)
    tiny = run(embedded, blurred[..., :16, :16], RELDFast(steps=1), degradation)[-1].result
    assert ("consistency" in tiny.scores) == (2 * edge < 16)


@pytest.mark.parametrize("settings", [{"scale": 2}, {"scale": 4}, None], ids=str)
def test_a_flat_colour_has_no_frame(embedded, settings):
    colour = torch.tensor([0.1, 0.8, 0.2])[None, :, None, None]
    task = TASKS["super-resolution"](**settings) if settings else TASKS["denoise"](noise_std=5)
    image = run(embedded, colour.expand(1, 3, 32, 32), RELDFast(), task)[-1].result.image
    assert (image - colour).abs().max() < 3 / 255


class Halving:
    """A prior whose codec keeps every second row and column, and whose denoiser is perfect: it loses detail
    alone.
    """

    isometric, lowest, gain = False, 0.001, 1.0

    def encode(self, x):
        return torch.nn.functional.avg_pool2d(x, 2)

    def decode(self, z, size):
        return torch.nn.functional.interpolate(z, size, mode="bilinear")

    def denoise_at(self, z, s, **trusting):
        return z


@pytest.mark.parametrize(("noise", "least"), [(2.0, -0.1), (60.0, 3.0)])
def test_a_lossy_codec_costs_no_more_than_the_noise(photo, noise, least):
    """Faint noise is not taken out at the price of more detail; strong noise is."""
    degradation = TASKS["denoise"](noise_std=noise)
    y = degradation.degrade(photo, torch.Generator().manual_seed(0))
    *_, last = RELDFast().restore(Halving(), y, degradation, generator=torch.Generator())
    assert metrics.psnr(last.image, photo) > metrics.psnr(y, photo) + least
