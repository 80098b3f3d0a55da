"""Linear attention against a masked product and against the measured slope of its loss."""

from __future__ import annotations

import numpy as np
import pytest

from hope_ref.reference.linear_attention import linear_attention


def draw(length: int, d_k: int = 4, d_v: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(length)
    return rng.normal(size=(length, d_k)), rng.normal(size=(length, d_k)), rng.normal(size=(length, d_v))


@pytest.mark.parametrize("length", [1, 2, 17, 64])
def test_equals_the_masked_product(length: int) -> None:
    q, k, v = draw(length)
    y, memory = linear_attention(q, k, v)
    np.testing.assert_allclose(y, np.tril(q @ k.T) @ v, rtol=0, atol=1e-11)
    np.testing.assert_allclose(memory, v.T @ k, rtol=0, atol=1e-11)


def test_retention_decays_each_write_by_what_follows_it() -> None:
    q, k, v = draw(9)
    rng = np.random.default_rng(1)
    alpha, start = rng.uniform(size=9), rng.normal(size=(3, 4))
    y, memory = linear_attention(q, k, v, alpha, start)
    for t in range(9):
        want = np.prod(alpha[: t + 1]) * start @ q[t]
        for s in range(t + 1):
            want = want + np.prod(alpha[s + 1 : t + 1]) * (k[s] @ q[t]) * v[s]
        np.testing.assert_allclose(y[t], want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(memory @ q[8], y[8], rtol=0, atol=1e-12)


def test_a_write_is_minus_the_measured_slope_of_the_loss() -> None:
    q, k, v = draw(1)
    start, h = np.random.default_rng(2).normal(size=(3, 4)), 1e-6
    slope = np.zeros_like(start)
    for index in np.ndindex(start.shape):
        nudge = np.zeros_like(start)
        nudge[index] = h
        slope[index] = (-v[0] @ (start + nudge) @ k[0] + v[0] @ (start - nudge) @ k[0]) / (2 * h)
    _, memory = linear_attention(q, k, v, memory=start)
    np.testing.assert_allclose(memory - start, -slope, rtol=0, atol=1e-8)


def test_alpha_zero_keeps_only_the_last_write() -> None:
    q, k, v = draw(5)
    _, memory = linear_attention(q, k, v, alpha=0.0)
    np.testing.assert_allclose(memory, np.outer(v[-1], k[-1]), rtol=0, atol=0)


def test_the_given_memory_is_not_changed() -> None:
    q, k, v = draw(3)
    start = np.ones((3, 4))
    linear_attention(q, k, v, memory=start)
    np.testing.assert_array_equal(start, np.ones((3, 4)))
