"""Notebook 02's figures: the numbers they show, found in another way."""

from __future__ import annotations

import numpy as np
import pytest

from hope_ref.teaching.gallery import delta_rule as gallery


def test_one_step_is_a_projection() -> None:
    data = gallery.corrections_data()
    residual = data.key @ data.start - 1
    for eta, end in zip(data.etas, data.ends, strict=True):
        assert data.key @ end - 1 == pytest.approx((1 - eta) * residual)
        across = np.array([-data.key[1], data.key[0]])
        assert across @ (end - data.start) == pytest.approx(0)  # moved along the key only
    assert data.etas.tolist() == [0.5, 1, 1.5, 2]


def test_two_pairs_zigzag_into_the_crossing() -> None:
    data = gallery.corrections_data()
    assert data.path.shape == (13, 2)
    np.testing.assert_allclose(data.keys @ data.both, data.values)
    for write, point in enumerate(data.path[1:]):  # each write lands on its own line
        assert data.keys[write % 2] @ point == pytest.approx(data.values[write % 2])
    distance = np.linalg.norm(data.path - data.both, axis=1)
    assert (np.diff(distance) < 0).all()
    # after the first landing each write multiplies the distance by the cosine between the keys
    np.testing.assert_allclose(distance[2:] / distance[1:-1], data.keys[0] @ data.keys[1])
    assert (np.abs(data.keys @ data.summed - data.values) > 0.5).all()  # linear attention on neither line


def test_stability_residuals_are_powers_of_the_eigenvalue() -> None:
    data = gallery.stability_data(repeats=5)
    wanted = (1 - data.steps[:, None]) ** np.arange(6)
    np.testing.assert_allclose(data.residuals, wanted, atol=1e-12)
    assert (
        abs(data.residuals[-1, -1]) > 1 > abs(data.residuals[-2, -1])
    )  # outside and inside the stable range


def test_overwrite_touches_one_column() -> None:
    data = gallery.overwrite_data()
    others = np.arange(6) != data.column
    for after in (data.added, data.replaced):
        np.testing.assert_array_equal(after[:, others], data.before[:, others])
    np.testing.assert_array_equal(data.replaced[:, data.column], data.value)
    np.testing.assert_array_equal(data.added[:, data.column], data.before[:, data.column] + data.value)
    assert not np.array_equal(data.before[:, data.column], data.value)


def test_recall_improves_with_passes_up_to_least_squares() -> None:
    data = gallery.recall_after_passes_data(width=8, seeds=6, passes=(1, 5, 60))
    below = data.pairs < 8
    assert (data.delta[0][data.pairs > 2] < data.linear[data.pairs > 2]).all()
    assert (np.diff(data.delta[:, data.pairs <= 8], axis=0) <= 1e-12).all()  # more passes, less error
    assert data.delta[-1][below].max() < 0.05 < data.delta[0][data.pairs == 4]
    assert (data.delta >= data.best - 1e-9).all()
    np.testing.assert_allclose(data.best[data.pairs <= 8], 0, atol=1e-9)
    beyond = data.pairs > 8  # in the mean over random values, (N - d_k)/N of their square is left over
    np.testing.assert_allclose(data.best[beyond], np.sqrt(1 - 8 / data.pairs[beyond]), atol=0.08)


def test_passes_go_on_where_the_last_one_ended() -> None:
    data = gallery.recall_after_passes_data(width=8, seeds=1, passes=(1, 2, 5))
    rng = np.random.default_rng(0)
    keys = rng.normal(size=(8, 8))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    values, memory = rng.normal(size=(8, 8)), np.zeros((8, 8))
    for count in range(1, 6):
        for key, value in zip(keys, values, strict=True):
            memory = memory @ (np.eye(8) - np.outer(key, key)) + np.outer(value, key)
        if count in data.passes:
            error = np.linalg.norm(memory @ keys.T - values.T) / np.linalg.norm(values)
            row = data.passes.index(count)
            assert data.delta[row, data.pairs == 8] == pytest.approx(error)


def test_recall_error_is_one_for_an_empty_memory() -> None:
    keys, values = np.eye(3), np.arange(6.0).reshape(3, 2)
    assert gallery.recall_error(np.zeros((2, 3)), keys, values) == pytest.approx(1)
    assert gallery.recall_error(values.T, keys, values) == 0


@pytest.mark.parametrize("name", ["corrections", "stability", "overwrite"])
def test_figures_draw(name: str) -> None:
    import matplotlib.pyplot as plt

    drawing = getattr(gallery, name)()
    assert drawing.name == name
    assert len(drawing.figure.axes) >= 2
    plt.close(drawing.figure)


def test_recall_figure_draws_given_data() -> None:
    import matplotlib.pyplot as plt

    data = gallery.recall_after_passes_data(width=8, seeds=1, passes=(1, 2, 3))
    drawing = gallery.recall_after_passes(data)
    curves = [line.get_ydata() for line in drawing.figure.axes[0].lines]
    assert any(np.array_equal(curve, data.linear) for curve in curves)
    plt.close(drawing.figure)
