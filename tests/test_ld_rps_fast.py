"""Blind restoration in a few steps: what it finds, what it leaves alone, and what it achieves on the embedded
prior.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations.blind import CORRUPTIONS, to_grey
from restoration.degradations.estimate import FAINT, _veil, first_guess
from restoration.degradations.linear import Denoise
from restoration.degradations.meter import measure_damage
from restoration.degradations.realistic import jpeg
from restoration.degradations.tone import relit
from restoration.evaluation import metrics
from restoration.files.images import quantise, read_image
from restoration.record import Run
from restoration.run import restore
from restoration.solvers import PRESETS as ALL_PRESETS
from restoration.solvers import SOLVERS, ld_rps_fast, resolve, resolve_settings
from restoration.solvers.ld_rps_fast import PRESETS, LDRPSFast


def run(prior, y, solver, **scored):
    return list(restore(y, Run(solver), prior, **scored))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_are_seeded_8_bit_and_keep_the_size(kind, photo):
    a, b, c = (CORRUPTIONS[kind].degrade(photo, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert a.shape == photo.shape and a.min() >= 0 and a.max() <= 1 and torch.equal(a, b)
    assert kind == "grey" or not torch.equal(a, c)
    assert torch.allclose(a * 255, (a * 255).round(), atol=1e-3) and torch.isfinite(a).all()
    assert metrics.psnr(a, photo) < 30


@pytest.mark.parametrize(("kind", "damage"), [("exposure", "low-light"), ("veil", "haze"), ("none", "noise")])
def test_a_guess_undoes_itself_and_helps(kind, damage, photo):
    y = CORRUPTIONS[damage].degrade(photo, torch.Generator().manual_seed(0))
    guess = first_guess(y, kind)
    x = 0.02 + 0.96 * torch.rand(1, 3, *y.shape[-2:])
    assert torch.allclose(guess.invert(guess.forward(x)), x, atol=1e-4)
    if kind != "none":
        assert metrics.psnr(guess.invert(y), photo) > metrics.psnr(y, photo) + 3


def test_auto_finds_the_damage(photo):
    def look(kind):
        return first_guess(CORRUPTIONS[kind].degrade(photo, torch.Generator().manual_seed(0)), "auto")

    assert look("low-light").dark and not look("haze").dark and look("haze").veil.mean() > 0.1
    assert look("grey").grey and not look("noise").grey
    assert look("noise").noise > 3 * first_guess(photo, "auto").noise


def test_auto_sees_past_a_lamp_and_leaves_a_good_picture_alone(photo, embedded):
    night = CORRUPTIONS["low-light"].degrade(photo, torch.Generator().manual_seed(0))
    night[..., 40:44, 40:46] = 1.0
    assert first_guess(night, "auto").dark
    guess = first_guess(photo, "auto")
    assert not guess.dark and not guess.grey and guess.veil.max() == 0
    last = run(embedded, photo, LDRPSFast(**PRESETS["auto"]))[-1]
    assert metrics.psnr(last.result.image, photo) > 40 and last.note.startswith("found: ")
    assert "too dark" in first_guess(night, "auto").describe() and "too dark" not in guess.describe()


# gain in dB over the input on one real photograph, with a margin below what was measured
@pytest.mark.parametrize("form", ["its own", "auto"])
@pytest.mark.parametrize(
    ("damage", "preset", "gain"),
    [("noise", "denoise", 2), ("low-light", "low-light", 10), ("haze", "dehaze", 3)],
)
def test_presets_restore(embedded, photo, damage, preset, gain, form):
    y = CORRUPTIONS[damage].degrade(photo, torch.Generator().manual_seed(0))
    scores = run(embedded, y, LDRPSFast(**PRESETS[preset if form == "its own" else "auto"]), reference=photo)[
        -1
    ].result.scores
    assert scores["PSNR"] > metrics.psnr(y, photo) + gain and scores["SSIM"] > metrics.ssim(y, photo)


def test_colour_is_added_and_brightness_kept(embedded, photo):
    y = CORRUPTIONS["grey"].degrade(photo, torch.Generator().manual_seed(0))
    x = run(embedded, y, LDRPSFast(**PRESETS["colorize"]))[-1].result.image
    assert (x.amax(1) - x.amin(1)).mean() > 2 / 255
    assert metrics.psnr(to_grey(x), y) > 30


def test_added_colours_follow_the_brightness():
    generator = torch.Generator().manual_seed(0)
    brightness = to_grey(torch.rand(1, 3, 100, 120, generator=generator))
    tint = torch.tensor([0.2, -0.1, 0.0])[None, :, None, None]
    tinted = brightness * (1 + tint - to_grey(tint))
    assert torch.allclose(ld_rps_fast.shaded(tinted), tinted, atol=1e-5)
    speckled = tinted + 0.1 * torch.randn(tinted.shape, generator=generator)
    shaded = ld_rps_fast.shaded(speckled)
    assert torch.allclose(to_grey(shaded), to_grey(speckled), atol=1e-5)
    ratio = shaded / to_grey(speckled) - 1
    assert ratio.diff(dim=-1).abs().max() < 0.05  # speckles of colour are gone, those of brightness are not


def test_a_grey_noisy_picture_is_coloured_first_and_denoised_then(tiny_prior, photo):
    y = CORRUPTIONS["grey+noise"].degrade(photo, torch.Generator().manual_seed(0))
    solver, guess = LDRPSFast(**PRESETS["auto"]), first_guess(y, "auto")
    colours, noise = solver.passes(tiny_prior, guess, solver.steps)
    assert guess.grey and tiny_prior.sigmas[colours[0]] == pytest.approx(10, rel=0.05)
    assert tiny_prior.sigmas[noise[0]] == pytest.approx(guess.told, rel=0.05)
    assert ld_rps_fast.doubt_of(tiny_prior, guess, colours[0]) == pytest.approx(guess.told**2, rel=0.01)
    # the start holds all that the picture says
    assert ld_rps_fast.doubt_of(tiny_prior, guess, noise[0]) == float("inf")


def test_a_large_picture_takes_fewer_steps(tiny_prior, photo):
    y = CORRUPTIONS["noise"].degrade(photo, torch.Generator().manual_seed(0))
    pixels = y.shape[-2] * y.shape[-1]
    for part, steps in {1.0: 6, 2.0: 3, 4.0: 1, 100.0: 1}.items():
        solver = LDRPSFast(all_steps_below=pixels / part / 1e6)
        assert solver.iterations(None, pixels) == steps == run(tiny_prior, y, solver)[-1].total


def test_a_last_picture_is_decoded_once(tiny_prior, photo, monkeypatch):
    """4 megapixels take more than half a second for each decoding."""
    decoded, decode = [], type(tiny_prior).decode
    monkeypatch.setattr(type(tiny_prior), "decode", lambda *args: decoded.append(1) or decode(*args))
    y = CORRUPTIONS["noise"].degrade(photo, torch.Generator().manual_seed(0))
    assert run(tiny_prior, y, LDRPSFast(steps=1))[-1].total == len(decoded) == 1


def test_the_passes_and_views_are_shown(tiny_prior):
    y = quantise(to_grey(torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))))
    steps = run(tiny_prior, y, LDRPSFast(steps=2))
    assert {"estimate", "ψ(estimate)"} <= steps[0].views.keys()
    assert {"pass 0", "pass 1"} <= steps[-1].views.keys()
    for view in steps[-1].views.values():
        assert view.shape == (1, 3, 32, 40) and view.min() >= 0 and view.max() <= 1


def clean_pictures(side: int) -> dict[str, Tensor]:
    """(1,3,side,side) pictures without a photograph's texture, in which nothing is wrong."""
    ramp = torch.linspace(0, 1, side).expand(1, 3, side, side)
    colours = torch.stack([ramp[0, 0], ramp[0, 0].T, torch.full((side, side), 0.5)])[None]
    tone = torch.tensor([0.6, 0.4, 0.2])[:, None, None] * ramp + torch.tensor([0.2, 0.3, 0.5])[:, None, None]
    sky = 0.5 + 0.2 * torch.sin(4 * ramp + 2 * ramp.mT) * torch.tensor([0.2, 0.5, 1.0])[:, None, None]
    tiles = (
        (torch.arange(side)[:, None] // 8 + torch.arange(side) // 8)
        .remainder(2)
        .float()
        .expand(1, 3, side, side)
    )
    drawn = {"checks": tiles, "poster": 0.2 + 0.5 * tiles * torch.tensor([1.0, 0.6, 0.2])[:, None, None]}
    flat = {
        name: torch.full((1, 3, side, side), value)
        for name, value in (("black", 0.0), ("grey", 0.5), ("white", 1.0))
    }
    return {
        name: quantise(x)
        for name, x in (flat | drawn | {"ramp": ramp, "colours": colours, "tone": tone, "sky": sky}).items()
    }


def cat():
    """(1,3,h,w): a photograph that has its light."""
    return read_image(Path(__file__).parents[1] / "examples" / "chelsea.png", 1)


@pytest.mark.parametrize("preset", ["auto", "low-light", "dehaze", "denoise", "colorize", "colorize+denoise"])
def test_a_picture_in_which_nothing_is_wrong_comes_back_unchanged(embedded, photo, preset):
    # who says of the astronaut, before her dark spaceship, that light is missing is believed
    more = {"cat": cat()} if preset == "low-light" else {"photo": photo}
    for name, y in (clean_pictures(96) | more).items():
        *_, last = LDRPSFast(**PRESETS[preset]).restore(
            embedded, y, None, generator=torch.Generator().manual_seed(0)
        )
        assert (quantise(last.image) - y).abs().max() <= 1.01 / 255, name


@pytest.mark.parametrize("name", ["white", "ramp"])
def test_the_last_step_is_the_same_at_every_size(embedded, name):
    """The gradient of a mean over pixels falls with the size; at 256×256 it was lost in rounding."""
    y = clean_pictures(256)[name]
    *_, last = LDRPSFast(**PRESETS["denoise"]).restore(
        embedded, y, None, generator=torch.Generator().manual_seed(0)
    )
    assert (quantise(last.image) - y).abs().max() <= 1.01 / 255


@pytest.mark.parametrize("level", [5, 25])
def test_noise_is_found_in_colour_grey_and_the_dark(photo, level):
    grey, generator = to_grey(photo), torch.Generator().manual_seed(0)
    for clean, channels in ((photo, 3), (grey, 1), (photo / 4, 3)):
        y = quantise(clean + level / 255 * torch.randn(1, channels, 96, 96, generator=generator))
        found = first_guess(y, "none").noise * 255 / (3**0.5 if channels == 1 else 1)
        assert level / 2 < found < 2 * level


def test_none_of_the_noise_comes_back_at_the_end_of_a_pass(embedded, photo):
    y = quantise(Denoise(noise_std=10).degrade(photo, torch.Generator().manual_seed(0)))
    last = run(embedded, y, LDRPSFast(**PRESETS["denoise"]))[-1]
    estimate = embedded.decode(last.latent, tuple(y.shape[-2:])).clamp(0, 1)
    assert torch.allclose(last.views["pass 0"], estimate, atol=1e-5)


def test_faint_grain_is_left_alone_and_noise_is_not(photo):
    generator = torch.Generator().manual_seed(0)
    grain, noise = (
        quantise(photo + level / 255 * torch.randn(photo.shape, generator=generator)) for level in (1.8, 4)
    )
    assert (
        2 / 255 < measure_damage(grain).noise.value < FAINT and measure_damage(grain).noise.confidence > 0.9
    )
    assert first_guess(grain, "auto").noise == 0 and first_guess(noise, "auto").noise > 0


def test_noise_counts_by_what_it_is_once_the_dark_is_undone(photo):
    """Noise that nobody sees in a dark picture is lifted with it, and is strong then."""
    clean = photo / 8
    y = quantise(clean + 1.2 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)))
    measured = measure_damage(y).noise
    assert measured.present and measured.value < FAINT
    guess = first_guess(y, "auto")
    assert guess.stops.median() > 1.5 and guess.noise > 2 * measured.value
    assert guess.noise > 2 * FAINT and first_guess(y, "none").noise == 0


