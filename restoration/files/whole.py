"""Files that appear complete or not at all, and nothing of a killed run that stays."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no such locks: there leftovers are known by their age alone
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".restoring"  # suffix of a file that is being written
STALE = 3600  # seconds after which an unfinished file is nobody's, where that cannot be asked


def check_target(path: str | Path) -> None:
    """ValueError where `whole_file` could not write under this name: to be known before hours of computing,
    not after.

    What killed runs left in its folder is removed.
    """
    folder = Path(path).absolute().parent
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; give the name of a file in it.")
    if not folder.is_dir():
        raise ValueError(f"{path} cannot be written: there is no folder {folder}.")
    check_folder(folder)
    remove_abandoned(folder)


def check_folder(folder: Path) -> None:
    """ValueError where no file can be made in a folder: asked by making one, as rights, disks and quotas all
    have a say.
    """
    probe = folder / f".{uuid.uuid4().hex}{UNFINISHED}"
    try:
        with open(probe, "xb") as file:
            file.write(b"\0")
    except OSError as error:
        raise ValueError(f"Nothing can be written in {folder}: {error.strerror or error}.") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write that appears under `path` complete or not at all, whatever happens meanwhile.

    It is written beside `path` under a name of its own that ends in UNFINISHED, so that two runs at once do
    no harm either, and locked as long as it is written: so others know that somebody is at it.
    """
    try:
        file, temporary = _opened(Path(path))
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # else a power cut could leave the new name with no content
                if fcntl is None:
                    file.close()  # Windows renames no open file
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:  # nobody knows the name of the temporary file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def _opened(path: Path) -> tuple[IO[bytes], Path]:
    """A new locked file beside path, and its name."""
    while True:
        temporary = path.with_name(f".{uuid.uuid4().hex}{UNFINISHED}")
        file = open(temporary, "xb")  # noqa: SIM115
        _lock(file)
        if temporary.exists():  # else somebody took it for abandoned in the moment before it was locked
            return file, temporary
        file.close()


def _lock(file: IO[bytes]) -> bool:
    """Whether the file is ours alone now; False where another process has it, or the file system knows no
    locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True


def remove_abandoned(folder: Path, deep: bool = False) -> None:
    """Remove the unfinished files in a folder and below it that no living process is writing."""
    for leftover in (folder.rglob if deep else folder.glob)(f".*{UNFINISHED}"):
        # finished meanwhile, or another user's
        with contextlib.suppress(OSError), open(leftover, "r+b") as file:
            if _lock(file) or time.time() - os.fstat(file.fileno()).st_mtime > STALE:
                leftover.unlink()
