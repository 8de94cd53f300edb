"""torch.compile behind a switch, for machines that run one prior for long: the first runs wait for it, each
size and batch anew.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from restoration.priors.parts import Parts

# the environment variable that names a mode of torch.compile for the denoiser; unset: nothing is compiled.
# "reduce-overhead" records CUDA graphs
SWITCH = "RESTORATION_COMPILE"
MODES = ("default", "reduce-overhead", "max-autotune-no-cudagraphs", "max-autotune")
BACKEND = "inductor"


def wanted() -> str:
    """The mode of the switch; "" where it is off, as on ZeroGPU, whose workers would compile at every run.

    ValueError for another word.
    """
    mode = os.environ.get(SWITCH, "")
    if mode and mode not in MODES:
        raise ValueError(f"{SWITCH} is {mode!r}; it can be {', '.join(MODES)}.")
    return "" if os.environ.get("SPACES_ZERO_GPU") else mode


def settle(parts: Parts, *, still: bool) -> None:
    """Compile the denoiser and both halves of the codec where the switch is on, the denoiser is in half
    precision and the networks stay where they are; give that up where it is not so.

    Half precision alone: its outputs are copied into float32, which a CUDA graph's own memory needs; and the
    embedded denoiser, which decides by the level what it computes, is in float32.
    """
    mode = wanted() if still and parts.unet.dtype != torch.float32 else ""
    halves = (getattr(parts.vae, name, None) for name in ("encoder", "decoder"))
    _compile(parts.unet, mode)
    for half in halves:
        if isinstance(half, nn.Module):
            _compile(half, mode and "default")  # a graph's memory could not be kept for a gradient


def _compile(network: Any, mode: str) -> None:
    if not mode:
        network._compiled_call_impl = None  # as it was before
    elif network._compiled_call_impl is None:
        network.compile(mode=mode, backend=BACKEND)
