"""Priors by name: what each one costs, and how it comes onto this machine.

Nothing but configurations and safetensors is fetched or read.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import math
import os
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from restoration.files.errors import quoted
from restoration.priors.catalogue import EMBEDDED, PRIORS, Entry
from restoration.priors.hub import reachable

__all__ = [
    "EMBEDDED",
    "PRIORS",
    "Checkpoint",
    "Entry",
    "check",
    "digest",
    "downloaded",
    "fetch",
    "fetch_preview",
]

# the environment variable that opens the whole Hub; leave it unset on public servers
OPEN = "RESTORATION_ANY_PRIOR"
PATIENCE = 5.0  # seconds for the Hub to answer at all


# what a folder may be made of: nothing outside these is ever imported
LIBRARIES = {"diffusers", "transformers", "restoration.priors.networks"}
CLASSES = {
    "vae": {"AutoencoderKL", "PatchAutoencoder"},
    "unet": {"UNet2DConditionModel", "LatentUNet"},
    "transformer": {"SD3Transformer2DModel", "ZImageTransformer2DModel"},
    "text_encoder": {"CLIPTextModel", "CLIPTextModelWithProjection", "Qwen3Model"},
    "text_encoder_2": {"CLIPTextModelWithProjection"},
    "tokenizer": {"CLIPTokenizer", "CLIPTokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast"},
    "tokenizer_2": {"CLIPTokenizer", "CLIPTokenizerFast"},
    "scheduler": {"DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
                  "DPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"},
}  # fmt: skip
NETWORKS = ("vae", "unet", "transformer", "text_encoder", "text_encoder_2")
PREVIEW = ("config.json", "diffusion_pytorch_model.safetensors")  # what a small decoder is loaded from
WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|model)(?P<half>\.fp16)?(-\d+-of-\d+)?\.safetensors(\.index(\.fp16)?\.json)?"
)


class Checkpoint(NamedTuple):
    """A folder that can be loaded.

    parts: (library, class) of each; parameters: how many each network has; half: networks that come as fp16
    files only; side: pixels it was trained on, 512 where its configuration does not say; empty_is_zero: as of
    LatentPrior; files: its weights.
    """

    folder: Path
    parts: dict[str, tuple[str, str]]
    parameters: dict[str, int]
    half: set[str]
    side: int
    empty_is_zero: bool
    files: list[Path]

    @property
    def weights(self) -> str:
        """`digest` of its weights."""
        return digest(self.files)

    @property
    def commit(self) -> str:
        """The revision of a Hub repository in its cache, "" of another folder."""
        return self.folder.name if self.folder.parent.name == "snapshots" else ""


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
    return _cached(source) or check(_download(source), source)


def fetch_preview(name: str) -> Path | None:
    """The folder of the small decoder of a prior; None where there is none, or none can be had now.

    Downloads at first use.
    """
    if name not in PRIORS or not (source := PRIORS[name].preview):
        return None
    if (Path(source) / PREVIEW[0]).is_file():
        return Path(source)
    try:
        found = [_file_in_cache(source, file) for file in PREVIEW]
        folder = (
            found[0].parent
            if found[0] and found[1]
            else _download(source, lambda names: [file for file in PREVIEW if file in names])
        )
        _count(folder / PREVIEW[1])
        return folder
    except (OSError, ValueError):
        return None


def downloaded(name: str) -> bool:
    """Whether a prior of PRIORS is on this machine, so that choosing it costs no download."""
    return not PRIORS[name].download or _cached(PRIORS[name].source) is not None


def check(folder: Path, name: str) -> Checkpoint:
    """What a diffusers folder holds, from its configurations and the headers of its weights.

    ValueError says what of `name` is missing or wrong.
    """
    index = _read_json(folder / "model_index.json", name)
    network = "transformer" if isinstance(index.get("transformer"), list) else "unet"
    for part in ("vae", network, "scheduler"):
        if not isinstance(index.get(part), list):
            raise ValueError(
                f"{name} has no {part}; priors are latent diffusion models such as {', '.join(PRIORS)}."
            )
    # a null stands for a part that a pipeline was saved without
    parts = {
        part: _class_of(index[part], part, name)
        for part in CLASSES
        if index.get(part) not in (None, [None, None])
    }
    if parts["scheduler"][1].startswith("FlowMatch") != (network == "transformer"):
        raise ValueError(
            f"{name}: its scheduler is a {parts['scheduler'][1]}, which does not fit its {parts[network][1]}."
        )
    _read_json(folder / "scheduler" / "scheduler_config.json", name)
    configurations = {
        part: _read_json(folder / part / "config.json", name) for part in parts if part in NETWORKS
    }
    files = {part: _weights(folder, part, name) for part in NETWORKS if part in parts}
    unet, vae = configurations[network], configurations["vae"]
    latents, blocks = vae.get("latent_channels"), vae.get("block_out_channels", [0] * 4)
    if type(latents) is not int or not isinstance(blocks, list):
        raise ValueError(f"{name}: vae/config.json does not describe an autoencoder; load it again.")
    if unet.get("in_channels", latents) != latents:
        has = f"{unet['in_channels']} channels but latents have {latents}"
        raise ValueError(f"{name}: the denoiser takes {has}; inpainting models are no priors.")
    usual = 64 if network == "unet" else 128  # Z-Image's does not say, and was trained at 1024
    side = (size if isinstance(size := unet.get("sample_size"), int) else usual) * 2 ** (len(blocks) - 1)
    return Checkpoint(
        folder,
        parts,
        parameters={part: sum(_count(file) for file in found) for part, found in files.items()},
        half={part for part, found in files.items() if ".fp16" in found[0].name},
        side=side,
        empty_is_zero=bool(index.get("force_zeros_for_empty_prompt")),
        files=[file for found in files.values() for file in found],
    )


def _read_json(file: Path, name: str) -> dict[str, Any]:
    """The object in a configuration of the prior `name`. ValueError, one sentence, where there is none."""
    inside = f"{file.parent.name}/{file.name}" if file.name != "model_index.json" else file.name
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{name}: {inside} cannot be read ({error.strerror}); load it again.") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{name}: {inside} is damaged; load it again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name}: {inside} is damaged; load it again.")
    return content


def _class_of(entry: Any, part: str, name: str) -> tuple[str, str]:
    """(library, class) of a part in model_index.json. ValueError for any that is not loaded here."""
    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(word, str) for word in entry):
        raise ValueError(f"{name}: model_index.json names no class for its {part}; load it again.")
    library, class_name = entry
    if library not in LIBRARIES:
        raise ValueError(
            f"{name}: {part} is of {library!r}; only classes of {', '.join(sorted(LIBRARIES))} are loaded."
        )
    if class_name not in CLASSES[part]:
        raise ValueError(
            f"{name}: {part} is a {class_name}; only {', '.join(sorted(CLASSES[part]))} are loaded."
        )
    return library, class_name


def digest(files: Iterable[Path]) -> str:
    """12 hexadecimal digits that tell the contents of these files, in this order, from others: SHA-256 over
    the SHA-256 of each.
    """
    states = [(file, file.stat()) for file in files]
    return hashlib.sha256(
        "".join(_sha256(file, state.st_size, state.st_mtime_ns) for file, state in states).encode()
    ).hexdigest()[:12]


@functools.lru_cache(maxsize=64)
def _sha256(file: Path, size: int, changed: int) -> str:
    """Of the contents, read once until size or time say that they have changed."""
    if re.fullmatch("[0-9a-f]{64}", name := file.resolve().name):
        return name  # the Hub's cache names large files so, which saves reading gigabytes
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _weights(folder: Path, part: str, name: str) -> list[Path]:
    """The safetensors of one network: full precision where it is there, else half."""
    matches = [(file, WEIGHTS.fullmatch(file.name)) for file in sorted((folder / part).glob("*.safetensors"))]
    found = {
        half: [file for file, match in matches if match and bool(match["half"]) == half]
        for half in (False, True)
    }
    chosen = found[False] or found[True]
    if not chosen:
        raise ValueError(f"{name} has no safetensors for its {part}; pickled weights are never loaded.")
    if (count := re.search(r"-of-(\d+)", chosen[0].name)) and int(count[1]) != len(chosen):
        raise ValueError(
            f"{name}: {len(chosen)} of the {int(count[1])} files of its {part} are here; load it again."
        )
    return chosen


def _count(file: Path) -> int:
    """How many values a safetensors file holds.

    ValueError when it is cut short: its header says how long it is.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            return sum(math.prod(opened.get_slice(key).get_shape()) for key in opened.keys())  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{file.parent.name}/{file.name} is damaged ({error}); delete it and load it again."
        ) from None


