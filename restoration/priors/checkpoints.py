"""Priors by name: the checked folder of each, downloaded at first use.

Nothing but configurations and safetensors is fetched or read.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from pathlib import Path

from restoration.files.errors import quoted
from restoration.priors.catalogue import PRIORS
from restoration.priors.diffusers_folder import Checkpoint, check, count_values, wanted
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
    if name not in PRIORS or not (lora := PRIORS[name].lora):
        return _fetch(name)
    if not importlib.util.find_spec("peft"):
        raise ValueError(f"{name} needs the package peft: pip install peft, then start again.")
    checkpoint, file = _fetch(name), _one_file(lora.source, lora.file)
    assert file
    return checkpoint._replace(lora=file, files=[*checkpoint.files, file])


def _fetch(name: str) -> Checkpoint:
    """Without what is added to its weights."""
    source = PRIORS[name].source if name in PRIORS else name
    other = PRIORS[name].denoiser if name in PRIORS else ("", "")
    if (Path(source) / "model_index.json").is_file():
        return check(Path(source), name, _one_file(*other))
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
    if other[0]:
        file = _one_file(*other)
        choose = functools.partial(wanted, denoiser=False)
        return _cached(source, file) or check(download(source, choose), source, file)
    return _cached(source) or check(download(source), source)


def _one_file(source: str, file: str) -> Path | None:
    """Safetensors beside a prior's own folder, downloaded at first use; None for ""."""
    if not source:
        return None
    if (path := Path(source) / file).is_file():
        return path
    path = file_in_cache(source, file) or download(source, lambda names: [file]) / file
    count_values(path)
    return path


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
    entry = PRIORS[name]
    other = file_in_cache(*entry.denoiser) if entry.denoiser[0] else None
    whole = bool(other) == bool(entry.denoiser[0])
    whole &= not entry.lora or file_in_cache(entry.lora.source, entry.lora.file) is not None
    return not entry.download or (whole and _cached(entry.source, other) is not None)


def _cached(hub_id: str, denoiser: Path | None = None) -> Checkpoint | None:
    """A Hub id that was downloaded earlier and wholly; asks nobody."""
    file = file_in_cache(hub_id, "model_index.json")
    try:
        return check(file.parent, hub_id, denoiser) if file else None
    except (ValueError, OSError):
        return None  # an interrupted download, which goes on where it stopped
