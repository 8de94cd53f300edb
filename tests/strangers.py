"""What a stranger sends to the page, and a solver that answers at once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import torch

from restoration.files import images
from restoration.page import display, state
from restoration.page.state import EXAMPLES
from restoration.solvers.base import Result, Step


def send(client: httpx.Client, event: dict[str, Any], data: list[Any]) -> str:
    """All that the server answers to an event of its page's config, as a browser or a script sends it."""
    session = uuid.uuid4().hex
    body = {
        "data": data,
        "event_data": None,
        "fn_index": event["id"],
        "session_hash": session,
        "trigger_id": None,
    }
    if event["queue"] is False:
        return client.post("run/predict", json=body).text
    joined = client.post("queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    with client.stream("GET", "queue/data", params={"session_hash": session}) as stream:
        told = ""
        for line in stream.iter_lines():
            told += line
            if "process_completed" in line or "unexpected_error" in line:
                break
    return told


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What the coroutine returns; in a thread of its own, since this one's loop may be a browser's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def past_run(**changes: Any) -> dict[str, Any]:
    """An entry of the history that is taken."""
    picture = display.data_uri((EXAMPLES / "chelsea.png").read_bytes())
    chosen = {
        "mode": state.DEGRADED,
        "task": "kernel-deblur",
        "seed": 0,
        "prior": "embedded",
        "preset": "fast",
    }
    run = {
        "method": "reld",
        "link": "",
        "title": "x",
        "values": {},
        "chosen": chosen,
        "status": "x",
        "scores": {},
    }
    return run | {"pictures": [picture, picture], "photo": None} | changes


def instant(y: torch.Tensor, *_: Any, **__: Any) -> Any:
    """A solver that gives the picture back."""
    yield Step(1, 1, y, "", {}, y, {}, Result(images.quantise(y), 0.0, {}, lambda: ({}, ())))
