"""ZeroGPU: that the Space starts there, restores, is stopped and is refused with sentences; no real one has
run it.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from restoration.page.device import gpu_seconds
from restoration.priors.catalogue import PRIORS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What tests/zero_gpu_space.py has seen."""
    from skimage.data import astronaut
    from skimage.io import imsave

    folder = tmp_path_factory.mktemp("space")
    imsave(folder / "photo.png", astronaut()[:96, 160:256], check_contrast=False)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "GRADIO_TEMP_DIR": str(folder),
        "HF_HUB_OFFLINE": "1",
    }
    run = subprocess.run(
        [sys.executable, "tests/zero_gpu_space.py", folder / "photo.png"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    # spaces and Gradio print too
    return json.loads(next(line for line in run.stdout.splitlines() if line.startswith("{")))


def test_the_space_starts_and_restores(space):
    first = next(
        node for node in ast.parse((ROOT / "app.py").read_text()).body if not isinstance(node, ast.Expr)
    )
    assert ast.unparse(first) == "import spaces"  # before anything that may touch CUDA
    assert space["placed"].startswith("cuda")
    assert Path(space["result"]).name == "restored.png" and "96×96 pixels in" in space["status"]
    assert "96×96 pixels in" in space["second"]


def test_what_a_worker_learns_comes_back(space):
    """The first call asks by what is usual, the next ones by what it took: a run's pace by three keys, the
    machine's speed, loading, and the rest.
    """
    assert space["paces"] == 6 and len(space["asked"]) == 4


def test_a_run_is_stopped_refused_and_ended_with_sentences(space):
    assert "96×96 pixels in" in space["after stop"]
    for name in ("refused", "ended", "no picture"):
        assert space[name].startswith("Error: ") and "\n" not in space[name]
    assert "Choose a faster preset" in space["refused"] and "Choose a faster preset" in space["ended"]
    assert "Choose a picture first" in space["no picture"]


def test_a_captioner_is_loaded_before_the_clock_runs(space):
    assert space["captioner before the clock"] and space["described"].startswith("No caption: ")


def test_loading_a_prior_is_asked_for_too():
    assert gpu_seconds(14) == 31 and gpu_seconds(14, "sdxl") > 31 + PRIORS["sdxl"].download
    assert gpu_seconds(1e6) == 910
