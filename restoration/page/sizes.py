"""How much of a large photograph is restored: what a visitor does not wait for, or all that is accepted."""

from __future__ import annotations

from restoration.files import images
from restoration.files.errors import quoted
from restoration.page.device import accelerated

QUICK, LARGE = "quick", "large"
# most pixels that are read of a photograph: of 12 megapixels two are restored within seconds without a GPU
SIZES = {QUICK: 2_000_000, LARGE: images.MAX_PIXELS}


def usual_size() -> str:
    """The one of SIZES that a visitor does not wait for."""
    return LARGE if accelerated() else QUICK


def known_size(name: str) -> int:
    """Most pixels of a photograph at this one of SIZES. ValueError where it is none."""
    if not isinstance(name, str) or name not in SIZES:
        raise ValueError(f"There is no size {quoted(name)} here; there are {', '.join(SIZES)}.")
    return SIZES[name]
