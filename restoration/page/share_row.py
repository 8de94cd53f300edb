"""The Share button beside a result: a link that opens it at once, in any browser, until it expires or is
deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import gradio as gr

from restoration.page import history, shares
from restoration.page.display import one_sentence
from restoration.page.events import AT_ONCE, PRIVATE, browser
from restoration.page.visitors import address

DELETED = "Deleted: its link does not open any more."
Ticket = tuple[str, str]  # token and secret of a share, for whoever made it


class ShareRow(NamedTuple):
    """shown: a State, (what `keep` takes of the result that is shown, Ticket of its share if it is this
    visitor's) or None.
    """

    shown: gr.State
    links: gr.Group
    erase: gr.Button
    note: gr.HTML
    what: str  # is shared
    press: str  # repeats it

    @property
    def places(self) -> list[gr.blocks.Block]:
        return [self.shown, self.links, self.erase, self.note]

    def of(self, run: Any = None) -> dict[Any, Any]:
        """What to show beside another result, which nobody has shared yet, or beside none."""
        hidden = gr.update(visible=False)
        return {self.shown: run and (run, None), self.links: hidden, self.erase: hidden, self.note: ""}

    def opened(self, filled: Mapping[Any, Any], query: Mapping[str, str]) -> dict[Any, Any]:
        """What to show beside the run that a link has filled in; a delete link carries the secret too."""
        if "delete" not in query:
            again = f"Press {self.press} to repeat it, or change anything."
            note = f"Somebody shared this {self.what} with you. {again}"
            return {self.note: note}
        run, _ = filled[self.shown]
        note = (
            f"This is the {self.what} that you shared. Once it is deleted, its link does not open any more."
        )
        mine = (run, (query["share"], query["delete"]))
        return {self.note: note, self.shown: mine, self.erase: gr.update(visible=True)}


def share_row(
    place: str,
    keep: Callable[[Any, str], Ticket] = history.share,
    what: str = "result",
    press: str = "Restore",
) -> ShareRow:
    """The button, the links that it makes and the button that deletes what they open.

    keep: takes what is shown and the visitor's address; what, press: as in ShareRow.
    """
    shown = gr.State()
    with gr.Row(elem_classes="of-result"):
        button = gr.Button(f"Share this {what}", size="sm", elem_id=f"share-{place}")
        erase = gr.Button(f"Delete the shared {what}", size="sm", visible=False)
    note = gr.HTML(elem_classes="notice")
    with gr.Group(visible=False) as links:
        title = f"Link to this {what}, for whoever has it: kept for {shares.kept_for()}"
        link = gr.Textbox(label=title, interactive=False, buttons=["copy"])
        remover = gr.Textbox(
            label="Delete link: keep it for yourself", interactive=False, buttons=["copy"], max_lines=1
        )

    def share(now: Any, request: gr.Request) -> dict[Any, Any]:
        run, ticket = now or (None, None)
        with one_sentence():
            if run is None:
                raise ValueError(f"There is no finished {what} yet: press {press} first.")
            token, secret = ticket or keep(run, address(request))
        named = {"method": place, "share": token}
        return {
            shown: (run, (token, secret)),
            links: gr.update(visible=True),
            link: "?" + urlencode(named),
            remover: "?" + urlencode(named | {"delete": secret}),
            erase: gr.update(visible=True),
        }

    def delete(now: Any) -> dict[Any, Any]:
        run, ticket = now or (None, None)
        with one_sentence():
            if ticket is None:
                raise ValueError("Whoever shared this can delete it, and nobody else.")
            shares.delete(*ticket)
        return {shown: (run, None), note: DELETED}

    def another(now: Any) -> list[Any]:
        """Another result is not the one that the links open; Gradio tells of the change after queued events
        alone, as runs are.
        """
        return [gr.skip() if now and now[1] else gr.update(visible=False)] * 2

    event = button.click(
        share, shown, [shown, links, link, remover, erase], show_progress="minimal", **PRIVATE
    )
    copied = browser("copyLink(link, remover)", "link", "remover")
    event.success(None, [link, remover], [link, remover, note], js=copied, **PRIVATE)
    erase.click(delete, shown, [shown, note], show_progress="minimal", **PRIVATE)
    shown.change(another, shown, [links, erase], **AT_ONCE)
    return ShareRow(shown, links, erase, note, what, press)
