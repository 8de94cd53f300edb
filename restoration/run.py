"""restore(): everything that is not the algorithm. What the page, the command line and the benchmark all call."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from restoration import images, metrics
from restoration.degradations import LinearDegradation
from restoration.prior import LatentPrior
from restoration.solvers.base import Result, Solver, Step


def recipe_of(y: Tensor, solver: Solver, prior: LatentPrior, degradation: LinearDegradation | None, seed: int) -> dict[str, Any]:
    """A run as data: what must be equal for the pixels to be equal."""
    return {
        "input_sha256": hashlib.sha256(images.to_pil(y).tobytes()).hexdigest(),
        "solver": solver.title,
        "settings": dataclasses.asdict(solver),  # type: ignore[call-overload]
        "task": type(degradation).__name__ if degradation else "blind",
        "degradation": dataclasses.asdict(degradation) if degradation else {},
        "prior": prior.name,
        "seed": seed,
        "torch": torch.__version__,
    }


def restore(
    y: Tensor,
    solver: Solver,
    prior: LatentPrior,
    degradation: LinearDegradation | None = None,
    *,
    reference: Tensor | None = None,
    seed: int = 0,
    periodic: bool = False,
) -> Iterator[Step]:
    """Restore y (1,3,h,w) in [0,1]; the last step carries the Result, of size (h,w)·solver.factor(degradation).

    degradation: what is known of how y was made; None for a blind solver, ValueError when the solver needs it.
    `periodic` says that y was made by our own circular blur; otherwise its borders are tapered before the FFT steps.
    reference: the clean picture, for scores; ValueError when its size is not the result's.
    """
    if (degradation is None) != solver.blind:
        raise ValueError(f"{solver.title} {'estimates the degradation itself' if solver.blind else 'must be told the degradation'}.")
    height, width = (side * solver.factor(degradation) for side in y.shape[-2:])
    images.check_size(width, height)
    if reference is not None and reference.shape[-2:] != (height, width):
        raise ValueError(f"The reference is {reference.shape[-1]}×{reference.shape[-2]} but the result will be {width}×{height}; they must be equal.")
    generator = torch.Generator().manual_seed(seed)
    recipe = recipe_of(y, solver, prior, degradation, seed) | {"periodic": periodic}
    began = time.perf_counter()
    margin = 0 if periodic else 2 * getattr(degradation, "margin", 0)
    measured = y.to(prior.device)
    for step in solver.restore(prior, images.edge_taper(measured, margin) if margin else measured, degradation, generator=generator):
        if step.image is not None:
            image = images.quantise(step.image[..., margin : margin + height, margin : margin + width]).cpu()
            seconds = time.perf_counter() - began
            scores = {} if reference is None else metrics.score(image, reference)
            if degradation is not None and not margin:
                scores["consistency"] = metrics.psnr(degradation.forward(image), y)
            if not torch.isfinite(image).all():
                raise ValueError("The restoration did not converge; more iterations or a larger penalty may help.")
            step = dataclasses.replace(step, result=Result(image, scores, seconds, recipe))
        yield step
