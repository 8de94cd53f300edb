"""Many visitors at once: what is kept of each, who waits for a run, and whose picture is whose."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
import torch
from gradio.context import LocalContext
from gradio.state_holder import StateHolder
from strangers import finished, instant

from restoration.page import actions, layout, visitors
from restoration.page.state import EXAMPLES
from restoration.page.visitors import Session
from restoration.solvers.base import Step


def test_a_visitor_takes_a_few_kilobytes(blocks):
    """`tests/many_visitors.py --open 1000` measures all of a server; here what Gradio keeps of a session."""
    blocks.state_session_capacity = layout.LAUNCH["state_session_capacity"]
    sessions = StateHolder()
    sessions.set_blocks(blocks)
    box = next(part for part in blocks.blocks.values() if isinstance(part, gr.Textbox))
    kept = next(part for part in blocks.blocks.values() if isinstance(part, gr.State))
    tracemalloc.start()
    for visitor in range(visitors.SESSIONS + 100):
        session = sessions[str(visitor)]
        session[box._id] = gr.Textbox(render=False)  # as after an event that updates or skips it
        session._update_value_in_config(box._id, "x" * 100_000)
        session._update_config(box._id)
        session[kept._id] = visitor
    size = tracemalloc.get_traced_memory()[0] / len(sessions.session_data)
    tracemalloc.stop()
    assert size < 10_000 and len(sessions.session_data) <= visitors.SESSIONS + 1
    assert session[kept._id] == visitor
    assert session[box._id] is not box and session[box._id] is box  # what an update made is read once
    assert {part["id"] for part in session.components} == {kept._id}


def test_what_an_update_changes_reaches_the_browser():
    """Though nothing of it is kept: a choice, what is shown and a tab are such updates."""
    with gr.Blocks() as page:
        button, box = gr.Button("a", visible=False), gr.Textbox()
        page.load(lambda: [gr.update(visible=True), gr.update(label="new")], None, [button, box])
    session = Session(page)
    updates = [gr.update(visible=True), gr.update(label="new")]
    with ThreadPoolExecutor(1) as pool:  # another test's browser may have left a running loop in this thread
        sent = pool.submit(asyncio.run, page.postprocess_data(page.fns[0], updates, session)).result()
    assert sent[0]["visible"] is True and sent[1]["label"] == "new"
    assert session[button._id] is button and session[box._id] is box and not button.visible


def test_a_run_ends_when_nobody_listens(monkeypatch):
    monkeypatch.setattr(visitors, "PATIENCE", -1.0)
    assert list(visitors.while_awaited(iter("abc"))) == ["a", "b", "c"]  # outside an event
    event, request = (
        LocalContext.event_id.set("e"),
        LocalContext.request.set(SimpleNamespace(session_hash="s")),
    )  # type: ignore[arg-type]
    try:
        with pytest.raises(gr.Error, match="Nobody waits"):  # joined and forgotten
            next(visitors.while_awaited(iter("abc")))
        monkeypatch.setattr(visitors, "PATIENCE", 1e9)
        for path, session in (
            ("/gradio_api/queue/data", "s"),
            ("/gradio_api/call/restore/e", ""),
            ("/gradio_api/call/v2/x/e", ""),
        ):
            steps = visitors.while_awaited(iter("abc"))
            with visitors.listening(path, session):
                assert next(steps) == "a"
            with pytest.raises(gr.Error, match="Nobody waits"):  # gone
                next(steps)
        assert not visitors.listeners
    finally:
        LocalContext.event_id.reset(event)
        LocalContext.request.reset(request)


def test_a_visitor_has_few_places():
    def request(host: str, forwarded: str = "") -> Any:
        return SimpleNamespace(client=SimpleNamespace(host=host), headers={"x-forwarded-for": forwarded})

    async def push(body: Any, request: Any, username: Any) -> Any:
        waiting.queue.append(SimpleNamespace(session_hash=body.session_hash, request=request))
        return True, "id", "success"

    async def join(session: str, request: Any) -> bool:
        return (await queue.push(SimpleNamespace(session_hash=session), request, None))[0]

    waiting = SimpleNamespace(queue=[])
    queue = SimpleNamespace(event_queue_per_concurrency_id={"device": waiting}, active_jobs=[None], push=push)
    visitors.limit_places(queue)
    home, away = request("127.0.0.1"), request("10.0.0.1", "1.1.1.1, 8.8.8.8")
    assert [finished(join("s", home)) for _ in range(5)] == [True] * visitors.PLACES + [False] * (
        5 - visitors.PLACES
    )
    assert sum(finished(join(str(k), away)) for k in range(20)) == visitors.ADDRESS_PLACES
    assert all(finished(join(f"h{k}", home)) for k in range(20))  # one's own machine
    assert (
        visitors.address(away) == "8.8.8.8" and visitors.address(request("9.9.9.9", "1.1.1.1")) == "9.9.9.9"
    )


def test_no_visitor_gets_the_picture_of_another(address, monkeypatch):
    """Each its own grey, all at once, through the event of the page's button."""
    monkeypatch.setattr(actions, "restore", instant)
    from many_visitors import visit_all

    assert visit_all(address, clients=4, runs=2) == {"right": 8, "mixed": 0, "refused": 0}


def test_the_run_of_a_program_that_was_killed_ends(address, monkeypatch):
    """Its stream breaks off in the middle of a run, which would otherwise hold the only place for ever."""
    began, ended = threading.Event(), threading.Event()

    def endless(y: torch.Tensor, *_: Any, **__: Any) -> Any:
        began.set()
        try:
            while True:
                yield Step(1, 2, y, "", {})
                time.sleep(0.05)
        finally:
            ended.set()

    monkeypatch.setattr(actions, "restore", endless)
    with httpx.Client(base_url=f"{address}gradio_api/", timeout=120) as client:
        photo = EXAMPLES / "chelsea.png"
        path = client.post("upload", files={"files": ("a.png", photo.read_bytes(), "image/png")}).json()[0]
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "denoise", "fast", "{}", 0, "embedded"]
        event = client.post("call/restore_reld", json={"data": data}).json()["event_id"]
        with client.stream("GET", f"call/restore_reld/{event}") as stream:
            next(stream.iter_lines())
    assert ended.wait(120)
