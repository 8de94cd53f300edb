"""RELD's first image of a picture that was reduced and nothing else: SPAN, when and how, and its training."""

import json
import tarfile

import numpy as np
import pytest
import torch

from restoration.degradations.blur import GaussianBlur
from restoration.degradations.resampling import SuperResolution
from restoration.evaluation import metrics
from restoration.files.images import to_pil
from restoration.priors import eight_bits
from restoration.priors.span import BLOCKS, SPAN
from restoration.record import Run
from restoration.solvers import warm_start
from restoration.solvers.reld_fast import RELDFast
from restoration.training import data, span


@pytest.mark.parametrize("scale", [2, 4])
def test_it_enlarges_better_than_the_network_of_all_damages(scale, photo, monkeypatch):
    kind = SuperResolution(scale=scale)
    y = kind.forward(photo).clamp(0, 1)
    found = metrics.psnr(warm_start.first_image(kind, y).clamp(0, 1), photo)
    monkeypatch.setattr(warm_start, "ENLARGING", {})
    assert found > metrics.psnr(warm_start.first_image(kind, y).clamp(0, 1), photo)
    assert found > metrics.psnr(kind.start(y).clamp(0, 1), photo) + 0.8


@pytest.mark.parametrize(
    ("degradation", "used"),
    [
        (SuperResolution(scale=2), {"span-x2"}),
        (SuperResolution(scale=4, noise_std=1.0), {"span-x4"}),
        (SuperResolution(scale=4, noise_std=2.0), {"warm-start", "warm-start-quick"}),
        (SuperResolution(scale=3), {"warm-start", "warm-start-quick"}),
        (SuperResolution(scale=2, reduction="blur-decimate"), {"warm-start", "warm-start-quick"}),
        (GaussianBlur(), {"warm-start", "warm-start-quick"}),
    ],
)
def test_it_is_for_bicubic_reductions_without_noise(degradation, used):
    assert {folder.name for folder in warm_start.networks(degradation)} == used
    assert Run(RELDFast(), degradation).networks("abc").keys() == {"prior", *used}


def test_a_turned_picture_has_a_turned_result(photo):
    y = SuperResolution(scale=4).forward(photo).clamp(0, 1)
    once = warm_start.first_image(SuperResolution(), y)
    turned = warm_start.first_image(SuperResolution(), y.rot90(1, (2, 3)))
    assert torch.allclose(turned.rot90(-1, (2, 3)), once, atol=1e-4)


def test_a_large_picture_is_seen_once_and_its_tiles_are_not_seen(photo, monkeypatch):
    monkeypatch.setattr(warm_start, "LARGE", 0)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    y = SuperResolution(scale=4).forward(photo).clamp(0, 1)
    whole = warm_start.first_image(SuperResolution(), y)
    assert torch.equal(whole, warm_start.load_span(4)(y))
    monkeypatch.setattr(warm_start, "SMALL_TILE", 32)
    assert torch.allclose(warm_start.first_image(SuperResolution(), y), whole, atol=1e-4)


def test_what_lies_beyond_black_and_white_does_not_lead_it_astray(photo):
    y = SuperResolution(scale=2).forward((2 * photo - 0.5).clamp(0, 1))
    assert y.max() > 1 and y.min() < 0
    given, clipped = (warm_start.first_image(SuperResolution(scale=2), one) for one in (y, y.clamp(0, 1)))
    assert torch.equal(given, clipped)


def test_every_row_is_by_itself_and_grey_stays_nearly_grey(photo):
    y = SuperResolution(scale=2).forward(photo[..., :48, :64]).clamp(0, 1)
    rows = torch.cat([y, y.mean(1, keepdim=True).expand_as(y)])
    both = warm_start.first_image(SuperResolution(scale=2), rows)
    assert torch.allclose(both[:1], warm_start.first_image(SuperResolution(scale=2), y), atol=1e-5)
    assert (both[1] - both[1].mean(0)).abs().mean() < 1 / 255


