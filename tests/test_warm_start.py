"""RELD's warm start: what it is shown, for which damages, how it is trained, and what it is worth."""

import json
import tarfile

import pytest
import torch
from PIL import Image

from restoration.degradations.linear import TASKS
from restoration.evaluation import metrics
from restoration.files.images import to_pil
from restoration.priors import eight_bits
from restoration.record import Run
from restoration.run import restore
from restoration.solvers import warm_start
from restoration.solvers.reld_fast import RELDFast
from restoration.solvers.restorer import WarmStart
from restoration.training import data, loop
from restoration.training import warm_start as training
from restoration.training.optimisers import DECAY, ConvolutionMuon


def restored(prior, y, degradation, **settings):
    run = Run(RELDFast(**settings), degradation, "embedded", 0, True)
    return list(restore(y, run, prior))


@pytest.mark.parametrize(
    ("task", "steps"),
    [("deblur", 1), ("super-resolution", 1), ("motion-deblur", 8), ("inpaint", 12), ("denoise", 1)],
)
def test_it_stands_for_most_iterations_where_it_was_trained(task, steps, tiny_prior):
    y = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    degradation = TASKS[task]()
    done = restored(tiny_prior, y, degradation)
    assert len(done) == RELDFast().iterations(degradation) == steps
    assert done[-1].scalars["level"] == pytest.approx(
        restored(tiny_prior, y, degradation, warm_start=0.0)[-1].scalars["level"]
    )


@pytest.mark.parametrize("task", ["deblur", "super-resolution"])
def test_it_is_nearer_to_the_truth_than_the_proximal_steps(task, photo):
    degradation = TASKS[task]()
    y = degradation.degrade(photo, torch.Generator().manual_seed(0))
    sharp, smooth, _ = warm_start.proximal(degradation, y)
    simple = max(metrics.psnr(step.clamp(0, 1), photo) for step in (sharp, smooth))
    assert metrics.psnr(warm_start.first_image(degradation, y).clamp(0, 1), photo) > simple + 0.3


def test_its_tiles_are_not_seen(monkeypatch, photo):
    degradation = TASKS["deblur"]()
    y = degradation.degrade(photo.repeat(1, 1, 3, 2), torch.Generator().manual_seed(0))
    whole = warm_start.first_image(degradation, y)
    monkeypatch.setattr(warm_start, "TILE", 128)
    assert torch.allclose(warm_start.first_image(degradation, y), whole, atol=1e-4)


