"""A folder of pictures: nothing is lost, nothing is done twice, and bad pictures stop nothing."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import contents, picture, save_prior
from PIL import Image
from safetensors.torch import load_file, save_file

from restoration.commands import batch, batch_folder
from restoration.files import recipe

TASK = ["--task", "denoise", "--set", "steps=3"]


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> str:
    return save_prior(tmp_path_factory.mktemp("prior"))


@pytest.fixture
def folder(tmp_path) -> Path:
    for number, name in enumerate(["a.png", "b.jpg", "deep/er/a.png"]):
        picture(tmp_path / "in" / name, number)
    return tmp_path / "in"


def rows(output: Path) -> dict[str, dict[str, str]]:
    with open(output / batch_folder.TABLE, newline="") as file:
        return {row["picture"]: row for row in csv.DictReader(file)}


def test_each_picture_has_its_result_with_recipe_and_scores(folder, prior, tmp_path, capsys):
    out = tmp_path / "out"
    assert batch.main([str(folder), str(out), "--prior", prior, *TASK]) == 0
    assert contents(out).keys() == {"a.png", "b.png", "deep/er/a.png", batch_folder.TABLE}
    said = recipe.read_png(out / "deep/er/a.png")
    assert said["task"] == "denoise" and said["settings"]["steps"] == 3
    assert (
        float(rows(out)["b.jpg"]["consistency"])
        == recipe.read_png(out / "b.png", recipe.SCORES)["consistency"]
    )
    assert "3 of 3 pictures restored, 0 of them before" in capsys.readouterr().out


def test_blind_solvers_and_references(folder, prior, tmp_path):
    out = tmp_path / "out"
    options = ["--solver", "ld-rps", "--set", "steps=2", "--reference", str(folder), "--prior", prior]
    assert batch.main([str(folder), str(out), *options]) == 0
    assert float(rows(out)["a.png"]["PSNR"]) > 0
    assert recipe.read_png(out / "a.png")["task"] == "blind"


def test_a_recipe_says_everything(folder, prior, tmp_path, capsys):
    batch.main([str(folder), str(tmp_path / "one"), "--prior", prior, "--seed", "3", *TASK])
    options = ["--recipe", str(tmp_path / "one" / "a.png")]
    assert batch.main([str(folder), str(tmp_path / "two"), *options]) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert batch.main([str(folder), str(tmp_path / "three"), *options, "--seed", "1"]) == 2
    assert "leave out --seed" in capsys.readouterr().err


def test_bad_pictures_are_listed_and_stop_nothing(folder, prior, tmp_path, capsys):
    (folder / "c.png").write_bytes(b"nonsense")
    (folder / "cut.jpg").write_bytes((folder / "b.jpg").read_bytes()[:300])
    picture(folder / "small.png", side=8)
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    out = tmp_path / "out"
    assert batch.main([str(folder), str(out), "--prior", prior, *TASK]) == 1
    table, printed = rows(out), capsys.readouterr().err
    for name, why in {
        "c.png": "not a picture",
        "cut.jpg": "cut off",
        "small.png": "8×8",
        "photo.heic": "cut off",
    }.items():
        assert (
            why in table[name]["error"]
            and not table[name]["result"]
            and f"{name}: {table[name]['error']}" in printed
        )
    assert contents(out).keys() == {"a.png", "b.png", "deep/er/a.png", batch_folder.TABLE}
    picture(folder / "c.png")
    for name in ("cut.jpg", "small.png", "photo.heic"):
        (folder / name).unlink()
    assert batch.main([str(folder), str(out), "--prior", prior, *TASK]) == 0
    assert "4 of 4 pictures restored, 3 of them before" in capsys.readouterr().out


def test_an_accelerator_out_of_memory_stops_nothing(folder, prior, tmp_path, monkeypatch):
    original = batch.restore

    def sometimes(y, *rest, **options):
        if y.shape[-1] == 40:
            raise torch.OutOfMemoryError("out of memory")
        return original(y, *rest, **options)

    picture(folder / "large.png", side=40)
    monkeypatch.setattr(batch, "restore", sometimes)
    assert batch.main([str(folder), str(tmp_path / "out"), "--prior", prior, *TASK]) == 1
    assert (
        rows(tmp_path / "out")["large.png"]["error"]
        == "Memory ran out; take a smaller picture, or close other programs"
    )
    assert (tmp_path / "out" / "deep/er/a.png").exists()


def test_a_full_disk_ends_the_run_and_the_next_goes_on(folder, prior, tmp_path, monkeypatch, capsys):
    whole, out, flush, calls = tmp_path / "whole", tmp_path / "out", os.fsync, []
    batch.main([str(folder), str(whole), "--prior", prior, *TASK])

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert batch.main([str(folder), str(out), "--prior", prior, *TASK]) == 1
    printed = capsys.readouterr().err
    assert "b.jpg: The disk is full" in printed and "deep/er/a.png: not reached" in printed
    assert contents(out).keys() == {"a.png"}  # nothing half-written, not even under another name
    assert batch.main([str(folder), str(out), "--prior", prior, *TASK]) == 0
    assert contents(out) == contents(whole)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, dtype=int)


def test_neighbours_of_equal_size_are_restored_together(folder, prior, tmp_path, monkeypatch):
    for number, (name, side) in enumerate(
        {"c.png": 32, "d.png": 40, "e.png": 32, "f.png": 32, "g.png": 32}.items(), 3
    ):
        picture(folder / name, number, side)
    (folder / "f2.png").write_bytes(b"nonsense")
    together, sizes = batch.restore_together, []
    monkeypatch.setattr(
        batch,
        "restore_together",
        lambda ys, *rest, **options: sizes.append(len(ys)) or together(ys, *rest, **options),
    )
    options = [
        "--prior",
        prior,
        "--task",
        "deblur",
        "--set",
        "renoise=1",
        "steps=12",
        "--reference",
        str(folder),
    ]
    assert batch.main([str(folder), str(tmp_path / "one"), *options]) == 1
    assert not sizes
    assert batch.main([str(folder), str(tmp_path / "three"), "--batch", "3", *options]) == 1
    assert sizes == [3, 3]  # a, b, c · d of another size · deep/er/a, e, f · f2 that cannot be read · g
    assert rows(tmp_path / "three").keys() == rows(tmp_path / "one").keys()
    for name, row in rows(tmp_path / "one").items():
        same = rows(tmp_path / "three")[name]
        assert (same["result"], same["error"]) == (row["result"], row["error"])
        if row["result"]:
            one, three = tmp_path / "one" / row["result"], tmp_path / "three" / row["result"]
            assert (
                recipe.read_png(one) == recipe.read_png(three) and abs(pixels(one) - pixels(three)).max() <= 1
            )
            assert float(same["PSNR"]) == pytest.approx(float(row["PSNR"]), abs=0.01)


def test_a_picture_that_fails_in_a_batch_fails_alone(folder, prior, tmp_path, monkeypatch):
    for number in range(5):
        picture(folder / f"c{number}.png", 10 + number)
    shutil.copytree(folder, tmp_path / "clean")
    picture(tmp_path / "clean" / "c1.png", 0, side=40)
    original, tried = batch.restore_together, []

    def short(ys, *rest, **options):
        tried.append(len(ys))
        if len(ys) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return original(ys, *rest, **options)

    monkeypatch.setattr(batch, "restore_together", short)
    options = ["--prior", prior, *TASK, "--reference", str(tmp_path / "clean"), "--batch", "8"]
    assert batch.main([str(folder), str(tmp_path / "out"), *options]) == 1
    assert tried == [8, 4, 2, 2, 4, 2, 2]
    failed = {name: row["error"] for name, row in rows(tmp_path / "out").items() if row["error"]}
    assert failed.keys() == {"c1.png"} and "The reference is 40×40" in failed["c1.png"]


def test_a_batch_that_is_gone_on_with(folder, prior, tmp_path):
    for number in range(4):
        picture(folder / f"c{number}.png", 10 + number)
    options = ["--prior", prior, *TASK, "--batch", "4"]
    assert batch.main([str(folder), str(tmp_path / "out"), *options]) == 0
    before = {path: pixels(path) for path in (tmp_path / "out").rglob("*.png")}
    for name in ("a.png", "c2.png"):
        (tmp_path / "out" / name).unlink()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    assert batch.main([str(folder), str(tmp_path / "out"), *options]) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert all(abs(pixels(path) - was).max() <= 1 for path, was in before.items())


def test_leftovers_of_killed_runs_are_removed_and_those_of_a_running_one_are_not(folder, prior, tmp_path):
    out = tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    left = out / "deep" / f".left{recipe.UNFINISHED}"
    left.write_bytes(b"half a picture")
    with recipe.whole_file(out / "other.png") as file:
        file.write(b"half a picture")
        assert batch.main([str(folder), str(out), "--prior", prior, *TASK]) == 0
        assert not left.exists() and len(list(out.rglob(f".*{recipe.UNFINISHED}"))) == 1
    assert (out / "other.png").read_bytes() == b"half a picture"
    assert not list(out.rglob(f".*{recipe.UNFINISHED}"))


def test_a_result_that_was_cut_off_is_made_again(folder, prior, tmp_path, capsys):
    arguments = [str(folder), str(tmp_path / "out"), "--prior", prior, *TASK]
    assert batch.main(arguments) == 0
    before, path = contents(tmp_path / "out"), tmp_path / "out" / "b.png"
    path.write_bytes(path.read_bytes()[:-500])
    assert batch.main([*arguments, "--seed", "1"]) == 2  # nothing of another run is removed
    assert path.exists() and batch.main(arguments) == 0
    assert contents(tmp_path / "out") == before and "2 of them before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, f, o: [str(f / "nowhere"), *a[1:]], "is not a folder"),
        (lambda a, f, o: [a[0], str(f / "out"), *a[2:]], "outside each other"),
        (lambda a, f, o: [*a[:4], "--set", "nonsense=1", "--task", "denoise"], "No setting nonsense"),
        (lambda a, f, o: [*a[:4]], "give --task"),
        (lambda a, f, o: [*a, "--solver", "ld-rps"], "leave out --task denoise"),
        (
            lambda a, f, o: [*a[:4], "--solver", "ld-rps", "--batch", "4"],
            "LD-RPS restores one picture at a time with these settings; leave out --batch 4",
        ),
        (lambda a, f, o: [*a, "--batch", "0"], "--batch is 0; it must be at least 1"),
        (lambda a, f, o: [*a[:2], "--prior", "nowhere", *TASK], "No prior 'nowhere'"),
        (lambda a, f, o: [*a[:2], "--recipe", str(f / "a.png")], "carries no recipe"),
    ],
)
def test_bad_arguments_are_one_line(folder, prior, tmp_path, capsys, change, words):
    arguments = [str(folder), str(tmp_path / "out"), "--prior", prior, *TASK]
    assert batch.main(change(arguments, folder, tmp_path)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "it/s]" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]


def test_an_output_of_other_settings_is_left_alone(folder, prior, tmp_path, capsys):
    out = tmp_path / "out"
    batch.main([str(folder), str(out), "--prior", prior, *TASK])
    before = contents(out)
    picture(folder / "new.png")
    assert batch.main([str(folder), str(out), "--prior", prior, "--seed", "1", *TASK]) == 2
    assert "was made with other seed" in capsys.readouterr().err
    picture(out / "new.png")
    for said in (None, [1], "x"):
        if said:
            recipe.save_png(torch.rand(1, 3, 32, 32), out / "new.png", said)
        assert batch.main([str(folder), str(out), "--prior", prior, *TASK]) == 2
        assert "was not written by this command" in capsys.readouterr().err
    (out / "new.png").unlink()
    assert contents(out) == before


def test_other_weights_are_told_and_never_mixed(folder, prior, tmp_path, capsys):
    own, out = tmp_path / "prior", tmp_path / "out"
    shutil.copytree(prior, own)
    options = ["--prior", str(own), *TASK]
    assert batch.main([str(folder), str(out), *options]) == 0
    weights = own / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor + 0.01 for name, tensor in tensors.items()}, weights)
    picture(folder / "new.png")
    assert batch.main([str(folder), str(out), *options]) == 2
    assert "was made with other weights; choose another OUTPUT." in capsys.readouterr().err
    assert batch.main([str(folder), str(tmp_path / "again"), "--recipe", str(out / "a.png")]) == 0
    assert "The weights of prior are not those that the recipe was written with" in capsys.readouterr().err
    (tmp_path / "old").mkdir()
    said = recipe.read(tmp_path / "again" / "a.png")
    del said["weights"]  # as before recipes knew them
    (tmp_path / "old.json").write_text(json.dumps(said))
    recipe.save_png(torch.rand(1, 3, 32, 32), tmp_path / "old" / "a.png", said, {})
    assert batch.main([str(folder), str(tmp_path / "old"), "--recipe", str(tmp_path / "old.json")]) == 0
    assert "weights" not in capsys.readouterr().err


def test_what_is_no_readable_picture_is_named_and_any_name_has_its_row(folder, prior, tmp_path):
    Image.new("RGB", (24, 24)).save(folder / "c.jfif", "JPEG")
    (folder / "d.JP2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40)
    (folder / "desktop.ini").write_text("no picture")
    shutil.copy(folder / "a.png", os.fsencode(folder) + b"/\xff.png")
    out = tmp_path / "out"
    assert batch.main([str(folder), str(out), "--prior", prior, *TASK]) == 1
    table = rows(out)
    assert (
        "JPEG 2000" in table["d.JP2"]["error"]
        and table["c.jfif"]["result"]
        and table["\\udcff.png"]["result"]
    )
    assert len(table) == 6 and os.path.exists(os.fsencode(out) + b"/\xff.png")


def test_transparency_and_large_pictures(folder, prior, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("restoration.files.sizes.MAX_PIXELS", 900)
    clear = Image.new("RGBA", (60, 60), (200, 0, 0, 255))
    clear.paste((0, 0, 0, 0), (0, 0, 30, 60))
    clear.save(folder / "clear.png")
    assert batch.main([str(folder), str(tmp_path / "out"), "--prior", prior, *TASK]) == 0
    with Image.open(tmp_path / "out" / "clear.png") as made:
        assert made.mode == "RGBA" and made.size == (30, 30)
        assert np.asarray(made)[..., 3][:, [3, 27]].tolist() == [[0, 255]] * 30
    assert (
        "clear.png: 60×60 pixels, laid over white where transparent, reduced to 30×30"
        in capsys.readouterr().err
    )


def test_an_output_that_cannot_be_written_is_said_before_computing(
    folder, prior, tmp_path, monkeypatch, capsys
):
    out, original = tmp_path / "out", open
    out.mkdir()

    def read_only(path, mode="r", *rest, **options):
        if "x" in mode:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return original(path, mode, *rest, **options)

    monkeypatch.setattr("builtins.open", read_only)
    monkeypatch.setattr(batch, "load_prior", None)
    assert batch.main([str(folder), str(out), "--prior", prior, *TASK]) == 2
    assert "Nothing can be written in" in capsys.readouterr().err
