"""A ZeroGPU Space on this CPU: the `spaces` package as it is, a scheduler of our own, and workers whose GPU
is the host.

Run by test_zero_gpu.py in a process of its own, since `spaces` changes torch for good. Prints one JSON
object.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import torch

asked: list[int] = []  # seconds, of every call
workers: list[int] = []  # process ids
refusing = threading.Event()


class Scheduler(BaseHTTPRequestHandler):
    """What of Hugging Face's the client asks."""

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        answer: dict[str, Any] = {}
        if url.path == "/schedule":
            asked.append(int(query["durationSeconds"][0]))
            answer = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "none", "allowToken": "token"}
        if url.path == "/allow":
            workers.append(int(query["pid"][0]))
        refused = refusing.is_set() and url.path == "/schedule"
        body = json.dumps({"left": 5, "wait": 3600} if refused else answer).encode()
        self.send_response(429 if refused else 200)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def sentence(run: Iterable[Any]) -> str:
    """What ends a run before its end."""
    try:
        list(run)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scheduler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "SPACES_ZERO_GPU": "1",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{server.server_port}",
        "ZEROGPU_OFFLOAD_DIR": tempfile.mkdtemp(),
    }
    torch.version.cuda = torch.version.cuda or "13.0"  # ZeroGPU's torch has CUDA
    gc.disable()
    import app  # noqa: F401  as the Space does
    from restoration import pace
    from restoration.page import device, layout
    from restoration.priors import caption
    from restoration.priors.latent import load_prior

    gc.freeze()  # what has been imported is no garbage, and workers share it
    gc.enable()

    emulated = sys.modules["spaces.zero.torch"]
    emulated.init = lambda _: setattr(device, "DEVICE", "cpu")  # type: ignore[attr-defined]
    emulated.move = lambda callback=None: None  # type: ignore[attr-defined]
    prior = load_prior("embedded", device.DEVICE)  # as layout.main does
    seen: dict[str, Any] = {"placed": str(prior.device)}
    page = layout.build()
    page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **layout.LAUNCH)
    event = next(block for block in page.fns.values() if getattr(block.fn, "__name__", "") == "restored")
    values = {part: part.value for part in event.inputs}
    photo = next(part for part in event.inputs if part.label == "Your picture")
    values[photo] = sys.argv[1]

    def press() -> Any:
        return event.fn(values)

    shown = list(press())
    seen |= {"result": shown[-1][5], "status": shown[-1][1], "paces": len(pace.PACES), "steps": len(shown)}
    seen["second"] = list(press())[-1][1]
    stream = press()
    next(stream)
    stream.close()
    seen["after stop"] = list(press())[-1][1]
    seen["asked"] = [*asked]

    refusing.set()
    seen["refused"] = sentence(press())
    refusing.clear()
    stream = press()
    next(stream)
    os.kill(workers[-1], signal.SIGKILL)  # ZeroGPU's way of ending what takes too long
    seen["ended"] = sentence(stream)
    values[photo] = None
    seen["no picture"] = sentence(press())

    loaded: list[int] = []  # processes that did
    caption.load_captioner = lambda model: loaded.append(os.getpid())
    asking = next(block for block in page.fns.values() if getattr(block.fn, "__name__", "") == "describe")
    seen["described"] = asking.fn(sys.argv[1], list(caption.CAPTIONERS)[1], "embedded")[1]
    seen["captioner before the clock"] = loaded == [os.getpid()]
    print("\n" + json.dumps(seen))
    sys.stdout.flush()
    page.close()
    for worker in workers:  # one that outlives this process would keep its output open
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
