"""Notebook 00's figures: the ladder tells the truth about the course, the run and the maps are what they say."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

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


def test_first_run_repeats_help_the_delta_rule_and_harm_linear_attention() -> None:
    data = gallery.first_run_data()
    assert data.delta.shape == data.linear.shape == (32,)
    assert data.delta[0] == pytest.approx(0, abs=1e-12)  # one pair, one shot, unit key
    assert data.linear[0] == pytest.approx(0, abs=1e-12)
    assert data.delta[15] < data.delta[7] < data.linear[7]
    assert data.linear[15] > 1 > data.linear[7]
    assert data.delta[31] < 0.5 < 2 < data.linear[31]


def test_first_run_ends_where_one_long_pass_ends() -> None:
    data = gallery.first_run_data()
    rng = np.random.default_rng(0)
    keys = rng.normal(size=(8, 32))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    old, new = rng.normal(size=(2, 8, 8))
    memory = np.zeros((8, 32))
    for values in (old, old, new, new):
        for key, value in zip(keys, values, strict=True):
            memory = memory @ (np.eye(32) - np.outer(key, key)) + np.outer(value, key)
    summed = 2 * (old + new).T @ keys
    for error, state in ((data.delta, memory), (data.linear, summed)):
        wrong = keys @ state.T - new
        assert error[-1] == pytest.approx(np.linalg.norm(wrong) / np.linalg.norm(new))


@pytest.mark.parametrize("chunk_size", [1, 4, 5])
def test_who_reads_what_by_perturbation_equals_the_index_sets(chunk_size: int) -> None:
    data = gallery.who_reads_what_data(length=12, chunk_size=chunk_size)
    t, s = np.indices((12, 12))
    np.testing.assert_array_equal(data.own, s <= t)
    np.testing.assert_array_equal(data.boundary, s < t - t % chunk_size)
    np.testing.assert_array_equal(data.printed, s < t - t % chunk_size + chunk_size)
    assert (data.printed & (s > t)).any() == (chunk_size > 1)


@pytest.mark.parametrize("name", ["ladder", "first_run", "who_reads_what"])
def test_figures_draw(name: str) -> None:
    drawing = getattr(gallery, name)()
    assert drawing.name == name
    assert drawing.figure.axes
    plt.close(drawing.figure)


def test_ladder_fits_the_readme_and_says_every_name() -> None:
    drawing = gallery.ladder()
    width = drawing.figure.get_figwidth() * 110
    words = {text.get_text() for text in drawing.figure.axes[0].texts}
    assert 780 < width < 840
    for rung in gallery.ladder_data():
        assert {rung.name, *(text for text in rung.changes.values() if text)} <= words
    plt.close(drawing.figure)
