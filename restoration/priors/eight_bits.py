"""Diffusers folders of half the size: a part of the kernels in 8 bits, each first index in a unit of its own
(ours).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import ModelMixin
from safetensors.torch import load_file, save_file
from torch import Tensor

FILE = "diffusion_pytorch_model.safetensors"
UNIT = ".unit"  # after a kernel's name
MOST = 127  # units, of the largest value
LEAST = 1e-6  # a unit in float16 that is not zero

Model = TypeVar("Model", bound=ModelMixin)


def write(model: ModelMixin, folder: Path, suits: Callable[[str], bool]) -> None:
    """Configuration and weights, the kernels whose name `suits` in 8 bits, the rest in half precision."""
    model.save_config(folder)
    save_file(packed(model.state_dict(), suits), folder / FILE)


def read(kind: type[Model], folder: Path) -> Model:
    """The network of a folder, in float32: one of `write`, or an ordinary one."""
    with torch.random.fork_rng(devices=[]):  # initial weights, which nobody sees, take no draws of a run
        model = kind.from_config(kind.load_config(folder))
    state = {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}
    model.load_state_dict(unpacked(state))
    return model


def packed(state: Mapping[str, Tensor], suits: Callable[[str], bool]) -> dict[str, Tensor]:
    """The weights with kernels (A,B,h,w) as int8 and their units (A,1,1,1), all else in float16."""
    small = {}
    for name, value in state.items():
        if value.ndim == 4 and suits(name):
            unit = (value.abs().amax((1, 2, 3), keepdim=True) / MOST).clamp_min(LEAST).half()
            small[name + UNIT] = unit
            small[name] = (value / unit.float()).round().clamp(-MOST, MOST).to(torch.int8).contiguous()
        else:
            small[name] = value.half().contiguous()
    return small


def unpacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `packed`, in float32."""
    return {
        name: value.float() * (state[name + UNIT].float() if name + UNIT in state else 1)
        for name, value in state.items()
        if not name.endswith(UNIT)
    }
