"""The methods by name."""

from __future__ import annotations

from typing import Any

from restoration.solvers.ld_rps import LDRPS
from restoration.solvers.ld_rps import PRESETS as LDRPS_PRESETS
from restoration.solvers.reld import PRESETS as RELD_PRESETS
from restoration.solvers.reld import RELD

SOLVERS: dict[str, Any] = {"reld": RELD, "ld-rps": LDRPS}
PRESETS = {"reld": RELD_PRESETS, "ld-rps": LDRPS_PRESETS}
