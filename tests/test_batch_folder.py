"""Names of results, of pictures that would share one."""

from __future__ import annotations

import pytest

from restoration.commands import batch_folder


def test_names_of_results():
    assert batch_folder.name_results(["x/a.jpg", "a.png"]) == {"x/a.jpg": "x/a.png", "a.png": "a.png"}
    assert batch_folder.name_results(["a.jpg", "a.png", "b.tif"]) == {
        "a.jpg": "a.jpg.png",
        "a.png": "a.png.png",
        "b.tif": "b.png",
    }
    assert set(batch_folder.name_results(["A.jpg", "a.png"]).values()) == {"A.jpg.png", "a.png.png"}
    with pytest.raises(
        ValueError, match=r"2 pictures would be written to a\.jpg\.png; rename one of a\.jpg, a\.jpg\.png"
    ):
        batch_folder.name_results(["a.jpg", "a.jpg.png", "a.png"])
