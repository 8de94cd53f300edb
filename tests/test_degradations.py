from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from PIL import Image

from restoration.degradations.base import LinearDegradation, is_grey
from restoration.degradations.blur import GaussianBlur, MotionBlur, UploadedBlur
from restoration.degradations.inpaint import Inpaint
from restoration.degradations.linear import TASKS, Denoise
from restoration.degradations.partial import LARGE, TOLERANCE, mirrored, whole_scene
from restoration.degradations.plausible import contradictions, suspicions
from restoration.degradations.realistic import jpeg
from restoration.degradations.resampling import SuperResolution
from restoration.files.images import quantise


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
    kernel = asymmetric.kernel()
    physics = BlurFFT(img_size=(3, 33, 46), filter=(kernel / kernel.sum())[None, None])
    assert torch.allclose(asymmetric.forward(x), physics.A(x), atol=1e-5)
    assert torch.allclose(asymmetric.prox(x, x, 0.01), physics.prox_l2(x, x, gamma=100.0), atol=1e-4)


def part_of_a_scene(blur, scene: torch.Tensor) -> torch.Tensor:
    """What a camera sees of the blurred scene: nothing of its outermost `margin` pixels."""
    margin = blur.margin
    return blur.forward(scene)[..., margin:-margin, margin:-margin]


@pytest.mark.parametrize(
    "blur", [GaussianBlur(std=2.0, size=9), MotionBlur(size=15)], ids=["gaussian", "motion"]
)
@pytest.mark.parametrize("sides", [(40, 40), (33, 58), (16, 71), (16, 621)])
def test_what_is_outside_the_picture_is_unknown(blur, sides):
    """The true scene explains y exactly, borders included; the least squares are solved; circular ones would
    contradict it.
    """
    scene = 0.9 * torch.rand(2, 3, sides[0] + 2 * blur.margin, sides[1] + 2 * blur.margin)
    y = part_of_a_scene(blur, scene)
    whole = whole_scene(y, blur, periodic=False)
    below, right = whole.further
    assert below == 0 and (right > 0) == (sides[1] > LARGE)  # 629 is 17·37, and 635 5·127
    wide = torch.nn.functional.pad(scene, (0, right, 0, below))
    assert whole.y.shape == wide.shape and whole.degradation.misfit(wide, whole.y) < 1e-6
    assert torch.equal(whole.light(wide), scene[..., blur.margin : -blur.margin, blur.margin : -blur.margin])
    for rho in (1e-3, 0.1):
        right = whole.degradation.measured(y) * (whole.y - whole.degradation.forward(0 * wide))
        z = whole.degradation.solve(right, rho)
        left = whole.degradation.forward(whole.degradation.adjoint(z)) + rho * z
        assert (left - right).flatten(1).norm(dim=1).max() < 2 * TOLERANCE * right.flatten(1).norm(
            dim=1
        ).max()
    assert whole_scene(y, blur, periodic=True).y is y and whole_scene(y, Inpaint(), periodic=False).y is y


def test_the_reduction_of_a_mirrored_picture_is_its_reduction_mirrored(photo):
    x, task = photo[..., :64, :80], SuperResolution(scale=2)
    y = whole_scene(task.forward(x), task, periodic=False)
    # but for what Pillow does at a picture's border
    assert (task.forward(mirrored(x, y.margin)) - y.y)[..., 4:-4, 4:-4].abs().max() < 0.05
    assert torch.equal(y.light(mirrored(x, y.margin)), x)


def test_lights_brighter_than_white_are_found():
    scene, blur = torch.full((1, 3, 60, 60), 0.2), MotionBlur(size=11)
    scene[..., 25, 30], scene[..., 40, 15] = 8.0, 20.0
    y = part_of_a_scene(blur, scene).clamp(0, 1)
    whole = whole_scene(y, blur, periodic=False)
    assert (whole.excess > 1).sum() < 60 and whole.excess[..., 25, 30].min() > 2
    before = part_of_a_scene(blur, scene.clamp(0, 1)) - y  # what linear least squares would have to explain
    assert whole.degradation.misfit(scene.clamp(0, 1), whole.y) < 0.2 * before.square().mean().sqrt()
    assert not whole_scene(0.9 * y, blur, periodic=False).excess.any()


