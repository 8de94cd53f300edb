"""Results that visitors share: one file for each, under a name nobody can guess, kept for DAYS.

A share is a ZIP of a manifest and pictures. What a visitor sends of a share is its token and, to delete it, a
secret; a token becomes a path only once it has the form that `secrets.token_urlsafe` gives it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
import time
import zipfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from gradio.utils import get_upload_folder

from restoration.files.whole import remove_abandoned, whole_file

DAYS = float(os.environ.get("RESTORATION_SHARE_DAYS", 30))  # for which a shared result is kept
MOST = 1000  # shares that are kept, and
MOST_BYTES = 2_000_000_000  # what they take together; the oldest go first
LARGEST = 100_000_000  # bytes of one share: the pictures of a 4-megapixel run as PNG take half of that
HOURLY = 30  # shares of one address in an hour: nobody pushes the others' out
TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
MANIFEST, SECRET = "manifest.json", "secret"
NAMES = re.compile(r"(?:before|after|photo|download|cell-\d{2})\.(?:png|jpg)")  # of the pictures in a share

_recent: dict[str, deque[float]] = {}  # by address, when it shared within the last hour


class Gone(ValueError):
    """The share is not there: expired, deleted, or never was."""

    def __init__(self) -> None:
        super().__init__(
            "This shared result is not here any more. Results are kept for "
            f"{kept_for()}, and whoever shared one may delete it. Ask for a new link, or restore a "
            "photograph of your own."
        )


def kept_for() -> str:
    """How long a share is kept, in words."""
    return "a day" if DAYS == 1 else f"{DAYS:.3g} days"


def folder() -> Path:
    """RESTORATION_SHARES, or a folder of this user's beside the page's temporary one.

    ValueError where it is somebody else's.
    """
    named = os.environ.get("RESTORATION_SHARES")
    path = Path(named or f"{get_upload_folder()}-shares")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if (
        not named
        and hasattr(os, "getuid")
        and (not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid())
    ):
        raise ValueError("Results cannot be shared here: the folder for them belongs to somebody else.")
    return path


def _path(token: str) -> Path:
    """Where a share lies. Gone for what is no token, and for one that there is not or that has expired."""
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise Gone
    path = folder() / f"{token}.zip"
    try:
        expired = path.stat().st_mtime < time.time() - DAYS * 86_400
    except OSError:
        raise Gone from None
    if expired:
        _remove(path)
        raise Gone
    return path


def save(manifest: str, pictures: Mapping[str, Path], address: str = "") -> tuple[str, str]:
    """Keep a manifest and pictures, by names like NAMES; (token of the link, secret that deletes it).

    ValueError where it is too large, or the address, if one is known, has shared HOURLY times within an hour.
    """
    if sum(path.stat().st_size for path in pictures.values()) > LARGEST:
        raise ValueError(f"This result is too large to be shared: more than {LARGEST / 1e6:.0f} MB.")
    _count(address)
    token, secret = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    with (
        whole_file(folder() / f"{token}.zip") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        archive.writestr(MANIFEST, manifest)
        archive.writestr(SECRET, hashlib.sha256(secret.encode()).hexdigest())
        for name, path in pictures.items():
            archive.write(path, name)
    sweep()
    return token, secret


def _count(address: str) -> None:
    """One more share of an address. ValueError where there are too many."""
    hour_ago = time.monotonic() - 3600
    for other in [other for other, times in _recent.items() if times[-1] < hour_ago]:
        del _recent[other]
    times = _recent.setdefault(address, deque(maxlen=HOURLY))
    if address and len(times) == HOURLY and times[0] > hour_ago:
        raise ValueError(f"You have shared {HOURLY} results within an hour: share this one later.")
    times.append(time.monotonic())


def load(token: str) -> tuple[str, dict[str, Path]]:
    """(manifest, pictures by name) of a share, the pictures as files in the page's cache, where they are
    swept by age.

    Gone where there is none, or none that can be read.
    """
    path = _path(token)
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = archive.read(MANIFEST).decode()
            names = [name for name in archive.namelist() if NAMES.fullmatch(name)]
            return manifest, {name: _cached(token, name, archive) for name in names}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        raise Gone from None


def _cache(token: str) -> Path:
    """The folder of a share's pictures in the page's cache: one, however often the link is opened."""
    return Path(get_upload_folder(), "shared", hashlib.sha256(token.encode()).hexdigest())


def _cached(token: str, name: str, archive: zipfile.ZipFile) -> Path:
    copy = _cache(token) / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.utime(copy)  # used: it begins to age anew
    except OSError:
        with whole_file(copy) as file:
            file.write(archive.read(name))
    return copy


def delete(token: str, secret: str) -> None:
    """Delete a share. Gone where there is none; ValueError where the secret is another's."""
    path = _path(token)
    try:
        with zipfile.ZipFile(path) as archive:
            kept = archive.read(SECRET).decode()
    except (OSError, KeyError, zipfile.BadZipFile):
        raise Gone from None
    if not isinstance(secret, str) or not hmac.compare_digest(
        hashlib.sha256(secret.encode()).hexdigest(), kept
    ):
        raise ValueError("This link cannot delete that result: it was not made by whoever shared it.")
    _remove(path)


def _remove(path: Path) -> None:
    """Delete a share and its pictures in the cache."""
    with contextlib.suppress(OSError):
        path.unlink()
    for copy in _cache(path.stem).glob("*"):
        with contextlib.suppress(OSError):
            copy.unlink()


def sweep() -> None:
    """Delete what has expired, and the oldest shares beyond MOST or MOST_BYTES."""
    remove_abandoned(folder())
    rows = []
    for path in folder().glob("*.zip"):
        with contextlib.suppress(OSError):  # another process sweeps too
            if TOKEN.fullmatch(path.stem):  # nothing else that a host keeps there
                rows.append((path.stat().st_mtime, path.stat().st_size, path))
    total = 0
    for rank, (modified, size, path) in enumerate(sorted(rows, reverse=True)):
        total += size
        if rank >= MOST or total > MOST_BYTES or modified < time.time() - DAYS * 86_400:
            _remove(path)
