"""Many results of one picture side by side, damaged here or already damaged: the spread over seeds, the table
of scores.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restoration.degradations.advice import suggest
from restoration.degradations.base import LinearDegradation
from restoration.degradations.blind import make_damage, titles
from restoration.degradations.estimate import noise_level
from restoration.degradations.linear import TASKS, Denoise
from restoration.degradations.meter import measure_damage
from restoration.evaluation import metrics
from restoration.evaluation.baselines import baselines
from restoration.evaluation.report import best_wiener
from restoration.files import images, recipe
from restoration.pace import estimate_seconds
from restoration.page.state import Job
from restoration.priors.latent import LatentPrior
from restoration.record import Run
from restoration.run import round_trip, synthesise
from restoration.solvers import PRESETS, SOLVERS, resolve
from restoration.solvers.base import Solver, Step

SEPARATOR = " · "  # of method and preset in a choice
REAL = "real"  # the damage of a photograph that is damaged already, which is all that there is of it
MOST_SEEDS = 8


def choices() -> list[str]:
    """Every method with each of its presets."""
    return [f"{method}{SEPARATOR}{preset}" for method in SOLVERS for preset in PRESETS[method]]


def damages() -> dict[str, str]:
    """What can be done to the picture first, by name: nothing, or any damage that needs no file."""
    tests = {name: f"Test: {title}" for name, title in titles().items() if name != "kernel-deblur"}
    return {REAL: "Nothing: it is a photograph to restore"} | tests


def checked(damage: Any, chosen: Any, seeds: Any) -> tuple[list[tuple[str, str]], int]:
    """((method, preset) of every choice, each once, and the number of seeds).

    ValueError for what there is not.
    """
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
    recipe: Mapping[str, Any] | None = None  # of a run

    @functools.cached_property
    def png(self) -> bytes:
        """The image as a file: encoded once, shown again with every further result."""
        buffer = io.BytesIO()
        images.to_pil(self.image).save(buffer, format="PNG")
        return buffer.getvalue()


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
    prior: LatentPrior,
    steps_of: Callable[[Job, LatentPrior], Iterator[Step]],
) -> Iterator[State]:
    """Restore a picture with every (method, preset) and seed 0..seeds-1, side by side.

    photo: (1,3,H,W) in [0,1]; damaged already where damage is REAL, else clean and damaged once here, with
    seed 0. Before the results stand the clean picture, if there is one, the input (bicubic where the damage
    reduced) and the classical restorations; without a clean picture the scores are those that need none. The
    last state's note names the methods that could not take part and why, what RELD was told, and what the
    codec alone would score.
    """
    cells, remarks = list[Cell](), list[str]()
    size = photo.shape[-1], photo.shape[-2]
    weights = [seconds(size, damage, [run], 1) or 1.0 for run in runs]  # of a run's share in all work
    reference = None
    for number, (method, preset) in enumerate(runs):
        pictures, title = list[Tensor](), f"{method}{SEPARATOR}{preset}"
        try:
            for seed in range(seeds):
                job = _job(method, preset, damage, photo, seed)
                if not cells:
                    reference = job.reference
                    cells = _given(job, damage)
                for step in steps_of(job, prior):
                    within = (seed + step.index / step.total) / seeds
                    share = (sum(weights[:number]) + within * weights[number]) / sum(weights)
                    if result := step.result:
                        name = title + (f"{SEPARATOR}seed {seed}" if seeds > 1 else "")
                        scores = dict(result.scores) | {"seconds": result.seconds}
                        cells.append(Cell(name, result.image, scores, result.recipe))
                        pictures.append(result.image)
                    yield State(share, f"{title}, seed {seed}", cells, step.result is not None)
        except ValueError as error:
            remarks.append(f"{title} took no part: {error}")
        if len(pictures) > 1:
            mean, heat, top = spread(pictures)
            cells.append(
                Cell(f"{title} · mean of seeds", mean, metrics.score(images.quantise(mean), reference))
            )
            cells.append(Cell(f"{title} · where seeds differ, at most {255 * top:.1f}/255", heat, {}))
    if damage == REAL and any(not SOLVERS[method].blind for method, _ in runs):
        remarks.append(told(photo)[1])
    if reference is not None:
        ceiling = metrics.Scores()
        ceiling.add("round trip", lambda: metrics.psnr(round_trip(prior, reference), reference))
        remarks += [
            f"The prior's round trip of the clean picture: {value:.2f} dB." for value in ceiling.values()
        ]
    yield State(1.0, " ".join(["Done.", *remarks]), cells, True)


def told(y: Tensor) -> tuple[LinearDegradation, str]:
    """What RELD is told of a damaged photograph y (1,3,H,W), as it was measured, and a sentence about it."""
    for suggestion in suggest(measure_damage(y)):
        if suggestion.task:
            return TASKS[suggestion.task](**suggestion.settings), f"Measured: {suggestion.sentence}"
    level = round(max(255 * noise_level(y), 1.0), 1)
    return Denoise(
        noise_std=level
    ), f"RELD was told noise of {level:g}/255: neither blur nor strong noise was measured."


def _given(job: Job, damage: str) -> list[Cell]:
    """What stands before the results: the clean picture, if there is one, the input and the classical
    restorations.
    """
    clean, shown = job.reference, job.before()
    cells = [] if clean is None else [Cell("clean", clean, {})]
    return [*cells, Cell("input", shown, metrics.score(shown, clean)), *_classical(job, damage)]


def _classical(job: Job, damage: str) -> list[Cell]:
    """The baselines of a damage, Wiener's at the balance that is best on this picture; none that shows what
    the input shows.

    Which balance is best needs a clean picture: without one, the middle one.
    """
    clean, shown = job.reference, job.before()
    known = told(job.y)[0] if damage == REAL else TASKS[damage]() if damage in TASKS else None
    functions = baselines(known, damage, 1 if clean is None else clean.shape[-1] // job.y.shape[-1])
    if clean is None and len(functions) > 1:
        functions = dict([list(functions.items())[len(functions) // 2]])
    made = {name: images.quantise(function(job.y)) for name, function in functions.items()}
    made = {name: image for name, image in made.items() if not torch.equal(image, shown)}
    best = list(made)
    if clean is not None:
        best = list(best_wiener({name: {"PSNR": metrics.psnr(image, clean)} for name, image in made.items()}))
    return [
        Cell(f"classical: {name.partition(' (')[0]}", made[name], metrics.score(made[name], clean))
        for name in best
    ]


def seconds(size: tuple[int, int], damage: str, runs: Sequence[tuple[str, str]], seeds: int) -> float:
    """About how long `compare` will take here on a picture of this (width, height), once the models are
    loaded.
    """
    needed = 0.0
    for method, preset in runs:
        with contextlib.suppress(ValueError):  # takes no part
            solver, degradation, factor = _plan(method, preset, damage, None)
            needed += seeds * estimate_seconds(solver, degradation, size[1] // factor, size[0] // factor)
    return needed


def _plan(
    method: str, preset: str, damage: str, y: Tensor | None
) -> tuple[Solver, LinearDegradation | None, int]:
    """(solver, what it is told, how many times smaller the damage makes a side); y: a photograph whose damage
    is measured.

    ValueError where the method cannot be run on that.
    """
    blind = SOLVERS[method].blind
    known: LinearDegradation | None = TASKS[damage]() if damage in TASKS else None
    if damage == REAL:
        known = Denoise() if y is None or blind else told(y)[0]
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


def _job(method: str, preset: str, damage: str, photo: Tensor, seed: int) -> Job:
    """One run, on the damage made with seed 0 or on the photograph itself.

    ValueError where the method cannot be run on that.
    """
    solver, degradation, factor = _plan(method, preset, damage, photo)
    if damage == REAL:
        return Job(photo, Run(solver, degradation, seed=seed), None)
    made = TASKS[damage]() if damage in TASKS else make_damage(damage, {}, factor)
    y, reference = synthesise(photo, made, factor, 0)
    return Job(y, Run(solver, degradation, seed=seed, periodic=True), reference)


def spread(pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor, float]:
    """(mean, heat map, largest deviation) of n results (1,3,H,W) of one picture: where the seeds disagree,
    the prior invents.

    The heat map shows the standard deviation over the pictures, mean over channels, black at 0 to bright at
    its largest.
    """
    from matplotlib import colormaps

    stack = torch.cat(list(pictures))
    deviation = stack.std(0, correction=0).mean(0)
    top = deviation.max().item()
    colours = colormaps["inferno"]((deviation / max(top, 1e-6)).numpy())[..., :3]
    return stack.mean(0, keepdim=True), torch.from_numpy(colours).float().permute(2, 0, 1)[None], top


def columns(cells: Sequence[Cell]) -> dict[str, tuple[bool, float | None]]:
    """Of every score that a cell has: whether more is better, and the best value; None where there is no
    contest.
    """
    table: dict[str, tuple[bool, float | None]] = {}
    for name in [*metrics.METRICS, "consistency", "seconds"]:
        values = [cell.scores[name] for cell in cells if name in cell.scores]
        rising = name != "seconds" and (name not in metrics.METRICS or metrics.METRICS[name].higher_is_better)
        if values:
            table[name] = (
                rising,
                None if name == "seconds" or len(values) == 1 else (max if rising else min)(values),
            )
    return table


def score_table(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Columns of a table, a row per scored cell; the best of every metric is starred."""
    scored = [cell for cell in cells if cell.scores]
    table: dict[str, list[str]] = {"picture": [cell.title for cell in scored]}
    for name, (rising, best) in columns(scored).items():
        table[f"{name} {'↑' if rising else '↓'}"] = [_cell(cell.scores.get(name), best) for cell in scored]
    return table


