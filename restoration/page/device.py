"""The device that runs share: one at a time, for a limited time, on ZeroGPU lent for each run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

ZERO_GPU = bool(
    os.environ.get("SPACES_ZERO_GPU")
)  # a Space whose GPU is there while a decorated handler runs
# there nothing can be measured beforehand; elsewhere the one with most free memory
DEVICE = "cuda" if ZERO_GPU else None
TIME_LIMIT = float(os.environ.get("RESTORATION_TIME_LIMIT", 600))  # seconds a run may take
UNKNOWN_SECONDS = 20.0  # asked of ZeroGPU where nothing better is known of a run; never tried on one
ON_DEVICE: Any = {"concurrency_id": "device", "concurrency_limit": 1}


def gpu_seconds(estimate: float) -> int:
    """What is asked of ZeroGPU for a run, which ends one that takes longer and counts this against the visitor's quota."""
    return math.ceil(1.5 * min(estimate, TIME_LIMIT)) + 10


def on_gpu(
    handler: Callable[..., Any], seconds: Callable[..., float] = lambda *_: UNKNOWN_SECONDS
) -> Callable[..., Any]:
    """On ZeroGPU: the handler on a GPU for what `seconds` of its arguments estimates; elsewhere the handler itself."""
    if not ZERO_GPU:
        return handler
    import spaces

    return spaces.GPU(duration=lambda *values: gpu_seconds(seconds(*values)))(handler)
