"""Folders that several tests need: a prior on disk, pictures, and what is in them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image


def save_prior(folder: Path) -> str:
    """A tiny random prior of the embedded classes, on disk."""
    from diffusers import DDIMScheduler

    from restoration.priors.networks import LatentUNet, PatchAutoencoder
    from restoration.training.schedule import geometric_betas

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = LatentUNet(latent_std=(1.0,) * 16, widths=(8, 8), blocks=1, embedding=16)
        PatchAutoencoder(width=8, depth=1).save_pretrained(folder / "vae")
    unet.save_pretrained(folder / "unet")
    betas = geometric_betas(unet.config.sigma_min, unet.config.sigma_max, 1000)
    DDIMScheduler(trained_betas=betas, prediction_type="sample").save_pretrained(folder / "scheduler")
    index = {
        "vae": ["restoration.priors.networks", "PatchAutoencoder"],
        "unet": ["restoration.priors.networks", "LatentUNet"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return str(folder)


def picture(path: Path, seed: int = 0, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    Image.fromarray((torch.rand(side, side, 3, generator=generator) * 255).byte().numpy()).save(path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
