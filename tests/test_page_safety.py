"""The page against strangers: raw HTTP to every event there is, and each guard by itself."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
import torch
from gradio.context import LocalContext
from gradio.state_holder import StateHolder
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from restoration.degradations.linear import FILES
from restoration.files import images, recipe, sandbox
from restoration.page import (
    actions,
    compare_choices,
    display,
    guard,
    history,
    layout,
    state,
    uploads,
    visitors,
)
from restoration.page.state import EXAMPLES
from restoration.solvers.base import Result, Step

SECRET = "what no visitor may read"


@pytest.fixture(scope="module")
def page() -> gr.Blocks:
    return layout.build()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of uploads of one's own."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


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


def test_no_event_hands_out_a_file_of_the_server(address, tmp_path):
    """A path in the place of every text and file of every event, alone and in an entry of the history."""
    (tmp_path / "secret.txt").write_text(SECRET)
    files = {
        str(tmp_path / "secret.txt"): SECRET,
        str(Path("app.py").resolve()): "from restoration.page.layout import main",
    }
    handed: set[str] = set()
    with httpx.Client(base_url=f"{address}gradio_api/", timeout=120) as client:
        config = client.get(f"{address}config").json()
        parts = {part["id"]: part for part in config["components"]}
        events = [event for event in config["dependencies"] if event["backend_fn"] and event["inputs"]]
        assert len(events) > 25
        for path, event in itertools.product(files, events):
            usual = [parts[part]["props"].get("value") for part in event["inputs"]]
            upload = {"path": path, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
            knobs = [{}, {"kernel-deblur.file": path}, {"inpaint.mask": path}]
            past = [past_run(values=values) for values in knobs]
            entries = map(json.dumps, past) if SECRET in files[path] else ()
            hostile = {
                "textbox": [path, *entries],
                "image": [path, upload],
                "file": [path, upload],
            }
            for place, part in enumerate(event["inputs"]):
                for value in hostile.get(parts[part]["type"], []):
                    told = send(client, event, [*usual[:place], value, *usual[place + 1 :]])
                    handed |= set(re.findall(r'"path": ?"([^"]+)"', told))
        assert handed  # pictures of the run that is taken
        contents = [client.get(f"file={path}").content for path in handed | files.keys()]
    assert not [text for text in files.values() for content in contents if text.encode() in content]


def test_html_is_never_an_input(page):
    """What a browser posts as one is drawn raw for whoever opens a link to its session."""
    raw = (gr.HTML, gr.Markdown)
    assert not [f.name for f in page.fns.values() if any(isinstance(part, raw) for part in f.inputs)]


def test_files_come_only_from_boxes_that_check_them(page):
    boxes = [part for f in page.fns.values() for part in f.inputs if isinstance(part, gr.Image | gr.File)]
    assert boxes and all(box.preprocess is uploads.received for box in boxes)
    for box in boxes:  # as Gradio builds one anew for a session where an event updates or skips it
        assert type(box)(**box.constructor_args | {"render": False}).preprocess is uploads.received


def test_nothing_is_fetched_from_an_address(address):
    """Whatever the event and the place: the page would download without a bound for whoever asks."""
    upload = {
        "path": "https://huggingface.co/x.png",
        "orig_name": "x.png",
        "meta": {"_type": "gradio.FileData"},
    }
    with httpx.Client(base_url=f"{address}gradio_api/", timeout=120) as client:
        config = client.get(f"{address}config").json()
        # what is posted for a state is never read
        states = {part["id"] for part in config["components"] if part["type"] == "state"}
        reading = [e for e in config["dependencies"] if e["backend_fn"] and set(e["inputs"]) - states]
        queued = [e for e in reading if e["queue"] is not False]
        assert len(queued) > 5
        for event in queued:
            assert "nothing is fetched from an address" in send(
                client, event, [upload] * len(event["inputs"])
            )


def test_a_box_takes_only_what_was_uploaded(folder, tmp_path):
    (folder / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    (folder / "link.png").symlink_to(tmp_path / "b.png")
    assert uploads.received(SimpleNamespace(path=str(folder / "a.png"))) == str(folder / "a.png")
    assert uploads.received(None) is None
    for path in (
        tmp_path / "b.png",
        folder / ".." / "b.png",
        folder / "link.png",
        folder,
        "",
        None,
        "http://x/y.png",
    ):
        with pytest.raises(gr.Error, match="upload it once more"):
            uploads.received(SimpleNamespace(path=path and str(path)))


HOSTILE = [
    {"values": {"kernel-deblur.file": "/etc/hostname"}},
    {"values": {"reld.nonsense": 1}},
    {"values": {"reld.steps": {"__type__": "update", "value": 3}}},
    {"values": {"reld.steps": 1e9}},
    {"values": {"reld.steps": True}},
    {"values": {"photo": "/etc/hostname"}},
    {"photo": ["x.png", "bm90IGEgcGljdHVyZQ=="]},
    {"photo": "/etc/hostname"},
    {"photo": {"path": "/etc/hostname"}},
    {"pictures": ["/etc/hostname", "/etc/hostname"]},
    {"pictures": []},
    {"status": ["<b>"]},
    {"scores": {"PSNR": [{"__type__": "update"}]}},
    {"method": "ld-rps"},
    {"reference": "/etc/hostname"},
    {"chosen": {"mode": "x", "task": "deblur", "seed": 0, "prior": "embedded", "preset": "fast"}},
    {"chosen": {"mode": state.DEGRADED, "task": "deblur", "seed": 0, "prior": "../x", "preset": "fast"}},
    {"chosen": {"mode": state.DEGRADED, "task": "deblur", "seed": -1, "prior": "embedded", "preset": "fast"}},
    {"chosen": past_run()["chosen"] | {"photo": "/etc/hostname"}},
]


@pytest.mark.parametrize("changes", HOSTILE, ids=str)
def test_nothing_of_the_history_is_trusted(folder, changes):
    assert history.recall("reld", json.dumps(past_run()))[0]["photo"] is None
    with pytest.raises(gr.Error, match="cannot be read"):
        history.recall("reld", json.dumps(past_run(**changes)))


def test_a_picture_of_the_history_keeps_no_folder_and_no_other_kind(folder):
    content = display.data_uri((EXAMPLES / "rocket-haze-input.png").read_bytes()).partition(",")[2]
    for name, kept in (("../../a.png", "a.png"), ("a.html", "picture.png"), ("a.png", "a.png")):
        values, (pair, status, *_) = history.recall(
            "reld", json.dumps(past_run(photo=[name, content], status="<img src=x>"))
        )
        assert Path(values["photo"]).name == kept and Path(values["photo"]).is_relative_to(folder)
        assert (
            status == "&lt;img src=x&gt;"
            and len(pair) == 2
            and not any(values[key] for key in values if key[-1] in FILES)
        )


def test_a_choice_that_there_is_not_is_refused():
    values = state.opening_values("reld")
    for name in ("mode", "task", "preset", "prior"):
        for value in ("x", None, [], {"__type__": "update"}, 1):
            with pytest.raises(ValueError, match=f"There is no {name}"):
                state.checked("reld", values | {name: value})


# ---- names, headers


@pytest.fixture
def guarded(monkeypatch) -> Any:
    """A client of a page with a script, behind the guard, whose settings are given."""

    def serve(**settings: str) -> TestClient:
        for name in ("SPACE_HOST", "SPACE_ID", "RESTORATION_HOSTS", "GRADIO_SERVER_NAME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        answer = HTMLResponse("<script>1</script><script src='x'></script><img onerror=2>")
        return TestClient(
            Starlette(routes=[Route("/", answer, methods=["GET", "POST"])], middleware=guard.MIDDLEWARE)
        )

    return serve


def test_the_server_answers_to_its_own_names_alone(guarded):
    hosts = ["localhost", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST", "demo.example"]
    hosts += ["evil.example", "10.0.0.5", "localhost.evil.example", "", "a b"]
    for settings, allowed in (
        ({}, hosts[:4]),
        ({"RESTORATION_HOSTS": "demo.example, other.example"}, hosts[:5]),
        ({"SPACE_HOST": "demo.example", "SPACE_ID": "a/b"}, [*hosts[:5], "10.0.0.5"]),
    ):
        client = guarded(**settings)
        taken = [host for host in hosts if client.get("/", headers={"host": host}).status_code == 200]
        assert taken == allowed
    client = guarded()
    at_home = {"host": "localhost"}
    assert client.get("/gradio_api/deep_link?session_hash=x", headers=at_home).status_code == 404
    assert client.post("/", headers=at_home | {"origin": "http://evil.example"}).status_code == 403
    assert client.post("/", headers=at_home | {"origin": "http://localhost:7860"}).status_code == 200


def test_only_scripts_of_the_page_run(guarded):
    answers = [guarded().get("/", headers={"host": "localhost"}) for _ in range(2)]
    nonces = []
    for answer in answers:
        rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
        assert answer.headers["x-content-type-options"] == "nosniff" and rules["object-src"] == "'none'"
        assert (
            "'unsafe-inline'" not in rules["script-src"]
            and "*" not in answer.headers["content-security-policy"]
        )
        nonces.append(rules["script-src"].partition("'nonce-")[2].rstrip("'"))
        assert answer.text.count(f'<script nonce="{nonces[-1]}"') == answer.text.count("<script") == 2
    assert nonces[0] != nonces[1]
    assert "huggingface.co" not in rules["frame-ancestors"]
    space = guarded(SPACE_HOST="a.hf.space", SPACE_ID="a/b").get("/", headers={"host": "a.hf.space"})
    assert "https://huggingface.co" in space.headers["content-security-policy"]


# ---- files by age


def test_all_files_of_a_run_are_deleted_by_age(folder, photo, monkeypatch):
    recipe.save_png(photo, folder / "photo.png", {})
    (folder / "deep_links" / "x").mkdir(parents=True)
    (folder / "deep_links" / "x" / "state.json").write_text("{}")
    monkeypatch.setattr(actions, "restore", instant)
    values = state.opening_values("reld") | {"photo": str(folder / "photo.png")}
    *_, (pair, _, _, _, _, file) = actions.run("reld", values)
    kept = folder / "example.png"
    kept.write_bytes(b"x")
    uploads.sweep(3600, {str(kept)})
    assert all(Path(path).exists() for path in (*pair, file))
    uploads.sweep(-1, {str(kept)})
    assert [path.name for path in folder.rglob("*")] == ["example.png"]


def test_the_server_sweeps_while_it_runs(folder, page, monkeypatch):
    (folder / "x").write_text("x")
    monkeypatch.setattr(uploads, "AGE", -1.0)

    async def serve() -> None:
        async with uploads.sweeping(SimpleNamespace(get_blocks=lambda: page)):
            while (folder / "x").exists():
                await asyncio.sleep(0.01)

    finished(asyncio.wait_for(serve(), 60))


def test_a_visitor_takes_a_few_kilobytes(page):
    """`tests/many_visitors.py --open 1000` measures all of a server; here what Gradio keeps of a session."""
    page.state_session_capacity = layout.LAUNCH["state_session_capacity"]
    sessions = StateHolder()
    sessions.set_blocks(page)
    box = next(part for part in page.blocks.values() if isinstance(part, gr.Textbox))
    kept = next(part for part in page.blocks.values() if isinstance(part, gr.State))
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


# ---- runs nobody waits for, places in the queue, repeated choices


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
        assert not visitors._listeners
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


def test_a_comparison_takes_each_choice_once():
    one, other = compare_choices.choices()[:2]
    runs, seeds = compare_choices.checked("denoise", [one, other, one] * 300, 2.0)
    assert [compare_choices.SEPARATOR.join(run) for run in runs] == [one, other] and seeds == 2
    for wrong in (("denoise", ["x"], 1), ("x", [one], 1), ("denoise", [one], 9), ("denoise", [one], 1.5),
    ("denoise", {one: 1}, 1),
                  ("denoise", [[one]], 1), ([], [one], 1),
                   ("denoise", [one], True), ("denoise", [one], None)):  # fmt: skip
        with pytest.raises(ValueError):
            compare_choices.checked(*wrong)


# ---- errors, and results that nothing may cost


def test_an_error_shows_no_folder_and_no_markup():
    for error, told in (
        (OSError(28, "No space left on device", "/srv/secret/x.png"), "disk is full"),
        (MemoryError(), "Memory ran out"),
        (torch.OutOfMemoryError("CUDA out of memory"), "Memory ran out"),
        (
            ValueError("/srv/secret/x.png cannot be opened: <b>gone</b>, 3/255"),
            "x.png cannot be opened: &lt;b&gt;gone&lt;/b&gt;, 3/255",
        ),
    ):
        with pytest.raises(gr.Error) as caught, display.one_sentence():
            raise error
        assert told in caught.value.message and "secret" not in caught.value.message
    with pytest.raises(RuntimeError, match="a mistake of ours"), display.one_sentence():
        raise RuntimeError("a mistake of ours")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "/srv/x"), MemoryError()])
def test_a_result_that_cannot_be_stored_is_still_shown(folder, photo, monkeypatch, error):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    recipe.save_png(photo, folder / "photo.png", {})
    monkeypatch.setattr(actions, "restore", instant)
    monkeypatch.setattr(recipe, "save_png", fail)
    *_, (pair, status, _, _, _, file) = actions.run(
        "reld", state.opening_values("reld") | {"photo": str(folder / "photo.png")}
    )
    assert file == pair[1] and Path(file).exists() and "carries no recipe" in status and "/srv" not in status


def test_the_largest_result_can_be_uploaded_again(tmp_path, monkeypatch):
    """Noise does not compress: no picture of this size is larger. It is opened apart, within its limits."""
    monkeypatch.setattr(sandbox, "_enabled", sandbox.AVAILABLE)
    noise = torch.randint(0, 256, (1, 3, 2000, 2000), generator=torch.Generator().manual_seed(0)) / 255
    recipe.save_png(noise, tmp_path / "x.png", {"solver": "x"}, y=noise)
    assert 20e6 < (tmp_path / "x.png").stat().st_size < uploads.LARGEST * 1e6
    assert torch.equal(recipe.read_input(tmp_path / "x.png"), images.quantise(noise))
    assert recipe.read_result_alpha(tmp_path / "x.png") is None
    with pytest.raises(ValueError, match="more than 20 MB"):
        uploads.checked_photo(str(tmp_path / "x.png"))


# ---- many visitors at once


def instant(y: torch.Tensor, *_: Any, **__: Any) -> Any:
    """A solver that gives the picture back."""
    yield Step(1, 1, y, "", {}, y, {}, Result(images.quantise(y), {}, 0.0, {}))


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
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "denoise", "fast", "{}", 0]
        event = client.post("call/restore_reld", json={"data": data}).json()["event_id"]
        with client.stream("GET", f"call/restore_reld/{event}") as stream:
            next(stream.iter_lines())
    assert ended.wait(120)


def test_nothing_that_opens_pictures_outlives_the_page(tmp_path):
    """The page is killed; a fork of it, as a worker of another library may be, still holds its sockets."""
    if not sandbox.AVAILABLE:
        pytest.skip("files are opened apart on Linux alone")
    killed = """import os, signal, time
from restoration.files import sandbox
sandbox._started()
print(sandbox._server[0].pid, flush=True)
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
os.close(1)
time.sleep(300)"""
    page = subprocess.Popen([sys.executable, "-c", killed], stdout=subprocess.PIPE, start_new_session=True)
    try:
        server = Path("/proc", page.communicate()[0].decode().strip())
        deadline = time.monotonic() + 120
        while (
            server.exists()
            and "State:\tZ" not in (server / "status").read_text()
            and time.monotonic() < deadline
        ):
            time.sleep(0.5)
        assert time.monotonic() < deadline
    finally:
        os.killpg(page.pid, signal.SIGKILL)
