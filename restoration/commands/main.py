"""latent-restoration COMMAND …: every command of the project under one name. `python -m restoration.COMMAND`
does the same."""

from __future__ import annotations

import importlib
import sys

PROGRAM = "latent-restoration"
# name -> module with `main`, and what it does; a module is loaded when it is asked for: torch and diffusers
# take their time
COMMANDS = {
    "restore": ("restoration.commands.restore", "restore one photograph; the word may be left out"),
    "batch": ("restoration.commands.batch", "restore every picture of a folder"),
    "inspect": ("restoration.commands.inspect", "say what is wrong with a photograph, and how much"),
    "benchmark": ("restoration.commands.benchmark", "print a table of scores beside classical baselines"),
    "memory": ("restoration.commands.memory", "count the memory that large priors take, without a device"),
    "timings": ("restoration.commands.timings", "measure time and memory on the device that is here"),
}
TRAINING = {
    "autoencoder": ("restoration.training.autoencoder", "the embedded prior's codec"),
    "denoiser": ("restoration.training.denoiser", "the embedded prior's denoiser"),
    "inn": ("restoration.training.inn", "LatentINDIGO's invertible networks"),
    "light": ("restoration.training.light", "what the damage meter says of light and haze"),
    "meter": ("restoration.training.meter", "the rest of the damage meter"),
    "niqe": ("restoration.training.niqe", "NIQE's statistics"),
    "span": ("restoration.training.span", "RELD's first image of enlarged pictures"),
    "warm-start": ("restoration.training.warm_start", "RELD's first image"),
}


def main(argv: list[str] | None = None) -> int:
    """The exit status of the command that argv (sys.argv's by default) names."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(overview())
        return 0
    name, rest = (arguments[0], arguments[1:]) if arguments[0] in COMMANDS else ("restore", arguments)
    if arguments[0] == "train":
        return _train(arguments[1:])
    return importlib.import_module(COMMANDS[name][0]).main(rest, prog=f"{PROGRAM} {name}")


def _train(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in TRAINING:
        print(f"usage: {PROGRAM} train NETWORK …\n\n{_listed(TRAINING)}")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    name, *rest = arguments
    importlib.import_module(TRAINING[name][0]).main(rest, prog=f"{PROGRAM} train {name}")
    return 0


def overview() -> str:
    """What `--help` prints."""
    train = {"train": ("", f"train one of {', '.join(TRAINING)}")}
    usage = f"usage: {PROGRAM} COMMAND …\n\nRestore photographs with a latent diffusion model as the prior.\n"
    more = f"{PROGRAM} COMMAND --help says more, with every setting."
    return f"{usage}\ncommands:\n{_listed(COMMANDS | train)}\n\n{more}"


def _listed(entries: dict[str, tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<12} {what}" for name, (_, what) in entries.items())
