"""The pictures of a running restoration, written by a thread while the run goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from torch import Tensor

from restoration.page.display import as_file


class Previews:
    """Takes a picture at a time, and gives its file once it is there."""

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "preview")
        self._file: Future[str] | None = None

    def __enter__(self) -> Previews:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._writer.shutdown(wait=False, cancel_futures=True)

    def give(self, x: Tensor | None) -> None:
        """x (1,3,H,W) in [0,1] takes the place of one that has not been taken; None where there is none."""
        if x is not None:
            self._file = self._writer.submit(as_file, x)

    def take(self) -> str | None:
        """The file of the picture that was given last, once; None until it is there, and where it could not
        be written, which must not cost the run.
        """
        if self._file is None or not self._file.done():
            return None
        file, self._file = self._file, None
        return None if file.exception() else file.result()
