"""Files of visitors: how long they are kept, and how large they may be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from strangers import finished, instant

from restoration.files import images, recipe
from restoration.page import actions, state, uploads


def test_all_files_of_a_run_are_deleted_by_age(upload_folder, photo, monkeypatch):
    recipe.save_png(photo, upload_folder / "photo.png", {})
    (upload_folder / "deep_links" / "x").mkdir(parents=True)
    (upload_folder / "deep_links" / "x" / "state.json").write_text("{}")
    monkeypatch.setattr(actions, "restore", instant)
    values = state.opening_values("reld") | {"photo": str(upload_folder / "photo.png")}
    *_, (pair, _, _, _, _, file) = actions.run("reld", values)
    kept = upload_folder / "example.png"
    kept.write_bytes(b"x")
    uploads.sweep(3600, {str(kept)})
    assert all(Path(path).exists() for path in (*pair, file))
    uploads.sweep(-1, {str(kept)})
    assert [path.name for path in upload_folder.rglob("*")] == ["example.png"]


def test_the_server_sweeps_while_it_runs(upload_folder, blocks, monkeypatch):
    (upload_folder / "x").write_text("x")
    monkeypatch.setattr(uploads, "AGE", -1.0)

    async def serve() -> None:
        async with uploads.sweeping(SimpleNamespace(get_blocks=lambda: blocks)):
            while (upload_folder / "x").exists():
                await asyncio.sleep(0.01)

    finished(asyncio.wait_for(serve(), 60))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "/srv/x"), MemoryError()])
def test_a_result_that_cannot_be_stored_is_still_shown(upload_folder, photo, monkeypatch, error):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    recipe.save_png(photo, upload_folder / "photo.png", {})
    monkeypatch.setattr(actions, "restore", instant)
    monkeypatch.setattr(recipe, "save_png", fail)
    *_, (pair, status, _, _, _, file) = actions.run(
        "reld", state.opening_values("reld") | {"photo": str(upload_folder / "photo.png")}
    )
    assert file == pair[1] and Path(file).exists() and "carries no recipe" in status and "/srv" not in status


def test_the_largest_result_can_be_uploaded_again(tmp_path, apart):
    """Noise does not compress: no picture of this size is larger. It is opened apart, within its limits."""
    noise = torch.randint(0, 256, (1, 3, 2000, 2000), generator=torch.Generator().manual_seed(0)) / 255
    recipe.save_png(noise, tmp_path / "x.png", {"solver": "x"}, y=noise)
    assert 20e6 < (tmp_path / "x.png").stat().st_size < uploads.LARGEST * 1e6
    assert torch.equal(recipe.read_input(tmp_path / "x.png"), images.quantise(noise))
    assert recipe.read_result_alpha(tmp_path / "x.png") is None
    with pytest.raises(ValueError, match="more than 20 MB"):
        uploads.checked_photo(str(tmp_path / "x.png"))
