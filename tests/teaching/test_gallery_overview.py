"""Notebook 00's figure: the ladder tells the truth about the course."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from hope_ref.teaching.gallery import overview as gallery

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def test_each_rung_is_a_notebook() -> None:
    there = {path.name[:2] for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")}
    assert {rung.notebook for rung in gallery.ladder_data()} <= there


def test_each_rung_changes_one_choice() -> None:
    first, *middle, last = gallery.ladder_data()
    assert set(first.changes) == set(last.changes) == set(gallery.LANES)
    for below, rung in zip([first, *middle], [*middle, last], strict=True):
        assert int(rung.notebook) == int(below.notebook) + 1
    assert all(len(rung.changes) == 1 and set(rung.changes) < set(gallery.LANES) for rung in middle)
    assert set(last.joins) < {rung.notebook for rung in middle}
    assert not any(rung.joins for rung in middle)


def test_ladder_fits_the_readme_and_says_every_name() -> None:
    drawing = gallery.ladder()
    width = drawing.figure.get_figwidth() * 110
    words = {text.get_text() for text in drawing.figure.axes[0].texts}
    assert 780 < width < 840
    for rung in gallery.ladder_data():
        assert {rung.name, *(text for text in rung.changes.values() if text)} <= words
    plt.close(drawing.figure)
