"""Many results of one picture side by side, damaged here or already damaged: the spread over seeds, the table
of scores.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from restoration.degradations.advice import suggest
from restoration.degradations.base import LinearDegradation
from restoration.degradations.blind import make_damage
from restoration.degradations.estimate import noise_level
from restoration.degradations.linear import TASKS, Denoise
from restoration.degradations.meter import Damage, measure_damage
from restoration.evaluation import metrics
from restoration.evaluation.baselines import TUNED, baselines
from restoration.evaluation.report import best_tuned
from restoration.files import images
from restoration.pace import estimate_seconds
from restoration.page import words
from restoration.page.compare_cells import CLASSICAL, Cell, spread
from restoration.page.compare_choices import REAL, SEPARATOR
from restoration.page.state import Job
from restoration.priors.latent import LatentPrior
from restoration.record import Run
from restoration.run import round_trip, synthesise
from restoration.solvers import PRESETS, SOLVERS
from restoration.solvers.base import Solver, Step

TOLD = "RELD, which has to be told the damage, was told"


@dataclass(frozen=True)
class State:
    """How far a comparison is: share of the work in [0,1], one line about it, all pictures so far, and
    whether one is new.
    """

    share: float
    note: str
    cells: Sequence[Cell]
    new: bool


def compare(
    photo: Tensor,
    damage: str,
    runs: Sequence[tuple[str, str]],
    seeds: int,
    priors: Mapping[str, Callable[[], LatentPrior]],
    steps_of: Callable[[Job, LatentPrior], Iterator[Step]],
) -> Iterator[State]:
    """Restore a picture with every prior, (method, preset) and seed 0..seeds-1, side by side.

    priors: what loads each, by its name; one that cannot be had takes no part.

    photo: (1,3,H,W) in [0,1]; damaged already where damage is REAL, else clean and damaged once here, with
    seed 0. Before the results stand the clean picture, if there is one, the input (bicubic where the damage
    reduced) and the classical restorations; without a clean picture the scores are those that need none. The
    last state's note names the methods that could not take part and why, what RELD was told, and what the
    codec alone would score.
    """
    cells, remarks = list[Cell](), list[str]()
    size = photo.shape[-1], photo.shape[-2]
    everything = [(name, run) for name in priors for run in runs]
    known, remark = told(photo) if damage == REAL else (stated(damage), "")
    # of a run's share in all work
    weights = [seconds(size, damage, [run], 1, [name], known=known) or 1.0 for name, run in everything]
    reference, models = None, dict[str, LatentPrior]()
    for number, (name, (method, preset)) in enumerate(everything):
        pictures = list[Tensor]()
        title = SEPARATOR.join([SOLVERS[method].title, preset] + [name] * (len(priors) > 1))
        try:
            if name not in models:
                models[name] = _loaded(priors[name])
            for seed in range(seeds):
                job = _job(method, preset, damage, known, photo, name, seed)
                if not cells:
                    reference = job.reference
                    cells = _given(job, damage, known)
                    yield State(0.0, title, cells, True)  # seen while the first run goes on
                for step in steps_of(job, models[name]):
                    within = (seed + step.index / step.total) / seeds
                    share = (sum(weights[:number]) + within * weights[number]) / sum(weights)
                    if result := step.result:
                        full = title + (f"{SEPARATOR}seed {seed}" if seeds > 1 else "")
                        scores = dict(result.scores) | {"seconds": result.seconds}
                        cells.append(Cell(full, result.image, scores, result.recipe))
                        pictures.append(result.image)
                    which = f", try {seed + 1} of {seeds}" if seeds > 1 else ""
                    yield State(share, title + which, cells, step.result is not None)
        except ValueError as error:
            remarks.append(f"{title} took no part: {error}")
        drawn = [images.quantise(picture) for picture in pictures]
        if len(drawn) > 1 and all(torch.equal(one, drawn[0]) for one in drawn):
            remarks.append(f"{title} draws nothing at random here: all its tries are the same picture.")
        elif len(drawn) > 1:
            mean, heat, top = spread(pictures)
            cells.append(
                Cell(f"{title} · mean of seeds", mean, metrics.score(images.quantise(mean), reference))
            )
            cells.append(Cell(f"{title} · where seeds differ, at most {255 * top:.1f}/255", heat, {}))
    if damage == REAL and any(not SOLVERS[method].blind for method, _ in runs):
        remarks.append(remark)
    if reference is not None:
        remarks += [_ceiling(name, model, reference) for name, model in models.items()]
    yield State(1.0, " ".join(["Done.", *filter(None, remarks)]), cells, True)


def _loaded(load: Callable[[], LatentPrior]) -> LatentPrior:
    """The prior. ValueError, in one sentence, where it cannot be had."""
    try:
        return load()
    except OSError as error:  # no network, no access, no disk
        raise ValueError(str(error)) from None


def _ceiling(name: str, prior: LatentPrior, reference: Tensor) -> str:
    """What the codec of a prior alone makes of the clean picture (1,3,H,W), in a sentence; "" where that
    fails.
    """
    ceiling = metrics.Scores()
    ceiling.add("round trip", lambda: metrics.psnr(round_trip(prior, reference), reference))
    whose = "The prior's" if name == "embedded" else f"{name}'s"
    return "".join(f"{whose} round trip of the clean picture: {value:.2f} dB." for value in ceiling.values())


def told(y: Tensor) -> tuple[LinearDegradation, str]:
    """What RELD is told of a damaged photograph y (1,3,H,W), as it was measured, and a sentence about it."""
    measured = measure_damage(y)
    if task := next((one.task for one in suggest(measured) if one.task), ""):
        return foretold(measured), f"{TOLD}: {words.damage(task).lower()}."
    level = round(max(255 * noise_level(y), 1.0), 1)
    return Denoise(noise_std=level), f"{TOLD}: a little noise."


def stated(damage: str) -> LinearDegradation | None:
    """What RELD is told of a damage that is made here; None where nobody can write it down."""
    return TASKS[damage]() if damage in TASKS else None


def foretold(measured: Damage | None) -> LinearDegradation:
    """What RELD will be told of a photograph with this damage, about so where nothing, or too little, is
    measured."""
    suggestions = suggest(measured) if measured else []
    return next((TASKS[one.task](**one.settings) for one in suggestions if one.task), Denoise())


def _given(job: Job, damage: str, known: LinearDegradation | None) -> list[Cell]:
    """What stands before the results: the clean picture, if there is one, the input and the classical
    restorations.
    """
    clean, shown = job.reference, job.before()
    cells = [] if clean is None else [Cell("clean", clean, {})]
    return [*cells, Cell("input", shown, metrics.score(shown, clean)), *_classical(job, damage, known)]


def _classical(job: Job, damage: str, known: LinearDegradation | None) -> list[Cell]:
    """The baselines of a damage, TUNED ones at the value that is best on this picture; none that shows what
    the input shows.

    What is best needs a clean picture: without one, one baseline that has nothing to tune, or a middle value.
    """
    clean, shown = job.reference, job.before()
    functions = baselines(known, damage, 1 if clean is None else clean.shape[-1] // job.y.shape[-1])
    if clean is None and len(functions) > 1:
        untuned = [name for name in functions if not name.startswith(TUNED)]
        name = untuned[-1] if untuned else [*functions][len(functions) // 2]
        functions = {name: functions[name]}
    made = {name: images.quantise(function(job.y)) for name, function in functions.items()}
    made = {name: image for name, image in made.items() if not torch.equal(image, shown)}
    best = list(made)
    if clean is not None:
        best = list(best_tuned({name: {"PSNR": metrics.psnr(image, clean)} for name, image in made.items()}))
    return [
        Cell(f"{CLASSICAL}{name.partition(' (')[0]}", made[name], metrics.score(made[name], clean))
        for name in best
    ]


def seconds(
    size: tuple[int, int],
    damage: str,
    runs: Sequence[tuple[str, str]],
    seeds: int,
    priors: Sequence[str],
    *,
    known: LinearDegradation | None,
) -> float:
    """About how long `compare` will take here on a picture of this (width, height), once the models are
    loaded; priors: their names; known: what RELD is told.
    """
    needed = 0.0
    for method, preset in runs:
        with contextlib.suppress(ValueError):  # takes no part
            solver, degradation, factor = _plan(method, preset, damage, known)
            height, width = size[1] // factor, size[0] // factor
            needed += seeds * sum(
                estimate_seconds(solver, degradation, height, width, prior) for prior in priors
            )
    return needed


def _plan(
    method: str, preset: str, damage: str, known: LinearDegradation | None
) -> tuple[Solver, LinearDegradation | None, int]:
    """(solver, what it is told, how many times smaller the damage makes a side); known: what can be told.

    ValueError where the method cannot be run on that.
    """
    factor = known.factor if known else 1
    solver = SOLVERS[method](**PRESETS[method][preset]).enlarging(factor)
    if not solver.blind and known is None:
        raise ValueError(f"{solver.title} must be told the damage, and nobody can write down {damage!r}.")
    degradation = None if solver.blind else known
    if solver.factor(degradation) != factor:
        raise ValueError(
            f"{solver.title} does not enlarge, and {damage!r} made the picture {factor} times smaller."
        )
    return solver, degradation, factor


def _job(
    method: str,
    preset: str,
    damage: str,
    known: LinearDegradation | None,
    photo: Tensor,
    prior: str,
    seed: int,
) -> Job:
    """One run, on the damage made with seed 0 or on the photograph itself.

    ValueError where the method cannot be run on that.
    """
    solver, degradation, factor = _plan(method, preset, damage, known)
    if damage == REAL:
        return Job(photo, Run(solver, degradation, prior, seed), None)
    made = stated(damage) or make_damage(damage, {}, factor)
    y, reference = synthesise(photo, made, factor, 0)
    return Job(y, Run(solver, degradation, prior, seed, periodic=True), reference)
