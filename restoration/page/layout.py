"""The page: its tabs, and how it is served. `python app.py` opens it."""

from __future__ import annotations

import threading
from typing import Any

import gradio as gr

from restoration.files import sandbox
from restoration.page import device, endpoints, guard, shares, uploads, visitors
from restoration.page.compare_choices import COMPARE
from restoration.page.compare_tab import compare_tab
from restoration.page.controls import heading
from restoration.page.method_choices import choice_events
from restoration.page.method_tab import method_tab
from restoration.page.one_photograph import one_photograph
from restoration.page.repeat_tab import repeat_tab
from restoration.priors import allocator
from restoration.priors.catalogue import PRIORS
from restoration.priors.latent import load_prior
from restoration.solvers import SOLVERS

INTRO = """# Latent restoration
Restores noisy, blurred, dark, hazy, grey or small photographs with a generative model (latent diffusion).
Details are estimated, not recovered: do not use results to identify anybody."""
# readable for everybody: text on its ground has a contrast of 4.5 and more
THEME = gr.themes.Default().set(
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    input_placeholder_color="*neutral_600",
    input_placeholder_color_dark="*neutral_300",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
)
LAUNCH: dict[str, Any] = {
    "theme": THEME,
    "max_file_size": f"{uploads.LARGEST}mb", "mcp_server": True, "enable_monitoring": False,
    "show_error": False,
    "run_history": False, "footer_links": ["api", "settings"], "css_paths": [guard.STATIC / "page.css"],
    "state_session_capacity": visitors.SESSIONS, "ssr_mode": False,
    "app_kwargs": {"middleware": guard.MIDDLEWARE, "routes": guard.ROUTES, "lifespan": uploads.sweeping},
}  # fmt: skip


def about() -> str:
    """The text of the last tab."""
    return (
        (guard.STATIC / "about.md")
        .read_text()
        .format(
            age=uploads.kept_for(),
            shares=shares.kept_for(),
            megabytes=uploads.LARGEST_PHOTO,
            limit=device.TIME_LIMIT,
            places=visitors.PLACES,
            priors="\n".join(f"- {name}: {prior.describe()}" for name, prior in PRIORS.items()),
        )
    )


def build() -> gr.Blocks:
    """The page, not yet served."""
    uploads.claim_folder()
    uploads.refuse_addresses()
    visitors.keep_little()
    sandbox.enable()
    age = int(max(1, uploads.AGE))
    with gr.Blocks(title="Latent restoration", delete_cache=(age, age), analytics_enabled=False) as page:
        gr.Markdown(INTRO, elem_classes="intro")
        with gr.Tabs(overflow_behavior="wrap") as tabs:  # all of them in sight, on a phone too
            with gr.Tab("Compare", id=COMPARE):
                compared = compare_tab(page, tabs)
            methods = {}
            for method in SOLVERS:
                with gr.Tab(heading(method)[0], id=method):
                    methods[method] = method_tab(method, page, tabs)
                    choice_events(methods[method])
            with gr.Tab("Repeat", id="repeat"):
                repeat_tab()
            with gr.Tab("About", id="about"):
                gr.Markdown(about())
        one_photograph(methods, compared, tabs)
        endpoints.register()
    page.queue(max_size=visitors.QUEUE, api_open=False)  # nobody gets past the queue
    visitors.limit_places(page._queue)
    return page


def main() -> None:
    """Open the page."""
    allocator.keep_blocks()  # before there are threads
    if device.ZERO_GPU:  # models have to be placed before the first visitor comes
        load_prior("embedded", device.DEVICE)
    page = build()
    if not device.ZERO_GPU:  # meanwhile, so that the first visitor neither waits for the page nor for it
        threading.Thread(target=load_prior, args=("embedded", device.DEVICE), daemon=True).start()
    page.launch(**LAUNCH)
