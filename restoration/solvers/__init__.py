"""The methods by name, and what older names mean today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restoration.files import images
from restoration.priors import catalogue
from restoration.solvers import latent_indigo, ld_rps, ld_rps_fast, reld, reld_fast
from restoration.solvers.base import Solver

SOLVERS: dict[str, type[Solver]] = {}
PRESETS: dict[
    str, dict[str, dict[str, Any]]
] = {}  # by solver and preset its settings; the first is the default


def register(name: str, solver: type[Solver], presets: dict[str, dict[str, Any]]) -> None:
    """Offer a solver on the page, in the endpoints, the commands, the benchmark and recipes.

    Presets: one at least.
    """
    SOLVERS[name], PRESETS[name] = solver, presets


register("reld", reld_fast.RELDFast, reld_fast.PRESETS)
register("latent-indigo", latent_indigo.LatentINDIGO, latent_indigo.PRESETS)
register("ld-rps", ld_rps_fast.LDRPSFast, ld_rps_fast.PRESETS)
register("reld-paper", reld.RELD, reld.PRESETS)
register("ld-rps-paper", ld_rps.LDRPS, ld_rps.PRESETS)
FEW_STEP = "few-step"  # the preset of distilled priors, where a method has one
PAPERS = {
    "reld-paper",
    "ld-rps-paper",
}  # the papers' own algorithms, which take minutes where ours take seconds
# solver and preset of links, calls and command lines of before -> those of today
RENAMED = {("ld-rps", preset): ("ld-rps-paper", preset) for preset in ld_rps.PRESETS} | {
    ("ld-rps", "low-light+denoise"): ("ld-rps", "low-light"),
    ("reld", "faithful"): ("reld-paper", "faithful"),
}
# every picture took all steps of ld-rps before it was a setting how large it may be for that
ALL_STEPS = {"all_steps_below": images.MAX_PIXELS / 1e6}
# what was a setting of ld-rps and is fixed now: the values under which a recipe is still the same run
FIXED_PAPER: dict[str, set[Any]] = {
    "guess": {"none"}, "output": {"decoded"}, "guide_every": {1}, "step": {"constant"}, "companion": {"free"},
    "psi_start": {"random"}, "fresh_noise": {1.0},
}  # fmt: skip
FIXED_FAST: dict[str, set[Any]] = {
    "start_level": {0.0}, "fresh_noise": {0.0}, "recurrences": {0}, "guide_below": {1000}, "guide_every": {1},
    "clamp": {1.0}, "psi_start": {"exact"}, "output": {"consistent", "shaded"}, "fit_pixel": {0.0},
    "fit_perceptual": {0.0}, "fit_adversarial": {0.0}, "perceptual": {0.0}, "adversarial": {0.0},
    "brightness": {0.0}, "colour": {0.0},
}  # fmt: skip


def preset_for(solver: str, prior: str, chosen: str = "") -> str:
    """The preset to run on the prior of this name: `chosen` where that suits it, else the first that does.

    Few steps suit a distilled prior and no other; what a preset lacks for the prior does not.
    """
    few = prior in catalogue.PRIORS and catalogue.PRIORS[prior].few_step and FEW_STEP in PRESETS[solver]
    fit = [
        name
        for name, settings in PRESETS[solver].items()
        if (name == FEW_STEP) == few and not SOLVERS[solver](**settings).lacks(prior)
    ]
    return chosen if chosen in fit or not fit else fit[0]


def resolve(solver: str, preset: str) -> tuple[str, str]:
    """Today's (solver, preset) of a name that may be an older one; what is not known comes back as it is."""
    return RENAMED.get((solver, preset), (solver, preset))


def resolve_settings(solver: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Today's (solver, settings) of a recipe; ValueError where an older one changed what is fixed by now."""
    if solver == "reld" and "splitting" in settings:
        return _reld_settings(settings)
    if solver == "reld":
        settings = {"warm_start": 0.0, **settings}
    if solver == "ld-rps":
        settings = {**ALL_STEPS, **settings}
    if solver != "ld-rps" or "start" not in settings:
        return solver, dict(settings)
    paper = settings["start"] == "noise"
    name, fixed = ("ld-rps-paper", FIXED_PAPER) if paper else ("ld-rps", FIXED_FAST)
    if changed := [key for key, values in fixed.items() if key in settings and settings[key] not in values]:
        raise ValueError(f"The recipe sets {', '.join(changed)}, which LD-RPS no longer offers.")
    known = SOLVERS[name].__dataclass_fields__
    return name, {key: value for key, value in settings.items() if key in known} | (
        {"estimate": "proper"} if paper else {"act": "always"}
    )


def _reld_settings(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Of RELD when both forms were one class: its paper's form had one level, the last one, and drew no
    noise."""
    if settings["splitting"] == "annealed":
        kept = {key: value for key, value in settings.items() if key not in {"splitting", "strength"}}
        return "reld", {"warm_start": 0.0, **kept}
    values = {
        key: value for key, value in settings.items() if key not in {"start_level", "end_level", "renoise"}
    }
    return "reld-paper", values | {"level": settings.get("end_level", 3.0)}
