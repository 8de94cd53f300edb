"""Every metric against a second implementation, on nine kinds of pairs."""

from __future__ import annotations

import math

import numpy as np
import piq
import pytest
import torch
from scipy.ndimage import correlate, gaussian_filter
from scipy.special import gamma
from skimage.data import coffee
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from restoration import run
from restoration.degradations.linear import Denoise
from restoration.evaluation import metrics
from restoration.record import Run
from restoration.solvers.reld import RELD


def tensor(picture: np.ndarray) -> Tensor:
    """(H,W,3) of 0 to 255 -> (1,3,H,W) float32 in [0,1], rounded to 8 bits."""
    return torch.from_numpy(picture.round().clip(0, 255)).permute(2, 0, 1)[None].float() / 255


def pairs() -> dict[str, tuple[Tensor, Tensor]]:
    """(picture, reference) of nine kinds."""
    a, rng = coffee()[100:196, 150:271].astype(float), np.random.default_rng(3)
    grey = a.mean(2, keepdims=True).repeat(3, 2)
    flat = np.full((64, 64, 3), 128.0)
    made = {
        "noise": (a + rng.normal(0, 20, a.shape), a),
        "blur, odd sides": (gaussian_filter(a, (1.5, 1.5, 0))[:93, :117], a[:93, :117]),
        "grey": (grey + rng.normal(0, 12, grey.shape[:2])[..., None], grey),
        "identical": (a, a),
        "shift": (a[:, 1:], a[:, :-1]),
        "small": (0.9 * a[:40, :40] + 5, a[:40, :40]),
        "tiny": (a[:16, :20] + 8, a[:16, :20]),
        "flat": (flat + 2, flat),
        "white for black": (flat * 0 + 255, flat * 0),
    }
    return {name: (tensor(x), tensor(reference)) for name, (x, reference) in made.items()}


PAIRS = pairs()
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


def channels_last(x: Tensor) -> np.ndarray:
    return x[0].permute(1, 2, 0).double().numpy()


def luma(x: np.ndarray) -> np.ndarray:
    """MATLAB's rgb2ycbcr, first channel."""
    return (x @ np.array([65.481, 128.553, 24.966]) + 16) / 255


@every_pair
def test_psnr_is_scikit_images(pair):
    a, b = map(channels_last, pair)
    scores = metrics.score(*pair)
    for name, x, r in (("PSNR", a, b), ("PSNR-Y", luma(a), luma(b))):
        expected = 100 if np.array_equal(x, r) else peak_signal_noise_ratio(r, x, data_range=1)
        assert scores[name] == pytest.approx(expected, abs=1e-4)


@every_pair
def test_ssim_is_scikit_images_and_piqs_and_at_most_1(pair):
    a, b = map(channels_last, pair)
    options = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    scores = metrics.score(*pair)
    assert scores["SSIM"] == pytest.approx(structural_similarity(a, b, channel_axis=-1, **options), abs=1e-6)
    assert scores["SSIM-Y"] == pytest.approx(structural_similarity(luma(a), luma(b), **options), abs=1e-6)
    for name, x, r in (("SSIM", *pair), ("SSIM-Y", *map(metrics.luma, pair))):
        second = piq.ssim(x.double(), r.double(), downsample=False)
        assert scores[name] == pytest.approx(float(second), abs=1e-6)
    assert max(scores["SSIM"], scores["SSIM-Y"]) <= 1


@every_pair
def test_haarpsi_is_piqs_and_at_most_1(pair):
    value = metrics.haarpsi(*pair)
    assert value == pytest.approx(float(piq.haarpsi(*pair)), abs=1e-4)
    assert value <= 1


def asymmetric_gaussian(values: np.ndarray) -> tuple[float, float, float]:
    """(shape, left and right scale) of NIQE's fit by moments, by a search through the shapes."""
    left, right = (math.sqrt((values[side] ** 2).mean()) for side in (values < 0, values > 0))
    ratio = left / right
    moment = (
        np.abs(values).mean() ** 2 / (values**2).mean() * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    )
    shapes = np.arange(0.2, 10, 0.001)
    shape = shapes[
        np.argmin((gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes)) - moment) ** 2)
    ]
    scale = math.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


