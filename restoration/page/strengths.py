"""A blur of unknown strength: a part of the photograph is deblurred at several, and the visitor picks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from torch import Tensor

from restoration import pace
from restoration.degradations.blur import GaussianBlur
from restoration.files import images
from restoration.page import actions, sizes, state
from restoration.page.device import ON_DEVICE, on_gpu
from restoration.page.display import as_file, one_sentence
from restoration.page.events import AT_ONCE, PRIVATE, busy, press_again
from restoration.page.state import DEGRADED
from restoration.page.uploads import checked_photo
from restoration.record import Run
from restoration.solvers import PRESETS, SOLVERS

STRENGTHS = (0.6, 1.0, 1.6, 2.4, 3.6)  # standard deviations in pixels
SIDE = 192  # of the part that is deblurred, in pixels
Shown = list[tuple[str, str]]  # files and their captions


def kernel_size(std: float) -> int:
    """The side of a kernel that holds a Gaussian of this standard deviation."""
    return 2 * math.ceil(4 * std) + 1


def centre(y: Tensor) -> Tensor:
    """The SIDE×SIDE centre of y (1,3,h,w), or as much as there is."""
    top, left = (max(0, (side - SIDE) // 2) for side in y.shape[-2:])
    return y[..., top : top + SIDE, left : left + SIDE]


def needed(method: str) -> Callable[..., float]:
    """About how many seconds `tried` takes for what a tab hands it."""
    solver = SOLVERS[method](**next(iter(PRESETS[method].values())))

    def seconds(photo: str | None, size: str, mode: str, noise_std: float, prior: str) -> float:
        return len(STRENGTHS) * pace.estimate_seconds(solver, GaussianBlur(), SIDE, SIDE, prior)

    return seconds


def tried(
    method: str, photo: str | None, size: str, mode: str, noise_std: float, prior: str
) -> Iterator[Shown]:
    """The centre of the photograph as it is and deblurred at each strength, one more with every value.

    gr.Error, one sentence, for bad input.
    """
    with one_sentence():
        if not photo or mode != DEGRADED:
            raise ValueError(
                "Upload a blurred photograph first: its centre is deblurred at several strengths."
            )
        checked_photo(photo)
        y = centre(images.read_photo(photo, 1, sizes.known_size(size)).x)
        model = actions.loaded(state.known_prior(prior))
        shown, until = [(as_file(y), "as it is")], actions.time_limit()
        solver = SOLVERS[method](**next(iter(PRESETS[method].values())))
        for std in STRENGTHS:
            blur = GaussianBlur(std=std, size=kernel_size(std), noise_std=noise_std)
            run = Run(solver, blur, prior)
            *_, last = actions.steps_of(state.Job(y, run, None), model, until)
            assert last.result is not None
            shown.append((as_file(last.result.image), f"{std:g} pixels"))
            yield shown


def picked(event: gr.SelectData) -> tuple[Any, Any]:
    """(std, size) of the picture that was clicked; the first, as it is, changes nothing."""
    index = event.index
    if type(index) is not int or not 1 <= index <= len(STRENGTHS):
        return gr.skip(), gr.skip()
    return STRENGTHS[index - 1], kernel_size(STRENGTHS[index - 1])


def row(method: str, parts: dict[Any, Any], task: str, start: gr.Button, stop: gr.Button) -> Any:
    """The button, and the pictures that it makes; a click on one sets the knobs of the blur.

    start: says meanwhile what is going on. Returned is the event of such a click.
    """
    button = gr.Button("Try blur strengths", size="sm", elem_id=f"try-{method}")
    told = "Click on the sharpest without ripples"
    gallery = gr.Gallery(
        label=told,
        format="png",
        columns=3,
        height="auto",
        object_fit="contain",
        interactive=False,
        allow_preview=False,
        buttons=[],
        visible=False,
        elem_id=f"strengths-{method}",
    )

    def begun(*values: Any) -> Iterator[Any]:
        for shown in tried(method, *values):
            yield gr.update(value=shown, visible=True)

    inputs = [parts["photo"], parts["size"], parts["mode"], parts[task, "noise_std"], parts["prior"]]
    asks = needed(method), lambda *values: state.known_prior(values[4])
    going_on = busy("Trying strengths…")
    button.click(None, None, [start, button], js=f"() => [{going_on}, {going_on}]", **PRIVATE)
    event = button.click(on_gpu(begun, *asks), inputs, gallery, **ON_DEVICE, **PRIVATE)
    for pressed in (start, button):
        press_again(event, pressed)
    stop.click(None, cancels=[event], **PRIVATE)
    # another picture, perhaps an example: it is not what was tried
    gone = "() => ({__type__: 'update', value: null, visible: false})"
    parts["photo"].change(None, None, gallery, js=gone, **PRIVATE)
    return gallery.select(picked, None, [parts[task, "std"], parts[task, "size"]], **AT_ONCE)
