"""The methods by name."""

from __future__ import annotations

from restoration.solvers.base import Solver
from restoration.solvers.latent_indigo import PRESETS as LATENT_INDIGO_PRESETS
from restoration.solvers.latent_indigo import LatentINDIGO
from restoration.solvers.ld_rps import LDRPS
from restoration.solvers.ld_rps import PRESETS as LDRPS_PRESETS
from restoration.solvers.reld import PRESETS as RELD_PRESETS
from restoration.solvers.reld import RELD

SOLVERS: dict[str, type[Solver]] = {"reld": RELD, "latent-indigo": LatentINDIGO, "ld-rps": LDRPS}
PRESETS = {"reld": RELD_PRESETS, "latent-indigo": LATENT_INDIGO_PRESETS, "ld-rps": LDRPS_PRESETS}
