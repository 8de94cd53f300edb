from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from restoration import images, recipe
from restoration.degradations import GaussianBlur, UploadedBlur
from restoration.run import restore
from restoration.solvers.reld import RELD


def last(y, prior, solver, degradation, seed, periodic=False):
    *_, step = restore(y, solver, prior, degradation, seed=seed, periodic=periodic)
    return step.result


@pytest.fixture
def y(photo):
    return images.quantise(photo[..., :64, :64])


@pytest.mark.parametrize("periodic", [False, True])
def test_a_png_repeats_its_run(tmp_path, tiny_prior, y, periodic):
    result = last(y, tiny_prior, RELD(steps=2, renoise=0.5), GaussianBlur(std=1.2), 3, periodic)
    recipe.save_png(result.image, tmp_path / "r.png", result.recipe, y)
    run = recipe.run_of(recipe.read_png(tmp_path / "r.png"))
    same = recipe.read_input(tmp_path / "r.png")
    assert torch.equal(same, y) and run.prior == tiny_prior.name
    again = last(same, tiny_prior, run.solver, run.degradation, run.seed, run.periodic)
    assert torch.equal(again.image, images.read_image(tmp_path / "r.png"))
    assert again.recipe == result.recipe


def test_a_recipe_is_read_by_any_png_tool(tmp_path, tiny_prior, y):
    result = last(y, tiny_prior, RELD(steps=1), GaussianBlur(), 0)
    recipe.save_png(result.image, tmp_path / "r.png", result.recipe)
    with Image.open(tmp_path / "r.png") as image:
        assert '"solver": "reld"' in image.text["restoration"]
    assert recipe.read_input(tmp_path / "r.png") is None


def test_a_recipe_tells_and_opens_no_path(tmp_path, tiny_prior, y):
    np.save(tmp_path / "kernel.npy", np.ones((3, 3), np.float32))
    result = last(y, tiny_prior, RELD(steps=1), UploadedBlur(file=str(tmp_path / "kernel.npy")), 0)
    assert result.recipe["degradation"]["file"].startswith("sha256:")
    for file in (result.recipe["degradation"]["file"], "/etc/passwd"):
        with pytest.raises(ValueError, match="needs its file again"):
            recipe.run_of(result.recipe | {"degradation": result.recipe["degradation"] | {"file": file}})
    assert recipe.run_of(result.recipe, file=str(tmp_path / "kernel.npy")).degradation == UploadedBlur(file=str(tmp_path / "kernel.npy"))


@pytest.mark.parametrize("text", [None, "nonsense", "[]"])
def test_a_png_without_a_recipe(tmp_path, text):
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    if text:
        info.add_text(recipe.KEY, text)
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(ValueError, match="carries no recipe"):
        recipe.read_png(tmp_path / "x.png")


def test_a_recipe_of_something_else_is_one_sentence():
    for wrong in ({}, {"solver": "reld"}, {"solver": "reld", "settings": {"x": 1}, "degradation": {}, "task": "", "prior": "", "seed": 0}):
        with pytest.raises(ValueError, match="cannot be understood"):
            recipe.run_of(wrong)
