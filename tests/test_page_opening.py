"""What the page shows as it opens: stored examples, and what a link names."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from browsing import visit
from presses import method_tabs

from restoration.evaluation import metrics
from restoration.files import images
from restoration.page import display, state
from restoration.page.state import EXAMPLES
from restoration.run import restore
from restoration.solvers import SOLVERS

# the first answer never comes, and the script waits shorter than it means to
NEVER = r"""{
    const send = window.fetch, wait = window.setTimeout;
    let first = true;
    window.setTimeout = (call, time, ...given) => wait(call, time === 50 ? 0 : time, ...given);
    window.fetch = async (...asked) => {
        const lost = first && asked[0].toString().includes('/run/predict');
        if (lost) first = false;
        return lost ? new Promise(() => {}) : send(...asked);
    };
}"""


def texts(page: gr.Blocks, **query: str) -> list[str]:
    """All text that Compare and the methods' tabs are given as a link opens the page."""
    request = SimpleNamespace(query_params=query)
    opening = [function.fn for function in page.fns.values() if function.name == "open_page"]
    assert len(opening) == len(SOLVERS) + 1
    return [value for fn in opening for value in fn(request).values() if isinstance(value, str)]


def test_few_places_are_told_of_progress(blocks):
    """Gradio tells each place of the progress of every event: hundreds of them took seconds as a page
    opened.
    """
    for event in blocks.get_config_file()["dependencies"]:
        told = event["outputs"] if event["show_progress_on"] is None else event["show_progress_on"]
        assert len(told) <= 5 or not event["backend_fn"], event


def test_what_the_page_fills_in_asks_for_little(blocks):
    """A change of many controls at once would bring as many requests; and Gradio tells each input of every
    event that has run of the progress of any other, 1.5 s of processor for an upload.
    """
    config = blocks.get_config_file()
    files = {part["id"] for part in config["components"] if part["type"] == "file"}
    for event in config["dependencies"]:
        changed = {part for part, what in event["targets"] if what == "change"} - files
        assert not (event["backend_fn"] and changed) or len(event["inputs"]) <= 5, event


def test_what_fills_in_a_tab_brings_its_forecast(blocks, picture):
    """That which the tab's controls would ask for then."""
    tabs = method_tabs(blocks)
    for function in blocks.fns.values():
        if getattr(getattr(function.fn, "func", None), "__name__", "") == "look_at_upload":
            look = function.fn.func
    assert tabs.keys() == SOLVERS.keys()
    priors = ["embedded"] * len(SOLVERS)
    filled = [(name, look("compare", picture, "quick", *priors)) for name in tabs]
    filled += [(name, tab.show_example(0)) for name, tab in tabs.items() if state.stored_examples(name)]
    for name, shown in filled:
        tab, usual = tabs[name], state.opening_values(name)
        posted = {part: shown.get(part, usual[key]) for key, part in tab.parts.items()}
        posted[tab.parts["size"]] = "quick"
        assert shown[tab.budget] == tab.foresee(posted) and "Result:" in shown[tab.budget]


def test_a_tab_that_never_opens_does_not_hold_a_photograph_up(browser, address):
    """After half a minute, here less, it is looked at all the same, and the page says so."""
    page = visit(browser, address, script=NEVER)
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(EXAMPLES / "hopper.png")
    page.locator(".late[role=alert]:has-text('has not opened')").wait_for()
    page.locator("#seen-compare [data-width]").wait_for(state="attached")
    page.locator("#start-compare:has-text('Compare'):enabled").wait_for()
    page.context.close()


def test_the_page_shows_png(blocks):
    pictures = [b for b in blocks.blocks.values() if isinstance(b, gr.Image | gr.ImageSlider)]
    assert pictures and all(p.format == "png" for p in pictures)


@pytest.mark.parametrize(
    "row", [row for method in SOLVERS for row in state.stored_examples(method)], ids=lambda row: row["title"]
)
def test_a_stored_example_repeats_itself(row, embedded):
    """What a visitor sees first is what pressing Restore gives."""
    values, method = state.example_values(row), row["solver"]
    assert values.keys() == state.opening_values(method).keys()
    (_, stored), _, table, *_ = display.example_outputs(row)
    job = state.job(method, values)
    *_, last = restore(job.y, job.run, embedded)
    # other processors round differently
    assert metrics.psnr(images.read_image(stored), last.result.image) > 50
    scored = [name for name in [*metrics.METRICS, "consistency"] if name in row["scores"]["result"]]
    assert [name.partition(" ↑")[0].partition(" ↓")[0] for name in table["metric"]] == scored


def test_a_tab_without_an_example_says_why(blocks):
    said = [text for text in texts(blocks) if "No example is stored" in text]
    assert len(said) == sum(not state.stored_examples(method) for method in SOLVERS) > 0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"method": "foo", "image": "chelsea.png"}, "Here is an example instead"),
        ({"method": "reld", "image": "chelsea.png", "noise_std": "nan"}, "Here is an example instead"),
        ({"method": "reld", "share": "a" * 32}, "This shared result is not here any more"),
        ({"method": "foo", "share": "a" * 32}, "This shared result is not here any more"),
        ({"share": "../" * 8}, "This shared result is not here any more"),
        ({"method": "compare", "share": "a" * 32}, "This shared result is not here any more"),
        ({"method": "compare", "image": "/etc/hostname"}, "Here is an example instead"),
        ({"method": "compare", "image": "chelsea.png", "seeds": "99"}, "Here is an example instead"),
        ({"method": "compare", "image": "chelsea.png", "choices": "reld:x"}, "Here is an example instead"),
        ({"method": "compare", "image": "chelsea.png", "priors": "../x"}, "Here is an example instead"),
    ],
)
def test_a_wrong_link_is_answered_in_one_tab(blocks, query, said):
    assert len([text for text in texts(blocks, **query) if said in text]) == 1


def test_some_examples_are_really_damaged():
    """Nothing is done to them first, and no score pretends that there is a clean picture."""
    rows = [row for method in SOLVERS for row in state.stored_examples(method) if row.get("damaged")]
    assert len(rows) >= 3 and {row["solver"] for row in rows} == {"reld", "latent-indigo", "ld-rps"}
    licences = (EXAMPLES / "LICENCES.md").read_text()
    for row in rows:
        values = state.example_values(row)
        job = state.job(row["solver"], values)
        assert job.reference is None and row["image"] in licences
        assert torch.equal(job.y, images.read_image(EXAMPLES / row["image"]))
        assert "PSNR" not in row["scores"]["result"]
