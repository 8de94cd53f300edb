"""The page's buttons, pressed without a page."""

from __future__ import annotations

from restoration.page import actions, state


def filled(photo: str | None, task: str = "denoise", method: str = "reld", **changes) -> dict:
    """The page's values as it opens, with a picture."""
    return state.opening_values(method) | {"photo": photo, "task": task} | changes


def press(values: dict, method: str = "reld") -> list[tuple]:
    return list(actions.run(method, values))
