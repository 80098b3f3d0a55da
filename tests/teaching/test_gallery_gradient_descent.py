"""What the figures of notebook 03 measure, and that they say so."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib import pyplot as plt

from hope_ref.teaching.gallery import gradient_descent as gallery


def test_proximal_step_touches_the_loss_and_its_bottom_is_the_step() -> None:
    data = gallery.proximal_step_data(eta=0.4)
    assert data.w[np.argmin(data.objective)] == pytest.approx(data.step, abs=0.01)
    assert data.w[np.argmin(data.printed)] == pytest.approx(-data.step, abs=0.01)
    assert data.step == pytest.approx(0.8)  # η times minus the slope of ½(w - 2)² at 0
    here = np.argmin(np.abs(data.w))
    spacing = data.w[1] - data.w[0]
    assert data.objective[here] == pytest.approx(data.loss[here])
    slopes = [np.gradient(curve, spacing)[here] for curve in (data.loss, data.objective)]
    assert slopes[0] == pytest.approx(slopes[1])
    uphill, downhill = (np.interp(at, data.w, data.loss) for at in (-data.step, data.step))
    assert uphill > data.loss[here] > downhill


def test_sum_of_surprises_adds_up_and_the_repetition_is_weaker() -> None:
    data = gallery.sum_of_surprises_data()
    np.testing.assert_allclose(data.learned.sum(0), data.update, atol=1e-14)
    np.testing.assert_allclose(data.given.sum(0), data.memory, atol=1e-14)
    np.testing.assert_array_equal(data.given[2], data.given[0])
    np.testing.assert_allclose(
        data.learned[0], data.given[0], atol=1e-14
    )  # W_0 = 0: the first surprise is the target
    assert np.linalg.norm(data.learned[2]) < 0.6 * np.linalg.norm(data.learned[0])


def test_stored_surprise_is_kept_by_orthogonal_inputs_and_does_not_pile_up() -> None:
    data = gallery.stored_surprise_data()
    assert data.orthogonal.max() < 1e-12
    assert len(data.orthogonal) == data.width
    random = data.attention[0.0]
    np.testing.assert_allclose(random, np.sqrt(data.later / data.width), rtol=0, atol=0.05)
    assert data.attention[0.5][64] == pytest.approx(2 * data.attention[0.5][16], rel=0.1)  # grows like √n
    assert data.attention[0.5][64] > 3 * data.descent[0.5][64]
    assert 1 < data.descent[0.5][-1] < 1.5
    assert 1 < data.descent[0.0][-1] < 1.5
    assert max(data.descent[0.5][0], data.attention[0.5][0]) < 1e-12


def test_what_is_forgotten_of_the_first_surprise_is_the_error_on_the_first_sample() -> None:
    """At η‖x‖² = 1: (W_T - W_0) x_0 = v_0 - (target_0 - W_T x_0)."""
    rng = np.random.default_rng(0)
    inputs, targets = gallery.inputs_with_overlap(9, 6, 0.3, rng), rng.normal(size=(9, 4))
    final, surprises = gallery.train_linear(np.zeros((4, 6)), inputs, targets, 1.0)
    left = np.linalg.norm(targets[0] - final @ inputs[0]) / np.linalg.norm(surprises[0])
    assert gallery.recall_error(inputs, surprises)[-1] == pytest.approx(left, abs=1e-12)


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.8])
def test_inputs_have_the_overlap_that_they_are_asked_for(overlap: float) -> None:
    inputs = gallery.inputs_with_overlap(400, 64, overlap, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(inputs, axis=1), 1)
    products = (inputs @ inputs.T)[~np.eye(400, dtype=bool)]
    assert products.mean() == pytest.approx(overlap, abs=0.02)


def test_perturbation_changes_every_later_surprise_and_no_later_given_value() -> None:
    data = gallery.perturbed_values_data()
    assert data.attention[0] > 0.1
    np.testing.assert_array_equal(data.attention[1:], 0)
    assert data.descent.min() > 0.02
    assert len(data.descent) == 16


@pytest.mark.parametrize("name", ["proximal_step", "sum_of_surprises", "stored_surprise", "perturbed_values"])
def test_every_figure_is_drawn_and_labelled(name: str) -> None:
    drawing = getattr(gallery, name)()
    assert drawing.name == name
    assert len(re.findall(r"\w+", drawing.alt)) > 25
    assert any(axis.get_xlabel() for axis in drawing.figure.axes)
    assert any(axis.get_ylabel() for axis in drawing.figure.axes)
    plt.close(drawing.figure)
