"""Every setting that there is, and what nobody should send for it: one sentence, on every way in."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import gradio as gr
import httpx
import pytest
import torch

from restoration.commands import batch, restore
from restoration.degradations.camera import EXPOSURES
from restoration.degradations.linear import FILES, TASKS
from restoration.files import errors, recipe
from restoration.knobs import LONGEST_TEXT
from restoration.page import actions, display, history, state
from restoration.record import BLIND, Run
from restoration.solvers import PRESETS, SOLVERS

CLASSES: dict[str, Any] = {**SOLVERS, **TASKS, **EXPOSURES}
SETTINGS = [(name, field) for name, cls in CLASSES.items() for field in dataclasses.fields(cls)]
# of methods and of what they are told: on the page and in recipes
TOLD = [(name, field) for name, field in SETTINGS if name in SOLVERS or name in TASKS]
MARKUP = "<img src=x onerror=alert(1)>"
WRONG: list[Any] = [
    math.nan, math.inf, -math.inf, 10**400, 10**5000, -(10**400), True, None, [], [1], {}, {"a": [1]},
    (1,), b"x", object(), "x" * 1_000_000, "\0",
]  # fmt: skip


def ids(given: tuple[str, Any]) -> str:
    return f"{given[0]}.{given[1].name}"


def wrong(field: Any) -> list[Any]:
    """Values that the setting does not take."""
    meta, number = field.metadata, type(field.default) in (int, float)
    values = [value for value in WRONG if number or type(field.default) is not type(value) or len(value) > 3]
    if type(field.default) is str:
        values += ["\0", *([MARKUP, "\ud800", ""] if meta["choices"] else [])]
    if number:
        values += [MARKUP, "1", "", *([1.5] if type(field.default) is int else [])]
    if meta.get("low") is not None:
        values += [meta["low"] - 1, meta["high"] + 1, -1e300, 1e300]
    return values


def written(value: Any) -> str:
    """The value as JSON, as well as it can be."""
    try:
        return json.dumps(value)
    except TypeError:
        return '"no JSON"'
    except ValueError:  # Python writes no number of so many digits; others do
        return "9" * 5000


def check_sentence(message: str) -> None:
    """One line, of ours, that somebody can read."""
    assert 10 < len(message) < 1000 and len(message.splitlines()) == 1, message[:200]
    alien = ("Traceback", "set_int_max_str_digits", "null byte", "literal for", "object has no")
    assert not [words for words in alien if words in message], message[:200]


def check_refused(function: Callable[[], Any]) -> None:
    with pytest.raises((ValueError, gr.Error)) as caught:
        function()
    check_sentence(getattr(caught.value, "message", None) or str(caught.value))


@pytest.mark.parametrize("given", SETTINGS, ids=ids)
def test_no_object_has_a_wrong_setting(given):
    name, field = given
    for value in wrong(field):
        check_refused(lambda value=value: CLASSES[name](**{field.name: value}))


@pytest.mark.parametrize("given", SETTINGS, ids=ids)
def test_bounds_choices_and_defaults_are_taken(given):
    name, field = given
    meta = field.metadata
    for value in (field.default, meta.get("low"), meta.get("high"), *meta.get("choices", ())):
        if value is not None:
            assert getattr(CLASSES[name](**{field.name: type(field.default)(value)}), field.name) == value


def test_presets_are_taken():
    assert all(SOLVERS[name](**values) for name in SOLVERS for values in PRESETS[name].values())


def tab(name: str) -> tuple[str, dict[Any, Any]]:
    """(method, values) of a tab on which the setting is asked for."""
    method = name if name in SOLVERS else next(m for m in SOLVERS if name in SOLVERS[m].damages())
    values = state.opening_values(method) | {"photo": str(state.EXAMPLES / "chelsea.png")}
    return method, values | ({"task": name} if name in TASKS else {})


@pytest.mark.parametrize("given", [row for row in TOLD if row[1].name not in FILES], ids=ids)
def test_the_page_refuses_it(given):
    """Before a run, as it begins, as text of an endpoint, in a link, and in the history."""
    name, field = given
    method, values = tab(name)
    chosen = {key: values[key] for key in ("mode", "task", "seed", "prior", "preset")}
    past: dict[str, Any] = {
        "method": method,
        "link": "",
        "title": "",
        "status": "",
        "scores": {},
        "pictures": [],
    }
    past |= {"photo": None, "chosen": chosen}
    empty = type(field.default) is str and not field.metadata["choices"]
    for value in wrong(field):
        told = {**values, (name, field.name): value}
        if not (value is None and empty):  # an empty box
            check_sentence(actions.forecast(method, told))
            assert "Result:" not in actions.forecast(method, told)
            check_refused(lambda told=told: list(actions.run(method, told)))
        settings = f"{{{json.dumps(field.name)}: {written(value)}}}"
        if not ((empty and written(value).startswith('"no')) or (value is None and empty)):
            check_refused(
                lambda text=settings: state.asked_for(
                    method, values | state.settings_values(method, values["task"], text)
                )
            )
            entry = json.dumps(past)[:-1] + f', "values": {{"{name}.{field.name}": {written(value)}}}}}'
            check_refused(lambda text=entry: history.recall(method, text))
        if not empty and not (type(value) is str and value.isdigit()):
            query = {"method": method, "image": "chelsea.png", "task": values["task"]}
            query[field.name] = written(value).strip('"') if value != "" else ""
            check_refused(lambda query=query: state.from_query(query))


@pytest.mark.parametrize("given", TOLD, ids=ids)
def test_a_recipe_refuses_it(tmp_path, given):
    name, field = given
    method, _ = tab(name)
    task = BLIND if SOLVERS[method].blind else name if name in TASKS else "deblur"
    told = {} if task == BLIND else {f.name: f.default for f in dataclasses.fields(TASKS[task])}
    said = {"solver": method, "settings": dataclasses.asdict(SOLVERS[method]()), "task": task}
    said |= {"degradation": told, "periodic": False, "prior": "embedded", "seed": 0}
    part = said["settings"] if name in SOLVERS else told
    for value in wrong(field):
        if (field.name in FILES and not value) or written(value).startswith('"no'):
            continue
        part[field.name] = "HERE"
        (tmp_path / "r.json").write_text(json.dumps(said).replace('"HERE"', written(value)))
        check_refused(lambda: Run.from_recipe(recipe.read(tmp_path / "r.json")))


def test_what_a_recipe_says_beside_its_settings(tmp_path):
    said = {"solver": "reld", "settings": dataclasses.asdict(SOLVERS["reld"]()), "task": "denoise"}
    said |= {"degradation": {"noise_std": 25.0}, "periodic": False, "prior": "embedded", "seed": 0}
    for key in said:
        for value in (*WRONG, MARKUP, {"x" * 5000: 1}, -1):
            if (key in ("settings", "degradation") and value == {}) or written(value).startswith('"no'):
                continue
            if (key == "prior" and isinstance(value, str)) or (key == "periodic" and value is True):
                continue  # names of folders, too, which are checked as they are opened
            (tmp_path / "r.json").write_text(
                json.dumps(said | {key: "HERE"}).replace('"HERE"', written(value))
            )
            check_refused(lambda: Run.from_recipe(recipe.read(tmp_path / "r.json")))


@pytest.mark.parametrize("given", TOLD, ids=ids)
def test_the_commands_refuse_it(tmp_path, capsys, given):
    """Exit code 2 and one line; nothing is computed."""
    name, field = given
    method, values = tab(name)
    choice = ["--solver", method] + ([] if SOLVERS[method].blind else ["--task", values["task"]])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes((state.EXAMPLES / "chelsea.png").read_bytes())
    texts = ["x" * (LONGEST_TEXT + 1)]
    if type(field.default) is not str or field.metadata["choices"]:
        texts = ["nan", "inf", "1e400", "9" * 5000, "", MARKUP, "x" * 100_000]
    texts += [str(field.metadata["high"] + 1)] if field.metadata.get("high") is not None else []
    for text in texts:
        more = [*choice, "--set", f"{field.name}={text}"]
        photo, out = str(tmp_path / "in" / "a.png"), str(tmp_path / "out.png")
        for main, places in (
            (restore.main, [photo, "-o", out]),
            (batch.main, [str(tmp_path / "in"), out + "s"]),
        ):
            assert main([*places, *more]) == 2
            check_sentence(capsys.readouterr().err.strip())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_no_event_of_the_page_tells_more_than_a_sentence(address, monkeypatch, tmp_path):
    """Raw HTTP: each value in the place of each control of each method's tab, in turn."""
    from strangers import instant, send

    monkeypatch.setattr(actions, "restore", instant)
    with httpx.Client(base_url=f"{address}gradio_api/", timeout=120) as client:
        config = client.get(f"{address}config").json()
        parts = {part["id"]: part["props"] for part in config["components"]}
        recipe.save_png(torch.rand(1, 3, 32, 32), tmp_path / "a.png", {})
        photo = (tmp_path / "a.png").read_bytes()
        path = client.post("upload", files={"files": ("a.png", photo, "image/png")}).json()[0]
        upload = {"path": path, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
        asked = 0
        for event in config["dependencies"]:
            starts = [parts[target].get("elem_id") or "" for target, _ in event["targets"] if target in parts]
            if not event["backend_fn"] or not any(name.startswith("start-") for name in starts):
                continue
            usual = [parts[part].get("value") for part in event["inputs"]]
            for place, part in enumerate(event["inputs"]):
                if parts[part].get("label") == "Your picture":
                    usual[place] = upload
            for place in range(len(usual)):
                value = (None, MARKUP, [MARKUP], {"a": 1}, 1e300, True, "x" * 100_000)[asked % 7]
                said = send(client, event, [*usual[:place], value, *usual[place + 1 :]])
                assert "Traceback" not in said and "site-packages" not in said
                asked += 1
        assert asked > 60


def test_a_message_is_short_whatever_it_is_about():
    assert len(display.sentence(ValueError("x" * 10_000))) < 1100
    assert len(errors.sentence(ValueError("x" * 10_000)) or "") < 1100
