from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import tarfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from restoration.commands import inspect
from restoration.degradations import camera, meter
from restoration.degradations import estimate as guesses
from restoration.degradations.advice import SMALL, suggest
from restoration.degradations.blind import CORRUPTIONS
from restoration.degradations.blur import GaussianBlur
from restoration.degradations.features import texture
from restoration.degradations.jpeg_traces import file_quality
from restoration.degradations.light import HAZE_WEIGHTS, KINDS, SIDE, WEIGHTS, find_light, fitted, load_light
from restoration.degradations.linear import TASKS, Denoise
from restoration.degradations.meter import Estimate, measure_damage
from restoration.degradations.realistic import jpeg
from restoration.degradations.tone import relit
from restoration.files import images
from restoration.solvers import PRESETS, SOLVERS
from restoration.training import light as light_training
from restoration.training import light_damage, meter_damage
from restoration.training import meter as training


@pytest.fixture
def scene():
    """(1,3,256,256): the astronaut as large as the photographs that the meter was trained on."""
    from skimage.data import astronaut

    return images.quantise(
        F.avg_pool2d(torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255, 2)
    )


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("level", [5, 15, 40])
def test_white_noise_is_measured(scene, level):
    y = images.quantise(Denoise(level).degrade(scene, seeded()))
    found = measure_damage(y).noise
    assert found.present and found.value == pytest.approx((y - scene).std().item(), rel=0.25)


@pytest.mark.parametrize("iso", ["medium", "high"])
def test_camera_noise_is_measured_as_it_is_in_the_picture(scene, iso):
    y, clean = camera.CameraNoise(iso).expose(scene, seeded())
    found = measure_damage(y).noise
    assert found.present and found.value == pytest.approx((y - clean).std().item(), rel=0.3)


def test_correlated_noise_is_told_from_white(scene):
    white = images.quantise(Denoise(15).degrade(scene, seeded()))
    taken, _ = camera.CameraNoise("high").expose(scene, seeded())
    assert measure_damage(white).noise_as_white < 1.1
    assert 1.3 < measure_damage(taken).noise_as_white < 1.8
    small = F.avg_pool2d(scene, 2)
    noisy = small + 0.08 * torch.randn(small.shape, generator=seeded())
    enlarged = images.quantise(images.enlarge(noisy, 2))
    assert measure_damage(enlarged).noise_as_white > 2


@pytest.mark.parametrize("level", [10, 25])
def test_a_denoiser_is_told_enough(scene, level):
    """Noise that is told too low stays."""
    y = images.quantise(Denoise(level).degrade(scene, seeded()))
    found, real = measure_damage(y), (y - scene).std().item()
    assert 1.05 * real < found.as_white(found.noise.value) < 1.3 * real


def test_the_noise_is_told_by_brightness_too():
    ramp = torch.linspace(0.05, 0.95, 192).expand(1, 3, 192, 192)
    y = (ramp + (0.01 + 0.1 * ramp) * torch.randn(ramp.shape, generator=seeded())).clamp(0, 1)
    damage = measure_damage(images.quantise(y))
    assert damage.noise_curve[-2] > 2 * damage.noise_curve[0]
    levels = damage.noise_map(ramp)
    assert levels.shape == (1, 1, 192, 192)
    assert levels.square().mean().sqrt().item() == pytest.approx(damage.noise.value, rel=0.1)
    assert (levels[..., -40:].mean() > 2 * levels[..., :20].mean()).item()


@pytest.mark.parametrize("std", [1.2, 2.5])
def test_blur_is_measured(scene, std):
    found = measure_damage(images.quantise(GaussianBlur(std=std, noise_std=0.0).forward(scene))).blur
    assert found.present and found.value == pytest.approx(std, abs=0.5)


@pytest.mark.parametrize("quality", [20, 45, 75])
def test_jpeg_quality_is_measured_in_pixels_even_when_cropped(scene, quality):
    compressed = jpeg(scene, quality)
    for y in (compressed, compressed[..., 3:, 5:]):
        found = measure_damage(y).jpeg
        assert found.present and found.value == pytest.approx(quality, abs=10)
    assert not measure_damage(scene).jpeg.present


def test_a_file_says_its_own_quality(scene, tmp_path):
    picture = images.to_pil(scene)
    for quality in (5, 30, 63, 95):
        picture.save(tmp_path / "a.jpg", quality=quality)
        data = (tmp_path / "a.jpg").read_bytes()
        assert file_quality(data) == pytest.approx(quality, abs=3)
        assert file_quality(data[:40]) is None
    picture.save(tmp_path / "a.png")
    assert file_quality((tmp_path / "a.png").read_bytes()) is None and file_quality(b"") is None
    assert measure_damage(scene, 40).jpeg.value == 40


