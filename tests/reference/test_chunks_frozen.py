"""Gradients frozen at a chunk's boundary, against measured slopes and the memories that they become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.reference import chunks
from hope_ref.reference.delta_gradient_descent import frozen_chunk
from hope_ref.reference.delta_rule import delta_rule
from hope_ref.reference.linear_attention import linear_attention


def keys(length: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Unit keys, square memories as in a single head."""
    rng = np.random.default_rng(seed)
    q, k, v = rng.normal(size=(3, length, 4))
    return {"q": q, "k": k / np.linalg.norm(k, axis=1, keepdims=True), "v": v}


def agree(got: Any, want: Any) -> None:
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)


def measured_slope(objective: str, memory: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    losses = {
        "dot": lambda m: -(m @ k) @ v,
        "l2": lambda m: 0.5 * np.sum((m @ k - v) ** 2),
        "l2_without_half": lambda m: np.sum((m @ k - v) ** 2),
    }
    h, slope = 1e-5, np.zeros_like(memory)
    for index in np.ndindex(memory.shape):
        nudge = np.zeros_like(memory)
        nudge[index] = h
        slope[index] = (losses[objective](memory + nudge) - losses[objective](memory - nudge)) / (2 * h)
    return slope


@pytest.mark.parametrize("rule", ["gradient_descent", "delta_gradient_descent"])
@pytest.mark.parametrize("objective", ["dot", "l2", "l2_without_half"])
@pytest.mark.parametrize(("chunk_size", "length"), [(1, 5), (4, 3), (4, 4), (4, 5), (4, 9)])
def test_gradients_are_measured_at_the_boundary(
    rule: str, objective: str, chunk_size: int, length: int
) -> None:
    """A loop with the loss's finite differences, over a list of all states: the boundary is looked up in it."""
    a, rng = keys(length), np.random.default_rng(1)
    eta, alpha = rng.uniform(0.1, 0.3, size=length), rng.uniform(0.8, 1, size=length)
    states = [rng.normal(size=(4, 4))]
    for t in range(length):
        slope = measured_slope(objective, states[t - t % chunk_size], a["k"][t], a["v"][t])
        erase = np.outer(a["k"][t], a["k"][t]) if rule == "delta_gradient_descent" else np.zeros((4, 4))
        states.append(states[t] @ (alpha[t] * np.eye(4) - eta[t] * erase) - eta[t] * slope)
    y, memory = chunks.frozen_gradients(
        **a, eta=eta, alpha=alpha, memory=states[0], chunk_size=chunk_size, objective=objective, rule=rule
    )
    np.testing.assert_allclose(memory, states[-1], rtol=0, atol=1e-8)
    np.testing.assert_allclose(y, [m @ q for m, q in zip(states[1:], a["q"], strict=True)], rtol=0, atol=1e-8)


def gap(length: int, chunk_size: int, objective: str, rule: str = "gradient_descent") -> float:
    """Largest difference between a chunk size and C = 1."""
    a = keys(length)
    one, _ = chunks.frozen_gradients(**a, eta=0.8, objective=objective, rule=rule)
    many, _ = chunks.frozen_gradients(**a, eta=0.8, chunk_size=chunk_size, objective=objective, rule=rule)
    return float(np.abs(many - one).max())


@pytest.mark.parametrize("rule", ["gradient_descent", "delta_gradient_descent"])
@pytest.mark.parametrize("chunk_size", [2, 4, 12, 100])
def test_the_chunk_size_is_part_of_the_model_on_l2_and_not_on_dot(rule: str, chunk_size: int) -> None:
    assert gap(12, chunk_size, "dot", rule) == 0.0
    assert gap(12, 1, "l2", rule) == 0.0
    assert gap(12, chunk_size, "l2", rule) > 1.0


def test_orthogonal_keys_hide_the_chunk_size() -> None:
    """Without decay the second gradient only misses what was written along its own key."""
    k, v = np.eye(4), np.random.default_rng(0).normal(size=(4, 3))
    whole = [chunks.frozen_gradients(k, k, v, 0.8, chunk_size=c) for c in (1, 2, 4)]
    for y, memory in whole[1:]:
        np.testing.assert_array_equal(y, whole[0][0])
        np.testing.assert_array_equal(memory, whole[0][1])
    decayed = [chunks.frozen_gradients(k, k, v, 0.8, 0.9, np.ones((3, 4)), c)[1] for c in (1, 4)]
    assert np.abs(decayed[0] - decayed[1]).max() > 0.1


def test_chunks_of_one_are_the_delta_rule_and_dot_is_linear_attention() -> None:
    a, eta = keys(12), np.random.default_rng(2).uniform(0, 1.5, size=12)
    agree(chunks.frozen_gradients(**a, eta=eta), delta_rule(**a, eta=eta))
    agree(
        chunks.frozen_gradients(**a, eta=1, alpha=0.9, chunk_size=5, objective="dot"),
        linear_attention(**a, alpha=0.9),
    )
    names = {"q": a["q"], "phi": a["k"], "u": a["v"]}
    agree(
        chunks.frozen_gradients(
            **a, eta=eta, alpha=0.9, chunk_size=5, objective="dot", rule="delta_gradient_descent"
        ),
        chunks.recurrence(**names, eta=eta, alpha=0.9),
    )


@pytest.mark.parametrize("rule", ["gradient_descent", "delta_gradient_descent"])
def test_one_repeated_pair_is_the_frozen_chunk(rule: str) -> None:
    a, start = keys(1), np.ones((4, 4))
    repeated = {name: np.repeat(array, 6, 0) for name, array in a.items()}
    _, memory = chunks.frozen_gradients(**repeated, eta=0.7, alpha=0.9, memory=start, chunk_size=6, rule=rule)
    want = frozen_chunk(start, a["k"][0], a["v"][0], 0.7, 6, 0.9, "l2", rule=rule)
    np.testing.assert_allclose(memory, want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_frozen_gradients_are_causal_and_the_printed_boundary_is_not(chunk_size: int) -> None:
    a = keys(12)
    changed = {**a, "v": a["v"].copy()}
    changed["v"][6] += 1.0
    y, _ = chunks.frozen_gradients(**a, eta=0.8, chunk_size=chunk_size)
    other, _ = chunks.frozen_gradients(**changed, eta=0.8, chunk_size=chunk_size)
    np.testing.assert_array_equal(other[:6], y[:6])
    assert np.abs(other[6] - y[6]).max() > 0.1
    # What token 5 would read under the print is the state after token 7, C = 4: it knows of the change at token 6.
    ahead = 4 * -(-5 // 4)
    printed, moved = (delta_rule(*(x[n][:ahead] for n in ("q", "k", "v")), eta=0.8)[1] for x in (a, changed))
    assert np.abs(printed - moved).max() > 0.1


def test_no_tokens_leave_the_memory() -> None:
    empty, start = np.zeros((0, 4)), np.ones((4, 4))
    y, memory = chunks.frozen_gradients(empty, empty, empty, 0.5, memory=start, chunk_size=3)
    assert y.shape == (0, 4)
    np.testing.assert_array_equal(memory, start)


TOKENS = keys(3) | {"eta": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eta": -1}, "eta must be >= 0, got min -1"),
        ({"alpha": 2}, "alpha must be <= 1, got max 2"),
        ({"v": TOKENS["v"][:2]}, r"v must have shape \(3, d_v\), got \(2, 4\)"),
        ({"memory": np.eye(3)}, r"memory must have shape \(4, 4\), got \(3, 3\)"),
        ({"chunk_size": -2}, "chunk_size must be an integer >= 1, got -2"),
        ({"objective": "l1"}, "objective must be one of 'dot', 'l2', 'l2_without_half', got 'l1'"),
        ({"rule": "adam"}, "rule must be one of 'delta_gradient_descent', 'gradient_descent', got 'adam'"),
    ],
)  # fmt: skip
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chunks.frozen_gradients(**(TOKENS | change))
