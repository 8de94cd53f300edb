"""python examples/make.py: compute the stored examples again with the committed weights and write their scores into examples.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from restoration import images, recipe  # noqa: E402
from restoration.degradations import TASKS  # noqa: E402
from restoration.prior import load_prior  # noqa: E402
from restoration.run import restore, score_rows, synthesise  # noqa: E402
from restoration.solvers import PRESETS, SOLVERS  # noqa: E402


def make(row: dict) -> dict:
    """Write the degraded picture and the result of one example; its row with scores."""
    solver = SOLVERS[row["solver"]](**PRESETS[row["solver"]][row["preset"]])
    degradation = TASKS[row["task"]](**row["degradation"])
    y, reference = synthesise(images.read_image(HERE / row["image"]), degradation, solver.factor(degradation), row["seed"])
    prior, result = load_prior("embedded"), None
    for step in restore(y, solver, prior, degradation, reference=reference, seed=row["seed"], periodic=True):
        result = step.result
    assert result is not None
    before = images.quantise(degradation.start(y))
    stem = f"{Path(row['image']).stem}-{row['task']}"
    names = {"before": f"{stem}-input.png", "result": f"{stem}-{row['solver']}.png"}
    images.to_pil(before).save(HERE / names["before"])
    recipe.save_png(result.image, HERE / names["result"], result.recipe)
    scores = {title: {k: round(v, 4) for k, v in scores.items()} for title, scores in score_rows(before, result, prior, reference).items()}
    return row | names | {"scores": scores}


if __name__ == "__main__":
    path = HERE / "examples.json"
    path.write_text(json.dumps([make(row) for row in json.loads(path.read_text())], indent=1) + "\n")
