from __future__ import annotations

import errno
import hashlib
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from restoration.degradations.blur import GaussianBlur, UploadedBlur
from restoration.degradations.linear import Denoise
from restoration.files import images, recipe
from restoration.priors.checkpoints import fetch
from restoration.priors.diffusers_folder import digest
from restoration.priors.latent import load_prior
from restoration.record import Run
from restoration.run import restore
from restoration.solvers.latent_indigo import LatentINDIGO
from restoration.solvers.reld_fast import RELDFast

WRITTEN = {
    "solver": "reld", "settings": {}, "task": "denoise", "degradation": {}, "periodic": False,
    "prior": "embedded",
    "seed": 0,
}  # fmt: skip


def last(y, prior, *run, **options):
    *_, step = restore(y, Run(*run, **options), prior)
    return step.result


@pytest.fixture
def y(photo):
    return images.quantise(photo[..., :64, :64])


@pytest.mark.parametrize("periodic", [False, True])
def test_a_png_repeats_its_run(tmp_path, tiny_prior, y, periodic):
    result = last(
        y, tiny_prior, RELDFast(steps=2, renoise=0.5), GaussianBlur(std=1.2), seed=3, periodic=periodic
    )
    recipe.save_png(result.image, tmp_path / "r.png", result.recipe, y=y)
    said, same = recipe.read(tmp_path / "r.png"), recipe.read_input(tmp_path / "r.png")
    assert torch.equal(same, y) and said["prior"] == tiny_prior.name
    *_, step = restore(same, Run.from_recipe(said), tiny_prior)
    again = step.result
    assert torch.equal(again.image, images.read_image(tmp_path / "r.png"))
    assert again.recipe == result.recipe


def test_a_recipe_is_read_by_any_png_tool(tmp_path, tiny_prior, y):
    result = last(y, tiny_prior, RELDFast(steps=1), GaussianBlur())
    recipe.save_png(result.image, tmp_path / "r.png", result.recipe)
    with Image.open(tmp_path / "r.png") as image:
        assert '"solver": "reld"' in image.text["restoration"]
    with pytest.raises(ValueError, match="does not carry the picture"):
        recipe.read_input(tmp_path / "r.png")


def test_a_recipe_tells_and_opens_no_path(tmp_path, tiny_prior, y):
    np.save(tmp_path / "kernel.npy", np.ones((3, 3), np.float32))
    result = last(y, tiny_prior, RELDFast(steps=1), UploadedBlur(file=str(tmp_path / "kernel.npy")))
    assert result.recipe["degradation"]["file"].startswith("sha256:")
    for file in (result.recipe["degradation"]["file"], "/etc/passwd"):
        with pytest.raises(ValueError, match="needs its file again"):
            Run.from_recipe(result.recipe | {"degradation": result.recipe["degradation"] | {"file": file}})
    run = Run.from_recipe(result.recipe, file=str(tmp_path / "kernel.npy"))
    assert run.degradation == UploadedBlur(file=str(tmp_path / "kernel.npy"))