def ncnn_files(folder, model):
    """What ncnn's converter writes of SPAN, as far as `published` reads it."""
    names = {ours: theirs for theirs, ours in span.OURS.items()} | {"conv_cat": "/conv_cat"}
    order = ["conv_1", *(f"blocks.{n}.c{c}" for n in range(BLOCKS) for c in (1, 2, 3))]
    lines, numbers = ["7767517", "MemoryData /mean 0 1 /mean 0=1 1=1 2=3"], np.zeros(3, "<f4").tobytes()
    state = model.state_dict()
    for name in [*order, "conv_2", "conv_cat", "upsampler"]:
        kernel, bias = (state[f"{name}.{part}"].numpy() for part in ("weight", "bias"))
        settings = f"0={len(bias)} 1={kernel.shape[-1]} 5=1 6={kernel.size}"
        lines.append(f"Convolution {names[name]}/Conv 1 1 in out {settings}")
        halves = kernel.astype("<f2").tobytes()
        numbers += span.HALVES.to_bytes(4, "little") + halves + bytes(-len(halves) % 4) + bias.tobytes()
    (folder / "net.param").write_text("\n".join(lines))
    (folder / "net.bin").write_bytes(numbers)
    return folder / "net.param"


def test_published_weights_are_read(tmp_path):
    torch.manual_seed(0)
    model = SPAN(scale=2, width=5)  # its first kernel has an odd number of values
    read = span.begun(ncnn_files(tmp_path, model))
    y = torch.rand(1, 3, 8, 8)
    assert (read.config.scale, read.config.width) == (2, 5)
    assert torch.allclose(read(y), model(y), atol=0.02 * model(y).std().item())
    whole = (tmp_path / "net.bin").read_bytes()
    for content, said in ((whole + b"1234", "another network"), (bytes(len(whole)), "half precision")):
        (tmp_path / "net.bin").write_bytes(content)
        with pytest.raises(ValueError, match=said):
            span.begun(tmp_path / "net.param")


def test_training_goes_on_from_it_and_says_how_good_it_is(tmp_path, photo, capsys):
    with tarfile.open(tmp_path / "photographs.tar", "w") as archive:
        for number in range(3):
            to_pil(photo).save(tmp_path / f"{number}.png")
            archive.add(tmp_path / f"{number}.png", f"{number}.png")
    (tmp_path / "start").mkdir()
    span.save(SPAN(scale=2, width=4), tmp_path / "start")
    options = f"--start {tmp_path / 'start'} --out {tmp_path / 'out'} --checkpoint {tmp_path / 'c.pt'}"
    sizes = "--steps 3 --holdout 1 --batch 2 --crop 32 --device cpu"
    span.main([str(tmp_path / "photographs.tar"), *options.split(), *sizes.split()])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["step"] == 3 and {"whole", "reduced", "whole_bicubic", "reduced_bicubic"} <= line.keys()
    assert eight_bits.read(SPAN, tmp_path / "out").config.width == 4


def test_half_of_the_first_weights_are_kept():
    before, after = SPAN(width=4), SPAN(width=4)
    mean = span.averaged(after, before.state_dict())
    assert torch.allclose(mean.conv_1.weight, (before.conv_1.weight + after.conv_1.weight) / 2)


def test_crops_are_reduced_where_that_is_wanted():
    coordinates = torch.arange(64).expand(3, 64, 64).mul(4).byte()
    plain = data.random_crops([coordinates], 40, 32, 0, 0)
    assert torch.equal(plain, data.random_crops([coordinates], 40, 32, 0, 0, reduced=0.0))
    reduced = data.random_crops([coordinates], 40, 32, 0, 0, reduced=0.5)
    spans = [(crop.amax() - crop.amin()).item() * 127.5 / 4 for crop in reduced]
    share = sum(span > 32 for span in spans) / len(spans)
    assert reduced.shape == plain.shape and 0.25 < share < 0.75 and max(spans) < 64
    whole = data.random_crops([coordinates], 4, 64, 0, 0, reduced=1.0)  # nothing to reduce it from
    assert all(torch.equal(crop.amax(), plain.new_tensor(252 / 127.5 - 1)) for crop in whole)
