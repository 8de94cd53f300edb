"""Training on a handful of real photographs: what it writes loads, and a killed run goes on as if nothing had
happened.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import os
import signal
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data as pictures

from restoration.degradations.blur import GaussianBlur
from restoration.priors.ffdnet import FFDNet
from restoration.priors.latent import load_prior
from restoration.priors.networks import LatentUNet, PatchAutoencoder
from restoration.training import autoencoder, data, denoiser, loop, states
from restoration.training.schedule import timestep

SMALL = [
    "--widths",
    "8",
    "8",
    "--blocks",
    "1",
    "--crop",
    "32",
    "--batch",
    "2",
    "--holdout",
    "2",
    "--evaluate-every",
    "1000",
]


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "photos.tar"
    with tarfile.open(path, "w") as archive:
        for number, picture in enumerate(
            [pictures.astronaut(), pictures.chelsea(), pictures.coffee(), pictures.rocket()]
        ):
            buffer = io.BytesIO()
            Image.fromarray(picture[:260, :260]).save(buffer, "PNG")
            entry = tarfile.TarInfo(f"{number}.png")
            entry.size = buffer.tell()
            archive.addfile(entry, io.BytesIO(buffer.getvalue()))
    return path


@pytest.fixture(scope="module")
def codec(shard, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prior")
    options = ["--steps", "2", "--crop", "32", "--batch", "2", "--holdout", "2"]
    autoencoder.main([str(shard), "--out", str(out), "--checkpoint", str(out / "ae.pt"), *options])
    return out


def command(shard: Path, codec: Path, folder: Path, steps: int, *more: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    if not (folder / "vae").exists():
        (folder / "vae").symlink_to(codec / "vae")
    return [
        str(shard),
        "--out",
        str(folder),
        "--checkpoint",
        str(folder / "unet.pt"),
        "--steps",
        str(steps),
        *SMALL,
        *more,
    ]


def test_what_training_writes_is_a_prior(shard, codec, tmp_path):
    denoiser.main(command(shard, codec, tmp_path, 3))
    prior = load_prior(str(tmp_path), "cpu")
    z = prior.encode(torch.rand(1, 3, 32, 32))
    assert prior.denoise(z, 500).z0.shape == z.shape


def test_a_wider_prior_begins_as_the_one_it_starts_from(shard, codec, tmp_path):
    denoiser.main(command(shard, codec, tmp_path / "first", 3))
    wide, options = (
        tmp_path / "wide",
        ["--steps", "1", "--crop", "32", "--batch", "2", "--holdout", "2", "--channels", "20"],
    )
    wide.mkdir()
    autoencoder.main(
        [str(shard), "--out", str(wide), "--checkpoint", str(wide / "ae.pt"), "--start", str(codec), *options]
    )
    denoiser.main(command(shard, wide, wide, 0, "--start", str(tmp_path / "first")))
    narrow, wider = load_prior(str(tmp_path / "first"), "cpu"), load_prior(str(wide), "cpu")
    x = torch.rand(1, 3, 32, 32)
    z = wider.encode(x)
    assert torch.allclose(z[:, :16], narrow.encode(x), atol=1e-5)
    assert torch.allclose(wider.denoise(z, 900).z0[:, :16], narrow.denoise(z[:, :16], 900).z0, atol=1e-2)


def test_a_prior_that_does_not_fit_is_no_start(shard, codec, tmp_path):
    denoiser.main(command(shard, codec, tmp_path, 0))
    with pytest.raises(ValueError, match="does not fit into this network"):
        loop.start_from(LatentUNet(latent_std=(1.0,) * 12, widths=(8, 8), blocks=1), f"{tmp_path}/unet")


def filled(model: torch.nn.Module) -> None:
    """Weights that all matter."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)