@pytest.mark.parametrize(
    ("damage", "kind", "seed"),
    [
        ("camera-low-light", "darkness", 0),
        ("low-light", "darkness", 0),
        ("camera-backlit", "backlight", 4),
        ("fog", "veil", 2),
        ("haze", "veil", 0),
        ("grey", "colour", 0),
    ],
)
def test_what_is_wrong_is_named(scene, damage, kind, seed):
    y = CORRUPTIONS[damage].degrade(scene, seeded(seed))
    found = measure_damage(y)
    assert getattr(found, kind).present and not getattr(measure_damage(scene), kind).present
    assert found.describe() and suggest(found)


def test_a_dark_picture_is_not_called_backlit_too(scene):
    there, clean = meter.Estimate(2.0, 1.0), measure_damage(scene)
    both = dataclasses.replace(clean, darkness=there, backlight=there)
    assert both.describe() == ["It is too dark: 2.0 stops of light are missing."]
    assert "backlit" in dataclasses.replace(clean, backlight=there).describe()[0]


def test_what_may_be_meant_is_asked_about(scene, tmp_path, monkeypatch):
    clean = dataclasses.replace(measure_damage(scene), pixels=10**6)
    shady = dataclasses.replace(clean, backlight=Estimate(2.0, 0.1))
    assert clean.describe() == shady.describe() == suggest(shady) == []
    assert "low-light" in shady.doubts()[0]
    assert "dehaze" in dataclasses.replace(clean, veil=Estimate(0.3, 0.2)).doubts()[-1]
    assert not dataclasses.replace(clean, darkness=Estimate(2.0, 0.9), veil=Estimate(0.3, 0.01)).doubts()
    images.to_pil(scene).save(tmp_path / "shady.png")
    monkeypatch.setattr(meter, "measure_damage", lambda *_: shady)
    assert shady.doubts()[0] in inspect.tell(inspect.report(str(tmp_path / "shady.png")))


def test_who_says_that_light_is_missing_is_believed(scene, monkeypatch):
    damage = measure_damage(scene)
    shady = dataclasses.replace(damage, backlight=Estimate(2.0, 0.03), darkness=Estimate(1.0, 0.0))
    monkeypatch.setattr(guesses, "measure_damage", lambda *_: shady)
    assert guesses.first_guess(scene, "exposure").dark and not guesses.first_guess(scene, "auto").dark


def test_a_good_photograph_is_left_alone(scene):
    damage = dataclasses.replace(measure_damage(scene), pixels=10**6)
    assert not any(estimate.present for estimate in damage.estimates().values())
    assert damage.describe() == [] and suggest(damage) == []


