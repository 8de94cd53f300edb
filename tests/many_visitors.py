"""Many visitors at once: each uploads a picture of its own grey, presses Restore, and looks whether its own
comes back.

`python tests/many_visitors.py CLIENTS RUNS` serves the page with a solver that gives the picture back, and
prints the counts. `python tests/many_visitors.py --open VISITORS` prints the memory that so many take who
open the page as a browser does, press Restore without a picture, and go.
"""

from __future__ import annotations

import collections
import concurrent.futures
import ctypes
import gc
import io
import json
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
from PIL import Image


def visit_all(address: str, clients: int, runs: int) -> dict[str, int]:
    """How many of clients·runs results are the visitor's own, another's, or were refused."""
    config = httpx.get(f"{address}config", timeout=60).json()
    parts = {part["id"]: part for part in config["components"]}
    starts = {part["id"] for part in config["components"] if part["props"].get("elem_id") == "start-reld"}
    (event,) = (
        e for e in config["dependencies"] if e["backend_fn"] and any(t[0] in starts for t in e["targets"])
    )
    values = {part: parts[part]["props"].get("value") for part in event["inputs"]}
    photo = next(part for part in event["inputs"] if parts[part]["props"].get("label") == "Your picture")
    mode = next(part for part in event["inputs"] if parts[part]["props"].get("label") == "What is to be done")
    values[mode] = "already degraded"
    counts: collections.Counter[str] = collections.Counter(right=0, mixed=0, refused=0)

    def visit(number: int) -> None:
        with httpx.Client(base_url=f"{address}gradio_api/", timeout=600) as client:
            for run in range(runs):
                grey = (number * runs + run) % 250 + 3
                counts[one_run(client, event, values, photo, grey)] += 1

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(visit, range(clients)))
    return dict(counts)


def one_run(
    client: httpx.Client, event: dict[str, Any], values: dict[int, Any], photo: int, grey: int
) -> str:
    """ "right", "mixed" or "refused"."""
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (grey,) * 3).save(picture, "PNG")
    path = client.post("upload", files={"files": ("grey.png", picture.getvalue(), "image/png")}).json()[0]
    upload = {"path": path, "orig_name": "grey.png", "meta": {"_type": "gradio.FileData"}}
    session, data = uuid.uuid4().hex, list((values | {photo: upload}).values())
    body = {"data": data, "fn_index": event["id"], "session_hash": session}
    if client.post("queue/join", json=body).status_code != 200:
        return "refused"
    with client.stream("GET", "queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            if message.get("msg") == "process_generating" and grey_of(client, message) not in {None, grey}:
                return "mixed"
            if message.get("msg") == "process_generating" and grey_of(client, message) == grey:
                return "right"
            if message.get("msg") == "process_completed" and not message["success"]:
                return "refused"
    return "refused"


def grey_of(client: httpx.Client, message: dict[str, Any]) -> int | None:
    """Of the result in the answer; None where it holds none yet."""
    paths = [
        part["path"] for part in files_in(message["output"]["data"]) if part["path"].endswith("restored.png")
    ]
    if not paths:
        return None
    with Image.open(io.BytesIO(client.get(f"file={paths[-1]}").content)) as picture:
        return picture.getpixel((32, 32))[0]


def files_in(value: Any) -> list[dict[str, Any]]:
    """The files named anywhere in an answer."""
    if isinstance(value, dict):
        return (
            [value]
            if isinstance(value.get("path"), str)
            else [file for v in value.values() for file in files_in(v)]
        )
    return [file for part in value for file in files_in(part)] if isinstance(value, list) else []


def open_all(address: str, visitors: int) -> None:
    """Let so many visitors, one after the other, open the page, press Restore without a picture, and go."""
    with httpx.Client(base_url=f"{address}gradio_api/", timeout=600) as client:
        for _ in range(visitors):
            open_page(client, address)


def open_page(client: httpx.Client, address: str) -> None:
    """What a browser asks for as the page opens, while its heartbeat goes on; and a run that is refused."""
    session = uuid.uuid4().hex
    client.get(address).raise_for_status()
    config = client.get(f"{address}config").json()
    parts = {part["id"]: part["props"] for part in config["components"]}
    with client.stream("GET", f"heartbeat/{session}"):
        for event in config["dependencies"]:
            body = {"fn_index": event["id"], "session_hash": session}
            body["data"] = [parts[part].get("value") for part in event["inputs"]]
            names = {parts[target].get("elem_id") for target, _ in event["targets"] if target in parts}
            if not event["backend_fn"]:
                continue
            if event["queue"] is False and any(trigger == "load" for _, trigger in event["targets"]):
                client.post("run/predict", json=body).raise_for_status()
            elif "start-reld" in names:
                client.post("queue/join", json=body).raise_for_status()
                with client.stream("GET", "queue/data", params={"session_hash": session}) as stream:
                    assert any("process_completed" in line for line in stream.iter_lines())


def memory() -> float:
    """Megabytes that this process holds, garbage collected and given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def measure_memory(address: str, visitors: int) -> None:
    """Print what visitors who come from another process leave in this one, which serves them."""

    def come(count: int) -> float:
        asks = f"import many_visitors; many_visitors.open_all({address!r}, {count})"
        subprocess.run([sys.executable, "-c", asks], check=True, cwd=Path(__file__).parent)
        return memory()

    first = come(3)  # libraries and examples are loaded
    after = come(visitors)
    print(
        f"{visitors} visitors: {first:.0f} MB before, {after:.0f} MB after, {after - first:.1f} MB of theirs"
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from strangers import instant

    from restoration.page import actions, layout

    actions.restore = instant
    served = layout.build()
    _, url, _ = served.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **layout.LAUNCH)
    if sys.argv[1] == "--open":
        measure_memory(url, int(sys.argv[2]))
    else:
        began = time.monotonic()
        counts = visit_all(url, int(sys.argv[1]), int(sys.argv[2]))
        print(counts, f"{time.monotonic() - began:.0f} s, {memory():.0f} MB")