def test_ffdnet_denoises_the_picture_of_the_latent_where_noise_is_weak_and_is_not_there_where_it_is_strong():
    vae = PatchAutoencoder(patch_size=4, latent_channels=47)
    vae.basis.copy_(torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(0)))[0])
    vae.mean.fill_(-0.2)
    model = LatentUNet(latent_std=(0.5,) * 47, widths=(8, 8), blocks=1, fine_width=8, fine_depth=3)
    model.set_codec(vae)
    filled(model.fine)
    z = 0.1 * torch.randn(1, 47, 5, 6)
    x = (vae.decode(z / 0.5).sample + 1) / 2
    with torch.no_grad():
        for level, weak in ((25 / 255, True), (120 / 255, False)):
            t = timestep(model, level)
            sigma = model.sigma(torch.tensor(t))
            wiener = 0.25 / (0.25 + sigma**2) * z
            told = vae.encode(2 * model.fine(x, sigma[None]) - 1).latent * 0.5
            out = model(z / (1 + sigma**2).sqrt(), t).sample
            assert torch.allclose(out, told if weak else wiener, atol=1e-5)
            model.leave_fine.bias.fill_(0.1)
            judged, trusted = (model(z, t, trusting=trusts).sample for trusts in (False, True))
            assert torch.equal(judged, trusted) is not weak
            model.leave_fine.bias.zero_()
            each = model(z.expand(2, -1, -1, -1) / (1 + sigma**2).sqrt(), torch.tensor([t, 990])).sample
            assert torch.allclose(each[:1], out, atol=1e-5)


@pytest.mark.parametrize("size", [(5, 7), (8, 8)])
def test_a_latent_of_any_size_goes_through_both_networks(size):
    model = LatentUNet(latent_std=(0.5,) * 16, widths=(8, 8), blocks=1, fine_width=8, fine_depth=3)
    model.set_codec(PatchAutoencoder())
    filled(model)
    z = torch.randn(2, 16, *size)
    with torch.no_grad():
        outputs = [model(z, t).sample for t in (0, 400, 500, 999)]
    assert all(out.shape == z.shape and torch.isfinite(out).all() for out in outputs)


def test_uneven_noise_is_never_stronger_than_told():
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        noise = states.uneven_noise(torch.randn(3, 48, 40, generator=generator), generator)
        assert noise.shape == (3, 48, 40) and 0.05 < noise.square().mean().sqrt() < 1.05


def test_some_pictures_are_one_colour_some_of_these_as_saturated_as_can_be(shard, codec):
    seen = [states.colour(torch.Generator().manual_seed(seed)) for seed in range(40)]
    assert 10 < sum(bool((one == one.round()).all()) for one in seen) < 30
    args = denoiser.parser("x").parse_args(["x", "--out=x", "--checkpoint=x", "--batch=64", "--crop=8"])
    photographs = data.load_photographs([str(shard)])
    batch = denoiser.Objective(PatchAutoencoder(), photographs, torch.zeros(0), args).prepare(0)
    flat = (batch.x == batch.x[..., :1, :1]).all(-1).all(-1).all(-1).sum()
    assert 2 <= flat <= 16


def test_uneven_noise_is_at_times_one_grain_in_all_channels():
    likeness = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        noise = states.uneven_noise(torch.randn(3, 48, 40, generator=generator), generator)
        likeness.append(torch.corrcoef(noise.flatten(1))[0, 1].item())
    assert max(likeness) > 0.7 and sum(abs(one) < 0.1 for one in likeness) >= 5


