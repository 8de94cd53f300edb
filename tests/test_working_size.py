"""How large a photograph is restored, and when it is seen."""

from __future__ import annotations

import pytest
import torch
from skimage.data import astronaut

from restoration.files import images, recipe
from restoration.page import actions, history, inspection, sizes, state


def pressed(photo: str, **changes) -> list[tuple]:
    return list(actions.run("reld", state.opening_values("reld") | {"photo": photo} | changes))


@pytest.fixture
def noisy(tmp_path) -> str:
    x = images.to_tensor(astronaut()[:400, 100:500])
    x = x + 30 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    recipe.save_png(x, tmp_path / "noisy.png", {})
    return str(tmp_path / "noisy.png")


def test_a_large_photograph_is_restored_at_the_size_that_is_chosen(noisy, monkeypatch):
    """And looked at and told of at that size: there is less noise in a reduced picture."""
    monkeypatch.setattr(sizes, "SIZES", {sizes.QUICK: 40_000, sizes.LARGE: 160_000})
    levels = {}
    for size, side in ((sizes.QUICK, 200), (sizes.LARGE, 400)):
        seen = inspection.inspect(noisy, size)
        assert seen.size == (side, side) and seen.large
        values = state.opening_values("reld") | seen.values["reld"] | {"size": size}
        levels[size] = values["denoise", "noise_std"]
        assert f"{side}×{side}" in actions.forecast("reld", values)
        last = [*actions.run("reld", values)][-1]
        assert last[1].startswith(f"{side}×{side} pixels")
        read = history.finished("reld", values, last).read
        assert images.read_photo(noisy, *read).x.shape[-1] == side
    assert levels[sizes.QUICK] < 0.8 * levels[sizes.LARGE]
    with pytest.raises(ValueError, match="There is no size 'huge' here"):
        state.checked("reld", values | {"size": "huge"})


def test_a_result_is_shown_before_its_scores(noisy):
    *_, early, last = pressed(noisy)
    assert actions.SCORING in early[1] and early[2] is None and early[5] is None
    assert early[0] == last[0] and last[2] is not None and last[5]
