"""PNGs of an earlier version, with the settings and names of then, repeat to the pixels of then.

tests/recipes/made.json lists those that changed, and why; `python tests/recipes/renew.py "why" NAME…` renews
them.
"""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from recipes import renew

from restoration.files import images, recipe
from restoration.record import versions

MADE = json.loads(renew.MADE.read_text())
AMPLIFIED = {"reld-motion-faithful"}  # a hundred steps through the denoiser, by which roundings grow


def consistency(file) -> float:
    """What a PNG says of how well its picture agrees with its input."""
    with Image.open(file) as picture:
        return json.loads(picture.info["restoration-scores"])["consistency"]


@pytest.mark.parametrize("name", renew.names())
def test_a_recipe_of_before_repeats(tmp_path, capsys, name):
    torch.set_num_threads(1)  # as they were made
    old, new = renew.HERE / f"{name}.png", renew.repeated(name, tmp_path)
    assert "weights" not in capsys.readouterr().err
    if MADE[name]["processor"] == renew.processor() and recipe.read(old)["versions"] == versions():
        assert torch.equal(images.read_image(new), images.read_image(old))
    difference = 255 * (images.read_image(new) - images.read_image(old)).abs()
    if name in AMPLIFIED and MADE[name]["processor"] != renew.processor():
        assert (difference / 255).square().mean() < 1e-3
        assert consistency(new) == pytest.approx(consistency(old), abs=0.1)
        return
    assert difference.max() < 1.5  # another processor rounds sums otherwise
    assert (difference > 0.5).float().mean() <= 0.01


def test_each_is_listed():
    assert MADE.keys() == set(renew.names()) and len(MADE) == 10