def test_blocks_of_jpeg_are_taken_out_where_a_picture_is_said_to_be_noisy(embedded):
    from skimage.data import astronaut

    x = torch.from_numpy(astronaut()[:160, 140:300].copy()).permute(2, 0, 1)[None].float() / 255
    y = jpeg(x, 50)
    told, seen = first_guess(y, "none"), first_guess(y, "auto")
    assert told.noise == 0 < told.told and told.describe() == "blocks of JPEG" and seen.told == 0
    *_, last = run(embedded, y, LDRPSFast(**PRESETS["denoise"]))
    assert metrics.psnr(last.image, x) > metrics.psnr(y, x) + 0.4


def test_noise_that_went_through_jpeg_is_told_as_more(photo):
    noisy = quantise(photo + 0.08 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0)))
    assert first_guess(jpeg(noisy, 75), "auto").told > 1.3 * first_guess(jpeg(noisy, 75), "auto").noise


def test_grey_noise_is_taken_out_and_no_colour_put_in(embedded, photo):
    """Noise equal in three channels has √3 the amplitude along brightness of independent noise."""
    clean = to_grey(photo)
    y = quantise(clean + 15 / 255 * torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0)))
    *_, last = LDRPSFast(**PRESETS["denoise"]).restore(
        embedded, y, None, generator=torch.Generator().manual_seed(0)
    )
    assert metrics.psnr(quantise(last.image), clean) > metrics.psnr(y, clean) + 3
    assert (last.image.amax(1) - last.image.amin(1)).max() < 1e-5


