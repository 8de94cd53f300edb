"""How the page's events are made: outside the API, outside the queue, in the browser alone."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

PRIVATE: Any = {"api_visibility": "private"}
# nothing tells of its progress: Gradio would otherwise tell every output of every event that has run of each
# change of any other, thousands of times as the page opens, which took four seconds of a laptop
SILENT: Any = {"show_progress": "hidden", "show_progress_on": []} | PRIVATE
# small things do not wait for a place in the queue, which runs may have filled; but only from the queue does
# gr.Error reach the visitor
AT_ONCE: Any = {"queue": False} | SILENT
WAITING = "Waiting for a place in the queue…"
STATIC = "new URL('restoration/page.js', document.baseURI)"  # page/static/page.js


def browser(call: str, *arguments: str) -> str:
    """The `js` of an event: a call of what page.js exports, with the values of the event's inputs under these
    names.
    """
    return f"async ({', '.join(arguments)}) => (await import({STATIC})).{call}"


def chosen(value: str) -> str:
    """The condition, in JavaScript, that the event's input has this value."""
    return f"chosen === {json.dumps(value)}"


def shown_where(*conditions: str) -> str:
    """The `js` of an event, for as many places: each is seen where its condition on `chosen` holds."""
    places = ", ".join(f"{{__type__: 'update', visible: {condition}}}" for condition in conditions)
    return f"chosen => [{places}]"


def busy(words: str) -> str:
    """What becomes of a button, in JavaScript, until `press_again`: it says what is going on."""
    return f"{{__type__: 'update', value: '{words}', interactive: false}}"


def begin(place: str, running: str = "Restoring…") -> str:
    """The `js` of a press, for the pictures: brings the line that tells how the run goes into view, and says
    that it waits.

    Returns what becomes of (button, pictures, status, file): until the run ends the button says what is going
    on; of before and after, what was before stays on either side.
    """
    # on a phone the result follows below the buttons, of which one stops the run; on a desk it stands beside
    line = f"document.getElementById((innerWidth < 720 ? 'start-' : 'status-') + '{place}')"
    see = f"{line}.scrollIntoView({{block: innerWidth < 720 ? 'start' : 'nearest', behavior: 'smooth'}})"
    left = "Array.isArray(pictures) && pictures[0] ? [pictures[0], pictures[0]] : null"
    return f"pictures => {{ {see}; return [{busy(running)}, {left}, '{WAITING}', null]; }}"


def uploaded(mode: str) -> str:
    """The `js` of an upload, for (mode, button, what is seen): a press before it has been looked at would
    damage the photograph first.
    """
    return f"() => ['{mode}', {busy('Looking at it…')}, '']"


def stopping(status: str | None) -> str:
    """The `js` of a press on Stop: the status line of a run that goes on says so, that of one that has not
    begun that it will not.
    """
    line = f"document.getElementById('{status}')"
    on = f"{line}.querySelector('progress') ? '{halfway('Stopping…')}'"
    waits = f"{line}.innerText.includes('{WAITING}') ? 'Stopped before it began.'"
    return f"() => {on} : {waits} : {{__type__: 'update'}}"


def halfway(words: str) -> str:
    """What a status line says of a run that will have no result; page.css leaves out what is of one."""
    return f'<span class="halfway">{words}</span>'


def stoppable(
    stop: gr.Button,
    runs: list[Any],
    status: gr.components.Component,
    last_words: gr.State,
    start: gr.Button | None = None,
) -> None:
    """Let a button end the runs; once they have ended the status line says so, and `start` can be pressed
    again.

    The server keeps the words: an HTML component may be no event's input, for what a browser posts as one is
    drawn raw wherever it is shown.
    """
    stop.click(None, cancels=runs, **PRIVATE)
    # at once: the run itself ends with the step that it is in
    stop.click(None, None, status, js=stopping(status.elem_id), **PRIVATE)
    for event in runs:
        event.then(lambda line: line or gr.skip(), last_words, status, **AT_ONCE)
        if start:
            press_again(event, start)


def press_again(event: Any, start: gr.Button) -> None:
    """Let the button be pressed once the event has ended, however it did."""
    again = f"() => ({{__type__: 'update', value: '{start.value}', interactive: true}})"
    for ended in (event.then, event.failure):
        ended(None, None, start, js=again, **PRIVATE)
