"""The toy loss against measured slopes, its minimum, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.tasks.oscillating_loss import START, psi, psi_gradient

CONSTANTS = [{}, {"coupling": 5.0}, {"amplitude": 1.2, "omega": 3.0}, {"coupling": 0.3, "omega": 0.0}]


@pytest.mark.parametrize("constants", CONSTANTS)
def test_the_gradient_is_the_measured_slope(constants: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    r, theta, h = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)), 1e-6
    got = psi_gradient(r, theta, **constants)
    assert got.shape == (20, 3, 2)
    along_r = (psi(r + h, theta, **constants) - psi(r - h, theta, **constants)) / (2 * h)
    along_theta = (psi(r, theta + h, **constants) - psi(r, theta - h, **constants)) / (2 * h)
    np.testing.assert_allclose(got, np.stack([along_r, along_theta], -1), rtol=0, atol=1e-6)


def test_value_at_the_start_by_hand() -> None:
    r, theta = START
    want = 12.25 + (-3.5 - 2 + 0.5 * np.sin(-17.5)) ** 2
    assert float(psi(r, theta)) == pytest.approx(want, rel=1e-15)


def test_the_minimum_and_the_valley() -> None:
    assert float(psi(0, 0)) == 0
    np.testing.assert_array_equal(psi_gradient(0, 0), 0)
    r = np.linspace(-4, 4, 50)
    np.testing.assert_allclose(psi(r, r + 0.5 * np.sin(5 * r)), r**2, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "constants", "message"),
    [
        ((np.ones(3), np.ones(2)), {}, r"theta must have the shape of r, \(3,\), got \(2,\)"),
        ((np.nan, 1.0), {}, "r must be finite, got 1 NaN"),
        ((1.0, "x"), {}, "theta must be float64"),
        ((np.float32(1), 1.0), {}, "r must be float64.*got dtype float32"),
        ((1.0, 1.0), {"coupling": [1, 2]}, r"coupling must have shape \(\), got \(2,\)"),
        ((1.0, 1.0), {"omega": np.inf}, "omega must be finite"),
        ((1.0, 1.0), {"amplitude": np.nan}, "amplitude must be finite"),
    ],
)
def test_bad_input_is_named(arguments: tuple[Any, Any], constants: dict[str, Any], message: str) -> None:
    for function in (psi, psi_gradient):
        with pytest.raises(ValueError, match=message):
            function(*arguments, **constants)
