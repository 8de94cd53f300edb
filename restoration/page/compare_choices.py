"""What Compare offers and takes: methods with their presets, damages, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from restoration.degradations.blind import titles
from restoration.files.errors import quoted
from restoration.page import words
from restoration.priors.catalogue import PRIORS
from restoration.solvers import PAPERS, PRESETS, SOLVERS, resolve

SEPARATOR = " · "  # of method and preset in a choice
COMPARE = "compare"  # the tab's id
REAL = "real"  # the damage of a photograph that is damaged already, which is all that there is of it
MOST_SEEDS = 8


def choices() -> list[str]:
    """Every method with each of its presets."""
    return [f"{method}{SEPARATOR}{preset}" for method in SOLVERS for preset in PRESETS[method]]


def titled() -> list[tuple[str, str]]:
    """`choices` with what each is called on the page."""
    return [
        (words.choice(method, preset), f"{method}{SEPARATOR}{preset}")
        for method in SOLVERS
        for preset in PRESETS[method]
    ]


def first(presets: Mapping[str, str]) -> list[str]:
    """What is compared unless somebody chooses: every method once, with these presets or else its first."""
    return [
        f"{method}{SEPARATOR}{presets.get(method, next(iter(PRESETS[method])))}"
        for method in SOLVERS
        if method not in PAPERS
    ]


def damages() -> dict[str, str]:
    """What can be done to the picture first, by name: nothing, or any damage that needs no file."""
    tests = {name: f"Test: {title}" for name, title in titles().items() if name != "kernel-deblur"}
    return {REAL: "Nothing: it is a photograph to restore"} | tests


class Chosen(NamedTuple):
    """What is compared: runs as (method, preset), seeds 0..seeds-1, and names of PRIORS."""

    runs: list[tuple[str, str]]
    seeds: int
    priors: list[str]

    @property
    def total(self) -> int:
        """How many pictures that makes."""
        return len(self.runs) * self.seeds * len(self.priors)


def checked(damage: Any, chosen: Any, seeds: Any, priors: Any) -> Chosen:
    """Every choice once.

    ValueError for what there is not.
    """
    if damage not in list(damages()):
        raise ValueError(f"There is no damage {quoted(damage)} here; there are {', '.join(damages())}.")
    if isinstance(chosen, list):  # some presets were another method's
        chosen = [_renamed(choice) for choice in chosen]
    if not isinstance(chosen, list) or any(choice not in choices() for choice in chosen):
        raise ValueError(f"There is a choice that is none here; there are {', '.join(choices())}.")
    if not isinstance(priors, list) or not priors or any(prior not in list(PRIORS) for prior in priors):
        raise ValueError(f"There is a prior that is none here; choose among {', '.join(PRIORS)}.")
    if type(seeds) not in (int, float) or seeds not in range(1, MOST_SEEDS + 1):
        raise ValueError(
            f"There are {quoted(seeds)} seeds asked for; it must be a whole number from 1 to {MOST_SEEDS}."
        )
    methods = [(method, preset) for method, _, preset in (choice.partition(SEPARATOR) for choice in chosen)]
    return Chosen(list(dict.fromkeys(methods)), int(seeds), list(dict.fromkeys(priors)))


def _renamed(choice: Any) -> Any:
    method, separator, preset = choice.partition(SEPARATOR) if isinstance(choice, str) else ("", "", "")
    return SEPARATOR.join(resolve(method, preset)) if separator else choice
