"""The device that runs share: one at a time, for a limited time, on ZeroGPU lent for each run.

ZeroGPU is a Space whose GPU is there only while a decorated function runs, in a process forked for it. What
crosses to that process is pickled, so that Gradio's components travel as numbers; what it learns dies with
it, so that its times come back with every result. Nothing is downloaded on the visitor's quota.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from restoration import pace
from restoration.priors.catalogue import PRIORS
from restoration.priors.checkpoints import fetch, fetch_preview

ZERO_GPU = bool(os.environ.get("SPACES_ZERO_GPU"))
# ZeroGPU's own GPU, which can be measured only by a run; elsewhere any that is free
DEVICE = "cuda" if ZERO_GPU else None
TIME_LIMIT = float(os.environ.get("RESTORATION_TIME_LIMIT", 600))  # seconds a run may take
UNKNOWN_SECONDS = 20.0  # asked of ZeroGPU where nothing better is known of a run; never tried on one
ON_DEVICE: Any = {"concurrency_id": "device", "concurrency_limit": 1}
ADVICE = (
    "Choose a faster preset, fewer steps or a smaller picture, sign in to Hugging Face, "
    "or open an example: it needs no GPU."
)


def gpu_seconds(estimate: float, *priors: str) -> int:
    """What is asked of ZeroGPU for a run, which ends one that takes longer and counts this against the
    visitor's quota.

    The estimate with a margin, and the loading of the priors.
    """
    loading = sum(PRIORS[prior].loading for prior in priors if prior in PRIORS)
    return math.ceil(1.5 * min(estimate, TIME_LIMIT) + loading) + 10


def accelerated() -> bool:
    """Whether runs have a GPU."""
    return ZERO_GPU or pace.this_device() != "cpu"


def on_gpu(
    handler: Callable[..., Any],
    seconds: Callable[..., float] = lambda *_: UNKNOWN_SECONDS,
    priors: Callable[..., Sequence[str]] = lambda *_: ("embedded",),
    prepare: Callable[..., None] = lambda *_: None,
) -> Callable[..., Any]:
    """On ZeroGPU: the handler of an event (a function or a generator) on a GPU; elsewhere the handler itself.

    seconds, priors, prepare: of the handler's arguments, how long it will take, what has to be loaded for it,
    and what else is done before the clock of the GPU runs.
    """
    if not ZERO_GPU:
        return handler
    import spaces

    components: dict[int, Any] = {}  # complete before the first fork: an event always has the same ones

    def asked(arguments: list[Any]) -> int:
        values = _with_components(arguments, components)
        return gpu_seconds(seconds(*values), *priors(*values))

    def task(arguments: list[Any]) -> Iterator[tuple[Any, dict[Any, tuple[float, ...]]]]:
        values = _with_components(arguments, components)
        for shown in handler(*values) if inspect.isgeneratorfunction(handler) else [handler(*values)]:
            yield shown, dict(pace.PACES)

    on_device = spaces.GPU(duration=asked)(task)

    def stream(*values: Any) -> Iterator[Any]:
        with _one_sentence():
            prepare(*values)
            for prior in priors(*values):
                fetch(prior)
                fetch_preview(prior)
            with contextlib.closing(on_device(_without_components(values, components))) as shown:
                for value, paces in shown:
                    pace.PACES.update(paces)
                    yield value

    if inspect.isgeneratorfunction(handler):
        return functools.wraps(handler)(stream)

    @functools.wraps(handler)
    def once(*values: Any) -> Any:
        (value,) = stream(*values)
        return value

    return once


def _without_components(values: tuple[Any, ...], components: dict[int, Any]) -> list[Any]:
    """The arguments with a number in place of every component that is a key, and what the number stands for
    added to components.
    """
    plain = []
    for value in values:
        if isinstance(value, dict):
            components.update({key._id: key for key in value if isinstance(key, gr.components.Component)})
            value = {getattr(key, "_id", key): inside for key, inside in value.items()}
        plain.append(value)
    return plain


def _with_components(values: list[Any], components: dict[int, Any]) -> list[Any]:
    return [
        {components.get(key, key): inside for key, inside in value.items()}
        if isinstance(value, dict)
        else value
        for value in values
    ]


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """What ZeroGPU refuses or ends, with what can be done; bad names and absent weights as a message of the
    page.
    """
    try:
        yield
    except gr.Error as error:
        if not str(error.title).startswith("ZeroGPU"):
            raise
        # one of ours, whose log it has written
        if error.title == "ZeroGPU worker error" and error.message != "GPU task aborted":
            message = (
                f"The run failed ({error.message}). Try other settings; the log of this Space says more."
            )
        else:
            message = f"{error.message.rstrip('.')}. {ADVICE}"
        raise gr.Error(message, title=error.title, print_exception=False) from None
    except (ValueError, OSError) as error:
        raise gr.Error(str(error), print_exception=False) from None
