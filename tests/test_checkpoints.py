"""Names, downloads and their failures, against a small server that speaks the Hub's protocol."""

from __future__ import annotations

import collections
import dataclasses
import errno
import hashlib
import http.server
import json
import shutil
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save

from restoration.degradations.linear import Denoise
from restoration.priors import checkpoints, download
from restoration.priors.catalogue import PRIORS, Entry, Lora
from restoration.priors.latent import load_prior
from restoration.record import Run
from restoration.solvers.reld_fast import RELDFast

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ERRORS = {"some/gated": (403, "GatedRepo"), "some/missing": (404, "RepoNotFound"), "some/broken": (500, "")}


class Hub(http.server.BaseHTTPRequestHandler):
    """One model, some/model, and one for each error."""

    files: ClassVar[dict[str, bytes]] = {}
    served: ClassVar[collections.Counter] = collections.Counter()

    def log_message(self, *args):
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self):
        path = self.path.partition("?")[0].strip("/")
        name = next((model for model in ERRORS if model in path), None)
        if name and ("gated" not in name or "resolve" in path):  # a gated model's list of files is public
            return self.answer(ERRORS[name][0], X_Error_Code=ERRORS[name][1])
        if "resolve" in path:
            file = path.partition(COMMIT + "/")[2] or path.partition("main/")[2]
            body = self.files[file]
            self.served[file] += self.command == "GET"
            return self.answer(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=COMMIT)
        if "tree" in path:
            rows = [
                {"type": "file", "path": file, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for file, body in self.files.items()
            ]
            return self.answer(200, json.dumps(rows).encode(), Content_Type="application/json")
        rows = [{"rfilename": file, "size": len(body)} for file, body in self.files.items()]
        return self.answer(
            200,
            json.dumps({"id": "some/model", "sha": COMMIT, "siblings": rows}).encode(),
            Content_Type="application/json",
        )

    do_GET = do_HEAD


@pytest.fixture
def server(text_folder, tmp_path, monkeypatch):
    """The server's address is the Hub's, the cache is empty, and PRIORS has some/model as "model"."""
    from huggingface_hub import constants

    folder = Path(text_folder)
    Hub.files = {
        str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }
    Hub.files |= {
        "unet/diffusion_pytorch_model.bin": b"pickle",
        "weights.ckpt": b"pickle",
        "unet/diffusion_pytorch_model.non_ema.safetensors": b"x",
    }
    Hub.served.clear()
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{running.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("model", "gated", "missing", "broken"):
        monkeypatch.setitem(PRIORS, name, Entry(f"some/{name}", "", 512, 1.0, 1.0, 1.0))
    yield running
    running.shutdown()
    running.server_close()


def test_a_download_is_what_is_needed_once(server, text_folder):
    z = torch.randn(1, 4, 8, 8)
    assert not checkpoints.downloaded("model")
    first = load_prior.__wrapped__("model", "cpu").denoise(z, 300).z0
    local = load_prior.__wrapped__(text_folder, "cpu")
    assert torch.equal(first, local.denoise(z, 300).z0)
    run, y = Run(RELDFast(), Denoise()), torch.zeros(1, 3, 16, 16)
    assert run.to_recipe(y, load_prior.__wrapped__("model", "cpu"))["prior_commit"] == COMMIT
    assert "prior_commit" not in run.to_recipe(y, local)
    assert set(Hub.served.values()) == {1} and not any(
        "ckpt" in name or ".bin" in name or "non_ema" in name for name in Hub.served
    )
    server.shutdown()  # from here on there is no network
    server.server_close()
    assert checkpoints.downloaded("model") and torch.equal(
        first, load_prior.__wrapped__("model", "cpu").denoise(z, 300).z0
    )


def test_a_low_rank_change_is_downloaded_beside_its_base(server, monkeypatch):
    lora = Lora("some/model", "lora.safetensors", 0.1)
    monkeypatch.setitem(PRIORS, "model", dataclasses.replace(PRIORS["model"], lora=lora))
    Hub.files = Hub.files | {lora.file: save({"up": torch.zeros(1)})}
    assert not checkpoints.downloaded("model")
    file = checkpoints.fetch("model").lora
    assert file.name == lora.file and checkpoints.downloaded("model")
    assert Hub.served[lora.file] == 1
    file.unlink()
    assert not checkpoints.downloaded("model")


def test_an_interrupted_download_goes_on(server):
    folder = checkpoints.fetch("model").folder
    before = Hub.served.copy()
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.resolve().unlink()
    weights.unlink()
    assert checkpoints.fetch("model").folder == folder
    assert Hub.served - before == {"unet/diffusion_pytorch_model.safetensors": 1}


def test_the_preview_decoder_is_downloaded_once_and_never_missed(server, monkeypatch):
    monkeypatch.setitem(PRIORS, "model", Entry("some/model", "", 512, 1.0, 1.0, 1.0, preview="some/model"))
    assert checkpoints.fetch_preview("model") is None  # the repository holds none
    Hub.files = {
        "config.json": b"{}",
        "diffusion_pytorch_model.safetensors": Hub.files["vae/diffusion_pytorch_model.safetensors"],
        "a.bin": b"x",
    }
    folder = checkpoints.fetch_preview("model")
    assert sorted(file.name for file in folder.iterdir()) == sorted(checkpoints.PREVIEW)
    server.shutdown()  # from here on there is no network
    server.server_close()
    assert checkpoints.fetch_preview("model") == folder
    (folder / checkpoints.PREVIEW[1]).unlink()
    assert checkpoints.fetch_preview("model") is None and checkpoints.fetch_preview("embedded") is None


@pytest.mark.parametrize(
    ("name", "words"),
    [("gated", "is gated: accept"), ("missing", "There is no public model"), ("broken", "status 500")],
)
def test_refusals_of_the_hub_are_one_sentence(server, name, words):
    with pytest.raises(OSError, match=words) as error:
        load_prior(name)
    assert "\n" not in str(error.value) and error.value.__suppress_context__


def test_no_network_is_said_without_the_hubs_client(server, monkeypatch):
    """Which would try for minutes."""
    from huggingface_hub import HfApi, constants

    server.shutdown()
    server.server_close()
    monkeypatch.setattr(HfApi, "model_info", None)
    with pytest.raises(OSError, match="the Hub cannot be reached; 'embedded' needs no network"):
        load_prior("model")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE is set"):
        load_prior("model")


def test_a_hub_that_never_answers_is_said_too(monkeypatch):
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(download, "PATIENCE", 0.3)
        with pytest.raises(OSError, match="the Hub cannot be reached"):
            load_prior("sd-turbo")


def test_a_full_disk_is_said_before_the_download(server, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="of disk are free at"):
        load_prior("model")
    assert not Hub.served


def test_a_disk_that_runs_full_is_said(server, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    with pytest.raises(OSError, match="The disk ran full while some/model"):
        load_prior("model")


def test_a_repository_of_pickles_is_refused(server):
    Hub.files = {name: body for name, body in Hub.files.items() if not name.endswith(".safetensors")}
    with pytest.raises(ValueError, match="has no safetensors"):
        load_prior("model")


def test_hub_ids_outside_the_list_need_the_variable(server, monkeypatch):
    monkeypatch.delenv(checkpoints.OPEN, raising=False)
    with pytest.raises(ValueError, match=f"set {checkpoints.OPEN}=1"):
        load_prior("some/model")
    monkeypatch.setenv(checkpoints.OPEN, "1")
    assert load_prior("some/model", "cpu").name == "some/model"


def test_a_failed_load_leaves_the_old_one_and_a_switch_drops_it(server, text_folder):
    import gc
    import weakref

    old = load_prior("embedded", "cpu")
    for name in ("gated", "nonsense"):
        with pytest.raises((ValueError, OSError)):
            load_prior(name)
        assert load_prior("embedded", "cpu") is old
    gone = weakref.ref(load_prior(text_folder, "cpu"))
    load_prior("embedded", "cpu")
    gc.collect()
    assert gone() is None


def test_a_failure_while_weights_are_read_leaves_the_old_one_loadable(text_folder, monkeypatch):
    monkeypatch.setattr("restoration.priors.placement.free", lambda name: 1e5)
    with pytest.raises(ValueError, match=r"Not enough memory for this prior .* cpu has 0.0 GB free of"):
        load_prior(text_folder)
    monkeypatch.undo()
    assert load_prior("embedded", "cpu").name == "embedded"


def test_the_table_says_what_the_page_needs():
    assert PRIORS["embedded"].download == 0 and checkpoints.downloaded("embedded")
    for entry in PRIORS.values():
        assert entry.licence in entry.describe() and f"{entry.side}×{entry.side}" in entry.describe()
        assert ("needs the package peft" in entry.describe()) == bool(entry.lora)
    assert (
        2 < PRIORS["sd-2.1-base"].download < 3
        and 6 < PRIORS["sdxl"].download < 8
        and PRIORS["sd-turbo"].few_step
    )
    assert not any("stabilityai/stable-diffusion-2" in entry.source for entry in PRIORS.values())