def test_a_cameras_noise_is_weaker_than_told_and_of_many_colours():
    x = torch.from_numpy(pictures.astronaut()[:64, :64] / 255.0).float().permute(2, 0, 1)
    likeness = []
    for seed in range(8):
        noise = states.camera_noise(x, torch.Generator().manual_seed(seed))
        assert noise.shape == x.shape and 0.29 < noise.square().mean().sqrt() < 1.01
        likeness.append((noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean())
    assert max(likeness) > 0.4 and min(likeness) < 0.15


def test_reld_images_come_from_falling_levels_and_agree_with_the_measurement(monkeypatch):
    monkeypatch.setattr(states, "draw_degradation", lambda generator: GaussianBlur(noise_std=1.0))
    x, levels, seen = (
        torch.from_numpy(pictures.astronaut()[:64, :64] / 255.0).float().permute(2, 0, 1)[None],
        [],
        [],
    )

    def denoise(z: torch.Tensor, level: float) -> torch.Tensor:
        levels.append(level)
        seen.append(z)
        return z

    generator = torch.Generator().manual_seed(0)
    z, level = states.reld_input(lambda t: t, lambda z: z, denoise, x, 3, generator)
    ratios = [b / a for a, b in zip(levels, [*levels[1:], level], strict=True)]
    assert states.LEVELS[0] <= levels[0] <= states.LEVELS[1] and len(levels) == 3
    assert all(
        ratio == pytest.approx(ratios[0]) and states.RATIOS[0] <= ratio <= states.RATIOS[1]
        for ratio in ratios
    )
    blurred = GaussianBlur().forward(x)
    misfits = [(GaussianBlur().forward(image) - blurred).square().mean().item() for image in (*seen, z)]
    assert max(misfits) < (1 / 255) ** 2 < (GaussianBlur().forward(blurred) - blurred).square().mean()


def test_an_ffdnet_beside_the_unet_stays_as_it_was_while_the_unet_learns_from_what_reld_gives(
    shard, codec, tmp_path
):
    fine = FFDNet(8, 3).state_dict()
    torch.save(fine, tmp_path / "ffdnet.pth")
    denoiser.main(
        command(
            shard,
            codec,
            tmp_path,
            3,
            "--fine",
            str(tmp_path / "ffdnet.pth"),
            "--uneven",
            "0.5",
            "--camera",
            "0.25",
            "--states",
            "1",
        )
    )
    learned = LatentUNet.from_pretrained(tmp_path, subfolder="unet", torch_dtype=torch.float32)
    assert all(
        torch.equal(value.half(), learned.fine.state_dict()[name].half()) for name, value in fine.items()
    )
    assert learned.leave_fine.weight.any()
    assert load_prior(str(tmp_path), "cpu").denoise(torch.zeros(1, 16, 8, 8), 300).z0.shape == (1, 16, 8, 8)


def killed(arguments: list[str]) -> None:
    """A run that is killed while it writes its 20th checkpoint."""
    save, calls = torch.save, []

    def save_or_die(state, path):
        calls.append(path)
        if len(calls) == 20:
            with open(path, "wb") as file:
                file.write(b"half a checkpoint")
            os.kill(os.getpid(), signal.SIGKILL)
        save(state, path)

    torch.save = save_or_die
    denoiser.main(arguments)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(shard, codec, tmp_path):
    denoiser.main(command(shard, codec, tmp_path / "whole", 30))
    arguments = command(shard, codec, tmp_path / "killed", 30, "--save-every", "0")
    # a fork would fail where an earlier test had left autograd's threads
    process = multiprocessing.get_context("spawn").Process(target=killed, args=[arguments])
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert torch.load(tmp_path / "killed" / "unet.pt", weights_only=True)["step"] == 19
    denoiser.main(arguments)
    whole, resumed = (
        load_file(tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors")
        for name in ("whole", "killed")
    )
    for name, value in whole.items():
        assert torch.allclose(value.float(), resumed[name].float(), atol=2e-3), name


def test_crops_depend_on_seed_and_step_alone(shard):
    photographs = data.load_photographs([shard])
    first = data.random_crops(photographs, 3, 32, seed=1, step=5)
    data.random_crops(photographs, 3, 32, seed=1, step=6)
    assert torch.equal(first, data.random_crops(photographs, 3, 32, seed=1, step=5))
    assert not torch.equal(first, data.random_crops(photographs, 3, 32, seed=1, step=6))


def test_no_photographs(tmp_path):
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(ValueError, match="no photographs"):
        data.load_photographs([tmp_path / "empty.tar"])


def test_a_step_that_is_not_finite_is_left_out(tmp_path):
    """A single bad batch must not undo hours: it once did.

    1e30 is finite, the length of its gradient is not.
    """
    model = torch.nn.Linear(4, 1)
    parser = loop.arguments("train", "", steps=30)
    args = parser.parse_args(
        ["x", "--out", str(tmp_path), "--checkpoint", str(tmp_path / "c.pt"), "--device", "cpu"]
    )

    def loss(model: torch.nn.Module, step: int) -> torch.Tensor:
        blown = {10: float("nan"), 20: 1e30}.get(step, 1.0)
        return (model(torch.ones(2, 4)) - 1).square().mean() * blown

    before = loss(model, 0).item()
    loop.train(model, loss, lambda _: {}, lambda _: None, args)
    assert loss(model, 0) < before and all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_made_ahead_are_those_of_their_steps(workers):
    """Also where a run goes back, to a step that it had left behind."""
    ahead = loop.Ahead(lambda step: torch.tensor([step, os.getpid()]), workers)
    found = [ahead(step) for step in (3, 4, 5, 2, 3)]
    assert [step for step, _ in (pair.tolist() for pair in found)] == [3, 4, 5, 2, 3]
    elsewhere = {process for _, process in (pair.tolist() for pair in found)} - {os.getpid()}
    assert bool(elsewhere) == bool(workers)


def test_gradients_that_become_large_are_followed(tmp_path):
    """Clipped, not left out: that once left a network where a bad step had taken it, and crops unlearned
    until they ruined a run.
    """
    model = torch.nn.Linear(4, 1)
    parser = loop.arguments("train", "", steps=200, rate=1e-2)
    args = parser.parse_args(
        ["x", "--out", str(tmp_path), "--checkpoint", str(tmp_path / "c.pt"), "--device", "cpu"]
    )
    values = []

    def loss(model: torch.nn.Module, step: int) -> torch.Tensor:
        values.append((model(torch.ones(2, 4)) - 1).square().mean())
        return values[-1] * (1 if step < 10 else 1000)

    loop.train(model, loss, lambda _: {}, lambda _: None, args)
    assert values[-1] < 0.1 * values[10]


def leaping_run(tmp_path, monkeypatch, far, offset):
    """(the steps that a run of 20 made, its last rate): step 12 costs `far` twice, every other about `offset`
    + 1; each step is a checkpoint.
    """
    monkeypatch.setattr(loop, "JUDGED", 1)
    leaps, seen = [12, 12], []

    def loss(model, step):
        seen.append(step)
        leap = far if leaps and step == leaps[0] and leaps.pop() else 0.0
        return model.weight.square().mean() + 1 + offset + leap

    options = f"none.tar --out {tmp_path} --checkpoint {tmp_path}/c.pt --steps 20 --save-every 0 --rate 0.1"
    args = loop.arguments("train", "a test", device="cpu").parse_args(options.split())
    loop.train(torch.nn.Linear(2, 2), loss, lambda _: {}, lambda _: None, args)
    return seen, torch.load(tmp_path / "c.pt", weights_only=True)["peak"]


def test_a_run_that_leaps_twice_from_one_checkpoint_goes_on_at_a_quarter_of_the_rate(tmp_path, monkeypatch):
    seen, rate = leaping_run(tmp_path, monkeypatch, far=100.0, offset=0.0)
    assert seen == [*range(13), 12, *range(12, 20)] and rate == pytest.approx(0.025)


def test_losses_below_zero_that_hardly_move_are_no_leap(tmp_path, monkeypatch):
    """They are logarithms: once every second checkpoint of such a run was taken back."""
    seen, rate = leaping_run(tmp_path, monkeypatch, far=0.1, offset=-3.0)
    assert seen == [*range(20)] and rate == pytest.approx(0.1)


def test_an_explosion_counts_by_its_logarithm():
    error = torch.tensor([0.5, denoiser.FAR, 1e9], requires_grad=True)
    value = denoiser.bounded(error)
    value.sum().backward()
    assert value.tolist() == pytest.approx(
        [0.5, denoiser.FAR, denoiser.FAR * (1 + math.log(1e9 / denoiser.FAR))]
    )
    assert error.grad.tolist() == pytest.approx([1, 1, denoiser.FAR / 1e9])
