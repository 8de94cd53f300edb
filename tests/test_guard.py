"""The names that the server answers to, and the headers of its answers."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from restoration.page import guard


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
