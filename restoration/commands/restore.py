"""python -m restoration PHOTO --task TASK -o OUT.png: one picture without a browser (blind solvers need no task)."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from restoration.files.errors import sentence


def main(argv: list[str] | None = None) -> int:
    """0 when the picture was written, 2 after one line about bad input or a machine that has no more memory or disk."""
    try:
        run(argv)
    except Exception as error:
        if (said := sentence(error)) is None:  # a fault of ours, whose trace we want to see
            raise
        print(f"error: {said}", file=sys.stderr)
        return 2
    return 0


def run(argv: list[str] | None) -> None:
    """Restore one picture; ValueError and OSError as everywhere."""
    from tqdm import tqdm

    from restoration.commands import cli
    from restoration.files import images, recipe
    from restoration.priors.latent import load_prior
    from restoration.run import restore

    parser = argparse.ArgumentParser(prog="python -m restoration", description="Restore one photograph.")
    parser.add_argument("photo", nargs="?", help="the degraded picture; with a --recipe that carries its own, it may be left out")
    parser.add_argument("--recipe", help="a PNG of this project or a JSON file: repeat that run")
    parser.add_argument("-o", "--output", required=True, help="PNG to write; it carries the recipe of the run")
    parser.add_argument("--reference", help="the clean picture, for scores")
    cli.add_options(parser)
    args = parser.parse_args(argv)
    if not args.photo and not args.recipe:
        raise ValueError("Give a photo, or --recipe with a PNG of this project.")
    recipe.check_target(args.output)
    plan = cli.read_plan(args, parser)
    photo = opened(args, plan.factor)
    height, width = photo.x.shape[-2:]
    prior = load_prior(plan.prior)
    notes = [
        photo.how if "," in photo.how else "",  # more than the size is worth a line
        *plan.notes(height, width),
        recipe.other_weights(plan.said, recipe.weights(plan.solver, prior.name, prior.weights)),
        recipe.other_input(plan.said, photo.x),
        recipe.other_machine(plan.said, recipe.machine(prior.device.type)),
    ]
    for note in filter(None, notes):
        print(note, file=sys.stderr)
    reference = images.read_image(args.reference, 1) if args.reference else None
    result = None
    steps = restore(photo.x, plan.solver, prior, plan.degradation, reference=reference, seed=plan.seed, periodic=plan.periodic)
    with tqdm(desc=plan.solver.title, unit="step") as bar:
        for step in steps:
            bar.total = step.total
            bar.update()
            result = step.result
    assert result is not None  # the solver protocol: the last step carries it
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    recipe.save_png(result.image, args.output, result.recipe, result.scores, y=photo.x, alpha=photo.alpha)
    scores = ", ".join(f"{name} {value:.3f}" for name, value in result.scores.items())
    scores += "".join(f"; no {name}: {why}" for name, why in getattr(result.scores, "missing", {}).items())
    print(f"{cli.shown(args.output)}: {result.image.shape[-1]}×{result.image.shape[-2]} in {result.seconds:.1f} s; {scores}")


def opened(args: argparse.Namespace, factor: int) -> Any:
    """images.Photo of args.photo, or of what args.recipe carries; alpha at the result's size."""
    from restoration.files import images, recipe

    if args.photo:
        photo = images.read_photo(args.photo, factor)
        return photo._replace(alpha=images.enlarged_alpha(photo.alpha, factor))
    return images.Photo(recipe.read_input(args.recipe), recipe.read_result_alpha(args.recipe), "")
