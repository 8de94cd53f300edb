"""The training of LatentINDIGO's networks, and what the committed ones have learned."""

from __future__ import annotations

import functools
import io
import json
import tarfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_models import load

from restoration.degradations import realistic
from restoration.evaluation.metrics import psnr
from restoration.files.images import enlarge
from restoration.record import Run
from restoration.run import restore
from restoration.solvers import inn_weights, latent_indigo
from restoration.solvers.inn import LiftingINN
from restoration.solvers.inn_weights import INNS, codec_of, load_inn, load_restorer
from restoration.solvers.restorer import Restorer
from restoration.training import data
from restoration.training import inn as training


@pytest.fixture
def shard(tmp_path) -> str:
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for number in range(4):
            buffer = io.BytesIO()
            # drawn here: Pillow's own noise depends on what the process drew before
            noise = np.random.default_rng(number).normal(128, 20 * (number + 1), (208, 200))
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).convert("RGB").save(buffer, "PNG")
            info = tarfile.TarInfo(f"{number}.png")
            info.size = buffer.tell()
            buffer.seek(0)
            archive.addfile(info, buffer)
    return str(tmp_path / "photos.tar")


def options(shard: str, domain: str, *more: str) -> list[str]:
    """The smallest training there is."""
    sizes = {"scale": 2, "holdout": 2, "batch": 2, "crop": 32, "width": 8, "cells": 1, "pairs": 1}
    return [
        shard,
        "--domain",
        domain,
        *(word for name, size in sizes.items() for word in (f"--{name}", str(size))),
        *more,
    ]


@pytest.mark.parametrize("domain", ["pixel", "first"])
def test_training_begins_with_the_networks_that_it_is_given(tmp_path, shard, domain, capsys):
    files = ["--out", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "a.pt"), "--steps", "3"]
    training.main(options(shard, domain, *files))
    files = ["--out", str(tmp_path / "new"), "--checkpoint", str(tmp_path / "b.pt"), "--steps", "0"]
    training.main(options(shard, domain, *files, "--start", str(tmp_path / "out")))
    _, trained, start, _ = (json.loads(line) for line in capsys.readouterr().out.strip().splitlines())
    for name, value in start["start"].items():
        assert trained[name] == pytest.approx(value, abs=0.02)  # they were stored in half precision


@pytest.mark.parametrize("domain", ["pixel", "latent", "first"])
def test_training_continues_where_it_stopped(tmp_path, shard, domain, embedded, capsys):
    def train(name: str, steps: int) -> dict:
        files = ["--out", str(tmp_path / name), "--checkpoint", str(tmp_path / f"{name}.pt")]
        training.main(options(shard, domain, *files, "--steps", str(steps)))
        return json.loads(capsys.readouterr().out.strip().splitlines()[-1])

    assert train("a", 2)["step"] == 2
    begun = torch.load(tmp_path / "a.pt")["model"]
    assert train("a", 4) == train("undisturbed", 4)
    # so early the rate still warms up, whatever --steps is
    states = [torch.load(tmp_path / f"{name}.pt") for name in ("a", "undisturbed")]
    for part in ("model", "average"):
        assert all(torch.equal(value, states[1][part][name]) for name, value in states[0][part].items())
    assert not all(torch.equal(value, states[0]["model"][name]) for name, value in begun.items())
    kind, name = (
        (Restorer, "first-x2")
        if domain == "first"
        else (LiftingINN, "latent-embedded-x2" if domain == "latent" else "pixel-x2")
    )
    config = kind.from_pretrained(tmp_path / "a" / name).config
    assert config.scale == (1 if domain == "latent" else 2)
    assert domain != "latent" or tuple(config.codec) == codec_of(embedded)


def test_a_network_for_a_foreign_vae_is_trained_found_and_used(tmp_path, shard, folders, photo, monkeypatch):
    """A tiny Stable Diffusion's: its encoder is asked once for each of the batches that are kept."""
    prior, asked = load(folders["sd1"]), []
    encode = prior.encode
    monkeypatch.setattr(prior, "encode", lambda x: (asked.append(len(x)), encode(x))[1])
    monkeypatch.setattr(training, "load_prior", lambda name, device: prior)
    monkeypatch.setattr(training.Objective, "evaluate", lambda *_: {})
    counts = []
    for steps in ("2", "5"):
        asked.clear()
        files = ["--out", str(tmp_path / "inn"), "--checkpoint", str(tmp_path / f"{steps}.pt")]
        training.main(options(shard, "latent", *files, "--prior", "sd1", "--steps", steps, "--cache", "2"))
        counts.append(len(asked))
    assert counts[0] == counts[1] >= 8
    monkeypatch.setattr(inn_weights, "INNS", tmp_path / "inn")
    monkeypatch.setattr(latent_indigo.LatentINDIGO, "networks", lambda *_: [])
    monkeypatch.setattr(
        inn_weights, "load_restorer", lambda scale, device: functools.partial(enlarge, scale=scale)
    )
    solver = latent_indigo.LatentINDIGO(scale=2)
    assert not solver.lacks("sd1") and solver.lacks("sd2")
    *_, last = restore(photo[..., :16, :19], Run(solver, prior="sd1"), prior)
    assert last.result.image.shape[-2:] == (32, 38)


