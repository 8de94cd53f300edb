"""Strangers' files opened in a process apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_masks import kernels, masks
from test_reading import GREY, written

from restoration.files import images, knob_files, sandbox


def test_apart_the_same_is_read(tmp_path, apart):
    (tmp_path / "kernels").mkdir()
    arrays = kernels(tmp_path / "kernels")
    paths = [*masks(tmp_path), written(tmp_path, (GREY * 255).astype(np.uint8), "photo.png")]
    read_apart = [images.read_photo(path) for path in paths], [images.how_read(path) for path in paths]
    kernel = [knob_files.read_kernel(str(path)) for path in arrays]
    content = images.read_image(paths[0].read_bytes())
    sandbox.disable()
    read_here = [images.read_photo(path) for path in paths], [images.how_read(path) for path in paths]
    assert read_apart[1] == read_here[1] and content.equal(read_here[0][0].x)
    for one, other in zip(read_apart[0], read_here[0], strict=True):
        assert one.x.equal(other.x) and one.how == other.how
        assert (one.alpha is None) == (other.alpha is None) and (
            one.alpha is None or one.alpha.tobytes() == other.alpha.tobytes()
        )
    assert all(
        a.equal(b)
        for a, b in zip(kernel, [knob_files.read_kernel(str(path)) for path in arrays], strict=True)
    )


def test_apart_the_same_is_refused(tmp_path, apart):
    (tmp_path / "a.png").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"a\.png is not a picture"):
        images.read_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least 16"):
        images.read_image(written(tmp_path, np.zeros((4, 4), np.uint8), "b.png"))


@pytest.mark.parametrize(
    "body", ["while True: pass", "bytearray(10**9)", "import os; os.abort()", "import time; time.sleep(99)"]
)
def test_a_decoder_that_is_taken_over_gets_nowhere(tmp_path, apart, monkeypatch, body):
    """The server of this test decodes with code of the test's."""
    code = f"decode.warm, decode.photo = int, lambda *a, **k: exec({body!r})"
    limits = "sandbox.WALL, sandbox.SECONDS = 4.0, 1"
    load = "import sys; from restoration.files import decode, sandbox"
    server = f"{load}; {code}; {limits}; sandbox.serve(*map(int, sys.argv[1:]))"
    sandbox.disable()
    monkeypatch.setattr(sandbox, "SERVER", server)
    sandbox.enable()
    path = written(tmp_path, (GREY * 255).astype(np.uint8), "a.png")
    with pytest.raises(ValueError, match=r"a\.png (takes too much|needs too much)"):
        images.read_photo(path)
    assert images.size_read(path) == (24, 20)  # and the next request is served
    sandbox.disable()  # its server is no other test's


def test_nothing_that_opens_pictures_outlives_the_page(tmp_path):
    """The page is killed; a fork of it, as a worker of another library may be, still holds its sockets."""
    if not sandbox.AVAILABLE:
        pytest.skip("files are opened apart on Linux alone")
    killed = """import os, signal, sys, time
import psutil
from restoration.files import images, sandbox
sandbox.enable()
images.read_image(sys.argv[1])
(server,) = psutil.Process().children()
print(server.pid, flush=True)
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
os.close(1)
time.sleep(300)"""
    photo = str(written(tmp_path, (GREY * 255).astype(np.uint8), "a.png"))
    page = subprocess.Popen(
        [sys.executable, "-c", killed, photo], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        server = Path("/proc", page.communicate()[0].decode().strip())
        deadline = time.monotonic() + 120
        while (
            server.exists()
            and "State:\tZ" not in (server / "status").read_text()
            and time.monotonic() < deadline
        ):
            time.sleep(0.5)
        assert time.monotonic() < deadline
    finally:
        os.killpg(page.pid, signal.SIGKILL)
