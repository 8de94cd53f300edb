"""Training on a handful of real photographs: what it writes loads, and a killed run goes on as if nothing had happened."""

from __future__ import annotations

import io
import math
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data as pictures

from restoration.priors.latent import load_prior
from restoration.training import autoencoder, data, denoiser, loop

SMALL = ["--widths", "8", "8", "--blocks", "1", "--crop", "32", "--batch", "2", "--holdout", "2", "--evaluate-every", "1000"]


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "photos.tar"
    with tarfile.open(path, "w") as archive:
        for number, picture in enumerate([pictures.astronaut(), pictures.chelsea(), pictures.coffee(), pictures.rocket()]):
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
    return [str(shard), "--out", str(folder), "--checkpoint", str(folder / "unet.pt"), "--steps", str(steps), *SMALL, *more]


def test_what_training_writes_is_a_prior(shard, codec, tmp_path):
    denoiser.main(command(shard, codec, tmp_path, 3))
    prior = load_prior(str(tmp_path), "cpu")
    z = prior.encode(torch.rand(1, 3, 32, 32))
    assert prior.denoise(z, 500).z0.shape == z.shape


KILLED = """
import os, signal, sys, torch
from restoration.training import denoiser
save, calls = torch.save, []
def killed(state, path):
    calls.append(path)
    if len(calls) == 20:
        with open(path, "wb") as file:
            file.write(b"half a checkpoint")
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, path)
torch.save = killed
denoiser.main(sys.argv[1:])
"""  # a run that is killed while it writes its 20th checkpoint


def test_a_killed_run_goes_on_as_if_nothing_had_happened(shard, codec, tmp_path):
    denoiser.main(command(shard, codec, tmp_path / "whole", 60))
    arguments = command(shard, codec, tmp_path / "killed", 60, "--save-every", "0")
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], stderr=subprocess.DEVNULL)
    assert process.returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "killed" / "unet.pt", weights_only=True)["step"] == 19
    denoiser.main(arguments)
    whole, resumed = (load_file(tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors") for name in ("whole", "killed"))
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
    """A single bad batch must not undo hours: it once did. 1e30 is finite, the length of its gradient is not."""
    model = torch.nn.Linear(4, 1)
    parser = loop.arguments("", steps=30)
    args = parser.parse_args(["x", "--out", str(tmp_path), "--checkpoint", str(tmp_path / "c.pt"), "--device", "cpu"])

    def loss(model: torch.nn.Module, step: int) -> torch.Tensor:
        blown = {10: float("nan"), 20: 1e30}.get(step, 1.0)
        return (model(torch.ones(2, 4)) - 1).square().mean() * blown

    before = loss(model, 0).item()
    loop.train(model, loss, lambda _: {}, lambda _: None, args)
    assert loss(model, 0) < before and all(torch.isfinite(p).all() for p in model.parameters())


def test_gradients_that_become_large_are_followed(tmp_path):
    """Clipped, not left out: that once left a network where a bad step had taken it, and crops unlearned until they ruined a run."""
    model = torch.nn.Linear(4, 1)
    parser = loop.arguments("", steps=200, rate=1e-2)
    args = parser.parse_args(["x", "--out", str(tmp_path), "--checkpoint", str(tmp_path / "c.pt"), "--device", "cpu"])
    values = []

    def loss(model: torch.nn.Module, step: int) -> torch.Tensor:
        values.append((model(torch.ones(2, 4)) - 1).square().mean())
        return values[-1] * (1 if step < 10 else 1000)

    loop.train(model, loss, lambda _: {}, lambda _: None, args)
    assert values[-1] < 0.1 * values[10]


def test_a_run_that_leaps_twice_from_one_checkpoint_goes_on_at_a_quarter_of_the_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "JUDGED", 1)
    checkpoint, leaps, seen = tmp_path / "state.pt", [12, 12], []

    def loss(model, step):
        seen.append(step)
        far = 100.0 if leaps and step == leaps[0] and leaps.pop() else 1.0
        return far * (model.weight.square().mean() + 1)

    options = ["none.tar", "--out", str(tmp_path), "--checkpoint", str(checkpoint), "--steps", "20", "--save-every", "0", "--rate", "0.1"]
    loop.train(torch.nn.Linear(2, 2), loss, lambda _: {}, lambda _: None, loop.arguments("a test", device="cpu").parse_args(options))
    assert seen == [*range(13), 12, *range(12, 20)]
    assert torch.load(checkpoint, weights_only=True)["peak"] == pytest.approx(0.025)


def test_an_explosion_counts_by_its_logarithm():
    error = torch.tensor([0.5, denoiser.FAR, 1e9], requires_grad=True)
    value = denoiser.bounded(error)
    value.sum().backward()
    assert value.tolist() == pytest.approx([0.5, denoiser.FAR, denoiser.FAR * (1 + math.log(1e9 / denoiser.FAR))])
    assert error.grad.tolist() == pytest.approx([1, 1, denoiser.FAR / 1e9])
