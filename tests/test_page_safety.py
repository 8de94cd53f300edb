"""The page against strangers: raw HTTP to every event there is, and markup in a real browser."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
import torch
from browsing import upload, visit
from strangers import past_run, send

from restoration.files import recipe
from restoration.page import display, state, uploads

SECRET = "what no visitor may read"


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


def test_html_is_never_an_input(blocks):
    """What a browser posts as one is drawn raw for whoever opens a link to its session."""
    raw = (gr.HTML, gr.Markdown)
    assert not [f.name for f in blocks.fns.values() if any(isinstance(part, raw) for part in f.inputs)]


def test_files_come_only_from_boxes_that_check_them(blocks):
    boxes = [part for f in blocks.fns.values() for part in f.inputs if isinstance(part, gr.Image | gr.File)]
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


def test_a_box_takes_only_what_was_uploaded(upload_folder, tmp_path):
    (upload_folder / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    (upload_folder / "link.png").symlink_to(tmp_path / "b.png")
    path = str(upload_folder / "a.png")
    assert uploads.received(SimpleNamespace(path=path)) == path
    assert uploads.received(None) is None
    for path in (
        tmp_path / "b.png",
        upload_folder / ".." / "b.png",
        upload_folder / "link.png",
        upload_folder,
        "",
        None,
        "http://x/y.png",
    ):
        with pytest.raises(gr.Error, match="upload it once more"):
            uploads.received(SimpleNamespace(path=path and str(path)))


def test_a_choice_that_there_is_not_is_refused():
    values = state.opening_values("reld")
    for name in ("mode", "task", "preset", "prior"):
        for value in ("x", None, [], {"__type__": "update"}, 1):
            with pytest.raises(ValueError, match=f"There is no {name}"):
                state.checked("reld", values | {name: value})


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


MARKUP = (
    "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>${document.title='ran'}"
)


def test_no_script_of_a_stranger_runs(browser, address, tmp_path):
    """Markup posted to every event of a session, in a file's name, the history and a recipe."""
    with httpx.Client(base_url=f"{address}gradio_api/", timeout=120) as client:
        events = [
            e for e in client.get(f"{address}config").json()["dependencies"] if e["inputs"] and not e["queue"]
        ]
        for event in events:
            for value in (MARKUP, [MARKUP], [{"url": f'x"{MARKUP}'}] * 2):
                body = {
                    "data": [value] * len(event["inputs"]),
                    "fn_index": event["id"],
                    "session_hash": "stranger",
                }
                client.post("run/predict", json=body)
        assert client.get("deep_link", params={"session_hash": "stranger"}).status_code == 404
    run = {"method": "reld", "title": MARKUP, "pictures": ["", f'x"{MARKUP}'], "status": MARKUP, "link": ""}
    origins = [
        {"origin": address.rstrip("/"), "localStorage": [{"name": "runs", "value": json.dumps([run])}]}
    ]
    page = visit(browser, f"{address}?method=reld", storage_state={"origins": origins})
    page.locator(".past button").wait_for()
    (tmp_path / "<img src=x onerror=document.title=1>.png").write_bytes(b"not a picture")
    upload(page, tmp_path / "<img src=x onerror=document.title=1>.png")
    page.get_by_text("is not a picture that can be read here").first.wait_for()
    page.get_by_role("tab", name="Repeat").click()
    recipe.save_png(
        torch.rand(1, 3, 32, 32), tmp_path / "r.png", {"solver": MARKUP, "task": MARKUP, "prior": MARKUP}
    )
    page.locator('[role="tabpanel"]:visible input[type=file]').first.set_input_files(tmp_path / "r.png")
    page.get_by_text("holds no recipe").first.wait_for()
    # what cannot be repeated has no button; pressed before it goes, the press would wait for it for ever
    page.get_by_role("button", name="Repeat", exact=True).wait_for(state="hidden")
    assert page.title() == "Latent restoration" and page.locator("img[src=x]").count() == 0
    # and were there markup after all, the page's policy lets no script of it run
    page.evaluate("text => document.body.insertAdjacentHTML('beforeend', text)", MARKUP)
    page.wait_for_timeout(1000)
    assert page.title() == "Latent restoration"
    page.context.close()
