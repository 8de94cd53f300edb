from __future__ import annotations

import subprocess
import sys

from restoration import recipe
from restoration.__main__ import main


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


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(b"nonsense")
    assert main([str(tmp_path / "x.png"), "--task", "denoise", "-o", str(tmp_path / "o.png")]) == 2
    assert main([str(tmp_path / "x.png"), "--task", "denoise", "--set", "nonsense=1", "-o", str(tmp_path / "o.png")]) == 2
    assert main(["-o", str(tmp_path / "o.png")]) == 2
    assert main(["--recipe", str(tmp_path / "x.png"), "-o", str(tmp_path / "o.png")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 4 and all(line.startswith("error: ") for line in lines)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, restoration; assert not {'torch', 'diffusers', 'gradio', 'deepinv'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
