"""The delta rule against the measured slope of its loss, a product of transitions, and its own promises."""

from __future__ import annotations

import numpy as np
import pytest

from hope_ref.reference.delta_rule import delta_rule, gated_delta_rule


def draw(length: int, d_k: int = 4, d_v: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(length)
    k = rng.normal(size=(length, d_k))
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    return rng.normal(size=(length, d_k)), k, rng.normal(size=(length, d_v)), rng.normal(size=(d_v, d_k))


def test_one_step_is_minus_eta_times_the_measured_slope() -> None:
    q, k, v, start = draw(1)
    h, eta = 1e-5, 0.7
    slope = np.zeros_like(start)
    for index in np.ndindex(start.shape):
        nudge = np.zeros_like(start)
        nudge[index] = h
        losses = [0.5 * np.sum(((start + sign * nudge) @ k[0] - v[0]) ** 2) for sign in (1, -1)]
        slope[index] = (losses[0] - losses[1]) / (2 * h)
    _, memory = delta_rule(q, k, v, eta, start)
    np.testing.assert_allclose(memory - start, -eta * slope, rtol=0, atol=1e-9)


@pytest.mark.parametrize("length", [1, 2, 13])
def test_equals_a_product_of_transitions(length: int) -> None:
    """The final memory written out: each write times all later transitions, from right to left."""
    q, k, v, start = draw(length)
    rng = np.random.default_rng(9)
    eta, alpha = rng.uniform(0, 2, size=length), rng.uniform(size=length)
    transitions = [a * (np.eye(4) - e * np.outer(key, key)) for a, e, key in zip(alpha, eta, k, strict=True)]

    def after(first: int) -> np.ndarray:
        product = np.eye(4)
        for transition in transitions[first:]:
            product = product @ transition
        return product

    want = start @ after(0)
    for s in range(length):
        want = want + eta[s] * np.outer(v[s], k[s]) @ after(s + 1)
    y, memory = gated_delta_rule(q, k, v, eta, alpha, start)
    np.testing.assert_allclose(memory, want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(y[-1], want @ q[-1], rtol=0, atol=1e-12)


def repeat(eta: float, times: int, length: float = 1.0) -> float:
    """Error left after writing one pair ``times`` times, relative to the first error."""
    _, k, v, start = draw(1)
    k = k * length
    keys, values = np.repeat(k, times, 0), np.repeat(v, times, 0)
    _, memory = delta_rule(keys, keys, values, eta, start)
    return float(np.linalg.norm(memory @ k[0] - v[0]) / np.linalg.norm(start @ k[0] - v[0]))


@pytest.mark.parametrize("eta", [0.1, 0.5, 1.5])
def test_the_error_shrinks_by_one_minus_eta_per_repeat(eta: float) -> None:
    assert repeat(eta, 5) == pytest.approx(abs(1 - eta) ** 5, rel=1e-9)


@pytest.mark.parametrize("length", [0.3, 1.0, 4.0])
def test_stable_just_inside_and_divergent_just_outside(length: float) -> None:
    boundary = 2 / length**2
    assert repeat(0.99 * boundary, 2000, length) < 1e-6
    assert repeat(1.01 * boundary, 2000, length) > 1e6


@pytest.mark.parametrize("length", [0.3, 1.0, 4.0])
def test_one_shot_at_one_over_the_squared_length(length: float) -> None:
    assert repeat(1 / length**2, 1, length) < 1e-12


def test_only_the_direction_of_the_key_changes() -> None:
    q, k, v, start = draw(1)
    _, memory = delta_rule(q, k, v, 0.8, start)
    other = np.linalg.svd(k)[2][1:]  # three directions orthogonal to the key
    np.testing.assert_allclose(memory @ other.T, start @ other.T, rtol=0, atol=1e-12)
    assert np.abs((memory - start) @ k[0]).max() > 0.1


def test_the_gated_rule_decays_before_it_erases() -> None:
    """With eta = 1 and a unit key the pair is stored exactly, whatever alpha: the error is measured after the decay."""
    q, k, v, start = draw(1)
    _, memory = gated_delta_rule(q, k, v, 1.0, 0.3, start)
    np.testing.assert_allclose(memory @ k[0], v[0], rtol=0, atol=1e-12)
