from __future__ import annotations

import errno

import pytest
import torch

from restoration.files.errors import NO_MEMORY, out_of_memory, sentence


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError(
            "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-"
        ),
        RuntimeError("FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed for size::9"),
        ImportError("libtorch.so: failed to map segment from shared object: Cannot allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_the_end_of_memory_is_one_sentence_wherever_it_comes(error):
    assert sentence(error) == NO_MEMORY


def test_a_fault_of_ours_is_no_end_of_memory():
    for error in (RuntimeError("sizes do not match"), ValueError("out of memory"), KeyError("out of memory")):
        assert not out_of_memory(error)


def test_no_path_of_the_machine_is_told():
    assert (
        sentence(OSError(errno.ENOSPC, "No space left on device", "/srv/x.png"))
        == "The disk is full; free some space and try again."
    )
    assert (
        sentence(OSError(errno.EACCES, "Permission denied", "/srv/secret/x.png"))
        == "x.png: Permission denied."
    )
    assert sentence(ValueError("Bad.")) == "Bad." and sentence(KeyError("x")) is None
