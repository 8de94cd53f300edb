"""What is seen in a photograph that is uploaded, and what the controls become by it."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from restoration.degradations.advice import JPEG_NOISE
from restoration.files import images, recipe
from restoration.page import inspection, state
from restoration.page.state import DEGRADED
from restoration.solvers import SOLVERS, preset_for


def test_an_uploaded_photograph_is_looked_at(tmp_path):
    """What is seen fills in every method; nothing is done to the picture first, and it stands as it came."""
    x = images.to_tensor(astronaut()[:192, 140:332])
    recipe.save_png(
        x + 30 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)),
        tmp_path / "n.png",
        {},
    )
    seen = inspection.inspect(str(tmp_path / "n.png"))
    assert "It is noisy" in seen.sentences and seen.method == "reld" and seen.values.keys() == SOLVERS.keys()
    assert Image.open(seen.before).size == (192, 192)
    for method, values in seen.values.items():
        values = state.opening_values(method) | values
        assert values["mode"] == DEGRADED and values["photo"] == str(tmp_path / "n.png")
        state.asked_for(method, state.checked(method, values))
    assert (
        seen.values["reld"]["task"] == "denoise"
        and seen.values["latent-indigo"]["latent-indigo", "scale"] == 4
    )
    assert all(abs(seen.values["reld"][task, "noise_std"] - 30) < 8 for task in ("denoise", "inpaint"))
    images.to_pil(x).save(tmp_path / "j.jpg", quality=30)
    seen = inspection.inspect(str(tmp_path / "j.jpg"))
    # JPEG's blocks are no detail to enlarge, and no noise to anything else
    told = {task: seen.values["reld"][task, "noise_std"] for task in ("super-resolution", "denoise")}
    assert told["super-resolution"] == pytest.approx(JPEG_NOISE * 4 * 70, abs=3) and told["denoise"] < 5
    (tmp_path / "garbage.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="is not a picture"):
        inspection.inspect(str(tmp_path / "garbage.png"))


def test_nothing_of_a_picture_is_thrown_away_to_enlarge_it():
    for width, height, scale in (
        (500, 500, 4),
        (501, 500, 2),
        (1000, 1000, 2),
        (1001, 1000, 1),
        (2000, 2000, 1),
        (4000, 3000, 1),
    ):
        assert inspection.enlargement(width * height) == scale
        if scale > 1:
            assert images.fitted(width, height, scale) == (width, height)


@pytest.mark.parametrize(
    ("method", "prior", "chosen", "suited"),
    [
        ("reld", "sd-turbo", "fast", "few-step"),
        ("reld", "sd-1.5", "few-step", "fast"),
        ("reld", "sd-1.5", "fast", "fast"),
        ("latent-indigo", "sdxl", "fast", "vivid"),
        ("latent-indigo", "sdxl", "paper-like", "paper-like"),
        ("latent-indigo", "embedded", "bold", "bold"),
        ("ld-rps", "lcm", "denoise", "denoise"),
    ],
)
def test_a_prior_brings_a_preset_that_suits_it(method, prior, chosen, suited):
    assert preset_for(method, prior, chosen) == suited
