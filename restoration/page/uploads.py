"""The files of visitors: where they lie, which of them a control may name, and their end by age."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils
from gradio.utils import get_upload_folder

from restoration.page import shares

AGE = float(os.environ.get("RESTORATION_FILE_AGE", 86_400))  # seconds for which a visitor's file is kept
LARGEST = 40  # megabytes of an upload: a PNG that carries its 4-megapixel input, to repeat its run
LARGEST_PHOTO = 20  # megabytes of a picture to restore


def claim_folder() -> None:
    """Give the page a folder of its own, since everything old in it is deleted; GRADIO_TEMP_DIR names
    another.
    """
    if os.environ.get("GRADIO_TEMP_DIR"):
        return
    folder = Path(
        tempfile.gettempdir(), f"latent-restoration-{os.getuid() if hasattr(os, 'getuid') else 'page'}"
    )
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    ours = (
        folder.is_dir()
        and not folder.is_symlink()
        and (not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid())
    )
    os.environ["GRADIO_TEMP_DIR"] = (
        str(folder.resolve()) if ours else tempfile.mkdtemp(prefix="latent-restoration-")
    )


def refuse_addresses() -> None:
    """Let Gradio fetch nothing from the web for whoever posts an address instead of a file: its size has no
    bound.
    """

    async def refused(url: str, cache_dir: str) -> str:
        raise gr.Error(
            "Upload the picture itself: nothing is fetched from an address.", print_exception=False
        )

    processing_utils.async_ssrf_protected_download = refused


def kept_for() -> str:
    """How long a file is kept, in words."""
    return "a day" if AGE == 86_400 else f"{AGE / 3600:.2g} hours"


def new_file(name: str) -> str:
    """The path of a file of this name, nobody else's, which is deleted by age."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return str(Path(tempfile.mkdtemp(dir=folder), Path(name).name))


def received(payload: Any) -> str | None:
    """The path of the file that a control received, untouched; gr.Error unless it lies among the uploads.

    It takes the place of Gradio's own `preprocess`, which opens pictures with whatever decoder fits, drops
    alpha and clips 16 bits, and leaves an empty file behind for every other file.
    """
    if payload is None:
        return None
    path = Path(getattr(payload, "path", None) or "").resolve()
    if not path.is_file() or not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error("This file is not there any more: upload it once more.", print_exception=False)
    return str(path)


def checked_photo(path: str | None) -> str | None:
    """The path itself. ValueError where the file is larger than a photograph may be."""
    if path is not None and Path(path).stat().st_size > LARGEST_PHOTO * 1e6:
        raise ValueError(f"The file has more than {LARGEST_PHOTO} MB, which is the limit.")
    return path


def sweep(age: float, keep: Collection[str] = ()) -> None:
    """Delete every file of the folder older than `age` seconds, and every such folder that is then empty."""
    before = time.time() - age
    for folder, _, names in os.walk(get_upload_folder(), topdown=False):
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(OSError):  # another process sweeps too
                if str(path) not in keep and path.lstat().st_ctime < before:
                    path.unlink()
        with contextlib.suppress(OSError):  # not empty
            if folder != get_upload_folder() and os.lstat(folder).st_ctime < before:
                os.rmdir(folder)


@contextlib.asynccontextmanager
async def sweeping(app: Any) -> AsyncIterator[None]:
    """While the server runs, sweep often enough that no file gets much older than AGE."""

    async def sweep_for_ever() -> None:
        while True:
            # what Gradio copied there as the page was built is a part of the page
            keep = {
                path
                for block in app.get_blocks().blocks.values()
                for path in getattr(block, "keep_in_cache", ())
            }
            await asyncio.to_thread(sweep, AGE, keep)
            await asyncio.to_thread(shares.sweep)
            await asyncio.sleep(min(3600.0, max(1.0, AGE / 4)))

    task = asyncio.create_task(sweep_for_ever())
    try:
        yield
    finally:
        task.cancel()
