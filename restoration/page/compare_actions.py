"""What Compare's button does, and what is said before it is pressed."""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr
import pandas as pd

from restoration import pace
from restoration.files import images
from restoration.page import actions, compare, compare_choices, comparisons, device, inspection
from restoration.page.actions import loaded, steps_of, time_limit
from restoration.page.compare_cells import Figure, grid, score_table
from restoration.page.comparisons import Asked
from restoration.page.display import bar, one_sentence, remaining, sentence
from restoration.page.sizes import SIZES, usual_size
from restoration.page.uploads import checked_photo
from restoration.priors.latent import LatentPrior, in_memory

NO_PICTURE = "Choose a picture first: upload one, or paste one."
NO_METHOD = "Choose at least one method, under “What is compared”."


def loaders(priors: Sequence[str]) -> dict[str, Callable[[], LatentPrior]]:
    """What loads each prior, by its name."""
    return {name: functools.partial(loaded, name) for name in priors}


def compared(
    photo: str | None, damage: str, choices: list[str], seeds: float, priors: list[str]
) -> Iterator[tuple[Any, ...]]:
    """Restore the picture with every choice, seed and prior; yield (status, grid, table, files, its entry for
    the history, what Share gives away, how long the same takes as has been measured now).
    """
    if not photo or not choices:
        raise gr.Error(NO_METHOD if photo else NO_PICTURE, print_exception=False)
    with one_sentence():
        checked_photo(photo)
        runs, count, names = compare_choices.checked(damage, choices, seeds, priors)
        most = SIZES[usual_size()]
        read = html.escape(images.how_read(photo, 1, most))
        ready = f"{read}. Getting ready…" if read else "Getting ready…"
        yield ready, None, None, None, "", None
        given = images.read_photo(photo, 1, most).x
        needed = _seconds(photo, damage, runs, count, names)
        if needed > device.TIME_LIMIT:
            fewer = "fewer methods, fewer seeds, fewer priors, a smaller picture"
            limit = f"{pace.rounded(device.TIME_LIMIT)} is the limit: {fewer}"
            raise ValueError(f"This would take {pace.about(needed)}, and {limit}.")
        restore_until, began = functools.partial(steps_of, until=time_limit()), time.monotonic()
        for now in compare.compare(given, damage, runs, count, loaders(names), restore_until):
            spent = time.monotonic() - began
            whole = spent / now.share if now.share > 0.1 else needed  # models are loaded before the first run
            line = f"{now.note} · {remaining(whole * (1 - now.share))}" if now.share < 1 else actions.SCORING
            status = bar(int(1000 * now.share), 1000, line)
            yield status, *_shown(now), None, "", None
        if not now.cells:
            raise ValueError(now.note)
        note = html.escape(now.note) + (f" The picture: {read}." if read else "")
        figures = [cell.figure for cell in now.cells]
        asked = Asked(photo, damage, choices, seeds, priors)
        kept = comparisons.entry(asked, note, figures), (comparisons.finished(asked, note, figures), None)
        yield note, gr.skip(), gr.skip(), comparisons.archives(figures), *kept


def with_last_words(*asked: Any) -> Iterator[tuple[Any, ...]]:
    """`compared`, with what to say should this be the end of it; an error takes the place of the status."""
    yield from actions.with_last_words(compared(*asked), 6, 0, 3)


def _shown(now: compare.State) -> tuple[Any, Any]:
    """(grid, table) where there is a new picture."""
    if not now.new:
        return gr.skip(), gr.skip()
    return drawn([cell.figure for cell in now.cells])


def drawn(figures: Sequence[Figure]) -> tuple[str, pd.DataFrame]:
    """(grid, table) of a comparison's pictures."""
    return grid(figures), pd.DataFrame(score_table(figures))


def needed_seconds(
    photo: str | None, damage: str, choices: list[str], seeds: float, priors: list[str]
) -> float:
    """What a comparison takes, UNKNOWN_SECONDS where it cannot be run: the run itself will say why."""
    try:
        chosen = compare_choices.checked(damage, choices, seeds, priors)
        return _seconds(photo or "", damage, *chosen)
    except (ValueError, OSError):
        return device.UNKNOWN_SECONDS


def _seconds(photo: str, damage: str, *chosen: Any) -> float:
    """`compare.seconds` of a file, at the usual size and by what was measured of it so far."""
    real = damage == compare_choices.REAL
    known = compare.foretold(inspection.measured(photo)) if real else compare.stated(damage)
    return compare.seconds(images.size_read(photo, 1, SIZES[usual_size()]), damage, *chosen, known=known)


def forecast(photo: str | None, damage: str, choices: list[str], seeds: float, priors: list[str]) -> str:
    """How long it will take, as HTML, or why it cannot be."""
    if not photo or not choices:
        return NO_METHOD if photo else NO_PICTURE
    try:
        checked_photo(photo)
        chosen = compare_choices.checked(damage, choices, seeds, priors)
        width, height = images.size_read(photo, 1, SIZES[usual_size()])
        needed = _seconds(photo, damage, *chosen)
    except (ValueError, OSError, MemoryError) as error:
        return html.escape(sentence(error))
    over = f", and {pace.rounded(device.TIME_LIMIT)} is the limit" if needed > device.TIME_LIMIT else ""
    absent = [prior for prior in chosen.priors if not in_memory(prior, device.DEVICE)]
    pixels = chosen.total * width * height
    wait = pace.estimate_wait(needed, chosen.priors[0], pixels, loaded=chosen.priors[0] not in absent)
    wait += sum(
        pace.estimate_wait(0, prior, 0, loaded=False) for prior in absent if prior != chosen.priors[0]
    )
    what = f"the model{'s' if len(absent) > 1 else ''} loaded first"
    first = f", {what}" if absent else ""
    return f"{chosen.total} run{'s' if chosen.total > 1 else ''}: {pace.about(wait)}{first}{over}."
