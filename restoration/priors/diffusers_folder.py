"""What a diffusers folder holds, checked before anything is loaded: configurations, classes, the headers of
its weights.

Nothing outside LIBRARIES and CLASSES is ever imported.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from restoration.priors.catalogue import PRIORS

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
WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|model)(?P<half>\.fp16)?(-\d+-of-\d+)?\.safetensors(\.index(\.fp16)?\.json)?"
)


class Checkpoint(NamedTuple):
    """A folder that can be loaded.

    parts: (library, class) of each; parameters: how many each network has; half: networks that come as fp16
    files only; side: pixels it was trained on, 512 where its configuration does not say; empty_is_zero: as of
    LatentPrior; files: its weights; denoiser: the file that they are read from instead of the folder's, None
    where there is none; lora: the file of what is added to the denoiser's.
    """

    folder: Path
    parts: dict[str, tuple[str, str]]
    parameters: dict[str, int]
    half: set[str]
    side: int
    empty_is_zero: bool
    files: list[Path]
    denoiser: Path | None = None
    lora: Path | None = None

    @property
    def weights(self) -> str:
        """`digest` of its weights."""
        return digest(self.files)

    @property
    def commit(self) -> str:
        """The revision of a Hub repository in its cache, "" of another folder."""
        return self.folder.name if self.folder.parent.name == "snapshots" else ""


def check(folder: Path, name: str, denoiser: Path | None = None) -> Checkpoint:
    """What a diffusers folder holds, from its configurations and the headers of its weights.

    denoiser: safetensors to be read instead of the folder's own. ValueError says what of `name` is missing or
    wrong.
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
    own = {part: [denoiser] if part == network and denoiser else None for part in parts}
    files = {part: own[part] or _weights(folder, part, name) for part in NETWORKS if part in parts}
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
        parameters={part: sum(count_values(file) for file in weights) for part, weights in files.items()},
        half={part for part, weights in files.items() if ".fp16" in weights[0].name},
        side=side,
        empty_is_zero=bool(index.get("force_zeros_for_empty_prompt")),
        files=[file for weights in files.values() for file in weights],
        denoiser=denoiser,
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
    by_precision = {
        half: [file for file, match in matches if match and bool(match["half"]) == half]
        for half in (False, True)
    }
    chosen = by_precision[False] or by_precision[True]
    if not chosen:
        raise ValueError(f"{name} has no safetensors for its {part}; pickled weights are never loaded.")
    if (count := re.search(r"-of-(\d+)", chosen[0].name)) and int(count[1]) != len(chosen):
        raise ValueError(
            f"{name}: {len(chosen)} of the {int(count[1])} files of its {part} are here; load it again."
        )
    return chosen


def count_values(file: Path) -> int:
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


def wanted(names: list[str], denoiser: bool = True) -> list[str]:
    """Of a repository's files, what a prior is loaded from: configurations, vocabularies, and half-precision
    weights where there are any; those of its denoiser only where they are asked for.
    """
    chosen = ["model_index.json"]
    for part in CLASSES:
        inside = [name for name in names if name.startswith(part + "/")]
        weights = [(name, match) for name in inside if (match := WEIGHTS.fullmatch(name.partition("/")[2]))]
        if part in ("unet", "transformer") and not denoiser:
            weights = []
        half = any(match["half"] for _, match in weights)
        chosen += [name for name, match in weights if bool(match["half"] or ".index.fp16" in name) == half]
        chosen += [
            name for name in inside if name.endswith((".json", ".txt", ".jinja")) and ".index." not in name
        ]
    return chosen