def test_a_recipe_tells_weights_apart(tmp_path, monkeypatch):
    for name, content in {
        "latent-embedded-x4": b"1",
        "first-x4": b"2",
        "pixel-x2": b"3",
        "first-x2": b"4",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(content)
    monkeypatch.setattr("restoration.solvers.inn_weights.INNS", tmp_path)
    before = Run(LatentINDIGO()).networks("abc")
    assert before.keys() == {"prior", "latent-embedded-x4", "first-x4", "meter"}
    assert len({*before.values()}) == 4
    pixel = Run(LatentINDIGO(domain="pixel", scale=2, start="noise"), prior="sd")
    assert pixel.networks("abc").keys() == {"prior", "pixel-x2", "first-x2", "meter"}
    assert Run(RELDFast(), GaussianBlur()).networks("abc").keys() == {
        "prior",
        "warm-start",
        "warm-start-quick",
    }
    for run in (Run(RELDFast(warm_start=0.0), GaussianBlur()), Run(RELDFast(), Denoise())):
        assert run.networks("abc") == {"prior": "abc"}
    (tmp_path / "pixel-x2" / "model.safetensors").write_bytes(b"33")
    assert recipe.other_weights({"weights": before}, Run(LatentINDIGO()).networks("abc")) == ""
    (tmp_path / "first-x4" / "model.safetensors").write_bytes(b"22")
    now = Run(LatentINDIGO()).networks("abd")
    assert recipe.other_weights({"weights": before}, now).startswith(
        "The weights of prior, first-x4 are not those"
    )
    replaced = {"weights": {"prior": now["prior"], "<b>gone": "1"}}  # its names are a stranger's
    assert recipe.other_weights(replaced, {"prior": now["prior"], "span-x4": "2"}) == (
        "The weights of span-x4 are not those that the recipe was written with: the result will differ."
    )
    for old in ({}, {"weights": "nonsense"}, {"weights": {}}):
        assert recipe.other_weights(old, now) == ""


def test_the_digest_of_weights(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    blob = tmp_path / hashlib.sha256(b"a").hexdigest()  # as the Hub's cache names it; its content is not read
    blob.write_bytes(b"gigabytes")
    (tmp_path / "link").symlink_to(blob)
    assert len(digest([tmp_path / "a"])) == 12
    assert (
        digest([tmp_path / "link", tmp_path / "b"])
        == digest([tmp_path / "a", tmp_path / "b"])
        != digest([tmp_path / "b", tmp_path / "a"])
    )
    assert load_prior("embedded", "cpu").weights == fetch("embedded").weights


@pytest.mark.parametrize("text", [None, "nonsense", "[]"])
def test_a_png_without_a_recipe(tmp_path, text):
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    if text:
        info.add_text(recipe.KEY, text)
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(ValueError, match="recipe"):
        recipe.read(tmp_path / "x.png")


@pytest.mark.parametrize("wrong", [{"solver": "x"}, {"settings": {"x": 1}}, {"task": "x"}])
def test_a_recipe_of_another_version_is_one_sentence(wrong):
    with pytest.raises(ValueError, match="not of this version"):
        Run.from_recipe(WRITTEN | wrong)


def test_recipes_are_read_from_pictures_and_json(tmp_path):
    recipe.save_png(torch.rand(1, 3, 16, 16), tmp_path / "a.png", WRITTEN, {"PSNR": 30.0})
    (tmp_path / "a.json").write_text(json.dumps(WRITTEN))
    assert recipe.read(tmp_path / "a.png") == recipe.read(tmp_path / "a.json") == WRITTEN
    assert recipe.read_png(tmp_path / "a.png", recipe.SCORES) == {"PSNR": 30.0}
    (tmp_path / "b.json").write_text("[1]")
    (tmp_path / "c.json").write_text("{")
    for name in ("b.json", "c.json", "nowhere.json"):
        with pytest.raises(ValueError, match=f"{name} holds no recipe"):
            recipe.read(tmp_path / name)
    with pytest.raises(ValueError, match=r"nowhere\.png cannot be opened"):
        recipe.read(tmp_path / "nowhere.png")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seed": None}, "The seed is None; it must be a whole number from 0 to 9223372036854775807"),
        ({"seed": "x"}, "The seed is 'x'"),
        ({"seed": True}, "The seed is True"),
        ({"seed": -1}, "The seed is -1"),
        ({"seed": 2**63}, "The seed is 9223372036854775808"),
        ({"prior": ["a"]}, "holds no recipe: its prior is .'a'."),
        ({"settings": []}, "holds no recipe: its settings is"),
        ({"degradation": None}, "holds no recipe: its degradation is None"),
        ({"solver": 3}, "holds no recipe: its solver is 3"),
        ({"task": {}}, "holds no recipe: its task is"),
        ({"periodic": "no"}, "holds no recipe: its periodic is 'no'"),
        ({"versions": [[[[[[]]]]]]}, "holds no recipe"),
    ],
)
def test_what_a_recipe_says_is_of_its_kind(tmp_path, wrong, words):
    (tmp_path / "a.json").write_text(json.dumps(WRITTEN | wrong))
    recipe.save_png(torch.rand(1, 3, 16, 16), tmp_path / "a.png", WRITTEN | wrong)
    for name in ("a.json", "a.png"):
        with pytest.raises(ValueError, match=words):
            recipe.read(tmp_path / name)


def test_absurd_nesting_is_one_sentence(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"a\.json holds no recipe"):
        recipe.read(tmp_path / "a.json")


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    recipe.save_png(torch.zeros(1, 3, 16, 16), path, {"seed": 0})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.png"):
        recipe.save_png(torch.ones(1, 3, 16, 16), path, {"seed": 1})
    assert recipe.read_png(path) == {"seed": 0} and [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_another_input_or_machine_is_said(tiny_prior, y):
    said = last(y, tiny_prior, RELDFast(steps=1), GaussianBlur()).recipe
    assert said["machine"] == {"device": "cpu", "threads": torch.get_num_threads()}
    assert recipe.other_input(said, y) == recipe.other_input({}, y) == "" != recipe.other_input(said, 1 - y)
    assert recipe.other_machine(said, said["machine"]) == recipe.other_machine({}, said["machine"]) == ""
    assert "threads 1" in recipe.other_machine(
        {"machine": {"device": "cpu", "threads": 1}}, {"device": "cpu", "threads": 2}
    )


def test_texts_are_found_packed_and_behind_the_pixels(tmp_path):
    from PIL import PngImagePlugin

    for packed in (False, True):
        info = PngImagePlugin.PngInfo()
        info.add_itxt(recipe.KEY, '{"seed": 0}', zip=packed)
        Image.new("RGB", (32, 32)).save(tmp_path / "x.png", pnginfo=info)
        assert recipe.read_png(tmp_path / "x.png") == {"seed": 0}


def test_the_parts_of_a_recipe():
    run = Run(RELDFast(steps=4), Denoise(noise_std=7), "sd-2.1-base", 3, True)
    written = json.loads(json.dumps(run.settings("")))
    assert Run.from_recipe(written) == run
    with pytest.raises(ValueError, match="not of this version"):
        Run.from_recipe(written | {"settings": {"nonsense": 1}})
