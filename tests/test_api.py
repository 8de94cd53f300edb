"""The named endpoints, through the client that others use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from restoration.page.state import EXAMPLES

ENDPOINTS = {"/restore_reld", "/restore_latentindigo", "/restore_ldrps", "/degrade", "/caption", "/metrics"}
PHOTO = str(EXAMPLES / "chelsea.png")


@pytest.fixture(scope="module")
def client(address) -> Client:
    return Client(address, verbose=False)


def test_the_endpoints_and_no_others(client):
    schema = client.view_api(return_format="dict")["named_endpoints"]
    assert schema.keys() == ENDPOINTS
    names = [p["parameter_name"] for p in schema["/restore_reld"]["parameters"]]
    assert names == ["photo", "task", "preset", "settings", "seed"]


def test_every_endpoint_explains_itself(address):
    import httpx

    tools = httpx.get(f"{address}gradio_api/mcp/schema").json()
    assert {tool["name"].rpartition("_mcp_")[2] for tool in tools} >= {"restore_reld", "degrade"}
    assert all(len(tool["description"]) > 60 for tool in tools)


def test_the_snippet_of_the_readme_runs(address, monkeypatch, capsys):
    root = Path(__file__).parent.parent
    snippet = re.search(r"```python\n(from gradio_client.*?)```", (root / "README.md").read_text(), re.S)
    monkeypatch.chdir(root)
    exec(snippet[1].replace("http://127.0.0.1:7860", address), {})
    assert "PSNR" in capsys.readouterr().out


def test_a_wrong_setting_is_one_sentence(client):
    with pytest.raises(AppError, match="No setting nose"):
        client.predict(photo=handle_file(PHOTO), task="denoise", preset="fast", settings='{"nose": 1}', seed=0, api_name="/restore_reld")
    with pytest.raises(AppError, match="has the presets"):
        client.predict(photo=handle_file(PHOTO), preset="x", settings="{}", seed=0, api_name="/restore_ldrps")


def test_degrade_knows_its_settings(client):
    for damage, settings, sentence in (
        ("x", "{}", "There is no damage 'x'"),
        ("denoise", '{"nose": 1}', "has no setting nose"),
        ("haze", '{"a": 1}', "none"),
    ):
        with pytest.raises(AppError, match=sentence):
            client.predict(photo=handle_file(PHOTO), damage=damage, settings=settings, seed=0, api_name="/degrade")


def test_a_missing_photo_is_one_sentence(client):
    with pytest.raises(AppError, match="A photo is needed"):
        client.predict(photo=None, reference=None, api_name="/metrics")


def test_scores_without_a_reference(client):
    scores = json.loads(client.predict(photo=handle_file(PHOTO), reference=None, api_name="/metrics"))
    assert scores.keys() == {"NIQE (own fit)"}
