"""Priors by name: the checked folder of each, downloaded at first use.

Nothing but configurations and safetensors is fetched or read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from restoration.files.errors import quoted
from restoration.priors.catalogue import PRIORS
from restoration.priors.diffusers_folder import Checkpoint, check, count_values
from restoration.priors.download import download, file_in_cache

# the environment variable that opens the whole Hub; leave it unset on public servers
OPEN = "RESTORATION_ANY_PRIOR"
PREVIEW = ("config.json", "diffusion_pytorch_model.safetensors")  # what a small decoder is loaded from


def fetch(name: str) -> Checkpoint:
    """The checked folder of a prior: a name in PRIORS, a local diffusers folder or, where OPEN is set, any
    Hub id. Downloads at first use.

    Raises ValueError for a name or content that is not allowed or damaged, OSError for no network, no access
    or no disk; both in one sentence.
    """
    source = PRIORS[name].source if name in PRIORS else name
    if (Path(source) / "model_index.json").is_file():
        return check(Path(source), name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise ValueError(
            f"No prior {quoted(name)}: known are {', '.join(PRIORS)} and local diffusers folders with a "
            "model_index.json."
        )
    if name not in PRIORS and not os.environ.get(OPEN):
        raise ValueError(
            f"No prior {quoted(name)} in the list ({', '.join(PRIORS)}); "
            f"set {OPEN}=1 to load any model of the Hub."
        )
    return _cached(source) or check(download(source), source)


def fetch_preview(name: str) -> Path | None:
    """The folder of the small decoder of a prior; None where there is none, or none can be had now.

    Downloads at first use.
    """
    if name not in PRIORS or not (source := PRIORS[name].preview):
        return None
    if (Path(source) / PREVIEW[0]).is_file():
        return Path(source)
    try:
        cached = [file_in_cache(source, file) for file in PREVIEW]
        folder = (
            cached[0].parent
            if cached[0] and cached[1]
            else download(source, lambda names: [file for file in PREVIEW if file in names])
        )
        count_values(folder / PREVIEW[1])
        return folder
    except (OSError, ValueError):
        return None


def downloaded(name: str) -> bool:
    """Whether a prior of PRIORS is on this machine, so that choosing it costs no download."""
    return not PRIORS[name].download or _cached(PRIORS[name].source) is not None


def _cached(hub_id: str) -> Checkpoint | None:
    """A Hub id that was downloaded earlier and wholly; asks nobody."""
    file = file_in_cache(hub_id, "model_index.json")
    try:
        return check(file.parent, hub_id) if file else None
    except (ValueError, OSError):
        return None  # an interrupted download, which goes on where it stopped
