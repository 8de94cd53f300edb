"""The methods by name, and what older names mean today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restoration.solvers.base import Solver
from restoration.solvers.latent_indigo import PRESETS as LATENT_INDIGO_PRESETS
from restoration.solvers.latent_indigo import LatentINDIGO
from restoration.solvers.ld_rps import LDRPS
from restoration.solvers.ld_rps import PRESETS as LDRPS_PRESETS
from restoration.solvers.ld_rps_fast import PRESETS as LDRPS_FAST_PRESETS
from restoration.solvers.ld_rps_fast import LDRPSFast
from restoration.solvers.reld import PRESETS as RELD_PRESETS
from restoration.solvers.reld import RELD
from restoration.solvers.reld_fast import PRESETS as RELD_FAST_PRESETS
from restoration.solvers.reld_fast import RELDFast

SOLVERS: dict[str, type[Solver]] = {
    "reld": RELDFast,
    "latent-indigo": LatentINDIGO,
    "ld-rps": LDRPSFast,
    "reld-paper": RELD,
    "ld-rps-paper": LDRPS,
}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "reld": RELD_FAST_PRESETS,
    "latent-indigo": LATENT_INDIGO_PRESETS,
    "ld-rps": LDRPS_FAST_PRESETS,
    "reld-paper": RELD_PRESETS,
    "ld-rps-paper": LDRPS_PRESETS,
}
PAPERS = {"reld-paper", "ld-rps-paper"}  # the papers' own algorithms, which take minutes where ours take seconds
# solver and preset of links, calls and command lines of before -> those of today
RENAMED = {("ld-rps", preset): ("ld-rps-paper", preset) for preset in LDRPS_PRESETS} | {
    ("ld-rps", "low-light+denoise"): ("ld-rps", "low-light"),
    ("reld", "faithful"): ("reld-paper", "faithful"),
}
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


def resolve(solver: str, preset: str) -> tuple[str, str]:
    """Today's (solver, preset) of a name that may be an older one; what is not known comes back as it is."""
    return RENAMED.get((solver, preset), (solver, preset))


def resolve_settings(solver: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Today's (solver, settings) of a recipe; ValueError where an older one changed what is fixed by now."""
    if solver == "reld" and "splitting" in settings:
        return _reld_settings(settings)
    if solver != "ld-rps" or "start" not in settings:
        return solver, dict(settings)
    paper = settings["start"] == "noise"
    name, fixed = ("ld-rps-paper", FIXED_PAPER) if paper else ("ld-rps", FIXED_FAST)
    if changed := [key for key, values in fixed.items() if key in settings and settings[key] not in values]:
        raise ValueError(f"The recipe sets {', '.join(changed)}, which LD-RPS no longer offers.")
    known = SOLVERS[name].__dataclass_fields__  # type: ignore[attr-defined]
    return name, {key: value for key, value in settings.items() if key in known} | (
        {"estimate": "proper"} if paper else {"act": "always"}
    )


def _reld_settings(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Of RELD when both forms were one class: its paper's form had one level, the last one, and drew no noise."""
    if settings["splitting"] == "annealed":
        return "reld", {key: value for key, value in settings.items() if key not in {"splitting", "strength"}}
    values = {key: value for key, value in settings.items() if key not in {"start_level", "end_level", "renoise"}}
    return "reld-paper", values | {"level": settings.get("end_level", 3.0)}
