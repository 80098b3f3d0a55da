"""Newton–Schulz against the singular value decomposition, measured slopes, and its own bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hope_ref.reference.newton_schulz import COEFFICIENTS, newton_schulz, orthogonality_step


def singular_values(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.svd(matrix, compute_uv=False)


@pytest.mark.parametrize("coefficients", ["quintic", "cubic"])
@pytest.mark.parametrize("shape", [(4, 4), (7, 3), (3, 7), (1, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize("steps", [1, 5])
def test_keeps_the_singular_vectors_and_maps_the_values(
    coefficients: str, shape: tuple[int, int], steps: int
) -> None:
    """Through the decomposition: the polynomial on the singular values, the vectors left alone."""
    x = np.random.default_rng(sum(shape)).normal(size=shape)
    left, s, right = np.linalg.svd(x, full_matrices=False)
    a, b, c = COEFFICIENTS[coefficients]
    s = s / (np.sqrt(np.sum(s**2)) + 1e-7)
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    np.testing.assert_allclose(
        newton_schulz(x, steps, coefficients), left @ np.diag(s) @ right, rtol=0, atol=1e-12
    )


def test_wide_is_the_transpose_of_tall() -> None:
    x = np.random.default_rng(0).normal(size=(3, 8))
    np.testing.assert_allclose(newton_schulz(x), newton_schulz(x.T).T, rtol=0, atol=1e-13)


def test_zero_stays_zero_and_scale_does_not_matter() -> None:
    np.testing.assert_array_equal(newton_schulz(np.zeros((3, 4))), 0)
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(
        newton_schulz(1e3 * x), newton_schulz(x), rtol=0, atol=1e-6
    )  # the 1e-7 is seen


def test_five_steps_on_gaussians_of_64_by_64() -> None:
    """The bands, over 20 draws. The largest singular values are tight; the smallest differ by orders of magnitude."""
    least: dict[str, list[float]] = {"cubic": [], "quintic": []}
    most: dict[str, list[float]] = {"cubic": [], "quintic": []}
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=(64, 64))
        for coefficients in least:
            s = singular_values(newton_schulz(x, 5, coefficients))
            least[coefficients].append(s[-1])
            most[coefficients].append(s[0])
    assert 0.97 < min(most["cubic"]) <= max(most["cubic"]) < 0.99
    assert 0.002 < np.median(least["cubic"]) < 0.02
    assert 1.12 < min(most["quintic"]) <= max(most["quintic"]) < 1.21
    assert 0.25 < np.median(least["quintic"]) < 0.68
    assert min(least["quintic"]) < 0.2, "five steps are not enough for the worst direction"


def test_the_cubic_arrives_and_the_quintic_never_does() -> None:
    x = np.random.default_rng(0).normal(size=(64, 64))
    np.testing.assert_allclose(singular_values(newton_schulz(x, 40, "cubic")), 1, rtol=0, atol=1e-12)
    s = singular_values(newton_schulz(x, 40, "quintic"))
    assert s[0] - s[-1] > 0.3
    assert s[0] < 1.21
    assert s[-1] > 0.68


def test_the_step_is_the_measured_slope_and_an_eighth_is_the_cubic() -> None:
    o, h = np.random.default_rng(0).normal(size=(3, 2)), 1e-5
    slope = np.zeros_like(o)
    for index in np.ndindex(o.shape):
        nudge = np.zeros_like(o)
        nudge[index] = h
        sizes = [np.sum(((o + s * nudge).T @ (o + s * nudge) - np.eye(2)) ** 2) for s in (1, -1)]
        slope[index] = (sizes[0] - sizes[1]) / (2 * h)
    np.testing.assert_allclose(orthogonality_step(o, 0.05), o - 0.05 * slope, rtol=0, atol=1e-7)
    np.testing.assert_allclose(orthogonality_step(o), 1.5 * o - 0.5 * o @ o.T @ o, rtol=0, atol=1e-13)


def end(s: float, steps: int = 60) -> float:
    """Where repeated cubic steps take one singular value."""
    o = np.array([[s]])
    for _ in range(steps):
        if abs(o[0, 0]) > 1e6:
            return np.inf
        o = orthogonality_step(o)
    return float(o[0, 0])


@pytest.mark.parametrize("s", [1e-6, 0.3, 1.0, 1.5, 1.73])
def test_converges_from_inside(s: float) -> None:
    assert s < np.sqrt(3)
    assert end(s) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("s", "where"), [(0.0, 0.0), (1.74, -1.0), (2.0, -1.0), (2.24, np.inf), (3.0, np.inf)]
)
def test_fails_outside(s: float, where: float) -> None:
    """From √3 on the sign is lost, and from √5 on it diverges."""
    assert end(s) == pytest.approx(where, abs=1e-12)


def test_the_printed_step_does_not_orthogonalise() -> None:
    """[P 44] holds O near g: from singular values 0.1 and 2 it settles away from 1."""
    g = np.diag([0.1, 2.0])
    printed = ours = g / np.linalg.norm(g)
    start = printed
    for _ in range(2000):
        printed = printed - 0.05 * (printed - start + 2 * printed @ (printed.T @ printed - np.eye(2)))
        ours = orthogonality_step(ours, 0.05)
    np.testing.assert_allclose(singular_values(ours), 1, rtol=0, atol=1e-12)
    assert singular_values(printed)[-1] < 0.8


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (newton_schulz, (np.ones(3),), r"x must have shape \(rows, columns\), got \(3,\)"),
        (newton_schulz, (np.ones((2, 2, 2)),), r"x must have shape \(rows, columns\), got \(2, 2, 2\)"),
        (newton_schulz, (np.full((2, 2), np.nan),), "x must be finite, got 4 NaN"),
        (newton_schulz, (np.ones((2, 2), dtype=np.float32),), "x must be float64.*got dtype float32"),
        (newton_schulz, (np.ones((2, 2)), 0), "steps must be an integer >= 1, got 0"),
        (newton_schulz, (np.ones((2, 2)), 5, "septic"), "coefficients must be one of 'quintic', 'cubic', got 'septic'"),
        (orthogonality_step, (np.ones(3),), r"o must have shape \(rows, columns\), got \(3,\)"),
        (orthogonality_step, (np.ones((2, 2)), -0.1), "zeta must be >= 0, got min -0.1"),
    ],
)  # fmt: skip
def test_bad_input_is_named(function: Callable[..., Any], arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(*arguments)
