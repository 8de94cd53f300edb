"""python -m restoration.batch INPUT OUTPUT --solver SOLVER: restore every picture of a folder, alone or under
`accelerate launch`.

The results are the only state. Each appears complete or not at all and carries its recipe and scores, so a
run that was killed is started again with the same command, makes what is missing, and ends with the files of
an undisturbed run.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from restoration.commands import cli, settings_help
from restoration.commands.batch_folder import TABLE, Names, prepare, write_table
from restoration.files import images, recipe
from restoration.files.errors import DISK_FULL, sentence
from restoration.priors.checkpoints import fetch
from restoration.priors.latent import LatentPrior, load_prior
from restoration.record import Run
from restoration.run import restore, restore_together
from restoration.solvers.base import Result

PATIENCE = timedelta(
    days=365
)  # the processes wait for the slowest at the end, longer than torch's default of minutes


def restore_share(
    run: Run, args: argparse.Namespace, names: Names, todo: list[str], state: PartialState
) -> list[tuple[str, str]]:
    """Restore this process's share of todo; returns (picture, reason) of each that failed.

    A full disk ends the share.
    """
    failures: list[tuple[str, str]] = []
    with state.local_main_process_first():  # one download a machine
        prior = load_prior(run.prior, "cpu" if state.device.type == "cpu" else str(state.device))
    # every n-th, not a block: neighbours in a folder are often of one size, and all processes should end
    # together
    share = todo[state.process_index :: state.num_processes]
    with tqdm(total=len(todo), unit="picture", disable=not state.is_main_process) as bar:
        for name, made in restored(run, prior, args, share):
            try:
                if isinstance(made, str):
                    failures.append((name, made))
                else:
                    result, alpha = made
                    recipe.save_png(
                        result.image,
                        Path(args.output, names[name]),
                        result.recipe,
                        result.scores,
                        alpha=alpha,
                    )
            except Exception as error:  # one picture must not cost the others, whatever is wrong with it
                failures.append((name, reason(error)))
                if isinstance(error, OSError) and error.errno in DISK_FULL:
                    break
            bar.update(min(state.num_processes, bar.total - bar.n))  # the others are taken to be as far
    return failures


class Opened(NamedTuple):
    """A picture, y (1,3,h,w) in [0,1] or why it cannot be read, the clean one that its result is scored
    against, the result's alpha."""

    name: str
    y: Tensor | str
    reference: Tensor | None = None
    alpha: Image.Image | None = None


def restored(
    run: Run, prior: LatentPrior, args: argparse.Namespace, share: list[str]
) -> Iterator[tuple[str, tuple[Result, Image.Image | None] | str]]:
    """Each picture of the share with its result and that's transparency, or why there is none.

    Neighbours of equal size are restored together, args.batch at most.
    """
    opened = (open_picture(args, name, run.factor) for name in share)
    for size, alike in itertools.groupby(
        opened, lambda picture: None if isinstance(picture.y, str) else picture.y.shape
    ):
        while group := list(itertools.islice(alike, args.batch)):
            made: list[Any] = (
                [picture.y for picture in group] if size is None else restore_group(run, prior, group)
            )
            for picture, one in zip(group, made, strict=True):
                yield picture.name, (one if isinstance(one, str) else (one, picture.alpha))


def open_picture(args: argparse.Namespace, name: str, factor: int) -> Opened:
    """Read one picture, reduced where its result would be too large, and its clean version from
    args.reference."""
    try:
        photo = images.read_photo(Path(args.input, name), factor)
        if "," in photo.how:  # more than the size is worth a line
            tqdm.write(f"{cli.shown(name)}: {photo.how}", file=sys.stderr)
        reference = images.read_image(Path(args.reference, name), 1) if args.reference else None
        return Opened(name, photo.x, reference, images.enlarged_alpha(photo.alpha, factor))
    except Exception as error:
        return Opened(name, reason(error))


