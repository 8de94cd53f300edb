"""python -m restoration.batch INPUT OUTPUT --solver SOLVER: restore every picture of a folder, alone or under `accelerate launch`.

The results are the only state. Each appears complete or not at all and carries its recipe and scores, so a run that was killed is
started again with the same command, makes what is missing, and ends with the files of an undisturbed run.
"""

from __future__ import annotations

import argparse
import collections
import csv
import errno
import io
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from tqdm import tqdm

from restoration import cli, images, metrics, recipe
from restoration.prior import LatentPrior, load_prior
from restoration.run import restore

TABLE = "scores.csv"
PATIENCE = timedelta(days=365)  # the processes wait for the slowest at the end, longer than torch's default of minutes
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
Names = dict[str, str]  # a picture in INPUT -> its result in OUTPUT, both as relative paths


def name_results(pictures: list[str]) -> Names:
    """Same relative path, suffix .png; pictures that would share a result keep their own suffix before it (a.jpg.png)."""
    short = {name: str(Path(name).with_suffix(".png")) for name in pictures}
    # upper and lower case are one name on some file systems
    shared = collections.Counter(result.casefold() for result in short.values())
    names = {name: result if shared[result.casefold()] == 1 else f"{name}.png" for name, result in short.items()}
    for result, count in collections.Counter(names.values()).items():
        if count > 1:
            raise ValueError(f"{count} pictures would be written to {result}; rename one of {', '.join(n for n in names if names[n] == result)}.")
    return names


