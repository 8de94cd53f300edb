"""python -m restoration PHOTO --task TASK -o OUT.png: one picture without a browser (blind solvers need no
task)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from restoration.files.errors import sentence

if TYPE_CHECKING:
    from torch import Tensor

    from restoration.files.images import Photo
    from restoration.priors.latent import LatentPrior
    from restoration.record import Run
    from restoration.solvers.base import Result, Step


def main(argv: list[str] | None = None, prog: str = "python -m restoration") -> int:
    """0 when the picture was written, 2 after one line about bad input or a machine that has no more memory
    or disk."""
    try:
        restore_one(argv, prog)
    except Exception as error:
        if (message := sentence(error)) is None:  # a fault of ours, whose trace we want to see
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0


def restore_one(argv: list[str] | None, prog: str) -> None:
    """Restore one picture; ValueError and OSError as everywhere."""
    from restoration import pace
    from restoration.commands import cli
    from restoration.files import images, recipe
    from restoration.priors.latent import load_prior

    parser = arguments(prog)
    args = parser.parse_args(argv)
    give_back_photo(args)
    if not args.photo and not args.recipe:
        raise ValueError("Give a photo, or --recipe with a PNG of this project.")
    recipe.check_target(args.output)
    jpeg = is_jpeg(args.output)
    run, source = cli.read_run(args, parser)
    photo = opened(args, run.factor)
    run, assumed = with_measured_noise(run, photo.x, args)
    if slow := pace.before_download(run.prior):
        print(slow, file=sys.stderr)
    prior = load_prior(run.prior)
    notes = [
        f"Read: {photo.how}." if photo.how else "",
        assumed,
        mask_read(run, photo.x),
        *run.differences(source, photo.x, prior),
    ]
    for note in filter(None, notes):
        print(note, file=sys.stderr)
    reference = images.read_image(args.reference, 1) if args.reference else None
    last = last_step(run, photo.x, prior, reference)
    assert last.result is not None  # the solver protocol: the last step carries it
    for warning in last.result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    save(last.result, args.output, photo, jpeg)
    print(f"{cli.shown(args.output)}: {told(last.result, last.note)}")


def arguments(prog: str) -> argparse.ArgumentParser:
    """The command's arguments."""
    from restoration.commands import cli, settings_help

    example = "photo.jpg --task deblur --set std=2 noise_std=5 -o restored.png"
    parser = settings_help.parser(prog, "Restore one photograph.", example)
    parser.add_argument(
        "photo",
        nargs="?",
        help="the degraded picture; with a --recipe that carries its own, it may be left out",
    )
    parser.add_argument("--recipe", help="a PNG of this project or a JSON file: repeat that run")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="PNG to write, which carries the recipe of the run, or a smaller JPEG, which carries none",
    )
    parser.add_argument("--reference", help="the clean picture, for scores")
    cli.add_options(parser)
    return parser


def last_step(run: Run, y: Tensor, prior: LatentPrior, reference: Tensor | None) -> Step:
    """The run's last step, with a bar on the way."""
    from tqdm import tqdm

    from restoration.run import restore

    with tqdm(desc=run.solver.title, unit="step") as bar:
        for step in restore(y, run, prior, reference=reference):
            bar.total = step.total
            bar.update()
    return step


def mask_read(run: Run, y: Tensor) -> str:
    """How the mask of an inpainting was read, for y (1,3,h,w); "" where the run has none."""
    from restoration.files import knob_files

    mask = getattr(run.degradation, "mask", "")
    return f"Mask: {knob_files.how_read_mask(mask, y.shape[-2], y.shape[-1])}." if mask else ""


def save(result: Result, path: str, photo: Photo, jpeg: bool) -> None:
    """Write the picture; a PNG with recipe, scores, and the photograph that was restored."""
    from restoration.files import images, recipe
    from restoration.files.whole import whole_file

    if jpeg:
        with whole_file(path) as file:
            images.to_pil(result.image).save(file, format="JPEG", quality=95, subsampling=0)
    else:
        recipe.save_png(result.image, path, result.recipe, result.scores, y=photo.x, alpha=photo.alpha)


def told(result: Result, note: str) -> str:
    """Size, time, the last step's note and scores in a line."""
    scores = ", ".join(f"{name} {value:.3f}" for name, value in result.scores.items())
    scores += "".join(f"; no {name}: {why}" for name, why in getattr(result.scores, "missing", {}).items())
    size = f"{result.image.shape[-1]}×{result.image.shape[-2]}"
    return f"{size} in {result.seconds:.1f} s{f', {note}' if note else ''}; {scores}"


def with_measured_noise(run: Run, y: Tensor, args: argparse.Namespace) -> tuple[Run, str]:
    """The run, and a sentence where super-resolution is told the noise and the JPEG that are seen in y, since
    --set says nothing of them: enlarged as detail they would spoil the result.
    """
    import dataclasses

    from restoration.degradations.advice import noise_to_enlarge
    from restoration.degradations.meter import measure_damage
    from restoration.degradations.resampling import SuperResolution

    task = run.degradation
    given = args.recipe or any(pair.startswith("noise_std=") for pair in args.set)
    if given or not isinstance(task, SuperResolution):
        return run, ""
    level = noise_to_enlarge(measure_damage(y), task.scale)
    if not level:
        return run, ""
    sentence = f"Noise and JPEG that are not to be enlarged: noise_std={level:g} (--set noise_std=0: none)."
    return dataclasses.replace(run, degradation=dataclasses.replace(task, noise_std=level)), sentence


def give_back_photo(args: argparse.Namespace) -> None:
    """The photo after `--set KEY=VALUE …`, which takes all that follows, as the photo: it is no KEY=VALUE."""
    loose = [pair for pair in args.set if "=" not in pair]
    if not args.photo and len(loose) == 1:
        args.photo = loose[0]
        args.set.remove(args.photo)


def is_jpeg(path: str) -> bool:
    """Whether a JPEG is to be written, by the name's ending.

    ValueError where it is another format's than PNG's.
    """
    suffix = Path(path).suffix.lower()
    if suffix in {".jpg", ".jpeg", ".jpe", ".jfif"}:
        return True
    from restoration.files import images

    if suffix in images.SUFFIXES - {".png"}:
        raise ValueError(f"{path} cannot be written: results are PNG or JPEG; end the name in .png or .jpg.")
    return False


def opened(args: argparse.Namespace, factor: int) -> Photo:
    """The photograph args.photo, or the one that args.recipe carries; alpha at the result's size."""
    from restoration.files import images, recipe

    if args.photo:
        photo = images.read_photo(args.photo, factor)
        return photo._replace(alpha=images.enlarged_alpha(photo.alpha, factor))
    return images.Photo(recipe.read_input(args.recipe), recipe.read_result_alpha(args.recipe), "")