def boards():
    """Pictures that are no photographs, each (1,3,H,W)."""
    flat = [torch.full((1, 3, 64, 64), value) for value in (0.0, 0.5, 1.0)]
    checks = (
        (torch.arange(96)[:, None] // 8 + torch.arange(64) // 8).remainder(2).float().expand(1, 3, 96, 64)
    )
    text = torch.ones(1, 3, 70, 100)
    text[..., 10:60:6, 5:95] = 0
    random = torch.rand(1, 3, 16, 41, generator=seeded())
    return [*flat, checks, text, random, torch.eye(64).expand(1, 3, 64, 64)]


@pytest.mark.parametrize("x", boards())
def test_any_picture_can_be_measured(x):
    damage = measure_damage(x)
    for kind, estimate in damage.estimates().items():
        assert np.isfinite(estimate.value) and 0 <= estimate.confidence <= 1
        if kind in meter.LEAST:
            assert meter.LEAST[kind] <= estimate.value <= meter.MOST[kind]
    assert len(damage.noise_curve) == len(meter.BRIGHTNESSES) and np.isfinite(damage.noise_curve).all()
    suggest(damage)


def test_large_pictures_are_sampled_and_give_as_many_statistics():
    small = np.random.default_rng(0).uniform(0, 255, (64, 64, 3))
    for height, width in ((1200, 1200), (200, 4000), (3000, 100)):
        large = np.tile(small, (height // 64 + 1, width // 64 + 1, 1))[:height, :width]
        assert texture(large).shape == texture(small).shape and np.isfinite(texture(large)).all()


def test_bad_input_is_refused_in_one_sentence():
    for x in (
        torch.rand(2, 3, 32, 32),
        torch.rand(1, 1, 32, 32),
        torch.rand(1, 3, 8, 32),
        torch.rand(3, 32, 32),
    ):
        with pytest.raises(ValueError, match="is measured"):
            measure_damage(x)


def test_every_suggestion_is_a_run_of_this_project():
    blank = measure_damage(torch.full((1, 3, 32, 32), 0.5))
    names = list(blank.estimates())
    for present in itertools.product((False, True), repeat=len(names)):
        found = {
            name: Estimate(3.0 if name == "enlargement" else getattr(blank, name).value, float(there))
            for name, there in zip(names, present, strict=True)
        }
        suggestions = suggest(
            meter.Damage(**found, noise_curve=blank.noise_curve, noise_as_white=1.0, pixels=10**6)
        )
        assert bool(suggestions) == any(present)
        for made in suggestions:
            settings = dict(made.settings)
            if made.task:
                TASKS[made.task](**settings)
                settings = {}
            SOLVERS[made.solver](**PRESETS[made.solver][made.preset] | settings)
            assert SOLVERS[made.solver].blind != bool(made.task) and made.sentence.endswith(".")


def test_blocks_of_jpeg_are_left_to_the_denoiser_and_a_doubled_picture_as_it_is(scene):
    compressed = measure_damage(jpeg(scene, 40))
    compressed = dataclasses.replace(compressed, pixels=10**6)
    assert [(one.solver, one.preset) for one in suggest(compressed)] == [("ld-rps", "denoise")]
    doubled = dataclasses.replace(
        compressed, jpeg=Estimate(90.0, 0.0), blur=Estimate(0.0, 0.0), enlargement=Estimate(2.0, 1.0)
    )
    assert not suggest(doubled)


def test_a_small_picture_is_worth_enlarging_after_all_that_is_wrong_with_it(scene):
    clean = measure_damage(scene)
    assert clean.pixels == scene.shape[-2] * scene.shape[-1]
    clean, noisy = (
        dataclasses.replace(clean, pixels=SMALL, noise=Estimate(20 / 255, there)) for there in (0.0, 1.0)
    )
    assert [(one.solver, one.preset, one.settings) for one in suggest(clean)] == [
        ("latent-indigo", "vivid", {"scale": 4})
    ]
    assert [one.solver for one in suggest(noisy)] == ["reld", "ld-rps", "latent-indigo"]
    assert not suggest(dataclasses.replace(clean, pixels=SMALL + 1))


def test_the_command_says_what_is_wrong(scene, tmp_path, capsys):
    y = Denoise(30).degrade(scene, seeded())
    images.to_pil(y).save(tmp_path / "noisy.png")
    images.to_pil(scene).save(tmp_path / "clean.png")
    paths = [str(tmp_path / name) for name in ("noisy.png", "clean.png")]
    assert inspect.main(paths) == 0
    said = capsys.readouterr().out
    assert (
        "It is noisy: about " in said
        and "Nothing seems wrong with it." in said
        and "--task denoise --set noise_std=" in said
    )
    assert inspect.main([*paths, "--json"]) == 0
    noisy, clean = json.loads(capsys.readouterr().out)
    assert noisy["damage"]["noise"]["present"]
    assert [one["preset"] for one in clean["suggestions"]] == ["vivid"]
    assert inspect.main([str(tmp_path / "none.png"), paths[1]]) == 2
    both = capsys.readouterr()
    assert both.err.startswith("error: ") and len(both.err.splitlines()) == 1 and "clean.png" in both.out


def test_the_command_prints_its_own_accuracy(photo, tmp_path, capsys):
    images.to_pil(photo).save(tmp_path / "clean.png")
    assert inspect.main(["--evaluate", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "white noise 10/255" in table and "camera noise, medium" in table and "false alarms" in table
    (tmp_path / "empty").mkdir()
    assert inspect.main(["--evaluate", str(tmp_path / "empty")]) == 2


@pytest.fixture
def shard(tmp_path):
    """A tar archive of 12 coloured noises with a short side of 257 pixels."""
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for k in range(12):
            file = io.BytesIO()
            pixels = np.random.default_rng(k).integers(0, 255, (32, 33, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((270, 257), Image.Resampling.BICUBIC).save(file, "PNG")
            info = tarfile.TarInfo(f"{k}.png")
            info.size = file.tell()
            file.seek(0)
            archive.addfile(info, file)
    return str(tmp_path / "photos.tar")


def test_the_meter_is_trained_by_its_command(shard, tmp_path):
    out = tmp_path / "model.safetensors"
    training.main(
        [shard, "--out", str(out), *["--crops", "24", "--epochs", "2", "--holdout", "2", "--clean", "4"]]
    )
    statistics = torch.from_numpy(texture(np.full((32, 32, 3), 99.0)))[None]
    logits, values = meter.load_reader(out)(statistics)
    assert logits.shape == values.shape == (1, len(meter.KINDS))
    assert torch.isfinite(logits).all() and torch.isfinite(values).all()


def test_what_judges_light_is_trained_by_its_command(shard, tmp_path):
    out, more = tmp_path / "light.safetensors", "--steps 3 --batch 4 --holdout 2 --clean 4"
    light_training.main([shard, "--out", str(out), "--checkpoint", str(tmp_path / "light.pt"), *more.split()])
    found = load_light(out)(torch.rand(2, 3, SIDE, SIDE, generator=seeded()))
    assert found.stops.shape == found.veil.shape == (2, 1, 16, 16) and found.stops.min() > 0
    assert found.logits.shape == found.amounts.shape == (2, len(KINDS))
    assert found.share.shape == (2, 1, 1, 1) and torch.isfinite(found.logits).all()


def test_darkened_copies_know_what_they_lack():
    photographs = [(255 * torch.rand(3, 90, 80 + k, generator=seeded(k))).byte() for k in range(3)]
    seen = set()
    for seed in range(40):
        drawn = light_damage.draw(photographs, seeded(seed))
        assert drawn.x.shape == drawn.y.shape == (1, 3, SIDE, SIDE)
        assert (drawn.stops.max() > 0) == drawn.dark and (drawn.amounts[2] > 0) == drawn.foggy
        if drawn.dark and drawn.curved and not drawn.foggy:
            again = relit(drawn.y.clamp(1e-4, 1 - 1e-4), drawn.stops)
            assert (again - drawn.x).abs().median() < (drawn.y - drawn.x).abs().median()
        seen.add((drawn.dark, drawn.foggy, drawn.curved))
    assert len(seen) >= 5


def test_light_and_haze_are_judged_by_a_network_each(scene):
    small = F.adaptive_avg_pool2d(scene, SIDE)
    found, lit, hazy = find_light(scene), load_light()(small), load_light(HAZE_WEIGHTS)(small)
    assert torch.equal(found.stops, lit.stops) and torch.equal(found.veil, hazy.veil)
    assert found.logits[0].tolist() == [*lit.logits[0, :2].tolist(), hazy.logits[0, 2].item()]
    assert found.amounts.shape == (1, 3) and found.amounts[0, 2] == hazy.amounts[0, 2]


def test_shade_stops_at_a_window():
    window = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    window[..., 10:34, 22:46] = True
    x = torch.where(window, 0.9, 0.3) + 0.05 * torch.rand(1, 3, SIDE, SIDE, generator=seeded())
    shades = [light_damage.parted(x, seeded(seed)) for seed in range(20)]
    assert min(shade.min() for shade in shades) >= 0 and max(shade.max() for shade in shades) <= 1
    beside = [(shade[..., 22, 47:50].mean() - shade[..., 22, 41:44].mean()).item() for shade in shades]
    assert min(beside) > 0 and np.median(beside) > 0.3


def test_a_room_before_a_window_is_not_said_to_have_its_light():
    photographs = [(255 * torch.rand(3, 90, 90, generator=seeded(k))).byte() for k in range(3)]
    drawn = [light_damage.draw(photographs, seeded(seed)) for seed in range(150)]
    rooms = [row for row in drawn if row.stops.mean() > 0.7 * row.stops.max() and row.stops.std() > 0.05]
    assert rooms and all(math.isnan(row.amounts[0]) for row in rooms)
    assert any(row.amounts[1] > 0 for row in rooms)


def test_a_network_that_judges_light_goes_on_from_another(shard, tmp_path):
    out, more = tmp_path / "light.safetensors", "--steps 1 --batch 2 --holdout 2 --clean 4 --rate 1e-9"
    start = ["--start", str(WEIGHTS)]
    light_training.main(
        [shard, "--out", str(out), "--checkpoint", str(tmp_path / "light.pt"), *start, *more.split()]
    )
    x = torch.rand(2, 3, SIDE, SIDE, generator=seeded())
    assert torch.allclose(load_light(out)(x).stops, load_light()(x).stops, atol=1e-2)


def test_a_map_follows_the_edges_of_the_picture():
    step = (torch.arange(120) >= 60).float().expand(1, 3, 90, 120)
    smooth = torch.linspace(3, 0, 16).expand(1, 1, 16, 16)
    field = fitted(smooth, 0.1 + 0.8 * step)[0, 0]
    assert field.shape == (90, 120) and field.min() >= 0 and field.max() <= 3
    jump = (field[:, 57] - field[:, 62]).mean()
    assert jump > 2 * (field[:, 30] - field[:, 35]).mean().abs()


def test_training_knows_what_it_did(scene):
    for seed in range(12):
        sample = meter_damage.damage(scene, seeded(seed))
        assert sample.values["noise"] == pytest.approx(
            (sample.y - sample.quiet).square().mean().sqrt().item()
        )
        again = meter_damage.damage(scene, seeded(seed))
        assert torch.equal(sample.y, again.y)


def test_noise_beyond_black_and_white_hides_nothing(scene):
    """As a benchmark adds it, unlike a file."""
    y = scene + 25 / 255 * torch.randn(scene.shape, generator=seeded())
    assert y.max() > 1.05 and guesses.first_guess(y, "none").told == pytest.approx(25 / 255, rel=0.25)