def test_noise_of_a_grey_picture():
    """Equal in all channels, so √3 times as strong along the brightness as independent noise."""
    grey, task = torch.rand(1, 1, 64, 64).expand(1, 3, -1, -1), Denoise(noise_std=10)
    y = task.degrade(grey, torch.Generator().manual_seed(0))
    assert is_grey(y) and abs((y - grey).std().item() * 255 - 10) < 0.5
    assert task.brightness_noise(y) == pytest.approx(3**0.5 * task.noise)
    colour = torch.rand(1, 3, 64, 64)
    assert (
        not is_grey(task.degrade(colour, torch.Generator())) and task.brightness_noise(colour) == task.noise
    )


@pytest.mark.parametrize("size", [8, 9, 24])
@pytest.mark.parametrize("blur", [GaussianBlur, MotionBlur])
def test_own_kernels_have_a_centre(blur, size):
    kernel = blur(size=size).kernel()
    assert kernel.shape == (size | 1, size | 1)
    if blur is GaussianBlur:
        assert torch.allclose(kernel, kernel.flip(0, 1))


@pytest.mark.parametrize("sides", [(4, 4), (5, 4), (7, 5)])
def test_kernels_are_convolved_as_scipy_does(tmp_path, sides):
    from scipy.ndimage import convolve

    rng = np.random.default_rng(0)
    kernel, plane = rng.random(sides, np.float32), rng.random((20, 23), np.float32)
    np.save(tmp_path / "kernel.npy", kernel)
    ours = UploadedBlur(file=str(tmp_path / "kernel.npy")).forward(
        torch.from_numpy(plane).expand(1, 3, -1, -1)
    )
    assert np.abs(ours[0, 0].numpy() - convolve(plane, kernel / kernel.sum(), mode="wrap")).max() < 1e-5


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("sides", [(32, 24), (31, 25)])
def test_top_left_decimation_is_told(scale, sides):
    """The small picture is every scale-th pixel from the first one; its enlargement lies where they lie."""
    degradation = SuperResolution(scale=scale, reduction="blur-decimate", blur=1.6, keep="top-left")
    high = torch.linspace(0, 1, sides[1] * scale).expand(1, 3, sides[0] * scale, -1)
    small = degradation.forward(high)
    assert torch.allclose(small[..., 4:-4], high[..., ::scale, ::scale][..., 4:-4], atol=1e-5)
    inside = (..., slice(None), slice(6 * scale, -6 * scale))
    assert (degradation.start(small) - high)[inside].abs().max() < 1e-4
    centred = SuperResolution(scale=scale, reduction="blur-decimate", blur=1.6)
    assert (centred.start(centred.forward(high)) - high)[inside].abs().max() < 1e-4
    assert (centred.forward(high) - small)[..., 4:-4].abs().min() > 0.3 * (scale - 1) / 2 / (sides[1] * scale)


def spectra() -> int:
    """How many complex tensors there are in memory."""
    return sum(torch.is_tensor(value) and value.is_complex() for value in gc.get_objects())


def test_matrices_of_one_picture_are_kept():
    from restoration.degradations import resampling

    for side in range(16, 26):
        SuperResolution(scale=2).prox(torch.rand(1, 3, 2 * side, 60), torch.rand(1, 3, side, 30), 0.1)
    assert (
        resampling.resampling_matrix.cache_info().currsize <= 2
        and resampling.eigenbasis.cache_info().currsize <= 2
    )
    blur, before = GaussianBlur(size=5), spectra()
    for side in range(16, 26):
        blur.forward(torch.rand(1, 3, side, 20))
    assert spectra() == before + 1


def test_holes_are_no_measurement(tmp_path):
    mask, x = torch.rand(20, 30) > 0.4, torch.rand(1, 3, 20, 30)
    Image.fromarray((255 * mask.numpy()).astype(np.uint8)).save(tmp_path / "mask.png")
    task = Inpaint(mask=str(tmp_path / "mask.png"))
    y = torch.where(mask, x, 1.0)  # something is drawn over the holes
    assert task.misfit(x, y) < 1e-6 and task.misfit(x + 0.1, y) == pytest.approx(0.1, rel=1e-3)
    Image.new("L", (30, 20)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match="leaves no pixel"):
        Inpaint(mask=str(tmp_path / "black.png")).start(y)


