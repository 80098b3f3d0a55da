"""Notebook 12's figures: luck that is luck, and a toy whose order is that of the notebook."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hope_ref.experiments import fitting
from hope_ref.experiments.findings import findings
from hope_ref.teaching.gallery import honest_training as gallery


def test_luck_counts_what_it_says() -> None:
    data = gallery.luck_data()
    assert data.differences.shape == (24, 3)
    for row, sided, clear in zip(*data, strict=True):
        assert sided == (row.min() > 0 or row.max() < 0)
        assert clear == (sided and abs(row.mean()) > 2 * row.std(ddof=1))
    assert (data.one_sided.sum(), data.clear.sum()) == (7, 3)  # as the words of the figure say
    assert not any(findings(dict(enumerate(data.differences.tolist()))).values())  # and as the notebook says


def test_in_many_comparisons_a_quarter_agrees() -> None:
    data = gallery.luck_data(comparisons=4000)
    assert data.one_sided.mean() == pytest.approx(1 / 4, abs=0.03)
    assert data.clear.mean() == pytest.approx(1 / 13, abs=0.02)


def test_every_lucky_row_is_filled_and_every_clear_one_has_a_star() -> None:
    data, drawing = gallery.luck_data(), gallery.three_seeds_of_luck()
    lines = drawing.figure.axes[0].get_lines()
    assert sum(line.get_marker() == "*" for line in lines) == data.clear.sum()
    filled = [line for line in lines if line.get_marker() == "o" and line.get_markerfacecolor() != "white"]
    assert len(filled) == data.one_sided.sum()
    plt.close(drawing.figure)


def test_words_grow_and_the_start_symbol_has_no_label() -> None:
    assert [gallery.longest(step) for step in (0, 4, 5, 20, 79)] == [4, 4, 5, 8, 8]
    plain, labels = gallery.words(5, (3, 6), 1, start=False)
    begun, begun_labels = gallery.words(5, (3, 6), 1, start=True)
    assert (begun[:, 0] == 2).all()
    assert (begun_labels[:, 0] == -1).all()
    assert (begun[:, 1:] == plain).all()
    assert (begun_labels[:, 1:] == labels).all()
    parity = (plain.cumsum(1) % 2)[labels != -1]
    assert (parity == labels[labels != -1]).all()


@pytest.mark.slow  # and the notebook itself checks it
def test_the_models_are_of_equal_size() -> None:
    sizes = [fitting.parameters(fitting.build(name, gallery.config())) for name, _ in gallery.MODELS.values()]
    assert max(sizes) < 1.05 * min(sizes)


@pytest.mark.slow
def test_the_toy_comes_out_as_the_notebook_and_the_figure_say() -> None:
    data = gallery.toy_data()
    words = {name: np.array([run.words for run in runs]) for name, runs in data.items()}
    assert np.median(words[gallery.HOPE]) > 0.95
    assert max(words[gallery.DELTA].max(), words[gallery.DELTA_START].max()) < 0.2
    assert 0.6 < words[gallery.DELTA_TWO].min() <= words[gallery.DELTA_TWO].max() < 0.85
    assert np.ptp(words[gallery.DELTA_TWO]) < 0.05
    assert np.median(words[gallery.BOTH]) > 0.95
    drawing = gallery.toy_parity()
    left = drawing.figure.axes[0]
    assert [text.get_text() for text in left.get_yticklabels()][::-1] == list(gallery.MODELS)
    top = next(line for line in left.get_lines() if len(line.get_xdata()) == 3)
    assert list(top.get_xdata()) == pytest.approx(100 * words[gallery.HOPE])
    plt.close(drawing.figure)


def test_a_run_that_was_cut_short_is_drawn() -> None:
    short = {gallery.HOPE: [gallery.Run([0.7, 0.6], 0.1, 0.5, 0.0)]}
    drawing = gallery.toy_parity(short)
    assert any(list(line.get_ydata()) == [0.7, 0.6] for line in drawing.figure.axes[1].get_lines())
    plt.close(drawing.figure)