def restore_group(run: Run, prior: LatentPrior, group: list[Opened]) -> list[Result | str]:
    """The result of every picture or why there is none.

    A group that fails is halved until the reason is one picture's own.
    """
    ys, references = [cast(Tensor, picture.y) for picture in group], [picture.reference for picture in group]
    try:
        if len(group) > 1:
            return [*restore_together(ys, run, prior, references=references)]
        steps = restore(ys[0], run, prior, reference=references[0])
        result = collections.deque(steps, maxlen=1).pop().result
        assert result is not None  # the solver protocol: the last step carries it
        return [result]
    except Exception as error:
        why = reason(error)  # not the error: that holds the frames, and so the memory, of the attempt
    if len(group) == 1:
        return [why]
    half = len(group) // 2
    return restore_group(run, prior, group[:half]) + restore_group(run, prior, group[half:])


def reason(error: Exception) -> str:
    """One line that says what went wrong."""
    text = " ".join((sentence(error) or f"{type(error).__name__}: {error}").split())
    return text if isinstance(error, ValueError) else text.rstrip(".")


def restore_all(args: argparse.Namespace, parser: argparse.ArgumentParser, state: PartialState) -> int:
    """0 when every picture has a result, 1 when some have none.

    ValueError for bad arguments, in every process alike.
    """
    (run, source), output = cli.read_run(args, parser), Path(args.output)
    cli.check_least(args, batch=1)
    if args.batch > 1 and not run.solver.batches:
        one = f"{run.solver.title} restores one picture at a time with these settings"
        raise ValueError(f"{one}; leave out --batch {args.batch}.")
    plan: list[Any] = [None, ""]
    if state.is_main_process:
        try:
            plan[0] = prepare(Path(args.input), output, run)
            if source and (note := recipe.other_weights(source, run.networks(fetch(run.prior).weights))):
                print(note, file=sys.stderr)
        except (ValueError, OSError) as error:
            plan[1] = sentence(error) or str(error)
    broadcast_object_list(
        plan
    )  # one list for all: the folder is changing by the time the slowest process looks
    if plan[1]:
        raise ValueError(plan[1])
    names, todo = plan[0]
    failures = dict(gather_object(restore_share(run, args, names, todo, state) if todo else []))
    missing = [name for name in todo if not (output / names[name]).exists()]
    if state.is_main_process:
        for name in missing:
            print(f"{cli.shown(name)}: {failures.get(name, 'not reached')}", file=sys.stderr)
        write_table(output, names, failures)
        before = len(names) - len(todo)
        print(
            f"{len(names) - len(missing)} of {len(names)} pictures restored, {before} of them before; "
            f"scores in {cli.shown(output / TABLE)}"
        )
    # a launcher ends the others as soon as one process ends with an error; all is done, and whoever leaves
    # first may break the connection of who has not been told so yet
    with contextlib.suppress(RuntimeError):
        state.wait_for_everyone()
    return 1 if missing else 0


def main(argv: list[str] | None = None, prog: str = "python -m restoration.batch") -> int:
    """0 when every picture has a result, 1 when some failed (listed with the reason), 2 after one line about
    bad arguments."""
    example = "photographs restored --solver ld-rps --preset low-light"
    parser = settings_help.parser(prog, "Restore every picture of a folder.", example)
    parser.add_argument("input", metavar="INPUT", help="folder of pictures, searched to any depth")
    parser.add_argument("output", metavar="OUTPUT", help="folder for the results; all machines must see both")
    parser.add_argument(
        "--recipe", help="PNG written by this project, or JSON: do exactly this to every picture"
    )
    parser.add_argument(
        "--reference", help="folder of clean pictures with the same relative paths, for scores"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        help="restore so many neighbours of equal size at once (not LD-RPS): for GPUs",
    )
    cli.add_options(parser)
    args = parser.parse_args(argv)
    # accelerate has to be told that there is no accelerator, else its processes do not know of each other
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    try:
        code = restore_all(args, parser, state)
    except Exception as error:
        if (message := sentence(error)) is None:  # a fault of ours, whose trace we want to see
            raise
        if state.is_main_process:
            print(f"error: {cli.shown(message)}", file=sys.stderr)
        code = 2 if isinstance(error, ValueError) else 1
    if state.num_processes > 1:
        _leave(code)
    return code


def _leave(code: int) -> NoReturn:
    """End this process, one of a launcher's, at once: taking down a connection that another has closed may
    abort it, and the launcher would call the finished run failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
