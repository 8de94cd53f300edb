"""Which folders of weights are taken, and which refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from restoration.priors.catalogue import EMBEDDED
from restoration.priors.diffusers_folder import wanted
from restoration.priors.latent import load_prior


def test_what_a_folder_may_be(text_folder, tmp_path):
    def changed(path: str, change) -> Path:
        folder = tmp_path / "prior"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(text_folder, folder)
        change(folder / path)
        return folder

    def rewrite(**values):
        return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | values))

    weights = "unet/diffusion_pytorch_model.safetensors"
    for path, change, words in (
        (
            "model_index.json",
            rewrite(unet=["diffusers", "FluxPipeline"]),
            "only LatentUNet, UNet2DConditionModel",
        ),
        ("model_index.json", rewrite(unet=None), "has no unet"),
        (
            "model_index.json",
            rewrite(scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"]),
            "scheduler is a FlowMatch",
        ),
        ("unet/config.json", rewrite(in_channels=9), "takes 9 channels but latents have 4"),
        (weights, lambda file: file.write_bytes(file.read_bytes()[:-1000]), "is damaged"),
        (weights, lambda file: file.rename(file.with_suffix(".bin")), "pickled weights are never loaded"),
        (
            weights,
            lambda file: file.rename(file.with_name("diffusion_pytorch_model-00001-of-00002.safetensors")),
            "1 of the 2 files",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            load_prior(str(changed(path, change)))


def test_half_precision_files_are_preferred_in_a_download_and_load(text_folder, tmp_path):
    names = [
        f"unet/{stem}.safetensors"
        for stem in (
            "diffusion_pytorch_model",
            "diffusion_pytorch_model.fp16",
            "diffusion_pytorch_model.non_ema",
        )
    ]
    names += [
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "model.ckpt",
        "safety_checker/model.safetensors",
        "tokenizer/merges.txt",
    ]
    assert wanted(names) == ["model_index.json", names[4], names[3], names[1], names[7]]
    shards = [
        "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
    ]
    assert wanted([*shards, "unet/diffusion_pytorch_model.safetensors.index.json", "unet/config.json"])[
        1:
    ] == [
        *shards,
        "unet/config.json",
    ]
    shutil.copytree(text_folder, tmp_path / "half")
    file = tmp_path / "half" / "unet" / "diffusion_pytorch_model.safetensors"
    from safetensors.torch import load_file

    save_file(
        {key: value.half() for key, value in load_file(file).items()},
        file.with_name("diffusion_pytorch_model.fp16.safetensors"),
    )
    file.unlink()
    z = torch.randn(1, 4, 8, 8)
    half, full = (
        load_prior.__wrapped__(str(folder), "cpu").denoise(z, 300)
        for folder in (tmp_path / "half", text_folder)
    )
    assert torch.allclose(half.eps, full.eps, atol=1e-2) and not torch.equal(half.eps, full.eps)


def _edit(file, **changes):
    content = json.loads(file.read_text())
    file.write_text(
        json.dumps({key: value for key, value in (content | changes).items() if value is not ...})
    )


VAE = "vae/diffusion_pytorch_model.safetensors"


JSONS = ("model_index.json", "vae/config.json", "unet/config.json", "scheduler/scheduler_config.json")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, lambda file: file.unlink()) for name in (*JSONS, VAE)),
        *((name, lambda file: file.write_bytes(b"")) for name in (*JSONS, VAE)),
        *((name, lambda file: file.write_bytes(b"\xff\0garbage" * 9)) for name in (*JSONS, VAE)),
        *((name, lambda file: file.write_bytes(file.read_bytes()[:60])) for name in (*JSONS, VAE)),
        *((name, lambda file: file.write_text("[1]")) for name in (*JSONS, VAE)),
        ("model_index.json", lambda file: _edit(file, unet=["diffusers"])),
        ("model_index.json", lambda file: _edit(file, unet="x")),
        ("model_index.json", lambda file: _edit(file, vae=["diffusers", "AutoencoderKL"])),
        ("model_index.json", lambda file: _edit(file, unet=["diffusers", "UNet2DConditionModel"])),
        ("vae/config.json", lambda file: _edit(file, latent_channels="x")),
        ("vae/config.json", lambda file: _edit(file, latent_channels=...)),
        ("vae/config.json", lambda file: _edit(file, width=1)),
        ("unet/config.json", lambda file: _edit(file, widths="x")),
        ("scheduler/scheduler_config.json", lambda file: _edit(file, trained_betas="x")),
        ("scheduler/scheduler_config.json", lambda file: _edit(file, trained_betas=[0.1])),
        ("scheduler/scheduler_config.json", lambda file: _edit(file, prediction_type="x")),
    ],
)
def test_a_damaged_folder_is_one_sentence(tmp_path, name, damage):
    folder = tmp_path / "prior"
    shutil.copytree(EMBEDDED, folder)
    damage(folder / name)
    with pytest.raises(ValueError, match=r"load it again|no safetensors|No prior|has no unet") as error:
        load_prior.__wrapped__(str(folder), "cpu")
    assert "\n" not in str(error.value)
