from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from restoration.degradations.linear import TASKS, Inpaint, LinearDegradation, SuperResolution, UploadedBlur


@pytest.fixture
def asymmetric(tmp_path):
    kernel = np.zeros((5, 7), np.float32)
    kernel[1, 2], kernel[4, 6], kernel[0, 0] = 3, 1, 2
    np.save(tmp_path / "kernel.npy", kernel)
    return UploadedBlur(file=str(tmp_path / "kernel.npy"))


@pytest.fixture(params=[*TASKS, "×2", "×3", "blur-decimate ×3"])
def case(request, asymmetric) -> tuple[LinearDegradation, tuple[int, ...]]:
    if request.param == "kernel-deblur":
        return asymmetric, (1, 3, 33, 46)
    if "×" in request.param:
        scale, reduction = int(request.param[-1]), request.param[:-2].strip()
        return SuperResolution(scale=scale, reduction=reduction or "bicubic"), (1, 3, 11 * scale, 16 * scale)
    return TASKS[request.param](), (1, 3, 44, 64)


def test_adjoint(case):
    degradation, shape = case
    x = torch.randn(shape)
    y = torch.randn_like(degradation.forward(x))
    left, right = degradation.forward(x) * y, x * degradation.adjoint(y)
    # relative to the sum of magnitudes: a signed mean would pass a wrong adjoint
    assert abs((left.sum() - right.sum()).item()) < 1e-5 * left.abs().sum().item()


@pytest.mark.parametrize("rho", [1e-5, 1e-2, 1.0])
def test_prox_satisfies_the_normal_equations(case, rho):
    degradation, shape = case
    x, v = torch.rand(shape), torch.rand(shape)
    y = degradation.forward(x)
    t = degradation.prox(v, y, rho)
    gradient = degradation.adjoint(degradation.forward(t) - y) + rho * (t - v)
    assert gradient.abs().max() < 2e-5


def test_adjoint_is_autograds(case):
    degradation, shape = case
    x = torch.rand(shape, requires_grad=True)
    y = degradation.forward(x)
    r = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, r) if y is not x else (r,)
    assert torch.allclose(gradient, degradation.adjoint(r), atol=1e-5)


def test_super_resolution_is_pillows_bicubic():
    plane = np.random.default_rng(0).random((44, 64), np.float32)
    expected = np.asarray(Image.fromarray(plane).resize((16, 11), Image.Resampling.BICUBIC))
    ours = SuperResolution(scale=4).forward(torch.from_numpy(plane).expand(1, 3, -1, -1))[0, 0]
    assert np.abs(ours.numpy() - expected).max() < 1e-5


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="noise_std is -1"):
        TASKS["denoise"](noise_std=-1)
    with pytest.raises(ValueError, match="scale is 5"):
        SuperResolution(scale=5)
    np.save(tmp_path / "nan.npy", np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="finite"):
        UploadedBlur(file=str(tmp_path / "nan.npy")).forward(torch.rand(1, 3, 32, 32))
    Image.new("L", (20, 20)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="20×20 but the picture 32×32"):
        Inpaint(mask=str(tmp_path / "mask.png")).forward(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("task", "knobs", "words"),
    [
        ("deblur", {"size": 3.5}, "size is 3.5; it must be a whole number"),
        ("deblur", {"std": True}, "std is True; it must be a number"),
        ("deblur", {"std": "wide"}, "std is 'wide'; it must be a number"),
        ("deblur", {"std": float("nan")}, "std is nan; it must lie between"),
        ("super-resolution", {"scale": 2.0}, "scale is 2.0; it must be a whole number"),
        ("motion-deblur", {"path": True}, "path is True; it must be a whole number"),
        ("inpaint", {"mask": ["a.png"]}, "mask is .'a.png'.; it must be text"),
    ],
)
def test_knobs_are_of_their_kind(task, knobs, words):
    with pytest.raises(ValueError, match=words):
        TASKS[task](**knobs)


def test_noise_is_seeded():
    x, task = torch.rand(1, 3, 32, 32), TASKS["denoise"]()
    first, again, other = (task.degrade(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert abs((first - x).std().item() * 255 - 25) < 1.5


def test_blur_is_deepinvs(asymmetric):
    from deepinv.physics import BlurFFT

    x = torch.rand(1, 3, 33, 46)
    physics = BlurFFT(img_size=(3, 33, 46), filter=asymmetric._kernel[None, None])
    assert torch.allclose(asymmetric.forward(x), physics.A(x), atol=1e-5)
    assert torch.allclose(asymmetric.prox(x, x, 0.01), physics.prox_l2(x, x, gamma=100.0), atol=1e-4)