def won(cell: Cell, cells: Sequence[Cell]) -> list[str]:
    """The scores in which a cell is the best."""
    return [
        name
        for name, (_, best) in columns(cells).items()
        if best is not None and cell.scores.get(name) == best
    ]


def _cell(value: float | None, best: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" + (" ★" if value == best else "")


def archive(cells: Sequence[Cell], path: str) -> None:
    """All pictures as a ZIP, those of runs with their recipes, the table of scores and a contact sheet."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file, tempfile.TemporaryDirectory() as folder:
        for number, cell in enumerate(cells):
            name = re.sub(r"[^\w.+-]+", "-", cell.title).strip("-")
            png = Path(folder, f"{number:02d}-{name}.png")
            if cell.recipe is None:
                png.write_bytes(cell.png)
            else:
                recipe.save_png(cell.image, png, cell.recipe, cell.scores)
            file.write(png, png.name)
        sheet = images.sheet([(cell.title, images.to_pil(cell.image)) for cell in cells], columns=4)
        sheet.save(picture := Path(folder, "contact-sheet.png"))
        file.write(picture, picture.name)
        table = score_table(cells)
        file.writestr(
            "scores.csv",
            "\n".join(",".join(row) for row in [table.keys(), *zip(*table.values(), strict=True)]) + "\n",
        )