def wanted(names: list[str]) -> list[str]:
    """Of a repository's files, what a prior is loaded from: configurations, vocabularies, and half-precision
    weights where there are any.
    """
    chosen = ["model_index.json"]
    for part in CLASSES:
        inside = [name for name in names if name.startswith(part + "/")]
        weights = [(name, match) for name in inside if (match := WEIGHTS.fullmatch(name.partition("/")[2]))]
        half = any(match["half"] for _, match in weights)
        chosen += [name for name, match in weights if bool(match["half"] or ".index.fp16" in name) == half]
        chosen += [
            name for name in inside if name.endswith((".json", ".txt", ".jinja")) and ".index." not in name
        ]
    return chosen


def _file_in_cache(hub_id: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, file)
    return Path(found) if isinstance(found, str) else None


def _cached(hub_id: str) -> Checkpoint | None:
    """A Hub id that was downloaded earlier and wholly; asks nobody."""
    file = _file_in_cache(hub_id, "model_index.json")
    try:
        return check(file.parent, hub_id) if file else None
    except (ValueError, OSError):
        return None  # an interrupted download, which goes on where it stopped


def _download(hub_id: str, choose: Callable[[list[str]], list[str]] = wanted) -> Path:
    """Download what is missing of a Hub id's files, of which `choose` says the needed ones; an interrupted
    download is resumed. tqdm shows it.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        RepositoryNotFoundError,
        XetDownloadError,
    )

    # a look-up of the name has no time limit of its own; behind a proxy it says nothing
    if not urllib.request.getproxies() and not reachable():
        raise OSError(_absent(hub_id))
    card = f"https://huggingface.co/{hub_id}"
    try:
        info = HfApi().model_info(hub_id, files_metadata=True, timeout=PATIENCE)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        names = choose(list(sizes))
        if not any(name.endswith(".safetensors") for name in names):
            raise ValueError(
                f"{hub_id} has no safetensors of a diffusers model; pickled weights are never loaded."
            )
        _check_disk(hub_id, sum(sizes.get(name, 0) for name in names), Path(constants.HF_HUB_CACHE))
        return Path(snapshot_download(hub_id, allow_patterns=names, etag_timeout=PATIENCE))
    except GatedRepoError:
        raise OSError(
            f"{hub_id} is gated: accept its licence at {card} and sign in with `hf auth login`."
        ) from None
    except RepositoryNotFoundError:
        raise OSError(
            f"There is no public model {hub_id} on the Hub; if it is yours, sign in with `hf auth login`."
        ) from None
    except HfHubHTTPError as error:
        raise OSError(
            f"The Hub refused {hub_id} with status {error.response.status_code}; try again later."
        ) from None
    except (HTTPError, XetDownloadError, OSError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise OSError(
                f"The disk ran full while {hub_id} was downloaded; free some space, the download goes on "
                "where it stopped."
            ) from None
        if isinstance(error, HTTPError | XetDownloadError | ConnectionError | FileNotFoundError):
            raise OSError(_absent(hub_id)) from None
        raise


def _absent(hub_id: str) -> str:
    from huggingface_hub import constants

    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached"
    return f"{hub_id} is not on this machine, wholly at least, and {why}; 'embedded' needs no network."


def _check_disk(hub_id: str, needed: float, cache: Path) -> None:
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if (free := shutil.disk_usage(there).free) < needed:
        raise OSError(
            f"{hub_id} takes {needed / 1e9:.1f} GB but only {free / 1e9:.1f} GB of disk are free at {there}."
        )
