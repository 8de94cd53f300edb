"""Who waits for a run: it ends when nobody listens to it any more, and no visitor fills the queue.

And what the server keeps of a visitor: next to nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, TypeVar

import gradio as gr
from gradio import state_holder
from gradio.context import LocalContext

QUEUE = 64  # places in the queue
PLACES = 3  # of them, and of what is being done, for one visitor
SESSIONS = 1000  # visitors of whom the latest result can still be shared, some kilobytes each
ADDRESS_PLACES = 12  # for one address: a household or a class room has several visitors
PATIENCE = 10.0  # seconds after a run's beginning within which somebody has to listen
# the streams on which Gradio tells of its events: all of a session's, or one event's
STREAM = re.compile(r"/queue/data$|/call/(?:v2/)?[^/]+/(?P<event>\w+)$")
T = TypeVar("T")

listeners: Counter[str] = Counter()  # open streams by session or event


@contextlib.contextmanager
def listening(path: str, session: str) -> Iterator[None]:
    """Count a request as a listener while it is being answered, if it is for one of Gradio's streams."""
    stream = STREAM.search(path)
    key = (stream["event"] or session) if stream else ""
    if not key:
        yield
        return
    listeners[key] += 1
    try:
        yield
    finally:
        listeners[key] -= 1
        if not listeners[key]:
            del listeners[key]


def while_awaited(steps: Iterator[T]) -> Iterator[T]:
    """The steps for as long as their event's client listens, which it must begin to do within PATIENCE.

    Outside an event of Gradio's queue all of them. gr.Error ends them: a ValueError would end one of several
    runs alone.
    """
    event, request = LocalContext.event_id.get(None), LocalContext.request.get(None)
    keys = {event, getattr(request, "session_hash", None)} - {None}
    began, heard = time.monotonic(), event is None
    try:
        for step in steps:
            if event is not None:
                listens = any(listeners[key] for key in keys)  # type: ignore[index]
                if not listens and (heard or time.monotonic() - began > PATIENCE):
                    raise gr.Error("Nobody waits for this run any more.", print_exception=False)
                heard = heard or listens
            yield step
    finally:  # now, and not when nobody remembers the error: a run holds memory
        getattr(steps, "close", lambda: None)()


class Session(state_holder.SessionState):
    """What the server keeps of a visitor: the values of gr.State, and nothing else that a browser sends.

    Gradio's own keeps a copy of every component's configuration, and each component anew that an event
    updates or skips: a megabyte a visitor. That is for links into a session and for components whose choices
    or bounds change, and this page has neither.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))  # type: ignore[arg-type]
        self.blocks_config = blocks.default_config
        self._updated: dict[int, Any] = {}  # the component that an update has just made

    def __getitem__(self, key: int) -> Any:
        return self._updated.pop(key) if key in self._updated else super().__getitem__(key)

    def __setitem__(self, key: int, value: Any) -> None:
        if isinstance(self.blocks_config.blocks.get(key), gr.State):
            super().__setitem__(key, value)
        else:  # Gradio reads from it at once what it sends to the browser, and never again
            self._updated = {key: value}

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


def keep_little() -> None:
    """Let Gradio keep a Session of each visitor."""
    state_holder.SessionState = Session  # type: ignore[misc]


def limit_places(queue: Any) -> None:
    """Let Gradio's queue take no more than PLACES events of one session, nor ADDRESS_PLACES of one address,
    at a time.
    """
    push = queue.push

    async def push_within_limits(body: Any, request: Any, username: str | None) -> Any:
        waiting = [
            event for places in queue.event_queue_per_concurrency_id.values() for event in places.queue
        ]
        waiting += [event for job in queue.active_jobs if job for event in job]
        mine = sum(event.session_hash == body.session_hash for event in waiting)
        here = address(request)
        beside = sum(address(event.request) == here for event in waiting) if here else 0
        if mine >= PLACES or beside >= ADDRESS_PLACES:
            return (
                False,
                "Your earlier runs are still waiting or going on: let one of them end first.",
                "error",
            )
        return await push(body, request, username)

    queue.push = push_within_limits


def address(request: Any) -> str:
    """The public address that a request comes from, behind one proxy too; "" where it has none, as on one's
    own machine.
    """
    client = request.client.host if request.client else ""
    for candidate in (client, request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()):
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(candidate).is_global:
                return candidate
    return ""
