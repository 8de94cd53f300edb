"""A folder on several processes, one of which is lost."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch
from accelerate import PartialState
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


def one_of_two(rank: int, port: int, arguments: list[str], log: Path) -> None:
    """What the launcher makes of this process, which has imported already what a new one would."""
    own = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(own, 1)
    os.dup2(own, 2)
    sys.stdout = sys.stderr = os.fdopen(own, "w", buffering=1)  # not pytest's
    os.environ |= {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    PartialState._reset_state()
    sys.exit(batch.main(arguments))


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

    fork, port, again = multiprocessing.get_context("fork"), free_port(), tmp_path / "again"
    command = [str(tmp_path / "in"), str(out), *options]
    processes = [
        fork.Process(target=one_of_two, args=[rank, port, command, again], daemon=True) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0], again.read_text()
    assert contents(out) == contents(whole)  # nor anything hidden
    assert all(p.stat().st_mtime_ns == when for p, when in done.items())  # only the missing ones were made
    said = [line for line in again.read_text().splitlines() if "pictures restored" in line]
    assert len(said) == 1 and said[0].startswith(f"30 of 30 pictures restored, {len(done)} of them before")
