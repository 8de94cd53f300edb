from __future__ import annotations

import pytest
import torch

from restoration.commands import cli
from restoration.degradations import camera
from restoration.degradations.blind import CORRUPTIONS, make_damage


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_developing_undoes_the_way_back_to_the_sensor(photo):
    development = camera.draw_development(seeded())
    raw = development.undo(photo)
    assert raw.min() >= 0 and raw.max() <= 1
    assert torch.allclose(development.develop(raw), photo, atol=1e-3)


def test_demosaicing_keeps_what_the_photosites_saw_and_smooth_colours():
    values = torch.rand(1, 1, 12, 14, generator=seeded())
    assert torch.equal(camera.mosaic(camera.demosaic(values)), values)
    across, down = torch.linspace(0, 1, 14), torch.linspace(0, 0.5, 12)[:, None]
    smooth = torch.stack([across + down, across - down, down + 0 * across])[None]
    inside = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(camera.demosaic(camera.mosaic(smooth))[inside], smooth[inside], atol=1e-5)


def test_sensor_noise_is_graded_correlated_and_stronger_in_the_shadows_than_in_the_light():
    ramp = torch.linspace(0.2, 0.95, 128).expand(1, 3, 128, 128)
    levels = []
    for iso in camera.SHOT:
        noisy, clean = camera.CameraNoise(iso).expose(ramp, seeded())
        levels.append((noisy - clean).std().item() * 255)
    assert 2 < levels[0] < 6 < levels[1] < 14 < levels[2] < 30
    residual = noisy - clean
    assert residual[..., :40].std() > 1.2 * residual[..., -40:].std()
    neighbours = (residual[..., 1:] * residual[..., :-1]).mean() / residual.square().mean()
    assert neighbours > 0.2
    assert (residual.mean(1).std() < 0.9 * residual.std()).item()  # coloured


def test_little_light_is_little_everywhere_or_in_a_smooth_region(photo):
    exposed, _ = camera.LowLight().expose(photo, seeded())
    assert exposed.mean() < 0.5 * photo.mean()
    light = camera.Backlit().light(photo, seeded())
    assert light.shape == (1, 1, 96, 96) and light.max() > 0.7 and light.min() < 1 / 3
    assert light.diff(dim=-1).abs().max() < 0.15


def test_fog_pales_what_is_far_and_its_share_is_told(photo):
    y, share = camera.Fog().veil(photo, seeded())
    assert share.min() > 0 and share.max() < 1 and y.std() < photo.std()
    assert torch.allclose(((y - photo * (1 - share)) / share).std((-1, -2)), torch.zeros(1, 3), atol=2e-2)


@pytest.mark.parametrize("name", ["fog", *camera.EXPOSURES])
def test_any_size_and_a_black_or_white_picture_will_do(name):
    for value in (0.0, 1.0):
        y = CORRUPTIONS[name].degrade(torch.full((1, 3, 16, 23), value), seeded())
        assert y.shape == (1, 3, 16, 23) and torch.isfinite(y).all()


def test_the_level_is_a_setting_of_damage_and_command_line():
    assert make_damage("camera-noise", {"iso": "high"}, 1) == camera.CameraNoise("high")
    with pytest.raises(ValueError, match="low, medium, high"):
        make_damage("camera-noise", {"iso": "12800"}, 1)
    with pytest.raises(ValueError, match="no setting iso"):
        make_damage("fog", {"iso": "low"}, 1)
    import argparse

    parser = argparse.ArgumentParser()
    cli.add_options(parser)
    args = parser.parse_args(["--solver", "ld-rps", "--task", "camera-noise", "--set", "iso=low", "steps=3"])
    solver, damage = cli.build(args)
    assert damage == camera.CameraNoise("low") and solver.steps == 3
    with pytest.raises(ValueError, match="must be told"):
        cli.build(parser.parse_args(["--solver", "reld", "--task", "camera-noise"]))