def test_the_veil_of_a_large_picture_is_that_of_a_reduced_one():
    small = torch.rand(1, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(small, (684, 513), mode="bilinear")
    reduced = torch.nn.functional.adaptive_avg_pool2d(large, (342, 256))
    veil = _veil(large, 0.9)
    assert veil.shape == (1, 1, 684, 513)
    assert (
        torch.nn.functional.adaptive_avg_pool2d(veil, (342, 256)) - _veil(reduced, 0.9)
    ).abs().max() < 0.01


def test_a_backlit_picture_gets_light_where_it_lacks_it(photo):
    """The exposure is local: the bright part keeps its light, and no channel of it is filled."""
    scene = F.interpolate(photo, (192, 192), mode="bicubic").clamp(0, 1)
    stops = 3.0 * torch.sigmoid((torch.arange(192) - 96.0) / 8).expand(1, 1, 192, 192)
    y = quantise(relit(scene, -stops))
    guess = first_guess(y, "exposure")
    bright, dark = guess.stops[..., :60].mean(), guess.stops[..., -60:].mean()
    assert dark > 1.5 and bright < 0.5 * dark
    x = guess.invert(y)
    assert metrics.psnr(x, scene) > metrics.psnr(y, scene) + 2
    assert ((x > 0.995).any(1) & (y < 0.9).all(1)).float().mean() < 0.01


def test_a_black_sky_gets_no_specks(embedded, photo):
    """What a file keeps of one is 0 or 1 by chance; more light would make 0 or 17 of it."""
    scene = F.interpolate(photo, (192, 192), mode="bicubic").clamp(0, 1)
    y = quantise(relit(scene, -3.0))
    y[..., :64, :] = torch.randint(2, (1, 1, 64, 192), generator=torch.Generator().manual_seed(0)) / 255
    guess = first_guess(y, "exposure")
    sky = run(embedded, y, LDRPSFast(guess="exposure"))[-1].result.image[..., 8:56, 8:-8]
    assert guess.dark and guess.invert(y)[..., 8:56, 8:-8].std() > 5 / 255 > 3 * sky.std()


def test_strength_lies_between_input_and_result(embedded, photo):
    y = CORRUPTIONS["noise"].degrade(photo, torch.Generator().manual_seed(0))
    none, half, whole = (
        run(embedded, y, LDRPSFast(guess="none", strength=s))[-1].result.image for s in (0.0, 0.5, 1.0)
    )
    assert torch.equal(none, y) and (whole - y).abs().max() > 5 / 255
    assert (half - (y + whole) / 2).abs().max() < 1.5 / 255
    other = quantise(photo / 8)
    same, lit = (run(embedded, other, LDRPSFast(strength=s))[-1].result.image for s in (0.0, 1.0))
    assert torch.equal(same, other) and lit.mean() > other.mean()


def test_a_run_depends_on_the_meter_unless_it_is_of_before():
    assert "meter" in Run(LDRPSFast()).networks("") and "meter" not in Run(LDRPSFast(act="always")).networks(
        ""
    )


def test_one_tone_is_no_colour(photo):
    sepia = quantise(to_grey(photo) ** torch.tensor([0.7, 1.0, 1.4])[:, None, None])
    assert first_guess(sepia, "grey").grey and not first_guess(sepia, "auto").grey
    dark = quantise(photo / 12)  # little colour in numbers, as much of its white
    assert not first_guess(photo, "grey").grey and not first_guess(dark, "grey").grey


@pytest.mark.parametrize("n", [10, 1_000_000])
def test_the_searched_step_is_the_same_at_every_scale(n):
    """½‖3x - y‖² along its gradient: the minimum is at x = y/3 for any number and size of values."""
    for size in (1.0, 1e-6):
        x, y = torch.zeros(n), size * torch.ones(n)
        step = ld_rps_fast.best_step(lambda x: 3 * x, x, 3 * (3 * x - y), 0.0)
        assert torch.allclose(x - step, y / 3, rtol=1e-3)


def old_settings(**changes):
    """What a recipe of the first class said, whose settings were those of the paper's algorithm and of ours
    together.
    """
    ours = {
        "prompt": "", "text_guidance": 8.0, "guess": "none", "start": "picture", "start_level": 0.0,
        "fresh_noise": 0.0,
        "first": 899, "steps": 6, "recurrences": 0, "again": 1, "renoise": "latent", "output": "consistent",
        "guide_below": 1000, "guide_every": 1, "step": "line search", "scale": 1.0, "clamp": 1.0,
        "companion": "none",
        "width": 16, "psi_start": "exact", "features": "auto", "fit_pixel": 0.0, "fit_perceptual": 0.0,
        "fit_adversarial": 0.0, "fit_rate": 5e-4, "critic_rate": 4e-5, "perceptual": 0.0, "adversarial": 0.0,
        "brightness": 0.0, "patches": 16, "colour": 0.0, "quality_below": 100,
    }  # fmt: skip
    return ours | changes


def test_recipes_and_names_of_before():
    name, settings = resolve_settings("ld-rps", old_settings(guess="exposure"))
    solver = SOLVERS[name](**settings)
    # they undid what was told without looking for it
    assert solver == LDRPSFast(guess="exposure", act="always", all_steps_below=4.0)
    paper = {
        "start": "noise",
        "fresh_noise": 1.0,
        "output": "decoded",
        "step": "constant",
        "companion": "free",
        "psi_start": "random",
    }
    name, settings = resolve_settings("ld-rps", old_settings(**paper))
    assert name == "ld-rps-paper" and SOLVERS[name](**settings).estimate == "proper"
    with pytest.raises(ValueError, match="The recipe sets recurrences, which LD-RPS no longer offers"):
        resolve_settings("ld-rps", old_settings(recurrences=1))
    before = {"guess": "auto", "all_steps_below": 4.0}  # of any picture
    assert resolve_settings("ld-rps", {"guess": "auto"}) == ("ld-rps", before)
    assert resolve_settings("ld-rps", before | {"all_steps_below": 0.5})[1]["all_steps_below"] == 0.5
    for preset in (
        "auto",
        "low-light",
        "dehaze",
        "denoise",
        "colorize",
        "low-light+denoise",
        "colorize+denoise",
        "paper",
        "paper dehaze",
    ):
        name, today = resolve("ld-rps", preset)
        assert today in ALL_PRESETS[name]


def test_what_is_told_is_undone_always_where_that_is_asked_for(photo):
    assert not first_guess(cat(), "exposure").dark and first_guess(cat(), "exposure", always=True).gain < 1
    assert (
        first_guess(photo, "veil").veil.max() == 0 and first_guess(photo, "veil", always=True).veil.max() > 0
    )
