"""What the figures on gradient descent measure, and that they say so."""

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


@pytest.mark.parametrize("name", ["proximal_step", "sum_of_surprises"])
def test_every_figure_is_drawn_and_labelled(name: str) -> None:
    drawing = getattr(gallery, name)()
    assert drawing.name == name
    assert len(re.findall(r"\w+", drawing.alt)) > 25
    assert any(axis.get_xlabel() for axis in drawing.figure.axes)
    assert any(axis.get_ylabel() for axis in drawing.figure.axes)
    plt.close(drawing.figure)
