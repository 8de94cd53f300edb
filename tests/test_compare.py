from __future__ import annotations

import pytest
import torch

from restoration import pace
from restoration.degradations.blur import GaussianBlur
from restoration.files import images, recipe
from restoration.page import compare, compare_actions, compare_cells, compare_choices, inspection, sizes
from restoration.run import restore
from restoration.solvers.reld_fast import RELDFast


def steps_of(job, prior):
    yield from restore(job.y, job.run, prior, reference=job.reference)


RELD, LD_RPS, INDIGO = ("reld", "fast"), ("ld-rps", "denoise"), ("latent-indigo", "faithful")


def compared(prior, picture, damage, runs, seeds=1):
    """All states of a comparison."""
    return list(compare.compare(picture, damage, runs, seeds, {"embedded": lambda: prior}, steps_of))


def test_spread_of_known_pictures():
    a = torch.zeros(1, 3, 8, 8)
    b = a.clone()
    b[..., 2, 3] = 1.0
    mean, heat, top = compare_cells.spread([a, b])
    assert torch.equal(mean, b / 2) and top == 0.5
    assert heat.shape == a.shape and heat[0, :, 2, 3].sum() > heat[0, :, 0, 0].sum()


def test_the_best_of_every_metric_is_starred():
    x = torch.zeros(1, 3, 8, 8)
    cells = [
        compare_cells.Cell("clean", x, {}),
        compare_cells.Cell("a", x, {"PSNR": 20.0, "NIQE (own fit)": 3.0}),
        compare_cells.Cell("b", x, {"PSNR": 21.0, "NIQE (own fit)": 4.0, "seconds": 1.0}),
    ]
    table = compare_cells.score_table(cells)
    assert table["picture"] == ["a", "b"]
    assert table["PSNR ↑"] == ["20.000", "21.000 ★"]
    assert table["NIQE (own fit) ↓"] == ["3.000 ★", "4.000"]
    assert table["seconds ↓"] == ["–", "1.000"]


def test_a_comparison_and_who_takes_no_part(tiny_prior, photo):
    """Of tries that differ their mean and where; of those that do not, that they do not."""
    states = compared(tiny_prior, photo[..., :64, :64], "noise", [RELD, LD_RPS, INDIGO], seeds=2)
    titles = [cell.title for cell in states[-1].cells]
    assert titles[:3] == ["clean", "input", "classical: non-local means"]
    assert titles[3].startswith("classical: total variation ")  # one of its weights
    assert titles[4:6] == ["LD-RPS · denoise · seed 0", "LD-RPS · denoise · seed 1"]
    random = "LatentINDIGO · faithful"
    assert titles[6:9] == [
        f"LatentINDIGO · faithful · {one}" for one in ("seed 0", "seed 1", "mean of seeds")
    ]
    assert titles[9].startswith(f"{random} · where seeds differ") and len(titles) == 10
    assert states[-1].note.count("all its tries are the same picture") == 1
    assert states[-1].cells[2].scores["PSNR"] > states[-1].cells[1].scores["PSNR"]
    assert (
        "RELD must be told the damage" in states[-1].note
        and "round trip of the clean picture: " in states[-1].note
    )
    shares = [state.share for state in states]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_what_is_compared_with_is_seen_at_once(tiny_prior, photo):
    """While the first run goes on: of a large photograph it takes a minute."""
    loads = {"embedded": lambda: tiny_prior}
    first = next(compare.compare(photo[..., :64, :64], "noise", [INDIGO], 1, loads, steps_of))
    assert first.new and [cell.title for cell in first.cells][:2] == ["clean", "input"]
    assert "★" not in compare_cells.grid([cell.figure for cell in first.cells])  # nothing to be better than


