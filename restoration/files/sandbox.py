"""Strangers' files opened apart: a small process that holds Pillow and numpy alone makes one child for each
file.

The child has the opened file and nothing else, and ends within SECONDS of processor time, WALL seconds and
MEMORY bytes, even inside a decoder or by its crash. A request takes some hundredths of a second more than in
this process. Where the system cannot do this (no Linux), files are opened in this process, with the bounds of
restoration/files/containers alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from restoration.files import sizes

SECONDS = 2  # of processor time
WALL = 30.0  # seconds: one that is busy with other things gives SECONDS no sooner
MEMORY = 300_000_000  # bytes beside the libraries
ALONE = 5.0  # seconds after which the process has seen that the one that started it is gone
READY = 60.0  # seconds in which the process starts
AT_ONCE = 3  # children; further requests wait
ANSWER = 64_000_000  # bytes of the longest answer: a photograph with transparency has 16 million
REQUEST = 65_536  # bytes of the longest request
TYPES = {"|u1": np.uint8, "|b1": np.bool_, "<f4": np.float32}  # of arrays that come back
SERVER = "import sys; from restoration.files import sandbox; sandbox.serve(*map(int, sys.argv[1:]))"

AVAILABLE = sys.platform == "linux"
_enabled = False
_lock = threading.Lock()
_places = threading.BoundedSemaphore(AT_ONCE)
_server: tuple[subprocess.Popen[bytes], socket.socket] | None = None


def enable() -> None:
    """From now on this process opens no picture itself: for pages that take files of strangers."""
    global _enabled
    _enabled = AVAILABLE


def disable() -> None:
    """From now on this process opens pictures itself again; the one that has opened them ends."""
    global _enabled
    _enabled = False
    _stop()


def enabled() -> bool:
    """Whether pictures are opened apart."""
    return _enabled


def call(function: str, file: int, name: str, arguments: dict[str, Any]) -> Any:
    """What restoration.files.decode's `function` makes of an opened file, a descriptor. ValueError, one
    sentence, as it raises, or at a limit.

    Everything waits for AT_ONCE others at most, each over within WALL seconds.
    """
    request = {"function": function, "name": name, "arguments": arguments, "most": sizes.MAX_PIXELS}
    with _places:
        answer = _ask(json.dumps(request).encode(), file)
    head, _, body = answer.partition(b"\n")
    if not head:
        raise ValueError(
            f"{name} takes too much time or memory to open; save it as PNG or JPEG, or reduce it first."
        )
    answered = json.loads(head)
    if "error" in answered:
        raise ValueError(answered["error"])
    return _unpacked(answered["value"], memoryview(body))


def _ask(request: bytes, file: int) -> bytes:
    """The whole answer of a child, b"" where it ended without one."""
    for attempt in (0, 1):
        reading, writing = os.pipe()
        try:
            socket.send_fds(_started(), [request], [file, writing])
        except OSError:  # the server is gone: once more with a new one
            os.close(reading)
            if attempt:
                raise ValueError("Pictures cannot be opened now; try again.") from None
            _stop()
            continue
        finally:
            os.close(writing)
        with open(reading, "rb", buffering=0) as pipe:
            return _all_of(pipe.fileno())
    raise AssertionError


def _all_of(descriptor: int) -> bytes:
    """What a child writes until it ends; b"" where that lasts too long or is too much."""
    parts: list[bytes] = []
    length, until = 0, time.monotonic() + WALL + 1  # the child's own alarm comes first
    while (left := until - time.monotonic()) > 0 and length <= ANSWER:
        if select.select([descriptor], [], [], left)[0]:
            part = os.read(descriptor, 1 << 20)
            if not part:
                return b"".join(parts)
            parts.append(part)
            length += len(part)
    return b""


def _started() -> socket.socket:
    """The socket of the server, started where it does not run."""
    global _server
    with _lock:
        if _server is None or _server[0].poll() is not None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # none of this process's secrets; threads of numpy's would only reserve memory
            environment = {
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            }
            command = [sys.executable, "-c", SERVER, str(theirs.fileno()), str(os.getpid())]
            with theirs:
                quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
                process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, **quiet)  # type: ignore[call-overload]
            ours.settimeout(READY)
            with contextlib.suppress(OSError):
                ours.recv(1)  # it has loaded its libraries
            ours.settimeout(None)
            _server = process, ours
        return _server[1]


def _stop() -> None:
    global _server
    with _lock:
        if _server is not None:
            _server[1].close()
            _server[0].wait()
            _server = None


# ---- in the server and its children


def serve(descriptor: int, parent: int) -> None:
    """Make a child for each request that comes over a socket, until it is closed at the other end or the
    process `parent` has ended.

    A fork of `parent` may hold that end open for longer than it lives.
    """
    from restoration.files import decode

    decode.warm()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children are nobody's business
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C ends the page, which then closes the socket
    connection = socket.socket(fileno=descriptor)
    connection.send(b"\1")
    while True:
        while not select.select([connection], [], [], ALONE)[0]:
            if os.getppid() != parent:
                return
        request, descriptors, _, _ = socket.recv_fds(connection, REQUEST, 2)
        if not request:
            return
        if len(descriptors) == 2 and os.fork() == 0:
            connection.close()
            _child(request, *descriptors)
        for number in descriptors:
            os.close(number)


def _child(request: bytes, file: int, answer: int) -> NoReturn:
    """Do one request under the limits, write the answer, and end."""
    status = 1
    try:
        _limit()
        from restoration.files import decode

        asked = json.loads(request)
        sizes.MAX_PIXELS = asked["most"]  # as the process that asks has it
        try:
            with open(file, "rb") as opened:
                data = opened.read()
            value = getattr(decode, asked["function"])(data, asked["name"], **asked["arguments"])
            parts: list[bytes] = []
            head = {"value": _packed(value, parts)}
        except MemoryError:
            head, parts = (
                {"error": f"{asked['name']} needs too much memory to open; take a smaller picture."},
                [],
            )
        except ValueError as error:
            head, parts = {"error": str(error)}, []
        with open(answer, "wb") as pipe:
            pipe.write(json.dumps(head).encode() + b"\n" + b"".join(parts))
        status = 0
    finally:
        os._exit(status)


def _limit() -> None:
    signal.setitimer(signal.ITIMER_REAL, WALL)  # whose signal ends the process, also inside a decoder
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    for kind, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # a container may have set a lower one
            resource.setrlimit(kind, (most, most))


def _packed(value: Any, parts: list[bytes]) -> Any:
    """Tuples as lists, arrays as their type and shape in JSON, and their bytes appended to parts."""
    if isinstance(value, np.ndarray):
        parts.append(np.ascontiguousarray(value).tobytes())
        return {"type": value.dtype.str, "shape": value.shape}
    return [_packed(part, parts) for part in value] if isinstance(value, tuple) else value


def _unpacked(value: Any, body: memoryview) -> Any:
    """The inverse of `_packed`; nothing in it is ever executed.

    ValueError where a child that was taken over wrote anything else.
    """
    place = 0

    def unpack(part: Any) -> Any:
        nonlocal place
        if isinstance(part, dict):
            kind, shape = np.dtype(TYPES[part["type"]]), tuple(part["shape"])
            length = int(np.prod(shape)) * kind.itemsize
            content, place = body[place : place + length], place + length
            return np.frombuffer(content, kind).reshape(shape).copy()
        return tuple(map(unpack, part)) if isinstance(part, list) else part

    try:
        return unpack(value)
    except (KeyError, TypeError) as error:
        raise ValueError(f"The picture could not be opened: {error}.") from None
