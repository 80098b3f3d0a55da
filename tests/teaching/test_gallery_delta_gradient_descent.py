"""Notebook 04's figures: the numbers they show, found in another way."""

from __future__ import annotations

import numpy as np
import pytest

from hope_ref.teaching.gallery import delta_gradient_descent as gallery


def test_one_step_goes_along_the_input_and_the_exact_one_stops_before_the_line() -> None:
    data = gallery.implicit_path_data()
    across = np.array([-data.x[1], data.x[0]])
    distance = data.u - data.start @ data.x
    for eta, plain, implicit in zip(data.etas, data.plain, data.implicit, strict=True):
        assert across @ (plain - data.start) == pytest.approx(0)
        assert across @ (implicit - data.start) == pytest.approx(0)
        assert data.u - implicit @ data.x == pytest.approx(distance / (1 + eta * data.x @ data.x))
        np.testing.assert_allclose(plain, data.start + eta * data.u * data.x)
    beyond = data.plain @ data.x > data.u
    assert beyond.tolist() == [False, False, False, True, True]  # from eta = 2 on, as the alt text says
    assert np.linalg.norm(data.plain[-1]) > 5  # out of the picture


def test_measured_regions_are_the_predicted_ones() -> None:
    data = gallery.stability_regions_data()
    square, eta = np.meshgrid(data.squares, data.etas, indexing="ij")
    explicit, printed, implicit = data.converges.values()
    np.testing.assert_array_equal(explicit, eta * square < 2)
    np.testing.assert_array_equal(printed, square < 2)
    assert (implicit == 1).all()
    assert 0.1 < explicit.mean() < 0.9


def test_the_printed_form_rests_at_eta_times_the_target() -> None:
    x, w = np.array([0.6, 0.8]), np.zeros((1, 2))
    for _ in range(100):
        w = gallery.conference_step(w, 0.9 * x, np.array([-1.0]), 3.0)
    assert (w @ (0.9 * x))[0] == pytest.approx(3.0)


def test_repeats_erase_one_direction_and_diverse_inputs_all_of_them() -> None:
    data = gallery.forgetting_data()
    np.testing.assert_allclose(data.decay, 1)
    np.testing.assert_allclose(data.residual, 0.5**data.steps)
    np.testing.assert_allclose(data.removed, 0.5 ** data.steps[:-1])
    np.testing.assert_allclose(data.kept_repeated, (15 + 0.25**data.steps) / 16)
    np.testing.assert_allclose(data.kept_diverse, 1 - 0.75 * data.steps / 16)
    assert round(100 * data.kept_repeated[-1]) == 94
    assert round(100 * data.kept_diverse[-1]) == 25


def test_the_three_losses_rest_where_they_must() -> None:
    data = gallery.fixed_points_data()
    for objective, rest, factor in (("dot", 1, 0.7), ("l2", 1 / 2, 0.4), ("l2_without_half", 2 / 3, 0.1)):
        np.testing.assert_allclose(data.answers[objective], rest * (1 - factor**data.repeats), atol=1e-12)
    assert abs(data.answers["l2"][4] - 1 / 2) < 0.02  # "within about four repeats"
    assert abs(data.answers["l2_without_half"][4] - 2 / 3) < 0.02


def test_frozen_factors_follow_their_formulas() -> None:
    data = gallery.frozen_chunks_data()
    np.testing.assert_allclose(data.delta, 2 * 0.7**data.counts - 1, atol=1e-12)
    np.testing.assert_allclose(data.plain, 1 - 0.3 * data.counts, atol=1e-12)
    assert (np.abs(data.delta) < 1).all()
    assert data.counts[np.abs(data.plain) > 1].min() == 7


@pytest.mark.parametrize(
    "draw",
    [
        gallery.implicit_path,
        gallery.stability_regions,
        gallery.forgetting,
        gallery.fixed_points,
        gallery.frozen_chunks,
    ],
)
def test_every_figure_draws(draw: object) -> None:
    from matplotlib import pyplot as plt

    drawing = draw()  # type: ignore[operator]
    assert drawing.figure.axes
    plt.close(drawing.figure)