def test_what_is_enlarged_with_a_small_picture_is_told(photo):
    """JPEG and noise of which nothing is told come back as detail."""
    small = photo[..., 8:88, 8:88]
    assert not suspicions(quantise(small), SuperResolution())
    for y, what in (
        (jpeg(small, 40), "JPEG of quality 4"),
        (quantise(Denoise(20).degrade(small, torch.Generator().manual_seed(0))), "is noisy"),
    ):
        (told,) = suspicions(torch.cat([small, y]), SuperResolution(scale=2, noise_std=1.0))
        assert what in told
        right = float(told.removesuffix(".").rpartition("give ")[2])
        assert 10 < right < 30 and not suspicions(y, SuperResolution(scale=2, noise_std=right))
    assert not suspicions(jpeg(small, 40)[..., :15], SuperResolution())  # too small to be measured


def test_a_kernel_turned_by_180_degrees_is_told(photo):
    """Of the kernel and the turned one, the right one gives the sparser picture, wherever its centre lies."""
    for path in (0, 3):
        right = MotionBlur(size=21, path=path)
        y = quantise(part_of_a_scene(right, photo))
        moved = drawn(torch.nn.functional.pad(right.normalised, (8, 0, 0, 6)))
        for kernel in (right.normalised, moved.normalised):
            assert not suspicions(y, drawn(kernel))
            assert "turned by 180°" in suspicions(y, drawn(kernel.flip(0, 1)))[0]
    blurred = quantise(part_of_a_scene(GaussianBlur(), photo))
    assert not suspicions(blurred, GaussianBlur())  # which is the same either way


def drawn(kernel: torch.Tensor) -> UploadedBlur:
    """The blur whose kernel is this one."""
    blur = UploadedBlur(file="of this test")
    object.__setattr__(blur, "kernel", lambda: kernel)
    return blur


def test_pixels_known_without_noise_come_back_as_they_are(tmp_path):
    mask, y = torch.rand(20, 30) > 0.4, torch.rand(1, 3, 20, 30)
    Image.fromarray((255 * mask.numpy()).astype(np.uint8)).save(tmp_path / "mask.png")
    path, x = str(tmp_path / "mask.png"), torch.rand(1, 3, 20, 30)
    agreeing = Inpaint(mask=path).agreeing(x, y)
    assert torch.equal(agreeing, torch.where(mask, y, x))
    assert torch.equal(Inpaint(mask=path, noise_std=5.0).agreeing(x, y), x) and Denoise().agreeing(x, y) is x


def test_an_inverted_mask_is_told(tmp_path):
    mask, x = torch.ones(20, 30, dtype=torch.bool), torch.rand(1, 3, 20, 30)
    mask[5:12, 8:15] = False
    for name, values in (("right.png", mask), ("inverted.png", ~mask)):
        Image.fromarray((255 * values.numpy()).astype(np.uint8)).save(tmp_path / name)
    for hole in (0.0, 1.0):
        y = torch.where(mask, x, hole)
        assert not suspicions(y, Inpaint(mask=str(tmp_path / "right.png")))
        assert "may be inverted" in suspicions(y, Inpaint(mask=str(tmp_path / "inverted.png")))[-1]
    flat = torch.full_like(x, 0.5)
    assert not any("inverted" in told for told in suspicions(flat, Inpaint(mask=str(tmp_path / "right.png"))))


def test_what_can_hardly_be_is_said(tmp_path):
    x = torch.full((1, 3, 64, 64), 0.5)
    y = GaussianBlur(noise_std=25).degrade(x, torch.Generator().manual_seed(0))
    assert not suspicions(y, GaussianBlur(noise_std=20.0)) and not suspicions(x, GaussianBlur(noise_std=0.1))
    assert (
        "units of 1/255" in suspicions(y, Denoise(noise_std=0.1))[0]
        and "give 25.5" in suspicions(y, Denoise(noise_std=0.1))[0]
    )
    assert "is amplified" in suspicions(y, GaussianBlur(noise_std=2.55))[0]
    assert "95% of the pixels are missing" in suspicions(x, Inpaint(missing=0.95))[0] and not suspicions(
        x, Inpaint(missing=0.8)
    )
    assert not contradictions(GaussianBlur(), 40.0)
    assert (
        "blurred less than was told, or there may" in contradictions(GaussianBlur(), 37.0)[0]
        and "turned by 180°" in contradictions(UploadedBlur(file="k.png"), 37.0)[0]
        and "compressed" in contradictions(SuperResolution(), 45.0)[0]
    )
