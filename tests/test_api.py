"""The named endpoints, through the client that others use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from restoration.degradations.blind import titles
from restoration.page.state import EXAMPLES
from restoration.priors.caption import CAPTIONERS
from restoration.solvers import PRESETS, SOLVERS

ENDPOINTS = {"/restore_reld", "/restore_latentindigo", "/restore_ldrps", "/degrade", "/caption", "/metrics"}
PHOTO = str(EXAMPLES / "chelsea.png")


@pytest.fixture(scope="module")
def client(address) -> Client:
    return Client(address, verbose=False)


def test_the_endpoints_and_no_others(client):
    schema = client.view_api(return_format="dict")["named_endpoints"]
    assert schema.keys() == ENDPOINTS
    names = [p["parameter_name"] for p in schema["/restore_reld"]["parameters"]]
    assert names == ["photo", "task", "preset", "settings", "seed", "prior"]


def test_every_endpoint_explains_itself(address):
    import httpx

    tools = httpx.get(f"{address}gradio_api/mcp/schema").json()
    assert {tool["name"].rpartition("_mcp_")[2] for tool in tools} >= {"restore_reld", "degrade"}
    assert all(len(tool["description"]) > 60 for tool in tools)
    for tool in tools:
        assert all(entry.get("description") for entry in tool["inputSchema"]["properties"].values()), tool[
            "name"
        ]


def test_choices_are_those_that_there_are(client):
    """As enums, the older names that still mean something among them."""
    schema = client.view_api(return_format="dict")["named_endpoints"]
    choices = {
        (name, p["parameter_name"]): p["type"].get("enum")
        for name, end in schema.items()
        for p in end["parameters"]
    }
    assert choices["/restore_reld", "task"] == list(SOLVERS["reld"].damages())
    assert set(choices["/restore_reld", "preset"]) >= {*PRESETS["reld"], "faithful"}
    assert set(choices["/restore_latentindigo", "preset"]) == set(PRESETS["latent-indigo"])
    assert set(choices["/restore_ldrps", "preset"]) >= {*PRESETS["ld-rps"], "low-light+denoise"}
    assert choices["/caption", "captioner"] == list(CAPTIONERS)
    assert set(choices["/degrade", "damage"]) == titles().keys() - {"kernel-deblur"}


def test_the_settings_are_described_with_their_bounds():
    from restoration.degradations.linear import TASKS
    from restoration.page.endpoints import told

    assert "for denoise noise_std (" in told(TASKS) and "mask" not in told(TASKS)


def test_the_snippet_of_the_readme_runs(address, monkeypatch, capsys):
    root = Path(__file__).parent.parent
    snippet = re.search(r"```python\n(from gradio_client.*?)```", (root / "README.md").read_text(), re.S)
    monkeypatch.chdir(root)
    exec(snippet[1].replace("http://127.0.0.1:7860", address), {})
    assert "PSNR" in capsys.readouterr().out


def test_a_wrong_setting_is_one_sentence(client):
    with pytest.raises(AppError, match="No setting nose"):
        client.predict(
            photo=handle_file(PHOTO),
            task="denoise",
            preset="fast",
            settings='{"nose": 1}',
            seed=0,
            api_name="/restore_reld",
        )
    with pytest.raises(AppError, match="has the presets"):
        client.predict(photo=handle_file(PHOTO), preset="x", settings="{}", seed=0, api_name="/restore_ldrps")


def test_degrade_knows_its_settings(client):
    for damage, settings, sentence in (
        ("x", "{}", "There is no damage 'x'"),
        ("denoise", '{"nose": 1}', "has no setting nose"),
        ("haze", '{"a": 1}', "none"),
    ):
        with pytest.raises(AppError, match=sentence):
            client.predict(
                photo=handle_file(PHOTO), damage=damage, settings=settings, seed=0, api_name="/degrade"
            )


def test_a_missing_photo_is_one_sentence(client):
    with pytest.raises(AppError, match="A photo is needed"):
        client.predict(photo=None, reference=None, api_name="/metrics")


def test_scores_without_a_reference(client):
    scores = json.loads(client.predict(photo=handle_file(PHOTO), reference=None, api_name="/metrics"))
    assert scores.keys() == {"NIQE (own fit)"}
    assert json.loads(client.predict(photo=handle_file(PHOTO), api_name="/metrics")) == scores
