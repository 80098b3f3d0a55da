"""The figures on the delta rule: the numbers they show, found in another way."""

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


@pytest.mark.parametrize("name", ["corrections", "stability", "overwrite"])
def test_figures_draw(name: str) -> None:
    import matplotlib.pyplot as plt

    drawing = getattr(gallery, name)()
    assert drawing.name == name
    assert len(drawing.figure.axes) >= 2
    plt.close(drawing.figure)
