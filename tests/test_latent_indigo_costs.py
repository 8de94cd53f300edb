"""What LatentINDIGO's guidance costs, counted in operations and bytes."""

from __future__ import annotations

import torch
from test_latent_indigo import camera_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from restoration.solvers import tiles
from restoration.solvers.inn_weights import load_restorer


class Operations(TorchDispatchMode):
    """Counts floating-point operations of convolutions and matrix products, forth and back."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if (counted := flop_registry.get(function._overloadpacket)) is not None:
            self.count += counted(*args, **(kwargs or {}), out_val=out)
        return out


def operations(function) -> tuple[float, object]:
    """(billions of operations, result)."""
    with Operations() as counter:
        result = function()
    return counter.count / 1e9, result


def cost_of_a_gradient(prior, domain: str, z: torch.Tensor) -> tuple[float, float]:
    """(operations, MB kept between the forward and the backward pass) of one step of the gradient form."""
    camera = camera_of(prior, torch.rand(1, 3, 32, 32), domain=domain, start="enlarged")
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        count, _ = operations(lambda: camera.gradient(z))
    return count, sum(kept.values()) / 1e6


def test_the_latent_gradient_takes_a_quarter_of_the_work_and_half_the_memory(embedded):
    z = torch.randn(1, embedded.channels, 32, 32)
    (latent, latent_kept), (pixel, pixel_kept) = (
        cost_of_a_gradient(embedded, domain, z) for domain in ("latent", "pixel")
    )
    denoiser, _ = operations(lambda: tiles.denoise(embedded, z, 300, 64))
    print(f"latent {latent:.2f}, {latent_kept:.1f} MB, pixel {pixel:.2f}, {pixel_kept:.1f} MB")
    print(f"with the denoiser's {denoiser:.1f}: {(denoiser + latent) / (denoiser + pixel):.2f}")
    assert 0 < latent < pixel / 4 and 0 < latent_kept < pixel_kept / 2


def test_what_the_direct_form_adds_to_an_unguided_run(embedded):
    """At 128×128, ×4: a few hundredths of the denoiser's work per step, and what is done once."""
    y, z = torch.rand(1, 3, 32, 32), torch.randn(1, embedded.channels, 32, 32)
    once, camera = operations(lambda: camera_of(embedded, y))
    restorer, _ = operations(lambda: load_restorer(4)(y))
    step, _ = operations(lambda: camera.swap(z))
    seen, _ = operations(lambda: (camera.told(None), camera.views(z)))
    denoiser, _ = operations(lambda: tiles.denoise(embedded, z, 300, 64))
    codec, _ = operations(lambda: embedded.decode(embedded.encode(torch.rand(1, 3, 128, 128)), (128, 128)))
    shares = {
        steps: (once - restorer + steps * step + seen) / (steps * denoiser + codec + restorer)
        for steps in (4, 25)
    }
    print(f"once {once - restorer:.2f}, a step {step:.2f}, views {seen:.2f}, denoiser {denoiser:.1f}")
    print(f"added to 4 steps {shares[4]:.3f}, to 25 {shares[25]:.3f}")
    assert 0 < step < 0.1 * denoiser and 0 < shares[25] < 0.1
