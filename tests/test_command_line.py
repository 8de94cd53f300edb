from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from restoration.commands.batch import main as batch
from restoration.commands.benchmark import main as benchmark
from restoration.commands.cli import parse_settings
from restoration.commands.restore import main
from restoration.commands.timings import main as timings
from restoration.files import images, recipe
from restoration.priors.latent import load_prior


def test_a_picture_is_restored_and_repeats(tmp_path, photo, capsys):
    recipe.save_png(photo, tmp_path / "in.png", {})
    arguments = [str(tmp_path / "in.png"), "--task", "denoise", "--set", "noise_std=10"]
    assert main([*arguments, "-o", str(tmp_path / "a.png")]) == 0
    assert main([*arguments, "-o", str(tmp_path / "b.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert recipe.read_png(tmp_path / "a.png")["degradation"]["noise_std"] == 10
    assert main(["--recipe", str(tmp_path / "a.png"), "-o", str(tmp_path / "c.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    assert "96×96" in capsys.readouterr().out


def test_a_recipe_of_other_weights_is_repeated_with_a_word_about_it(tmp_path, photo, capsys, monkeypatch):
    recipe.save_png(photo, tmp_path / "in.png", {})
    assert main([str(tmp_path / "in.png"), "--task", "denoise", "-o", str(tmp_path / "a.png")]) == 0
    assert main(["--recipe", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]) == 0
    assert "weights" not in capsys.readouterr().err
    monkeypatch.setattr(load_prior("embedded"), "weights", "others")
    assert main(["--recipe", str(tmp_path / "a.png"), "-o", str(tmp_path / "c.png")]) == 0
    assert capsys.readouterr().err.count("The weights of prior are not those") == 1
    assert recipe.read(tmp_path / "c.png")["weights"] == {"prior": "others"}


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(b"nonsense")
    assert main([str(tmp_path / "x.png"), "--task", "denoise", "-o", str(tmp_path / "o.png")]) == 2
    assert (
        main(
            [
                str(tmp_path / "x.png"),
                "--task",
                "denoise",
                "--set",
                "nonsense=1",
                "-o",
                str(tmp_path / "o.png"),
            ]
        )
        == 2
    )
    assert main(["-o", str(tmp_path / "o.png")]) == 2
    assert main(["--recipe", str(tmp_path / "x.png"), "-o", str(tmp_path / "o.png")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 4 and all(line.startswith("error: ") for line in lines)


@pytest.mark.parametrize(
    "more", [["--set", "steps=2.5"], ["--seed", "99999999999999999999"], ["--seed", "-1"]]
)
def test_bad_options_are_one_sentence_of_every_command(tmp_path, photo, capsys, more):
    (tmp_path / "in").mkdir()
    recipe.save_png(photo, tmp_path / "in" / "in.png", {})
    options = ["--task", "denoise", *more]
    for command, arguments in {
        main: [str(tmp_path / "in" / "in.png"), "-o", str(tmp_path / "o.png")],
        batch: [str(tmp_path / "in"), str(tmp_path / "out")],
        benchmark: ["--clean", str(tmp_path / "in")],
    }.items():
        assert command([*arguments, *options]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ") and "whole number" in lines[0]


def test_inpainting_a_photograph_needs_a_mask(tmp_path, photo, capsys):
    recipe.save_png(photo, tmp_path / "photo.png", {})
    options = [str(tmp_path / "photo.png"), "--task", "inpaint", "-o", str(tmp_path / "out.png")]
    assert main(options) == 2 and "which pixels are missing" in capsys.readouterr().err
    Image.fromarray(np.uint8([[0] * 96] * 90 + [[255] * 96] * 6)).save(tmp_path / "mask.png")
    assert main([*options, "--set", f"mask={tmp_path / 'mask.png'}", "steps=1"]) == 0
    assert "warning: 94% of the pixels are missing" in capsys.readouterr().err


def test_settings_by_name():
    assert parse_settings(["steps=3", "std=1e-1", "start=noise", "prompt=2024", "mask=1"]) == {
        "steps": 3, "std": 0.1, "start": "noise", "prompt": "2024", "mask": "1"
    }  # fmt: skip


def test_where_nothing_can_be_written_nothing_is_computed(tmp_path, photo, capsys, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "file").touch()
    recipe.save_png(photo, tmp_path / "in" / "in.png", {})
    monkeypatch.setattr("restoration.commands.benchmark_methods.restore", None)
    monkeypatch.setattr("restoration.run.restore", None)
    one, many = (
        [str(tmp_path / "in" / "in.png"), "--task", "denoise"],
        ["--clean", str(tmp_path / "in"), "--task", "denoise"],
    )
    for command, arguments, words in (
        (main, [*one, "-o", str(tmp_path / "nowhere" / "x.png")], "there is no folder"),
        (main, [*one, "-o", str(tmp_path / "in")], "is a folder"),
        (benchmark, [*many, "--json", str(tmp_path / "nowhere" / "x.json")], "there is no folder"),
        (benchmark, [*many, "--pictures", str(tmp_path / "file")], "File exists"),
        (timings, ["--json", str(tmp_path / "in")], "is a folder"),
    ):
        assert command(arguments) == 2
        error = capsys.readouterr().err.strip()
        assert (
            error.startswith("error: ")
            and words in error
            and recipe.UNFINISHED not in error
            and "\n" not in error
        )


def test_blind_solvers_need_no_task(tmp_path, photo, capsys):
    (tmp_path / "clean").mkdir()
    for path in ("in.png", "clean/a.png"):
        recipe.save_png(photo[..., :48, :48], tmp_path / path, {})
    assert main([str(tmp_path / "in.png"), "--solver", "ld-rps", "-o", str(tmp_path / "a.png")]) == 0
    assert recipe.read_png(tmp_path / "a.png")["task"] == "blind"
    blind = [
        "--clean",
        str(tmp_path / "clean"),
        "--solver",
        "ld-rps",
        "--preset",
        "denoise",
        "--task",
        "noise",
    ]
    assert benchmark(blind) == 0
    out = capsys.readouterr().out
    assert "| non-local means |" in out and "above the input's: 1 of 1" in out
    assert main([str(tmp_path / "in.png"), "--task", "noise", "-o", str(tmp_path / "b.png")]) == 2
    assert benchmark([*blind[:-1], "denoise"]) == 0 and benchmark(blind[:-2]) == 2
    assert "must be told the degradation" in capsys.readouterr().err


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, restoration; assert not {'torch', 'diffusers', 'gradio', 'deepinv'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_command_for_all(capsys):
    from restoration.commands import main as console

    assert console.main(["--help"]) == console.main([]) == 0
    overview = capsys.readouterr().out
    assert all(f"\n  {name} " in overview for name in [*console.COMMANDS, "train"])
    assert console.main(["train"]) == 2 and console.main(["train", "--help"]) == 0
    for name in [*console.COMMANDS, *(f"train {network}" for network in console.TRAINING)]:
        capsys.readouterr()
        with pytest.raises(SystemExit, match="0"):
            console.main([*name.split(), "--help"])
        told = capsys.readouterr().out
        assert f"usage: latent-restoration {name} " in told and "(default: " in told
        assert f"\nexample:\n  latent-restoration {name} " in told


def test_the_word_restore_may_be_left_out(tmp_path, photo):
    from restoration.commands import main as console

    recipe.save_png(photo[..., :48, :48], tmp_path / "in.png", {})
    for word in (["restore"], []):
        out = tmp_path / f"{len(word)}.png"
        assert (
            console.main(
                [*word, str(tmp_path / "in.png"), "--task", "denoise", "--set", "steps=1", "-o", str(out)]
            )
            == 0
        )
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_a_jpeg_is_a_jpeg_and_settings_leave_the_photo(tmp_path, photo, capsys):
    recipe.save_png(photo[..., :64, :64], tmp_path / "in.png", {})
    arguments = ["--task", "denoise", "--set", "noise_std=10", str(tmp_path / "in.png")]
    assert main(["-o", str(tmp_path / "a.jpg"), *arguments]) == 0
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.format == "JPEG" and picture.size == (64, 64)
    said = capsys.readouterr()
    assert "Read: 64×64 pixels" in said.err and "noise level" in said.out
    assert main(["-o", str(tmp_path / "a.webp"), *arguments]) == 2
    assert "results are PNG or JPEG" in capsys.readouterr().err and not (tmp_path / "a.webp").exists()


def test_what_jpeg_left_is_not_enlarged_unless_told(tmp_path, photo, capsys):
    images.to_pil(photo[..., 8:88, 8:88]).save(tmp_path / "y.jpg", quality=40)

    def noise(*more: str) -> float:
        command = [str(tmp_path / "y.jpg"), "--task", "super-resolution", "-o", str(tmp_path / "x.png")]
        assert main([*command, "--set", "steps=1", "scale=2", *more]) == 0
        return recipe.read(tmp_path / "x.png")["degradation"]["noise_std"]

    assert noise() > 10 and "noise_std=" in capsys.readouterr().err
    assert noise("noise_std=1") == 1