def prepare(source: Path, output: Path, settings: Mapping[str, Any]) -> tuple[Names, list[str]]:
    """(all pictures with their results, those still to be made) after making OUTPUT ready.

    Raises ValueError when there is nothing to do, or OUTPUT holds something that this run would not have written.
    """
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder.")
    here, there = source.resolve(), output.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise ValueError(f"INPUT {source} and OUTPUT {output} must lie outside each other.")
    files = [p.relative_to(source) for p in sorted(source.rglob("*")) if p.suffix.lower() in images.SUFFIXES and p.is_file()]
    names = name_results([str(file) for file in files if not file.name.startswith(".")])
    if not names:
        raise ValueError(f"No pictures in {source}.")
    for folder in {(output / result).parent for result in names.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    for leftover in output.rglob(f".*{recipe.UNFINISHED}"):
        leftover.unlink(missing_ok=True)
    todo = []
    for name, result in names.items():
        if (output / result).exists():
            check_result(output / result, settings)
        else:
            todo.append(name)
    return names, todo


def check_result(path: Path, settings: Mapping[str, Any]) -> None:
    """ValueError unless the file is a result with these settings."""
    try:
        found = recipe.read_png(path)
    except (ValueError, OSError):
        raise ValueError(f"{path} was not written by this command; choose another OUTPUT.") from None
    other = [key for key, value in settings.items() if found.get(key) != value]
    if other:
        way = "" if "versions" in other else f", or go on with --recipe {path}"
        raise ValueError(f"{path} was made with other {', '.join(other)}; choose another OUTPUT{way}.")


def restore_share(job: cli.Plan, args: argparse.Namespace, names: Names, todo: list[str], state: PartialState) -> list[tuple[str, str]]:
    """Restore this process's share of todo; returns (picture, reason) of each that failed. A full disk ends the share."""
    failures: list[tuple[str, str]] = []
    with state.local_main_process_first():  # one download a machine
        prior = load_prior(job.prior, "cpu" if state.device.type == "cpu" else str(state.device))
    # every n-th, not a block: neighbours in a folder are often of one size, and all processes should end together
    share = todo[state.process_index :: state.num_processes]
    with tqdm(total=len(todo), unit="picture", disable=not state.is_main_process) as bar:
        for name in share:
            try:
                reference = Path(args.reference, name) if args.reference else None
                restore_file(job, prior, Path(args.input, name), reference, Path(args.output, names[name]))
            except Exception as error:  # one picture must not cost the others, whatever is wrong with it
                failures.append((name, reason(error)))
                if isinstance(error, OSError) and error.errno in DISK_FULL:
                    break
            bar.update(min(state.num_processes, bar.total - bar.n))  # the others are taken to be as far
    return failures


def restore_file(job: cli.Plan, prior: LatentPrior, picture: Path, reference: Path | None, result: Path) -> None:
    """Read, restore, write one picture; its scores are against the clean picture `reference`."""
    clean = images.read_image(reference) if reference else None
    steps = restore(images.read_image(picture), job.solver, prior, job.degradation, reference=clean, seed=job.seed, periodic=job.periodic)
    last = collections.deque(steps, maxlen=1).pop().result
    assert last is not None  # the solver protocol: the last step carries it
    recipe.save_png(last.image, result, last.recipe, last.scores)


def reason(error: Exception) -> str:
    """One line that says what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def write_table(output: Path, names: Names, failures: Mapping[str, str]) -> None:
    """OUTPUT/TABLE: picture, result, error, and the scores that the results carry."""
    rows: list[dict[str, Any]] = []
    for name, result in names.items():
        made = (output / result).exists()
        scores = recipe.read_png(output / result, recipe.SCORES) if made else {}
        rows.append({"picture": name, "result": result if made else "", "error": "" if made else failures.get(name, "not reached")} | scores)
    columns = dict.fromkeys(["picture", "result", "error", *metrics.METRICS, *(key for row in rows for key in row)])
    text = io.StringIO()
    table = csv.DictWriter(text, [c for c in columns if any(c in row for row in rows)])
    table.writeheader()
    table.writerows(rows)
    with recipe.whole_file(output / TABLE) as file:
        file.write(text.getvalue().encode())


def run(args: argparse.Namespace, parser: argparse.ArgumentParser, state: PartialState) -> int:
    """0 when every picture has a result, 1 when some have none. ValueError for bad arguments, in every process alike."""
    job, output = cli.read_plan(args, parser), Path(args.output)
    plan: list[Any] = [None, ""]
    if state.is_main_process:
        try:
            plan[0] = prepare(Path(args.input), output, job.settings)
        except (ValueError, OSError) as error:
            plan[1] = str(error)
    broadcast_object_list(plan)  # one list for all: the folder is changing by the time the slowest process looks
    if plan[1]:
        raise ValueError(plan[1])
    names, todo = plan[0]
    failures = dict(gather_object(restore_share(job, args, names, todo, state) if todo else []))
    missing = [name for name in todo if not (output / names[name]).exists()]
    if state.is_main_process:
        for name in missing:
            print(f"{name}: {failures.get(name, 'not reached')}", file=sys.stderr)
        write_table(output, names, failures)
        there = len(names) - len(todo)
        print(f"{len(names) - len(missing)} of {len(names)} pictures restored, {there} of them before; scores in {output / TABLE}")
    state.wait_for_everyone()  # a launcher ends the others as soon as one process ends with an error
    return 1 if missing else 0


def main(argv: list[str] | None = None) -> int:
    """0 when every picture has a result, 1 when some failed (listed with the reason), 2 after one line about bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m restoration.batch", description="Restore every picture of a folder.")
    parser.add_argument("input", metavar="INPUT", help="folder of pictures, searched to any depth")
    parser.add_argument("output", metavar="OUTPUT", help="folder for the results; all machines must see both")
    parser.add_argument("--recipe", help="PNG written by this project, or JSON: do exactly this to every picture")
    parser.add_argument("--reference", help="folder of clean pictures with the same relative paths, for scores")
    cli.add_options(parser)
    args = parser.parse_args(argv)
    # accelerate has to be told that there is no accelerator, else its processes do not know of each other
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    try:
        return run(args, parser, state)
    except (ValueError, OSError) as error:
        if state.is_main_process:
            print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    finally:
        state.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
