"""restore() and what surrounds it: everything that is not the algorithm.

The page, the command line and the benchmark call it.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import time
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration import pace
from restoration.degradations.base import LinearDegradation, is_grey
from restoration.degradations.blind import Damage
from restoration.degradations.partial import CLIPPED, whole_scene
from restoration.degradations.plausible import contradictions, suspicions
from restoration.evaluation import metrics
from restoration.files import images
from restoration.files.errors import out_of_memory
from restoration.priors import allocator
from restoration.priors.latent import LatentPrior
from restoration.record import Run
from restoration.solvers.base import Result, Solver, Step


def restore(y: Tensor, run: Run, prior: LatentPrior, *, reference: Tensor | None = None) -> Iterator[Step]:
    """Restore y (1,3,h,w) in [0,1]; the last step carries the Result, of size (h,w)·run.factor.

    Unless the run is periodic, y is the part of a larger blurred scene that the camera saw, and lights may be
    brighter than its white (partial.whole_scene). A black-and-white picture stays one, unless the solver adds
    colour.
    reference: the clean picture, for scores; ValueError when its size is not the result's. Where memory runs
    out, or numbers leave the range of float16, the run begins once more, saving memory or in float32, and its
    steps' notes say so; ValueError when that fails too.
    """
    for step, results in _steps(y, run, prior, [reference]):
        yield dataclasses.replace(step, result=results[0]) if results else step


def restore_together(
    ys: Sequence[Tensor], run: Run, prior: LatentPrior, *, references: Sequence[Tensor | None]
) -> list[Result]:
    """The results that `restore` gives each of ys, all (1,3,h,w), computed at once if the solver `batches`.

    They agree but for the rounding of sums, whatever the other pictures are: 13 of 393,216 values differ, by
    1/255 (`restoration.batch --task deblur --batch 3` against 1, 8 photographs of 128×128, embedded prior,
    CPU; fewer with --batch 4 and in enlarging). Where one cannot be restored, or memory runs out, the error
    is raised for all: restore them in smaller groups.
    """
    results: dict[int, Result] = {}
    for grey in (False, True):  # apart: the noise of grey pictures is another
        rows = [row for row, y in enumerate(ys) if is_grey(y) == grey]
        if rows:
            steps = _steps(
                torch.cat([ys[row] for row in rows]), run, prior, [references[row] for row in rows]
            )
            results |= zip(rows, collections.deque(steps, maxlen=1).pop()[1], strict=True)
    return [results[row] for row in range(len(ys))]


def _steps(
    y: Tensor, run: Run, prior: LatentPrior, references: Sequence[Tensor | None]
) -> Iterator[tuple[Step, list[Result]]]:
    """Each step on y (B,3,h,w), the last one with the result of every row, whose seconds are its share."""
    solver, degradation = run.solver, run.degradation
    height, width = (side * run.factor for side in y.shape[-2:])
    images.check_size(width, height)
    for reference in references:
        if reference is not None and reference.shape[-2:] != (height, width):
            size = f"{reference.shape[-1]}×{reference.shape[-2]}"
            raise ValueError(
                f"The reference is {size} but the result will be {width}×{height}; they must be equal."
            )
    recipes = [run.to_recipe(row, prior) for row in y.split(1)]
    began = time.perf_counter()
    # roundings depend on how the numbers lie, which the result's recipe does not say
    scene = whole_scene(y.to(prior.device).contiguous(), degradation, run.periodic)
    before = suspicions(y, degradation) if degradation else ()
    for step in _again_if_broken(solver, prior, scene.y, scene.degradation, run.seed):
        results = []
        if step.image is not None:
            light = scene.light(step.image).cpu()
            restored = images.quantise(light)
            beyond = (light - 1).clamp_min(0) * bool(scene.excess.any())
            seconds = (time.perf_counter() - began) / len(y)
            pace.learn(solver, prior.name, prior.device.type, height * width, step.total, seconds)
            rows = zip(y.split(1), restored.split(1), beyond.split(1), references, recipes, strict=True)
            for row, image, glare, reference, recipe in rows:
                if is_grey(row) and not solver.colours:
                    image = images.quantise(image.mean(1, keepdim=True)).expand_as(image)
                judge = functools.partial(judged, image, glare, row, degradation, reference, before)
                results.append(Result(image, seconds, recipe, judge))
        yield step, results


def judged(
    image: Tensor,
    glare: Tensor,
    y: Tensor,
    degradation: LinearDegradation | None,
    reference: Tensor | None,
    warnings: tuple[str, ...],
) -> tuple[metrics.Scores, tuple[str, ...]]:
    """The scores of image, restored from y (1,3,h,w), with `glare` beyond its white, and what was noticed of
    it beside `warnings`.
    """
    scores = metrics.score(image, reference)
    if degradation is None or min(y.shape[-2:]) <= 2 * degradation.margin:
        return scores, warnings
    scores.add("consistency", consistency, degradation, image + glare, y)
    noticed = contradictions(degradation, scores["consistency"]) if "consistency" in scores else ()
    return scores, (*warnings, *noticed)


def consistency(degradation: LinearDegradation, image: Tensor, y: Tensor) -> float:
    """PSNR in dB of A image against y (1,3,h,w); image: (1,3,h·f,w·f), with the light that is brighter than
    its white.

    Only what was measured counts: no hole, nothing within a blur's reach of a border, where the surroundings
    show, and at most white.
    """
    edge = degradation.margin
    weight = degradation.measured(y).expand_as(y)[..., edge : y.shape[-2] - edge, edge : y.shape[-1] - edge]
    difference = degradation.forward(image) - y
    difference = torch.where((y > CLIPPED) & (difference > 0), 0.0, difference)
    square = (F.pad(weight, (edge,) * 4) * difference.square()).sum() / weight.sum().clamp_min(1)
    return -10 * math.log10(max(square.item(), 1e-10))


def _again_if_broken(
    solver: Solver, prior: LatentPrior, y: Tensor, degradation: LinearDegradation | None, seed: int
) -> Iterator[Step]:
    """The solver's steps; where memory runs out or a step is not finite, from the first one again with the
    prior changed against it.

    ValueError when it can be changed no further. What was changed is taken back when the run is over.
    """
    with prior.borrowed(), allocator.kept():
        prior.fit(solver.demand(y.numel() // 3 * solver.factor(degradation) ** 2))
        yield from _attempts(solver, prior, y, degradation, seed)


def _attempts(
    solver: Solver, prior: LatentPrior, y: Tensor, degradation: LinearDegradation | None, seed: int
) -> Iterator[Step]:
    note = ""
    while True:
        generator, finite = torch.Generator().manual_seed(seed), True
        try:
            for step in solver.restore(prior, y, degradation, generator=generator):
                if not (finite := _finite(step)):
                    break
                yield dataclasses.replace(step, note=step.note + note)
            else:
                return
        except (RuntimeError, MemoryError) as error:
            # several pictures: fewer at once save more than this would
            if not out_of_memory(error) or len(y) > 1:
                raise
        # not in the except block: there the error still holds the frames, and so the memory, of the first
        # attempt
        if not finite and len(y) > 1:
            raise ValueError(
                "One of several pictures left the range of numbers; restored alone it is tried in float32."
            )
        if not finite and not prior.save_range():
            dtype = str(prior.placement.dtype).removeprefix("torch.")
            raise ValueError(
                f"The restoration left the range of {dtype}: more iterations or a larger penalty may help, "
                f"unless {prior.name}'s weights are damaged."
            )
        if finite and not prior.save_memory():
            size = f"{y.shape[-1]}×{y.shape[-2]}"
            raise ValueError(
                f"Memory ran out on {prior.device} at {size} pixels and there is nothing left to save; "
                "take a smaller picture."
            )
        note = f" · begun again {'with less memory' if finite else 'in float32'}: {prior.placement.note}"


def _finite(step: Step) -> bool:
    """Whether what the networks made is finite: one number that is not spreads over all of a picture within a
    step.

    Before the end its residual says so, which is on the host already: asking the device once more would wait
    for it.
    """
    if step.image is None and "residual" in step.scalars:
        return math.isfinite(step.scalars["residual"])
    return all(bool(torch.isfinite(part).all()) for part in (step.latent, step.image) if part is not None)


def synthesise(clean: Tensor, degradation: Damage, factor: int, seed: int) -> tuple[Tensor, Tensor]:
    """(degraded, reference): clean cropped at the bottom right to multiples of `factor`, and its 8-bit
    degraded version."""
    reference = clean[..., : clean.shape[-2] // factor * factor, : clean.shape[-1] // factor * factor]
    return images.quantise(degradation.degrade(reference, torch.Generator().manual_seed(seed))), reference


def score_rows(
    before: Tensor, result: Result, prior: LatentPrior, reference: Tensor | None
) -> dict[str, Mapping[str, float]]:
    """Scores by picture: the input (enlarged to the result's size), the result, and the prior's round trip as
    its ceiling."""
    rows: dict[str, Mapping[str, float]] = {
        "input": metrics.score(before, reference),
        "result": result.scores,
    }
    if reference is not None:
        try:
            rows["prior's round trip"] = metrics.score(round_trip(prior, reference), reference)
        # out of memory, or numbers beyond float16: a row for orientation must not cost the result
        except Exception as error:
            rows["prior's round trip"] = metrics.Scores(
                {}, dict.fromkeys(metrics.METRICS, metrics.reason(error))
            )
    return rows


def round_trip(prior: LatentPrior, picture: Tensor) -> Tensor:
    """picture (1,3,H,W) through the prior's codec, 8-bit, on the CPU: the ceiling of what its decoder can
    draw."""
    size = (picture.shape[-2], picture.shape[-1])
    return images.quantise(prior.picture(prior.encode(picture.to(prior.device)), size)).cpu()