@pytest.fixture
def set_up(tmp_path, shard, monkeypatch):
    """(domain, *options) -> (untrained model, loss, evaluate), as the command hands them to the loop."""

    def build(domain: str, *more: str) -> tuple:
        seen: list = []
        monkeypatch.setattr("restoration.training.loop.train", lambda *arguments: seen.extend(arguments))
        training.main(
            options(shard, domain, "--out", str(tmp_path), "--checkpoint", str(tmp_path / "c.pt"), *more)
        )
        return tuple(seen[:3])

    return build


@pytest.mark.parametrize("domain", ["pixel", "latent"])
def test_every_loss_teaches_its_part(set_up, domain):
    """At the start only the swap reaches the predictors, whose outputs the forward model does not see yet,
    and only gratings reach T.
    """

    def slopes(weight: str) -> list[float]:
        model, loss, _ = set_up(domain, "--swap", weight)
        loss(model, 0).backward()
        parts = (model.updaters[0].leave, model.predictors[0].leave, model.encoder.transfer)
        return [part.weight.grad.abs().sum().item() for part in parts]

    forward, predict, transfer = slopes("0")
    assert forward > 0 and predict == 0 and transfer > 0
    swapped = slopes("1")
    assert swapped[1] > 0 and swapped[2] == pytest.approx(transfer, rel=1e-3)
    model, loss, _ = set_up("first")
    loss(model, 0).backward()
    assert model.leave.weight.grad.abs().sum() > 0


def test_what_training_reports_is_measured_on_the_right_pictures(set_up, shard):
    """Of the untrained network, which is the mean of blocks, on the photographs held out and cameras drawn
    with seed 0.
    """
    model, _, evaluate = set_up("pixel")
    x = (data.centre_crops(data.load_photographs([shard])[-2:], 192) + 1) / 2
    generator = torch.Generator().manual_seed(0)
    cameras = [realistic.draw("light", 2, generator) for _ in x]
    y = torch.cat([camera.degrade(row, generator) for camera, row in zip(cameras, x.split(1), strict=True)])
    clean = torch.cat([camera.forward(row) for camera, row in zip(cameras, x.split(1), strict=True)])
    mean, reduced = F.avg_pool2d(x, 2), F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)
    big = enlarge(y, 2)
    expected = {
        "forward": (mean, clean),
        "forward_observed": (mean, y),
        "bicubic_down": (reduced, clean),
        "bicubic_down_observed": (reduced, y),
        "noise": (clean, y),
        "bicubic_up": (big, x),
        "swap": (big + F.interpolate(y - F.avg_pool2d(big, 2), scale_factor=2), x),
    }
    figures = evaluate(model)
    assert figures.keys() == expected.keys()
    for name, (a, b) in expected.items():
        decibels = [
            -10 * (row - other).square().mean().log10().item() for row, other in zip(a, b, strict=True)
        ]
        assert figures[name] == pytest.approx(sum(decibels) / 2, abs=0.01), name


@pytest.mark.parametrize("folder", sorted(INNS.glob("*-x*")), ids=lambda f: f.name)
def test_committed_networks(folder, photo, embedded):
    assert max(f.stat().st_size for f in folder.iterdir()) < 15e6
    domain, *_, scale = folder.name.split("-")
    if domain == "first":
        assert load_restorer(int(scale[1:]))(torch.rand(1, 3, 16, 16)).shape[-1] == 16 * int(scale[1:])
        return
    inn = load_inn(domain, int(scale[1:]), embedded)
    x = (
        torch.rand(1, len(inn.config.spread), 64, 64)
        if domain == "pixel"
        else torch.randn(1, embedded.channels, 32, 32) * inn.unit
    )
    gamma = inn.embed(photo)
    assert (inn.inverse(*inn(x, gamma), gamma) - x).abs().max() < 1e-4


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_committed_pixel_networks_know_this_pictures_camera(photo, embedded, scale):
    """Better than bicubic reduction by more than 6 dB against the noise-free y, and worse once γ comes from
    another camera's picture.
    """
    inn, generators = (
        load_inn("pixel", scale, embedded),
        [torch.Generator().manual_seed(seed) for seed in range(8)],
    )
    cameras = [realistic.draw("light", scale, generator) for generator in generators]
    gammas = [
        inn.embed(camera.degrade(photo, generator))
        for camera, generator in zip(cameras, generators, strict=True)
    ]
    gains, exchanged, errors = [], [], []
    for number, camera in enumerate(cameras):
        clean = camera.forward(photo)
        reduced = psnr(F.interpolate(photo, clean.shape[-2:], mode="bicubic", antialias=True), clean)
        gains.append(psnr(inn.measure(photo, gammas[number]), clean) - reduced)
        exchanged.append(psnr(inn.measure(photo, gammas[number - 1]), clean) - reduced)
        errors.append((inn.transfer(gammas[number]) - camera.transfer()).abs().mean().item())
    assert sum(gains) / 8 > 6 and sum(exchanged) / 8 < sum(gains) / 8 - 1
    assert sum(errors) / 8 < 0.1
