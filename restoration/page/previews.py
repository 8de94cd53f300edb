"""The pictures of a run that are looked at alone, and the thread that writes them while it goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from torch import Tensor

from restoration.files import images
from restoration.page.display import as_file
from restoration.page.uploads import new_file

LOSSLESS = 1e6  # pixels of a picture that is shown to the last bit


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
            self._file = self._writer.submit(for_the_eye, x)

    def take(self) -> str | None:
        """The file of the picture that was given last, once; None until it is there, and where it could not
        be written, which must not cost the run.
        """
        if self._file is None or not self._file.done():
            return None
        file, self._file = self._file, None
        return None if file.exception() else file.result()


def for_the_eye(x: Tensor) -> str:
    """x (1,3,H,W) in [0,1] as a file that is looked at alone: where a PNG would be megabytes, which a
    phone waits for, a JPEG.
    """
    if x.shape[-2] * x.shape[-1] <= LOSSLESS:
        return as_file(x)
    file = new_file("image.jpg")
    images.to_pil(x).save(file, quality=95, subsampling=0)
    return file
