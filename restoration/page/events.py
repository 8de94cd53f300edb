"""How the page's events are made: outside the API, outside the queue, in the browser alone."""

from __future__ import annotations

from typing import Any

PRIVATE: Any = {"api_visibility": "private"}
# small things do not wait for a place in the queue, which runs may have filled; but only from the queue does
# gr.Error reach the visitor
AT_ONCE: Any = {"queue": False, "show_progress": "hidden"} | PRIVATE
STATIC = "new URL('restoration/page.js', document.baseURI)"  # page/static/page.js


def browser(call: str, *arguments: str) -> str:
    """The `js` of an event: a call of what page.js exports, with the values of the event's inputs under these
    names.
    """
    return f"async ({', '.join(arguments)}) => (await import({STATIC})).{call}"
