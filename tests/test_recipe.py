from __future__ import annotations

import pytest
import torch
from PIL import Image

from restoration import recipe
from restoration.images import read_image


def test_png_round_trip_is_exact_and_carries_the_recipe(tmp_path):
    x = torch.randint(0, 256, (1, 3, 20, 31)).float() / 255
    recipe.save_png(x, tmp_path / "a.png", {"seed": 0})
    assert torch.equal(read_image(tmp_path / "a.png"), x)
    assert recipe.read_png(tmp_path / "a.png") == {"seed": 0}


def test_a_png_without_recipe(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="carries no recipe"):
        recipe.read_png(tmp_path / "a.png")