def test_a_photograph_that_is_damaged_already(tiny_prior, photo):
    """It stays as it is; what RELD is told was measured; the scores are those that need no clean picture."""
    noisy = (photo + 0.1 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    states = compared(tiny_prior, noisy, compare_choices.REAL, [RELD, LD_RPS])
    cells = states[-1].cells
    assert [cell.title for cell in cells] == [
        "input",
        "classical: non-local means",
        "RELD · fast",
        "LD-RPS · denoise",
    ]
    assert (cells[0].image - noisy).abs().max() < 0.5001 / 255
    assert all(set(cell.scores) <= {"NIQE (own fit)", "consistency", "seconds"} for cell in cells)
    assert "consistency" in cells[2].scores and "was told: noise or grain." in states[-1].note
    assert "round trip" not in states[-1].note
    assert {state.note for state in states[:-1]} == {"RELD · fast", "LD-RPS · denoise"}
    assert compare_cells.won(cells[0], cells) == []  # noise is not natural


def test_the_download_repeats_every_run(tiny_prior, photo, tmp_path):
    from zipfile import ZipFile

    from restoration.files import recipe

    cells = compared(tiny_prior, photo[..., :64, :64], "denoise", [RELD], seeds=2)[-1].cells
    compare_cells.archive([cell.figure for cell in cells], str(tmp_path / "all.zip"))
    with ZipFile(tmp_path / "all.zip") as file:
        file.extractall(tmp_path)
        names = file.namelist()
    assert len(names) == len(cells) + 2 and "contact-sheet.png" in names
    runs = [name for name in names if "RELD-fast-seed" in name]
    assert [recipe.read(tmp_path / name)["seed"] for name in runs] == [0, 1]
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 1 + sum(
        bool(cell.scores) for cell in cells
    )


def test_a_blurred_photograph_is_foretold_all_of_reld(photo, tmp_path, monkeypatch):
    """One iteration is enough for noise, not for blur, which is known once the page has looked at it."""
    monkeypatch.setattr(pace, "PACES", {})
    path = str(tmp_path / "blurred.png")
    y = GaussianBlur(std=2.5, noise_std=0).degrade(photo, torch.Generator().manual_seed(0))
    recipe.save_png(images.quantise(y), path, {})
    asked = path, compare_choices.REAL, ["reld · fast"], 1, ["embedded"]
    before = compare_actions.needed_seconds(*asked)
    inspection.inspect(path, sizes.QUICK)
    assert compare_actions.needed_seconds(*asked) == pytest.approx(
        RELDFast().iterations(GaussianBlur()) * before
    )


def test_methods_that_do_not_enlarge_say_so(tiny_prior, photo):
    states = compared(tiny_prior, photo[..., :64, :64], "super-resolution", [RELD, LD_RPS])
    assert [cell.title for cell in states[-1].cells] == ["clean", "input", "RELD · fast"]
    assert "LD-RPS does not enlarge" in states[-1].note


def test_a_known_damage_has_its_classical_method(tiny_prior, photo):
    """Of several Wiener balances the best one."""
    for damage, name in (("denoise", "non-local means"), ("deblur", "Wiener 0.")):
        cells = compared(tiny_prior, photo[..., :64, :64], damage, [RELD])[-1].cells
        assert [cell.title.startswith(f"classical: {name}") for cell in cells] == [False, False, True, False]
        assert cells[2].scores["PSNR"] > cells[1].scores["PSNR"]


def test_a_comparison_takes_each_choice_once():
    one, other = compare_choices.choices()[:2]
    runs, seeds, priors = compare_choices.checked("denoise", [one, other, one] * 300, 2.0, ["embedded"] * 9)
    assert [compare_choices.SEPARATOR.join(run) for run in runs] == [one, other]
    assert seeds == 2 and priors == ["embedded"]
    for wrong in (("denoise", ["x"], 1), ("x", [one], 1), ("denoise", [one], 9), ("denoise", [one], 1.5),
    ("denoise", {one: 1}, 1),
                  ("denoise", [[one]], 1), ([], [one], 1),
                   ("denoise", [one], True), ("denoise", [one], None)):  # fmt: skip
        with pytest.raises(ValueError):
            compare_choices.checked(*wrong, ["embedded"])
    for wrong in ([], ["x"], "embedded", [["embedded"]], None, {"embedded": 1}):
        with pytest.raises(ValueError, match="prior"):
            compare_choices.checked("denoise", [one], 1, wrong)


def test_every_prior_has_its_results_and_an_absent_one_takes_no_part(tiny_prior, photo):
    def absent():
        raise OSError("The Hub does not answer.")

    priors = {"embedded": lambda: tiny_prior, "sd-1.5": absent, "sd-turbo": lambda: tiny_prior}
    *_, last = compare.compare(photo[..., :64, :64], "denoise", [RELD], 1, priors, steps_of)
    titles = [cell.title for cell in last.cells]
    assert titles[-2:] == ["RELD · fast · embedded", "RELD · fast · sd-turbo"] and len(titles) == 5
    assert "RELD · fast · sd-1.5 took no part: The Hub does not answer." in last.note
    assert "sd-turbo's round trip" in last.note


def test_the_download_without_the_photograph(tiny_prior, photo, tmp_path):
    from zipfile import ZipFile

    cells = compared(tiny_prior, photo[..., :64, :64], "denoise", [RELD])[-1].cells
    compare_cells.archive(
        compare_cells.results_alone([cell.figure for cell in cells]), str(tmp_path / "results.zip")
    )
    with ZipFile(tmp_path / "results.zip") as file:
        names = file.namelist()
        assert "input" not in file.read("scores.csv").decode()
    assert len(names) == 4 and not any("clean" in name or "input" in name for name in names)
