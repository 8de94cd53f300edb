"""What of a prior is on this machine, and its download from the Hub."""

from __future__ import annotations

import errno
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path

from restoration.priors.diffusers_folder import wanted
from restoration.priors.hub import reachable

PATIENCE = 5.0  # seconds for the Hub to answer at all


def file_in_cache(hub_id: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub_id, file)
    return Path(path) if isinstance(path, str) else None


def download(hub_id: str, choose: Callable[[list[str]], list[str]] = wanted) -> Path:
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
    place = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if (free := shutil.disk_usage(place).free) < needed:
        raise OSError(
            f"{hub_id} takes {needed / 1e9:.1f} GB but only {free / 1e9:.1f} GB of disk are free at {place}."
        )
