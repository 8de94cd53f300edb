"""Many results of one picture side by side: the spread over seeds, the table of scores, the contact sheet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from restoration.degradations.blind import make_damage, titles
from restoration.degradations.linear import TASKS, LinearDegradation
from restoration.evaluation import metrics
from restoration.evaluation.baselines import baselines
from restoration.evaluation.report import best_wiener
from restoration.files import images
from restoration.pace import estimate_seconds
from restoration.page.state import Job
from restoration.priors.latent import LatentPrior
from restoration.record import Run
from restoration.run import round_trip, synthesise
from restoration.solvers import PRESETS, SOLVERS, resolve
from restoration.solvers.base import Solver, Step

SEPARATOR = " · "  # of method and preset in a choice
MOST_SEEDS = 8


def choices() -> list[str]:
    """Every method with each of its presets."""
    return [f"{method}{SEPARATOR}{preset}" for method in SOLVERS for preset in PRESETS[method]]


def damages() -> dict[str, str]:
    """What can be done to the clean picture: the titles of all damages that need no file, by name."""
    return {name: title for name, title in titles().items() if name != "kernel-deblur"}


def checked(damage: Any, chosen: Any, seeds: Any) -> tuple[list[tuple[str, str]], int]:
    """((method, preset) of every choice, each once, and the number of seeds). ValueError for what there is not."""
    if damage not in list(damages()):
        raise ValueError(f"There is no damage {damage!r} here; there are {', '.join(damages())}.")
    if isinstance(chosen, list):  # some presets were another method's
        chosen = [_renamed(choice) for choice in chosen]
    if not isinstance(chosen, list) or any(choice not in choices() for choice in chosen):
        raise ValueError(f"There is a choice that is none here; there are {', '.join(choices())}.")
    if type(seeds) not in (int, float) or seeds not in range(1, MOST_SEEDS + 1):
        raise ValueError(
            f"There are {seeds!r} seeds asked for; it must be a whole number from 1 to {MOST_SEEDS}."
        )
    methods = [(method, preset) for method, _, preset in (choice.partition(SEPARATOR) for choice in chosen)]
    return list(dict.fromkeys(methods)), int(seeds)


def _renamed(choice: Any) -> Any:
    method, separator, preset = choice.partition(SEPARATOR) if isinstance(choice, str) else ("", "", "")
    return SEPARATOR.join(resolve(method, preset)) if separator else choice


@dataclass(frozen=True)
class Cell:
    """One picture of a comparison: image (1,3,H,W) in [0,1], and its scores where it has any."""

    title: str
    image: Tensor
    scores: Mapping[str, float]


@dataclass(frozen=True)
class State:
    """How far a comparison is: share of the work in [0,1], one line about it, all pictures so far, and whether one is new."""

    share: float
    note: str
    cells: Sequence[Cell]
    new: bool


def compare(
    clean: Tensor,
    damage: str,
    runs: Sequence[tuple[str, str]],
    seeds: int,
    prior: LatentPrior,
    steps_of: Callable[[Job, LatentPrior], Iterator[Step]],
) -> Iterator[State]:
    """Damage the clean picture (1,3,H,W) once, with seed 0, and restore it with every (method, preset) and seed 0..seeds-1.

    Before them stand the clean picture, the input (bicubic where the damage reduced) and the classical restorations.
    The last state's note names the methods that could not take part and why, and what the codec alone would score.
    """
    cells, remarks, total = list[Cell](), list[str](), len(runs) * seeds
    for number, (method, preset) in enumerate(runs):
        pictures = list[Tensor]()
        title = f"{method} · {preset}"
        try:
            for seed in range(seeds):
                job = _job(method, preset, damage, clean, seed)
                assert job.reference is not None
                if not cells:
                    cells = [
                        Cell("clean", job.reference, {}),
                        Cell("input", job.before(), metrics.score(job.before(), job.reference)),
                    ]
                    cells += _classical(job, TASKS[damage]() if damage in TASKS else None, damage)
                for step in steps_of(job, prior):
                    share = (number * seeds + seed + step.index / step.total) / total
                    if step.result is None:
                        yield State(share, f"{title}, seed {seed}", cells, False)
                        continue
                    scores = dict(step.result.scores) | {"seconds": step.result.seconds}
                    cells.append(
                        Cell(title + (f" · seed {seed}" if seeds > 1 else ""), step.result.image, scores)
                    )
                    pictures.append(step.result.image)
                    yield State(share, f"{title}, seed {seed}", cells, True)
        except ValueError as error:
            remarks.append(f"{title} took no part: {error}")
        if len(pictures) > 1:
            mean, heat, top = spread(pictures)
            cells.append(
                Cell(f"{title} · mean of seeds", mean, metrics.score(images.quantise(mean), cells[0].image))
            )
            cells.append(Cell(f"{title} · where seeds differ, at most {255 * top:.1f}/255", heat, {}))
    if cells:
        clean = cells[0].image
        ceiling = metrics.Scores()
        ceiling.add("round trip", lambda: metrics.psnr(round_trip(prior, clean), clean))
        remarks += [
            f"The prior's round trip of the clean picture: {value:.2f} dB." for value in ceiling.values()
        ]
    yield State(1.0, " ".join(["Done.", *remarks]), cells, True)


def _classical(job: Job, known: LinearDegradation | None, damage: str) -> list[Cell]:
    """The baselines of a damage, Wiener's at the balance that is best on this picture; none that shows what the input shows."""
    clean, shown = job.reference, job.before()
    assert clean is not None
    functions = baselines(known, damage, clean.shape[-1] // job.y.shape[-1])
    made = {name: images.quantise(function(job.y)) for name, function in functions.items()}
    made = {name: image for name, image in made.items() if not torch.equal(image, shown)}
    best = best_wiener({name: {"PSNR": metrics.psnr(image, clean)} for name, image in made.items()})
    return [
        Cell(f"classical: {name.partition(' (')[0]}", made[name], metrics.score(made[name], clean))
        for name in best
    ]


def seconds(clean: Tensor, damage: str, runs: Sequence[tuple[str, str]], seeds: int) -> float:
    """About how long `compare` will take here, once the models are loaded."""
    needed = 0.0
    for method, preset in runs:
        with contextlib.suppress(ValueError):  # takes no part
            solver, degradation, factor = _plan(method, preset, damage)
            needed += seeds * estimate_seconds(
                solver, degradation, clean.shape[-2] // factor, clean.shape[-1] // factor
            )
    return needed


def _plan(method: str, preset: str, damage: str) -> tuple[Solver, LinearDegradation | None, int]:
    """(solver, what it is told, how many times smaller the damage makes a side). ValueError where the method cannot be run on that."""
    known = TASKS[damage]() if damage in TASKS else None
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


def _job(method: str, preset: str, damage: str, clean: Tensor, seed: int) -> Job:
    """One run on the damage made with seed 0. ValueError where the method cannot be run on that."""
    solver, degradation, factor = _plan(method, preset, damage)
    y, reference = synthesise(
        clean, TASKS[damage]() if damage in TASKS else make_damage(damage, {}, factor), factor, 0
    )
    return Job(y, Run(solver, degradation, seed=seed, periodic=True), reference)


def spread(pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor, float]:
    """(mean, heat map, largest deviation) of n results (1,3,H,W) of one picture: where the seeds disagree, the prior invents.

    The heat map shows the standard deviation over the pictures, mean over channels, black at 0 to bright at its largest.
    """
    from matplotlib import colormaps

    stack = torch.cat(list(pictures))
    deviation = stack.std(0, correction=0).mean(0)
    top = deviation.max().item()
    colours = colormaps["inferno"]((deviation / max(top, 1e-6)).numpy())[..., :3]
    return stack.mean(0, keepdim=True), torch.from_numpy(colours).float().permute(2, 0, 1)[None], top


def score_table(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Columns of a table, a row per scored cell; the best of every metric is starred."""
    scored = [cell for cell in cells if cell.scores]
    names = [
        name
        for name in [*metrics.METRICS, "consistency", "seconds"]
        if any(name in cell.scores for cell in scored)
    ]
    table: dict[str, list[str]] = {"picture": [cell.title for cell in scored]}
    for name in names:
        rising = name not in {"seconds"} and (
            name not in metrics.METRICS or metrics.METRICS[name].higher_is_better
        )
        values = [cell.scores[name] for cell in scored if name in cell.scores]
        best = max(values) if rising else min(values)
        title = f"{name} {'↑' if rising else '↓'}"
        table[title] = [_cell(cell.scores.get(name), best if name != "seconds" else None) for cell in scored]
    return table


def _cell(value: float | None, best: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" + (" ★" if value == best else "")
