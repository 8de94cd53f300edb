"""Image restoration with a latent diffusion model as the prior.

Importing this loads neither torch nor diffusers.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {"restore": "restoration.run", "Run": "restoration.record",
"load_prior": "restoration.priors.latent", "SOLVERS": "restoration.solvers",
          "TASKS": "restoration.degradations.linear", "read_image": "restoration.files.images"}  # fmt: skip
__all__ = ["SOLVERS", "TASKS", "Run", "load_prior", "read_image", "restore"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'restoration' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
