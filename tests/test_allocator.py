"""Freed blocks stay during a run and go back to the system after it."""

import subprocess
import sys

import pytest

from restoration.priors import allocator

RUN = """
import resource, sys, threading
import torch
from restoration.priors import allocator

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

def blocks():
    with allocator.kept():
        for size in (150_000_000, 149_000_000, 148_000_000):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            block = torch.ones(size)  # 600 MB
            del block
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        kept.append(resident())

faults, kept = [], []
allocator.keep_blocks()
began = resident()
thread = threading.Thread(target=blocks)
thread.start()
thread.join()
print(max(faults[1:]), faults[0], kept[0] - began, resident() - began)
"""


@pytest.mark.skipif(allocator._glibc() is None, reason="only glibc's allocator is told")
def test_blocks_are_kept_during_a_run_and_given_back_after_it():
    out = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True).stdout
    again, first, kept, after = map(float, out.split())
    assert again < 0.1 * first
    assert kept > 500 and after < 300
