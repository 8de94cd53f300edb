"""python -m restoration PHOTO --task TASK -o OUT.png: one picture without a browser (blind solvers need no task)."""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm


def main(argv: list[str] | None = None) -> int:
    """0 when the picture was written, 2 after one line about bad input."""
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
    try:
        if not args.photo and not args.recipe:
            raise ValueError("Give a photo, or --recipe with a PNG of this project.")
        recipe.check_target(args.output)
        plan = cli.read_plan(args, parser)
        y = images.read_image(args.photo) if args.photo else recipe.read_input(args.recipe)
        reference = images.read_image(args.reference) if args.reference else None
        result = None
        prior = load_prior(plan.prior)
        if note := recipe.other_weights(plan.said, recipe.weights(plan.solver, prior.name, prior.weights)):
            print(note, file=sys.stderr)
        steps = restore(y, plan.solver, prior, plan.degradation, reference=reference, seed=plan.seed, periodic=plan.periodic)
        with tqdm(desc=plan.solver.title, unit="step") as bar:
            for step in steps:
                bar.total = step.total
                bar.update()
                result = step.result
        assert result is not None  # the solver protocol: the last step carries it
        for warning in result.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        recipe.save_png(result.image, args.output, result.recipe, result.scores, y=y)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    scores = ", ".join(f"{name} {value:.3f}" for name, value in result.scores.items())
    print(f"{args.output}: {result.image.shape[-1]}×{result.image.shape[-2]} in {result.seconds:.1f} s; {scores}")
    return 0
