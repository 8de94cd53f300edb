"""The methods by name."""

from __future__ import annotations

from restoration.solvers.reld import PRESETS as RELD_PRESETS
from restoration.solvers.reld import RELD

SOLVERS = {"reld": RELD}
PRESETS = {"reld": RELD_PRESETS}