def niqe_features(patch: np.ndarray) -> list[float]:
    """The 18 features of one patch of one scale (Mittal et al. 2013)."""
    shape, left, right = asymmetric_gaussian(patch.ravel())
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = asymmetric_gaussian((patch * np.roll(patch, shift, (0, 1))).ravel())
        features += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return features


def halved(x: np.ndarray) -> np.ndarray:
    """MATLAB's imresize by one half: the cubic kernel, twice as wide, at both axes."""
    t = np.abs(np.arange(-4, 4) + 0.5) / 2
    cubic = np.where(t <= 1, 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2)
    for axis in (0, 1):
        padded = np.pad(x, [(3, 3) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric")
        x = np.apply_along_axis(
            lambda line: np.convolve(line, cubic / cubic.sum(), "valid")[::2], axis, padded
        )
    return x


def numpy_niqe(x: Tensor) -> float:
    """NIQE from its paper, patches of 64 pixels that overlap by half."""
    grid = np.arange(-3, 4)
    kernel = np.exp(-(grid**2)[:, None] / (2 * (7 / 6) ** 2)) * np.exp(-(grid**2) / (2 * (7 / 6) ** 2))
    kernel /= kernel.sum()
    picture, columns = channels_last(x) @ np.array([0.299, 0.587, 0.114]), []
    for side in (64, 32):
        mean = correlate(picture, kernel, mode="nearest")
        deviation = np.sqrt(np.abs(correlate(picture**2, kernel, mode="nearest") - mean**2))
        normalised = (picture - mean) / (deviation + 1 / 255)
        corners = [range(0, length - side + 1, side // 2) for length in picture.shape]
        columns.append(
            [niqe_features(normalised[i : i + side, j : j + side]) for i in corners[0] for j in corners[1]]
        )
        picture = halved(picture)
    features = np.concatenate(columns, 1)
    natural = {name: value.double().numpy() for name, value in metrics.load_file(metrics.WEIGHTS).items()}
    distance = features.mean(0) - natural["mu"]
    return math.sqrt(distance @ np.linalg.pinv((np.cov(features.T) + natural["cov"]) / 2) @ distance)


def test_niqe_of_a_large_picture_is_that_of_its_middle(monkeypatch):
    x = tensor(coffee().astype(float))
    middle = x[..., 100:300, 150:450]
    expected = metrics.niqe(middle)
    monkeypatch.setattr(metrics, "JUDGED", middle.shape[-2] * middle.shape[-1])
    assert metrics.niqe(x) == expected == metrics.niqe(middle)
    monkeypatch.setattr(metrics, "JUDGED", 1000)
    assert metrics.niqe(x) == metrics.niqe(x[..., 104:296, 204:396])  # no side is too short for it


def test_niqe_is_numpys():
    for x in (coffee()[:256, 150:406], gaussian_filter(coffee()[100:324, 200:456], (1, 1, 0))):
        value = tensor(x.astype(float))
        assert metrics.niqe(value) == pytest.approx(numpy_niqe(value), rel=2e-3)


@pytest.fixture
def without_network(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(metrics.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    metrics.lpips_network.cache_clear()
    yield tmp_path
    metrics.lpips_network.cache_clear()


@pytest.fixture
def alexnet_trunk(without_network):
    """A random trunk where torchvision keeps the trained one."""
    from torchvision.models import alexnet

    (without_network / "checkpoints").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(alexnet().state_dict(), without_network / "checkpoints" / "alexnet-owt-7be5be79.pth")


def test_lpips_is_torchmetrics_with_the_same_trunk(alexnet_trunk):
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    lpips = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
    for name in PAIRS.keys() - {"tiny"}:
        x, reference = PAIRS[name]
        assert metrics.lpips_alex(x, reference) == pytest.approx(float(lpips(x, reference)), abs=1e-6)


def test_every_metric_prefers_the_clean_picture(alexnet_trunk):
    clean = tensor(coffee()[:256, 150:406].astype(float))
    noisy = (clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    perfect, worse = metrics.score(clean, clean), metrics.score(noisy, clean)
    assert perfect.keys() == worse.keys() == metrics.METRICS.keys() and not perfect.missing
    for name in perfect:
        assert (perfect[name] > worse[name]) == metrics.METRICS[name].higher_is_better


def test_without_reference_only_what_needs_none():
    x = tensor(coffee()[:200, :200].astype(float))
    assert metrics.score(x).keys() == {"NIQE (own fit)"}
    small = metrics.score(x[..., :100, :100])
    assert small == {} and small.missing == {"NIQE (own fit)": "below 192 pixels"}


@pytest.mark.parametrize("side", [1, 8, 15, 16, 31])
def test_tiny_pictures_have_the_figures_that_fit(side, without_network):
    x = torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(0))
    scores = metrics.score(x, 1 - x)
    assert scores.keys() | scores.missing.keys() == metrics.METRICS.keys()
    assert "PSNR" in scores and ("HaarPSI" in scores) == (side >= 16) and ("SSIM" in scores) == (side >= 11)
    assert all(map(math.isfinite, scores.values()))


@pytest.mark.parametrize("kind", ["black", "white", "ramp", "stripes", "squares", "one point"])
def test_flat_and_ruled_pictures_are_scored(kind, without_network):
    x = torch.zeros(1, 3, 208, 200)
    x += {
        "white": torch.ones(200),
        "ramp": torch.arange(200) / 200,
        "stripes": torch.arange(200) // 8 % 2,
    }.get(kind, torch.zeros(200))
    x[..., 100, 100] += kind == "one point"
    x += torch.arange(200) // 8 % 2 ^ (torch.arange(208) // 8 % 2)[:, None] if kind == "squares" else 0
    scores = metrics.score(x, x)
    expected = {"PSNR": 100, "PSNR-Y": 100, "SSIM": 1, "SSIM-Y": 1, "HaarPSI": 1}
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert scores.missing["LPIPS"] == "needs weights"
    assert ("NIQE (own fit)" in scores) != (scores.missing.get("NIQE (own fit)") == "undefined here")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (np.linalg.LinAlgError("SVD did not converge"), "undefined here"),
        (torch.linalg.LinAlgError("ill-conditioned"), "undefined here"),
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
            "out of memory",
        ),
        (ImportError("No module named 'optional'"), "undefined here"),
        (metrics.Unavailable("below 3 pixels"), "below 3 pixels"),
        (math.nan, "undefined here"),
    ],
    ids=str,
)
def test_a_metric_that_fails_costs_itself_alone(monkeypatch, without_network, error, reason):
    def fails(*_args):
        if isinstance(error, Exception):
            raise error
        return error

    monkeypatch.setitem(metrics.METRICS, "toy", metrics.Metric(fails, True))
    scores = metrics.score(*PAIRS["noise"])
    assert "toy" not in scores and scores.missing["toy"] == reason
    assert {"PSNR", "SSIM", "HaarPSI"} < scores.keys()


def test_a_result_survives_all_that_is_optional(monkeypatch, without_network, tiny_prior):
    def fails(*_args):
        raise MemoryError

    task = Denoise(noise_std=10)
    y = PAIRS["small"][0]
    for name, metric in metrics.METRICS.items():
        monkeypatch.setitem(metrics.METRICS, name, metric._replace(function=fails))
    monkeypatch.setattr(run, "consistency", fails)
    (result,) = [
        step.result
        for step in run.restore(y, Run(RELD(steps=1), task), tiny_prior, reference=y)
        if step.result
    ]
    assert result.image.shape == y.shape and result.scores == {}
    monkeypatch.setattr(tiny_prior, "encode", fails)
    rows = run.score_rows(y, result, tiny_prior, y)
    assert rows["prior's round trip"].missing == dict.fromkeys(metrics.METRICS, "out of memory")


def test_pictures_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="they must be equal"):
        metrics.score(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 33))