@pytest.mark.parametrize("amx", [False, True])
def test_large_pictures_take_the_quick_one_in_bfloat16_where_the_processor_multiplies_it(
    amx, monkeypatch, photo
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    degradation = TASKS["deblur"]()
    y = degradation.degrade(photo, torch.Generator().manual_seed(0))
    exact = warm_start.load(large=True)(*warm_start.proximal(degradation, y))
    thorough = warm_start.first_image(degradation, y)
    monkeypatch.setattr(warm_start, "LARGE", 0)
    fast = warm_start.first_image(degradation, y)
    assert torch.allclose(fast, exact, atol=1e-4) != amx and fast.dtype == torch.float32
    assert 255 * (fast - exact).square().mean().sqrt() < 0.3 and 255 * (fast - exact).abs().max() < 3
    assert metrics.psnr(thorough.clamp(0, 1), photo) > metrics.psnr(fast.clamp(0, 1), photo)


def test_kernels_in_eight_bits_are_near_and_half_the_size(tmp_path):
    torch.manual_seed(0)
    model = WarmStart(8, 8, 1, 1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.deep[0].first.weight.data[0] = 0  # a kernel of zeros has no unit
    training.save(model, tmp_path / "small")
    model.half().save_pretrained(tmp_path / "usual")
    drawn = torch.random.get_rng_state()
    small, usual = (eight_bits.read(WarmStart, tmp_path / name) for name in ("small", "usual"))
    assert torch.equal(drawn, torch.random.get_rng_state())
    shown = *torch.rand(2, 1, 3, 16, 16), torch.tensor([0.01])
    change = usual(*shown) - shown[0]
    assert (small(*shown) - usual(*shown)).abs().max() < 0.02 * change.abs().max()
    assert torch.equal(small.enter.weight, usual.enter.weight)
    sizes = [(tmp_path / name / eight_bits.FILE).stat().st_size for name in ("small", "usual")]
    assert sizes[0] < sizes[1]


def test_any_size_and_every_row_by_itself():
    model = warm_start.load()
    sharp, smooth = torch.rand(2, 2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    both = model(sharp, smooth, torch.tensor([0.01, 0.05]))
    assert both.shape == sharp.shape
    assert torch.allclose(both[1:], model(sharp[1:], smooth[1:], torch.tensor([0.05])), atol=1e-5)


def test_an_untrained_one_gives_the_sharp_step():
    sharp, smooth = torch.rand(2, 1, 3, 8, 8)
    assert torch.equal(WarmStart(8, 8, 1, 1)(sharp, smooth, torch.tensor([0.01])), sharp)


def test_a_larger_one_begins_as_the_one_it_starts_from(tmp_path):
    small, large = WarmStart(8, 8, 1, 1), WarmStart(8, 8, 2, 3)
    for parameter in small.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    small.save_pretrained(tmp_path)
    loop.start_from(large, str(tmp_path))
    shown = *torch.rand(2, 1, 3, 8, 8), torch.tensor([0.01])
    assert torch.allclose(large(*shown), small(*shown), atol=1e-6)


def test_training_writes_a_network_and_says_how_good_it_is(tmp_path, photo, capsys):
    with tarfile.open(tmp_path / "photographs.tar", "w") as archive:
        for number in range(3):
            to_pil(photo).resize((200, 200), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
            archive.add(tmp_path / f"{number}.png", f"{number}.png")
    options = f"--out {tmp_path / 'warm'} --checkpoint {tmp_path / 'c.pt'} --steps 3 --holdout 1"
    sizes = "--batch 4 --crop 48 --width 8 --deep-width 8 --cells 1 --deep-cells 1 --device cpu"
    training.main([str(tmp_path / "photographs.tar"), *options.split(), *sizes.split()])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["step"] == 3 and {"deblur", "x4", "x4_prox"} <= line.keys()
    assert eight_bits.read(WarmStart, tmp_path / "warm").config.width == 8
    with pytest.raises(ValueError, match="another --optimiser than adamw"):
        training.main(
            [str(tmp_path / "photographs.tar"), *options.split(), *sizes.split(), "--optimiser=adamw"]
        )


def test_lessons_are_of_every_kind_and_depend_on_the_generator_alone(photo):
    crops = data.random_crops([(255 * photo[0]).byte()], 2, 96, 0, 0)
    seen = [training.lesson(crops, torch.Generator().manual_seed(seed), 2) for seed in range(40)]
    again = training.lesson(crops, torch.Generator().manual_seed(3), 2)
    assert all(torch.equal(a, b) for a, b in zip(seen[3], again, strict=True))
    assert {bool(one.known.min() == 0) for one in seen} == {True, False}
    assert any(torch.equal(one.x[:, 0], one.x[:, 1]) for one in seen)
    assert all(torch.isfinite(part).all() and one.sharp.shape == one.x.shape for one in seen for part in one)


def test_muon_takes_the_steps_of_torchs_own():
    torch.manual_seed(0)
    kernels = [torch.nn.Parameter(torch.randn(4, 3, 3, 3)) for _ in range(2)]
    kernels.append(torch.nn.Parameter(torch.randn(6, 2, 1, 1)))
    matrices = [torch.nn.Parameter(kernel.detach().flatten(1).clone()) for kernel in kernels]
    ours = ConvolutionMuon(torch.nn.ParameterList([*kernels, torch.zeros(2)]), 1e-2)
    theirs = torch.optim.Muon(matrices, lr=1e-2, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for kernel, matrix in zip(kernels, matrices, strict=True):
            kernel.grad = torch.randn_like(kernel)
            matrix.grad = kernel.grad.flatten(1).clone()
        ours.step()
        theirs.step()
        for kernel, matrix in zip(kernels, matrices, strict=True):
            # a step changes them by 0.01; the iteration is one of bfloat16
            torch.testing.assert_close(kernel.flatten(1), matrix, rtol=0, atol=1e-3)


def test_muon_learns_kernels_and_adamw_the_rest():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 1), torch.nn.ConvTranspose2d(4, 2, 2)
    )
    model = model.to(memory_format=torch.channels_last)
    optimiser, x = ConvolutionMuon(model, 3e-2), torch.rand(2, 3, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = []
    for _ in range(40):
        loss = (model(x) - 1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    other = ConvolutionMuon(model, 1.0)
    other.load_state_dict(optimiser.state_dict())
    assert {group["lr"] for group in other.param_groups} == {3e-2}
