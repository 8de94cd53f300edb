"""A folder on several processes, one of which is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch
from folders import contents, picture, save_prior
from ports import free_port

from restoration.commands import batch


def launch(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Two processes. `--cpu --num_processes 2` would start one: accelerate leaves several on a CPU to MPI,
    torchrun does not."""
    launcher = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--main_process_port",
        str(free_port()),
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    with open(log, "wb") as file:
        return subprocess.Popen(
            [*launcher, "-m", "restoration.batch", *arguments], stdout=file, stderr=file, env=environment
        )


def test_a_lost_process_costs_nothing_but_a_second_start(tmp_path):
    prior = save_prior(tmp_path / "prior")
    for number in range(30):
        picture(tmp_path / "in" / f"{number % 3}" / f"{number:02}.png", number, side=48)
    whole, out, log = tmp_path / "whole", tmp_path / "out", tmp_path / "log"
    options = ["--prior", prior, "--task", "denoise", "--set", "steps=60"]
    torch.set_num_threads(1)  # as the processes, so that the same sums are added in the same order
    assert batch.main([str(tmp_path / "in"), str(whole), *options]) == 0

    process = launch([str(tmp_path / "in"), str(out), *options], log)
    deadline = time.monotonic() + 300
    while len(list(out.rglob("*.png"))) < 6 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    psutil.Process(process.pid).children()[1].kill()  # SIGKILL
    assert process.wait(300) != 0, log.read_text()
    done = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    assert 6 <= len(done) < 30

    process = launch([str(tmp_path / "in"), str(out), *options], log)
    assert process.wait(300) == 0, log.read_text()
    assert contents(out) == contents(whole)  # nor anything hidden
    assert all(p.stat().st_mtime_ns == when for p, when in done.items())  # only the missing ones were made
    said = [line for line in log.read_text().splitlines() if "pictures restored" in line]
    assert len(said) == 1 and said[0].startswith(f"30 of 30 pictures restored, {len(done)} of them before")
