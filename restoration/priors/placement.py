"""Where a prior's networks run and in which precision, decided from free memory alone."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from restoration.priors import compiling
from restoration.priors.parts import Parts

# Bytes per pixel that a Stable Diffusion VAE in float32 needs beyond its weights, for its decoder's gradient
# and for that with checkpointing: live tensors counted on PyTorch's fake tensors at 512×512 (6.24 and 3.28
# GB; decoding alone takes 0.81 GB).
GRADIENT, CHECKPOINTED = 23_800, 12_500
MOST = 50_000  # bytes per pixel that no run on a prior of PRIORS takes beside the weights
TILE = 512  # pixels a side that a tiled VAE works on at a time
RESERVE = 1.25  # ours, not measured: convolution workspaces, the UNet's activations, the allocator's losses
CONTAINER = Path("/sys/fs/cgroup")
# parameters below which half precision gains nothing and the codec needs no gigabytes: the embedded prior
SMALL = 50e6


class Device(NamedTuple):
    """name: as torch.device takes it. free: bytes.

    half: the 16-bit precision it is good at, float32 where it is not.
    """

    name: str
    free: float
    half: torch.dtype


@dataclass(frozen=True)
class Placement:
    """dtype: of the UNet and the text encoders. codec: of the VAE, whose pixels decide the figures: float32,
    but where precision.py says otherwise.

    tiled: the VAE works on tiles and single pictures and recomputes activations for its gradient.
    offload: one network at a time is on the device, the others wait in the host's memory.
    twice: a picture is decoded once more for its gradient, so that the decoder's graph is not kept while
    other networks learn from the picture.
    """

    device: str
    dtype: torch.dtype = torch.float32
    tiled: bool = False
    offload: bool = False
    reason: str = ""
    twice: bool = False
    codec: torch.dtype = torch.float32

    @property
    def again(self) -> bool:
        """Whether a graph is made again where it is needed instead of kept."""
        return self.twice or self.tiled

    @property
    def note(self) -> str:
        """One sentence for the user."""
        text = f"On {self.device} in {str(self.dtype).removeprefix('torch.')}"
        text += ", the VAE too" if self.codec == self.dtype != torch.float32 else ""
        text += (
            ", the VAE in tiles" if self.tiled else ", decoding twice for a gradient" if self.twice else ""
        )
        text += ", networks taking turns on the device" if self.offload else ""
        return text + (f": {self.reason}." if self.reason else ".")


def needs(
    parameters: Mapping[str, float], side: int, half: torch.dtype
) -> tuple[torch.dtype, float, float, float]:
    """(precision of the networks, bytes to hold a prior whole, with its VAE in tiles, and one network at a
    time besides).

    parameters: how many each network has, "vae" being one of them; side: of the pictures in pixels; half: the
    device's 16-bit precision.
    """
    small = sum(parameters.values()) < SMALL
    dtype = torch.float32 if small else half
    sizes = [count * (4 if name == "vae" else dtype.itemsize) for name, count in parameters.items()]
    whole, tiled = (
        (0.0, 0.0) if small else (RESERVE * GRADIENT * side**2, RESERVE * CHECKPOINTED * min(side, TILE) ** 2)
    )
    # the others have read by then
    at_work = sum(size for name, size in zip(parameters, sizes, strict=True) if "text" not in name)
    return dtype, max(sum(sizes), at_work + whole), max(sum(sizes), at_work + tiled), max(sizes) + tiled


def place(parameters: Mapping[str, float], side: int, devices: Iterable[Device], host: float) -> Placement:
    """The device that holds a prior with as few savings as free memory allows; of those alike, the first.

    parameters, side: as of `needs`. devices: the most wanted first; one is looked at, which may measure it,
    only when those before it cannot hold the prior whole; the CPU, last, only when no other can at all. host:
    free bytes of the host's memory, where networks wait. Raises ValueError with all the figures when no
    device suffices.
    """
    savings: list[tuple[int, Placement]] = []
    short: list[str] = []
    for device in devices:
        dtype, whole, tiled, one = needs(parameters, side, device.half)
        if device.name == "cpu" and savings:
            break
        missed = f"{short[0]}, " if short else ""
        figures = f"{missed}{_gb(device.free)} free of {_gb(whole)} for {side}×{side} pixels"
        if whole <= device.free:
            return Placement(device.name, dtype, reason=missed.removesuffix(", "))
        if tiled <= device.free:
            savings.append((0, Placement(device.name, dtype, tiled=True, reason=figures)))
        elif device.name != "cpu" and one <= device.free and tiled <= host:
            savings.append((1, Placement(device.name, dtype, tiled=True, offload=True, reason=figures)))
        short.append(
            f"{device.name} has {_gb(device.free)} free of {_gb(tiled if device.name == 'cpu' else one)}"
        )
    if savings:
        return min(savings, key=lambda saving: saving[0])[1]
    raise ValueError(
        f"Not enough memory for this prior at {side}×{side} pixels, even in tiles: {', '.join(short)}. "
        "Choose a smaller prior."
    )


def names() -> list[str]:
    """The accelerators of this machine, the process's own first, and the CPU last.

    Measures and occupies none of them.
    """
    # asked for by its name: what stands in for a GPU on ZeroGPU answers to nothing else
    if torch.cuda.is_available():
        kind, count, own = (
            "cuda",
            torch.cuda.device_count(),
            torch.cuda.current_device() if torch.cuda.is_initialized() else 0,
        )
    elif torch.accelerator.is_available():
        kind, count, own = str(torch.accelerator.current_accelerator()), torch.accelerator.device_count(), 0
    else:
        kind, count, own = "", 0, 0
    return [*(f"{kind}:{i}" for i in sorted(range(count), key=lambda i: i != own)), "cpu"]


def device(name: str) -> Device:
    """A device of `names` as it is now. Opens a context there, which takes some hundred megabytes."""
    kind, _, index = name.partition(":")
    return Device(name, free(name), torch.float32 if kind == "cpu" else _half(kind, int(index)))


def choose(parameters: Mapping[str, float], side: int, wanted: str | None) -> Placement:
    """`place` on this machine as it is now; wanted: one of `names`, or a kind such as "cuda"; None is any.

    ValueError when there is none.
    """
    here = names()
    some = [name for name in here if wanted is None or wanted in (name, name.partition(":")[0])]
    if not some:
        raise ValueError(f"There is no device {wanted!r} here, only {', '.join(here)}.")
    return place(parameters, side, map(device, some), free("cpu"))


def move(parts: Parts, before: Placement | None, after: Placement) -> None:
    """Bring a prior's networks from one place (None: wherever loading left them) to another.

    Text encoders stay in the host's memory, where `reading` takes them from; the codec keeps its precision.
    """
    codec, others = parts.vae, [*parts.text_encoders, parts.unet]
    if codec._supports_gradient_checkpointing:
        (codec.enable_gradient_checkpointing if after.tiled else codec.disable_gradient_checkpointing)()
    if before is not None and before.dtype != after.dtype:
        for network in others:
            network.to(after.dtype)  # float16 to float32 and back is exact
    if before is not None and before.offload and not after.offload:
        from accelerate.hooks import remove_hook_from_module

        for network in parts.networks:
            remove_hook_from_module(network)
    if not after.offload:
        # on a CPU it would change roundings
        form = {} if after.device == "cpu" else {"memory_format": torch.channels_last}
        for network in (parts.unet, codec):
            network.to(after.device, **form)
    elif before is None or not before.offload:
        _take_turns(parts.networks, torch.device(after.device))
    compiling.settle(parts, still=not after.offload)
    if before is not None:
        release()


@contextlib.contextmanager
def reading(parts: Parts, where: Placement) -> Iterator[None]:
    """The text encoders are on the device while the block runs: SDXL's alone are 1.6 GB, which a run needs
    once.
    """
    if where.offload:  # the hooks bring them
        yield
        return
    try:
        for network in parts.text_encoders:
            network.to(where.device)
        yield
    finally:
        for network in parts.text_encoders:
            network.to("cpu")


def size(network: Any) -> float:
    """Bytes of its weights."""
    return sum(tensor.numel() * tensor.itemsize for tensor in (*network.parameters(), *network.buffers()))


def _take_turns(networks: Sequence[Any], device: torch.device) -> None:
    """Keep the networks in the host's memory; each one's call sends the others back there and itself to the
    device.
    """
    from accelerate import cpu_offload_with_hook
    from accelerate.hooks import CpuOffload, UserCpuOffloadHook

    for network in networks:
        network.to("cpu")
    for network in networks:
        for other in networks:
            if other is not network:
                cpu_offload_with_hook(network, device, UserCpuOffloadHook(other, CpuOffload(device)))


def release() -> None:
    """Give memory that nothing refers to back to the device."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def free(name: str) -> float:
    """Bytes that are free on a device of `names`, what PyTorch keeps there without using it among them."""
    kind, _, index = name.partition(":")
    if kind == "cpu":
        return _host_free()
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    if kind != "cuda":
        return torch.accelerator.get_memory_info(int(index or 0))[0]
    at = int(index or 0)
    kept = torch.cuda.memory_reserved(at) - torch.cuda.memory_allocated(at)
    return torch.cuda.mem_get_info(at)[0] + kept


def _half(kind: str, index: int) -> torch.dtype:
    """bfloat16 where the hardware has it: its range needs no care; CUDA before compute capability 8 and
    Apple's GPUs take float16.
    """
    if kind == "cuda" and torch.version.hip is None:
        return torch.bfloat16 if torch.cuda.get_device_capability(index)[0] >= 8 else torch.float16
    return torch.float16 if kind == "mps" else torch.bfloat16


def _host_free() -> float:
    """What the host has, or what is left of the container's limit (cgroup v2), which the former does not
    know.
    """
    import psutil

    free = float(psutil.virtual_memory().available)
    try:
        limit, used = (
            (CONTAINER / "memory.max").read_text().strip(),
            int((CONTAINER / "memory.current").read_text()),
        )
        # files that the kernel keeps cached count as used but make way
        cached = next(
            int(line.split()[1])
            for line in (CONTAINER / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
        return free if limit == "max" else min(free, int(limit) - used + cached)
    except (OSError, StopIteration):
        return free


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
