"""How the page's events are made: outside the API, outside the queue, in the browser alone."""

from __future__ import annotations

from typing import Any

PRIVATE: Any = {"api_visibility": "private"}
# nothing tells of its progress: Gradio would otherwise tell every output of every event that has run of each
# change of any other, thousands of times as the page opens, which took four seconds of a laptop
SILENT: Any = {"show_progress": "hidden", "show_progress_on": []} | PRIVATE
# small things do not wait for a place in the queue, which runs may have filled; but only from the queue does
# gr.Error reach the visitor
AT_ONCE: Any = {"queue": False} | SILENT
STATIC = "new URL('restoration/page.js', document.baseURI)"  # page/static/page.js


def browser(call: str, *arguments: str) -> str:
    """The `js` of an event: a call of what page.js exports, with the values of the event's inputs under these
    names.
    """
    return f"async ({', '.join(arguments)}) => (await import({STATIC})).{call}"
