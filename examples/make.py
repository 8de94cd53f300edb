"""python examples/make.py: compute the stored examples again with the committed weights, their scores in
examples.json, the comparison that the page opens with, and sheet.png.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from restoration.files import images, recipe  # noqa: E402
from restoration.page import state  # noqa: E402
from restoration.page.compare import compare  # noqa: E402
from restoration.priors.latent import load_prior  # noqa: E402
from restoration.run import restore, score_rows  # noqa: E402
from restoration.solvers import PAPERS, PRESETS, SOLVERS  # noqa: E402


def make(row: dict) -> dict:
    """Write the degraded picture and the result of one example; its row with scores."""
    method, prior, result = row["solver"], load_prior("embedded"), None
    job = state.job(method, state.example_values(row))
    for step in restore(job.y, job.run, prior, reference=job.reference):
        result = step.result
    assert result is not None
    stem = f"{Path(row['image']).stem}-{row['task']}"
    names = {"before": f"{stem}-input.png", "result": f"{stem}-{method}.png"}
    if row.get("damaged"):
        names["before"] = row["image"]
    else:
        images.to_pil(job.before()).save(HERE / names["before"])
    recipe.save_png(result.image, HERE / names["result"], result.recipe, result.scores, y=job.y)
    rows = score_rows(job.before(), result, prior, job.reference)
    return (
        row
        | names
        | {"scores": {title: {k: round(v, 4) for k, v in scores.items()} for title, scores in rows.items()}}
    )


def sheet(rows: list[dict]) -> Image.Image:
    """All damaged pictures and results, two pairs a row."""
    titles = {
        "before": lambda row: row["title"],
        "result": lambda row: f"{SOLVERS[row['solver']].title}, {row['scores']['result']['PSNR']:.1f} dB",
    }
    pictures = [
        (title(row), images.to_pil(images.read_image(HERE / row[key])))
        for row in rows
        if not row.get("damaged")  # there is no clean picture to tell how well that went
        for key, title in titles.items()
    ]
    # Pillow's own font has no multiplication sign
    return images.sheet(
        [(title.replace("×", "x"), picture.resize((256, 256))) for title, picture in pictures], columns=4
    )


def comparison() -> list[dict]:
    """Write the pictures of the comparison that the page opens with; a row for each, with its scores."""
    runs = [(method, next(iter(PRESETS[method]))) for method in SOLVERS if method not in PAPERS]
    photo = images.read_image(HERE / "chelsea.png")
    steps = lambda job, prior: restore(job.y, job.run, prior, reference=job.reference)  # noqa: E731
    *_, last = compare(photo, "denoise", runs, 1, {"embedded": lambda: load_prior("embedded")}, steps)
    rows = []
    for number, cell in enumerate(last.cells):
        name = f"comparison-{number}.png"
        if cell.title == "clean":
            name = "chelsea.png"
        else:
            images.to_pil(cell.image).save(HERE / name, optimize=True)
        scores = {key: round(value, 4) for key, value in cell.scores.items() if key != "seconds"}
        rows.append({"title": cell.title, "file": name, "scores": scores})
    return rows


if __name__ == "__main__":
    path = HERE / "examples.json"
    rows = [make(row) for row in json.loads(path.read_text())]
    path.write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "comparison.json").write_text(json.dumps(comparison(), indent=1) + "\n")
    sheet(rows).save(HERE / "sheet.png", optimize=True)
