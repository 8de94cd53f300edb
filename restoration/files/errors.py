"""What goes wrong on a machine, as one sentence that names nothing of it: no path of a server, no trace."""

from __future__ import annotations

import errno

DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
LONGEST = 1000  # characters of a message
NO_MEMORY = "Memory ran out; take a smaller picture, or close other programs."
# of torch on each kind of device, the loader, numpy; cuDNN finds no algorithm for the memory that is left
NO_MEMORY_SIGNS = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "unable to allocate",
    "allocation failed",
    "cudnn_status_not_supported",
)


def plain_name(path: object) -> str:
    """The last part of a path as one line of text, whatever bytes it has."""
    name = str(path).rstrip("/").rpartition("/")[2]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)


def cut(text: str, most: int = 80) -> str:
    """The text, or its beginning: whatever somebody sent, a message stays one."""
    return text if len(text) <= most else f"{text[:most]}…"


def quoted(value: object) -> str:
    """A value as a message shows it."""
    try:
        return cut(repr(value))
    except ValueError:  # Python writes no number of so many digits
        return "a number of thousands of digits"


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: in a computation on any device, while a library is loaded or a file is read."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | ImportError | OSError) and any(
        sign in str(error).lower() for sign in NO_MEMORY_SIGNS
    )


def sentence(error: BaseException) -> str | None:
    """The sentence for a user: of bad input (ValueError), of the system (OSError) or of memory; None for a
    fault of ours.
    """
    if out_of_memory(error):
        return NO_MEMORY
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return "The disk is full; free some space and try again."
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{error.strerror}."
            if error.filename is None
            else f"{plain_name(error.filename)}: {error.strerror}."
        )
    return cut(str(error), LONGEST) if isinstance(error, ValueError | OSError) else None
