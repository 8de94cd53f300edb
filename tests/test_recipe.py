from __future__ import annotations

import errno
import json
import os

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


def test_recipes_are_read_from_pictures_and_json(tmp_path):
    said = {"solver": "RELD", "settings": {}, "task": "denoise", "degradation": {}, "prior": "embedded", "seed": 0}
    recipe.save_png(torch.rand(1, 3, 16, 16), tmp_path / "a.png", said, {"PSNR": 30.0})
    (tmp_path / "a.json").write_text(json.dumps(said))
    assert recipe.read(tmp_path / "a.png") == recipe.read(tmp_path / "a.json") == said
    assert recipe.read_png(tmp_path / "a.png", recipe.SCORES) == {"PSNR": 30.0}
    (tmp_path / "b.json").write_text("[1]")
    (tmp_path / "c.json").write_text("{")
    for name in ("b.json", "c.json", "nowhere.png"):
        with pytest.raises(ValueError, match=f"{name} holds no recipe"):
            recipe.read(tmp_path / name)


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    recipe.save_png(torch.zeros(1, 3, 16, 16), path, {"seed": 0})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        recipe.save_png(torch.ones(1, 3, 16, 16), path, {"seed": 1})
    assert recipe.read_png(path) == {"seed": 0} and [p.name for p in tmp_path.iterdir()] == ["a.png"]
