"""python tests/recipes/renew.py "why" NAME…: the pixels that old recipes give today, where they changed for a
stated reason.

Each NAME.png (all of them where none is named) keeps its recipe as it was written; its pixels and the digests
of its weights become those of today, and made.json says why, and on which processor. One thread is used, as
when the recipes were made.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from restoration.commands.restore import main  # noqa: E402
from restoration.files import images, recipe  # noqa: E402

INPUT = HERE / "input.png"
MADE = (
    HERE / "made.json"
)  # name -> the processor that computed the pixels, and why they are not those of then, or ""


def names() -> list[str]:
    """Those of all recipes."""
    return sorted(path.stem for path in HERE.glob("*.png") if path != INPUT)


def carried(path: Path) -> bool:
    """Whether a PNG carries the picture that was restored."""
    with Image.open(path) as image:
        return recipe.INPUT in image.text


def processor() -> str:
    """The model of this machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    facts = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in reversed(lines)}
    known = [facts.get(fact, "") for fact in ("model name", "cpu family", "model", "stepping")]
    return " ".join(filter(None, known)) or platform.processor()


def repeated(name: str, folder: Path) -> Path:
    """The PNG that the command makes of a recipe; the picture is the recipe's own where it carries one."""
    source, target = HERE / f"{name}.png", folder / f"{name}.png"
    photo = [] if carried(source) else [str(INPUT)]
    if main([*photo, "--recipe", str(source), "-o", str(target)]):
        raise ValueError(f"{name} cannot be repeated.")
    return target


def renew(why: str, chosen: list[str]) -> None:
    """Write the pixels of today, and the reason, of each recipe whose pixels or weights are others by now."""
    made = json.loads(MADE.read_text())
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen or names():
            path, new = HERE / f"{name}.png", repeated(name, Path(folder))
            old, today, picture = recipe.read(path), recipe.read(new), images.read_image(new)
            difference = 255 * (picture - images.read_image(path)).abs()
            share, most = (difference > 0.5).float().mean().item(), difference.max().item()
            print(f"{name}: {100 * share:.2f} % of the values differ, by at most {most:.0f}/255")
            if share or old["weights"] != today["weights"]:
                y = recipe.read_input(path) if carried(path) else None
                recipe.save_png(
                    picture,
                    path,
                    old | {"weights": today["weights"]},
                    recipe.read_png(new, recipe.SCORES),
                    y=y,
                )
                made[name] = {"processor": processor(), "why": why}
    MADE.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    renew(sys.argv[1], sys.argv[2:])
