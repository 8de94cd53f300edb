"""Settings that say of themselves what they mean and which values they take: of solvers and degradations."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any

from restoration.files.errors import quoted

LONGEST_TEXT = 4000  # characters of a prompt or a path


def knob(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """A dataclass field that the page shows as a slider or drop-down and that is checked on construction."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


# of a knob's default: what it takes
KINDS = {int: ((int,), "a whole number"), float: ((int, float), "a number"), str: ((str,), "text")}


class Checked:
    """Dataclass base: every knob of its default's kind and within its bounds, or ValueError naming the
    numbers.
    """

    def __post_init__(self) -> None:
        for info in fields(self):  # type: ignore[arg-type]
            name, value, meta = info.name, getattr(self, info.name), info.metadata
            kinds, kind = KINDS[type(info.default)]
            if type(value) not in kinds:  # not isinstance: True is an int
                raise ValueError(f"{name} is {quoted(value)}; it must be {kind}.")
            if meta.get("choices") and value not in meta["choices"]:
                raise ValueError(
                    f"{name} is {quoted(value)}; it must be one of {', '.join(map(str, meta['choices']))}."
                )
            if isinstance(value, str) and (len(value) > LONGEST_TEXT or "\0" in value):
                raise ValueError(f"{name} must be text of at most {LONGEST_TEXT} characters.")
            low, high = meta.get("low"), meta.get("high")
            if low is not None and not low <= value <= high:
                raise ValueError(f"{name} is {quoted(value)}; it must lie between {low} and {high}.")
