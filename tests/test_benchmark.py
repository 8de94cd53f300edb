"""Tables: what they hold, that they grow without computing anything twice, and that they refuse to mix."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from restoration.commands import benchmark, benchmark_methods, benchmark_pictures
from restoration.commands.benchmark_methods import classical
from restoration.degradations.linear import TASKS
from restoration.evaluation import baselines
from restoration.evaluation.report import CELL
from restoration.files import recipe
from restoration.files.images import read_image
from restoration.priors.diffusers_folder import Checkpoint


@pytest.fixture
def clean(tmp_path, photo) -> Path:
    (tmp_path / "clean").mkdir()
    recipe.save_png(photo, tmp_path / "clean" / "a.png", {})
    recipe.save_png(photo.flip(-1), tmp_path / "clean" / "b.png", {})
    return tmp_path / "clean"


def arguments(clean: Path, *more: str) -> list[str]:
    return [
        "--clean",
        str(clean),
        "--task",
        "denoise",
        "--crop",
        "64",
        "--json",
        str(clean.parent / "s.json"),
        *more,
    ]


def figures(clean: Path) -> dict:
    return json.loads((clean.parent / "s.json").read_text())


def test_a_table_beside_baselines_and_published_rows(clean, capsys):
    assert benchmark.main(arguments(clean, "--published", "Kodak24", "--seed", "5")) == 0
    found, printed = figures(clean), capsys.readouterr().out
    assert found["mean"]["result"]["PSNR"] > found["mean"]["input"]["PSNR"] + 4
    assert (
        found["mean"].keys() == {"input", "non-local means (noise 25)", "result"}
        and "seconds" in found["mean"]["result"]
    )
    assert found["images"][0]["result"] == found["images"][0]["RELD fast"] and found["settings"]["seed"] == 5
    assert [row["name"] for row in found["images"]] == ["a.png", "b.png"]
    assert found["methods"]["RELD fast"]["seed"] == 5 and "torch" in found["methods"]["RELD fast"]["versions"]
    assert (
        "| non-local means (noise 25) | measured | " in printed
        and "| LD-RPS | published | 28.640 | – | – | 0.841 |" in printed
    )
    assert "Means over 2 pictures, seed 5; 6 figures computed now. torch " in printed


def test_a_second_run_adds_and_computes_nothing_twice(clean, capsys, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(baselines, "non_local_means", lambda y, _: calls.append(recipe.fingerprint(y)) or y)
    assert benchmark.main(arguments(clean, "--limit", "1")) == 0
    first = figures(clean)
    assert benchmark.main(arguments(clean)) == 0  # one picture more
    assert benchmark.main(arguments(clean, "--set", "steps=2")) == 0  # one method more
    assert benchmark.main(arguments(clean, "--set", "steps=2")) == 0  # nothing more
    assert [
        line.split("; ")[1].split(" ")[0] for line in capsys.readouterr().out.splitlines() if "Means" in line
    ] == ["3", "3", "2", "0"]
    assert len(calls) == len(set(calls)) == 2
    assert figures(clean)["rows"].keys() == {
        "input",
        "non-local means (noise 25)",
        "RELD fast",
        "RELD fast steps=2",
    }
    assert figures(clean)["images"][0]["RELD fast"] == first["images"][0]["RELD fast"]


def test_a_solver_with_new_weights_gets_a_row_of_its_own(clean, capsys, monkeypatch):
    def run(digest: str, *more: str) -> int:
        monkeypatch.setattr(Checkpoint, "weights", digest)
        code = benchmark.main(arguments(clean, "--limit", "1", *more))
        said = next((line for line in capsys.readouterr().out.splitlines() if "Means" in line), "; -1 ")
        return code or int(said.split("; ")[1].split(" ")[0])

    assert run("aaa") == 3
    assert run("bbb") == 1 and run("bbb") == 0 and run("aaa") == 0
    found = figures(clean)
    assert found["rows"].keys() == {
        "input",
        "non-local means (noise 25)",
        "RELD fast",
        "RELD fast, weights prior bbb",
    }
    assert found["methods"]["RELD fast, weights prior bbb"]["weights"] == {"prior": "bbb"}
    del found["methods"]["RELD fast"][
        "weights"
    ]  # as files were before the weights were in them: nobody knows which
    (clean.parent / "s.json").write_text(json.dumps(found))
    assert run("aaa") == 1 and "RELD fast, weights prior aaa" in figures(clean)["rows"]
    assert run("ccc", "--seed", "1") == 2


def test_an_interrupted_run_is_gone_on_with_and_spoils_no_table(clean, capsys, monkeypatch):
    original, calls = benchmark_methods.restore, []

    def interrupted(*rest, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(benchmark_methods, "restore", interrupted)
        with pytest.raises(KeyboardInterrupt):
            benchmark.main(arguments(clean))
    assert benchmark.main(arguments(clean, "--set", "steps=2")) == 0
    assert "RELD fast |" not in (printed := capsys.readouterr().out) and "Means over 2 pictures" in printed
    assert benchmark.main(arguments(clean)) == 0
    assert "RELD fast |" in (printed := capsys.readouterr().out) and "1 figures computed now" in printed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--crop", "48"], "holds data with other crop"),
        (["--set", "noise_std=10"], "holds data with other degraded here by"),
        (["--seed", "1"], "with other seed"),
        (["--enlarge", "2"], "is for blind solvers"),
    ],
)
def test_other_settings_are_refused(clean, capsys, change, words):
    benchmark.main(arguments(clean))
    before = figures(clean)
    assert benchmark.main(arguments(clean, *change)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and words in lines[0]
    assert figures(clean) == before


def test_another_picture_of_the_same_name_is_refused(clean, capsys):
    benchmark.main(arguments(clean))
    (clean / "b.png").rename(clean / "a.png")
    assert benchmark.main(arguments(clean)) == 2
    assert "holds a.png with other clean" in capsys.readouterr().err
    (clean.parent / "s.json").write_text("[]")
    assert benchmark.main(arguments(clean)) == 2
    assert "is not a file of benchmark scores" in capsys.readouterr().err


def test_pairs_go_by_name(clean, tmp_path, photo, capsys):
    (tmp_path / "dark").mkdir()
    recipe.save_png(photo * 0.3, tmp_path / "dark" / "a.jpg", {})  # another suffix, and a PNG inside
    recipe.save_png(photo.flip(-1) * 0.3, tmp_path / "dark" / "b.png", {})
    options = [
        "--input",
        str(tmp_path / "dark"),
        "--target",
        str(clean),
        "--task",
        "low-light",
        "--solver",
        "ld-rps",
        "--set",
        "steps=2",
    ]
    assert benchmark.main([*options, "--json", str(tmp_path / "p.json")]) == 0
    mirrored = [row["input"]["PSNR"] for row in json.loads((tmp_path / "p.json").read_text())["images"]]
    assert mirrored[0] == pytest.approx(mirrored[1], abs=0.01)
    assert (
        benchmark.main([*options, "--json", str(tmp_path / "p.json"), "--enlarge", "2"]) == 0
    )  # as LD-RPS takes its pictures
    assert json.loads((tmp_path / "p.json").read_text())["rows"]["LD-RPS auto steps=2 at ×2"]["ceiling"] > 30
    assert "| gamma + grey-world | measured |" in capsys.readouterr().out
    (tmp_path / "dark" / "b.png").rename(tmp_path / "dark" / "c.png")
    assert benchmark.main(options) == 2
    assert "1 of 2 clean pictures have not exactly one of the same name in" in capsys.readouterr().err


def test_pairs_are_cropped_alike(photo):
    clean = photo[..., :92, :]
    y = F.avg_pool2d(clean, 4)  # 23×24: the centre of an odd side is half a pixel off
    small, large = benchmark_pictures.crop_pair(y, clean, 64, 4)
    assert (
        small.shape[-2:] == (16, 16)
        and large.shape[-2:] == (64, 64)
        and torch.allclose(F.avg_pool2d(large, 4), small, atol=1e-6)
    )
    assert all(map(torch.equal, benchmark_pictures.crop_pair(y, clean, 10**6, 4), (y, clean)))
    with pytest.raises(
        ValueError, match="The clean picture is 96×92, the degraded one 24×23: not 2 times smaller"
    ):
        benchmark_pictures.crop_pair(y, clean, 64, 2)


def test_pairs_with_a_crop(clean, tmp_path, capsys):
    options = [
        "--input",
        str(clean),
        "--target",
        str(clean),
        "--solver",
        "ld-rps",
        "--set",
        "steps=2",
        "--json",
        str(tmp_path / "s.json"),
    ]
    assert benchmark.main([*options, "--crop", "48"]) == 0
    assert benchmark.main([*options, "--crop", "64"]) == 2 and "with other crop" in capsys.readouterr().err


def test_real_borders_are_the_inside_of_a_larger_crop(clean, tmp_path, capsys):
    options = [
        "--clean",
        str(clean),
        "--task",
        "motion-deblur",
        "--crop",
        "40",
        "--limit",
        "1",
        "--set",
        "size=9",
        "steps=2",
        "noise_std=0.0",
    ]
    assert benchmark.main([*options, "--border", "real", "--json", str(tmp_path / "real.json")]) == 0
    found = json.loads((tmp_path / "real.json").read_text())
    assert (
        found["data"]["degraded here by"]["border"] == "real"
        and not found["methods"]["RELD fast steps=2"]["periodic"]
    )
    assert benchmark.main([*options, "--json", str(tmp_path / "real.json")]) == 2
    assert "with other degraded here by" in capsys.readouterr().err
    args, task = argparse.Namespace(border="real", crop=40), TASKS["motion-deblur"](size=9, noise_std=0.0)
    scene = read_image(clean / "a.png")
    y, inside = benchmark_pictures.damaged(scene, task, args, 1, torch.Generator())
    assert torch.equal(inside, benchmark_pictures.crop_centre(scene, 40, 1))
    assert torch.allclose(
        y,
        benchmark_pictures.crop_centre(task.forward(benchmark_pictures.crop_centre(scene, 48, 1)), 40, 1),
        atol=0.6 / 255,
    )


@pytest.mark.parametrize("option", ["--crop", "--limit", "--enlarge"])
def test_counts_have_a_least_value(clean, capsys, option):
    assert benchmark.main(arguments(clean, option, "0")) == 2
    assert f"error: {option} is 0; it must be at least 1" in capsys.readouterr().err


def test_a_broken_picture_is_named_and_stops_nothing(clean, capsys):
    (clean / "broken.png").write_bytes(b"nonsense")
    (clean / "._a.png").write_bytes(b"a Mac's")
    assert benchmark.main(arguments(clean)) == 0
    said = capsys.readouterr()
    assert (
        "broken.png: broken.png is not a picture" in said.err
        and "._a.png" not in said.err
        and "Means over 2 pictures" in said.out
    )
    assert (
        benchmark.main(["--clean", str(clean), "--task", "kernel-deblur"]) == 2
    )  # not the pictures' fault: said once
    assert capsys.readouterr().err.count("needs a blur kernel") == 1
    for name in "ab":
        (clean / f"{name}.png").unlink()
    assert benchmark.main(arguments(clean)) == 2 and "None of the 1 pictures in" in capsys.readouterr().err


def test_a_blind_solver(tmp_path, photo, capsys):
    for name, picture in {"clean": photo, "small": F.avg_pool2d(photo, 4)}.items():
        (tmp_path / name).mkdir()
        recipe.save_png(picture, tmp_path / name / "a.png", {})
    blind = ["--solver", "latent-indigo", "--preset", "pixel", "--set", "start=enlarged", "steps=2"]
    drawn = ["--clean", str(tmp_path / "clean"), "--task", "camera-light", "--json", str(tmp_path / "s.json")]
    assert benchmark.main([*drawn, *blind]) == 0
    assert (
        figures(tmp_path / "clean")["images"][0]["scalars"]["LatentINDIGO pixel start=enlarged steps=2"][
            "residual"
        ]
        > 0
    )
    pairs = ["--input", str(tmp_path / "small"), "--target", str(tmp_path / "clean")]
    assert benchmark.main([*pairs, *blind]) == 0
    assert capsys.readouterr().out.count("| bicubic |") == 2
    assert benchmark.main([*drawn, "--solver", "reld"]) == 2
    assert benchmark.main([*drawn[:2], *blind]) == 2
    assert (
        "must be told the degradation" in (errors := capsys.readouterr().err) and "needs a --task" in errors
    )


def test_captions_of_a_folder(clean, capsys, monkeypatch):
    """Each picture is restored with its own text; other captions are not mixed into the row."""
    told = []
    monkeypatch.setattr(
        "restoration.commands.benchmark.solved",
        lambda run, args: told.append(run.solver.prompt) or classical(lambda y: y),
    )
    more = ("--prompts", str(clean.parent), "--solver", "ld-rps", "--preset", "denoise")
    assert benchmark.main(arguments(clean, *more)) == 2 and "2 of 2 captions" in capsys.readouterr().err
    (clean.parent / "a.txt").write_text("A red\n door\n")
    (clean.parent / "b.txt").write_text("Its mirror image")
    told.clear()
    assert benchmark.main(arguments(clean, *more)) == 0
    assert told == ["", "A red door", "Its mirror image"] and "with captions" in capsys.readouterr().out
    (clean.parent / "b.txt").write_text("Another")
    assert benchmark.main(arguments(clean, *more)) == 2
    assert benchmark.main(arguments(clean, "--prompts", str(clean.parent))) == 2
    assert "RELD does not" in capsys.readouterr().err


def test_the_contact_sheet(clean, tmp_path):
    folder = tmp_path / "pictures"
    assert benchmark.main(arguments(clean, "--pictures", str(folder))) == 0
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width == 4 * CELL and len(sheet.getcolors(10**6)) > 1000
    assert (
        benchmark.main(arguments(clean, "--set", "steps=2", "--name", "two/steps", "--pictures", str(folder)))
        == 0
    )
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width == 5 * CELL
    assert (folder / "two-steps" / "b.png").exists() and "two/steps" in figures(clean)["rows"]
