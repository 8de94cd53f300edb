"""The benchmark's file of scores, and the pictures it keeps."""

from __future__ import annotations

import json

import pytest
import torch

from restoration.evaluation.published import PUBLISHED
from restoration.evaluation.report import Report, keep_picture, table
from restoration.files.images import read_image


def test_two_runs_at_once_lose_nothing(tmp_path):
    path, data = tmp_path / "s.json", {"crop": 64}
    one, two = (Report(str(path), data, {"input": {}, name: {"seed": 0}}, name) for name in ("one", "two"))
    for report in (one, two):
        report.picture("a.png", {"clean": "x"})
        if not report.has("a.png", "input"):
            report.add("a.png", "input", {"PSNR": 20.0}, {})
        report.add("a.png", report.current, {"PSNR": 30.0}, {"residual": 1.0})
    one.picture("b.png", {"clean": "y"})
    one.add("b.png", "one", {"PSNR": 31.0}, {})
    found = json.loads(path.read_text())
    assert found["methods"].keys() == {"input", "one", "two"} and found["rows"].keys() == {
        "input",
        "one",
        "two",
    }
    assert found["images"][0].keys() >= {"input", "one", "two"} and found["images"][0]["scalars"].keys() == {
        "one",
        "two",
    }
    assert [row["name"] for row in found["images"]] == ["a.png", "b.png"]
    with pytest.raises(ValueError, match=r"holds b\.png with other clean"):
        two.picture("b.png", {"clean": "z"})
        two.add("b.png", "two", {"PSNR": 31.0}, {})


def test_kept_pictures_of_one_stem_are_two(tmp_path):
    for name, value in {"a.jpg": 0.0, "a.png": 1.0}.items():
        keep_picture(tmp_path, "x/y", name, torch.full((1, 3, 16, 16), value))
    assert {path.name: read_image(path).mean().item() for path in (tmp_path / "x-y").iterdir()} == {
        "a.jpg.png": 0,
        "a.png": 1,
    }


def test_published_rows_are_marked():
    assert PUBLISHED["LOLv1"]["LD-RPS"] == {"PSNR": 17.45, "SSIM-Y": 0.804, "LPIPS": 0.277}
    text = table({"input": {"PSNR": 7.0, "LPIPS": 0.5}}, PUBLISHED["LOLv1"])
    assert (
        "| input | measured | 7.000 | – | 0.500 |" in text
        and "| LD-RPS, ablation R = 2 | published | 17.730 | – |" in text
    )
