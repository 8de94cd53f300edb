"""Where a prior's networks run and in which precision, decided from free memory alone."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

# Bytes per pixel that a Stable Diffusion VAE in float32 needs beyond its weights, for its decoder's gradient and for that with
# checkpointing: live tensors counted on PyTorch's fake tensors at 512×512 (6.24 and 3.28 GB; decoding alone takes 0.81 GB).
GRADIENT, CHECKPOINTED = 23_800, 12_500
TILE = 512  # pixels a side that a tiled VAE works on at a time
RESERVE = 1.25  # ours, not measured: convolution workspaces, the UNet's activations, the allocator's losses
CONTAINER = Path("/sys/fs/cgroup")
SMALL = 50e6  # parameters below which half precision gains nothing and the codec needs no gigabytes: the embedded prior


class Device(NamedTuple):
    """name: as torch.device takes it. free: bytes. half: the 16-bit precision it is good at, float32 where it is not."""

    name: str
    free: float
    half: torch.dtype


@dataclass(frozen=True)
class Placement:
    """dtype: of the UNet and the text encoders; the VAE, whose pixels decide the figures, is float32 everywhere.

    tiled: the VAE works on tiles and single pictures and recomputes activations for its gradient.
    offload: one network at a time is on the device, the others wait in the host's memory.
    """

    device: str
    dtype: torch.dtype = torch.float32
    tiled: bool = False
    offload: bool = False
    reason: str = ""

    @property
    def note(self) -> str:
        """One sentence for the user."""
        text = f"On {self.device} in {str(self.dtype).removeprefix('torch.')}"
        text += ", the VAE in tiles" if self.tiled else ""
        text += ", networks taking turns on the device" if self.offload else ""
        return text + (f": {self.reason}." if self.reason else ".")


def needs(parameters: Mapping[str, float], side: int, half: torch.dtype) -> tuple[torch.dtype, float, float, float]:
    """(precision of the networks, bytes to hold a prior whole, with its VAE in tiles, and one network at a time besides).

    parameters: how many each network has, "vae" being one of them; side: of the pictures in pixels; half: the device's 16-bit precision.
    """
    small = sum(parameters.values()) < SMALL
    dtype = torch.float32 if small else half
    sizes = [count * (4 if name == "vae" else dtype.itemsize) for name, count in parameters.items()]
    whole, tiled = (0.0, 0.0) if small else (RESERVE * GRADIENT * side**2, RESERVE * CHECKPOINTED * min(side, TILE) ** 2)
    return dtype, sum(sizes) + whole, sum(sizes) + tiled, max(sizes) + tiled


def place(parameters: Mapping[str, float], side: int, devices: Sequence[Device], host: float) -> Placement:
    """The first of the devices that holds a prior, with as few savings as its free memory allows.

    parameters, side: as of `needs`. devices: the most wanted first. host: free bytes of the host's memory, where networks wait.
    Raises ValueError with all the figures when no device suffices.
    """
    short: list[str] = []
    for device in devices:
        dtype, whole, tiled, one = needs(parameters, side, device.half)
        missed = f"{short[0]}, " if short else ""
        free = f"{missed}{_gb(device.free)} free of {_gb(whole)} for {side}×{side} pixels"
        if whole <= device.free:
            return Placement(device.name, dtype, reason=missed.removesuffix(", "))
        if tiled <= device.free:
            return Placement(device.name, dtype, tiled=True, reason=free)
        if device.name != "cpu" and one <= device.free and tiled <= host:
            return Placement(device.name, dtype, tiled=True, offload=True, reason=free)
        short.append(f"{device.name} has {_gb(device.free)} free of {_gb(tiled if device.name == 'cpu' else one)}")
    raise ValueError(f"Not enough memory for this prior at {side}×{side} pixels, even in tiles: {', '.join(short)}. Choose a smaller prior.")


def devices() -> list[Device]:
    """The accelerators of this machine, the one with most free memory first, and the CPU last; measured now."""
    found = []
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if kind is not None:
        found = [Device(f"{kind.type}:{i}", _free(kind.type, i), _half(kind.type, i)) for i in range(torch.accelerator.device_count())]
    return [*sorted(found, key=lambda d: -d.free), Device("cpu", _host_free(), torch.float32)]


def choose(parameters: Mapping[str, float], side: int, device: str | None) -> Placement:
    """`place` on this machine as it is now; device: one of its names, or a kind such as "cuda"; None is any. ValueError when there is none."""
    here = devices()
    wanted = [d for d in here if device is None or device in (d.name, d.name.partition(":")[0])]
    if not wanted:
        raise ValueError(f"There is no device {device!r} here, only {', '.join(d.name for d in here)}.")
    return place(parameters, side, wanted, here[-1].free)


def release() -> None:
    """Give memory that nothing refers to back to the device."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any kind of device: only CUDA's allocator has an exception of its own."""
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error)


def _free(kind: str, index: int) -> float:
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return torch.accelerator.get_memory_info(index)[0]


def _half(kind: str, index: int) -> torch.dtype:
    """bfloat16 where the hardware has it: its range needs no care; CUDA before compute capability 8 and Apple's GPUs take float16."""
    if kind == "cuda" and torch.version.hip is None:
        return torch.bfloat16 if torch.cuda.get_device_capability(index)[0] >= 8 else torch.float16
    return torch.float16 if kind == "mps" else torch.bfloat16


def _host_free() -> float:
    """What the host has, or what is left of the container's limit (cgroup v2), which the former does not know."""
    import psutil

    free = float(psutil.virtual_memory().available)
    try:
        limit, used = (CONTAINER / "memory.max").read_text().strip(), int((CONTAINER / "memory.current").read_text())
        # files that the kernel keeps cached count as used but make way
        cached = next(int(line.split()[1]) for line in (CONTAINER / "memory.stat").read_text().splitlines() if line.startswith("inactive_file "))
        return free if limit == "max" else min(free, int(limit) - used + cached)
    except (OSError, StopIteration):
        return free


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
