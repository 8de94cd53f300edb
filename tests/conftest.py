from __future__ import annotations

import gc
import os
import tempfile

# the Hub's client reads these when it is imported; tests bring a Hub of their own, or say that there is none
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_ENDPOINT"):
    os.environ.pop(name, None)
# tests are small: on a busy machine two threads would wait for each other most of the time. Here, not in
# torch, for the page's threads and the commands' processes too
os.environ["OMP_NUM_THREADS"] = "1"
# each process of the tests has its own uploads, which end with it
uploads = tempfile.TemporaryDirectory(prefix="uploads-", ignore_cleanup_errors=True)
os.environ["GRADIO_TEMP_DIR"] = f"{uploads.name}/gradio"

import pytest

MOST_WORKERS = 4  # each takes 1.5 GB


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than there are cores where the whole suite is run, as tests of the browser wait half
    of their time; for a part of it none but the one that began.
    """
    cores = os.cpu_count() or 1
    named = config.args_source is pytest.Config.ArgsSource.ARGS or config.getoption("keyword")
    whole = not named and config.getoption("markexpr") == "not slow"
    return min(cores + 1, MOST_WORKERS) if whole and cores > 1 else 0


def pytest_configure(config: pytest.Config) -> None:
    """Fixtures, and what they import in four seconds, are for those who run tests, not for who hands them
    out.
    """
    if hasattr(config, "workerinput") or not config.getoption("numprocesses"):
        gc.disable()
        config.pluginmanager.import_plugin("shared")


def pytest_collection_finish() -> None:
    """Imports make no garbage that is worth looking for: neither while they go on nor ever after."""
    gc.freeze()
    gc.enable()
