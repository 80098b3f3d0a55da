"""Exercises of notebook 01: the recurrence, its parallel form with retention, and its interference."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, ask, must_equal


def _tokens(length: int = 6) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(101)
    return rng.normal(size=(length, 3)), rng.normal(size=(length, 3)), rng.normal(size=(length, 2))


def _scores(q: Array, k: Array, weight: Array) -> Array:
    return weight * (q @ k.T)


def check_recurrence(function: Any) -> None:
    """(q, k, v) -> y: compared with the masked product, which shares no line with a loop."""
    q, k, v = _tokens()
    ones = np.ones((6, 6))
    must_equal(
        "y",
        ask(function, q, k, v),
        _scores(q, k, np.tril(ones)) @ v,
        {
            "You read before you wrote: y_t is M_t q_t, with the memory after the write.": _scores(
                q, k, np.tril(ones, -1)
            )
            @ v,
            "The memory is overwritten, not added to: M_t = M_{t-1} + v_t k_tᵀ.": _scores(q, k, np.eye(6))
            @ v,
            "Every query sees every token, also later ones: read inside the loop.": _scores(q, k, ones) @ v,
        },
    )


def _recurrence(q: Array, k: Array, v: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        memory = memory + np.outer(v[t], k[t])
        y[t] = memory @ q[t]
    return y


def _reads_first(q: Array, k: Array, v: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        y[t] = memory @ q[t]
        memory = memory + np.outer(v[t], k[t])
    return y


def check_retention(function: Any) -> None:
    """(q, k, v, alpha) -> y without a loop over a memory: compared with the token loop."""
    q, k, v = _tokens()
    alpha = np.random.default_rng(102).uniform(0.5, 1, size=6)
    memory, wanted = np.zeros((2, 3)), np.zeros_like(v)
    for t in range(6):
        memory = alpha[t] * memory + np.outer(v[t], k[t])
        wanted[t] = memory @ q[t]
    gamma = np.cumprod(alpha)
    before = gamma / alpha
    must_equal(
        "y",
        ask(function, q, k, v, alpha),
        wanted,
        {
            "A write is not decayed by its own α: the product runs over s < r ≤ t.": _scores(
                q, k, np.tril(gamma[:, None] / before[None])
            )
            @ v,
            "There is no retention in it yet.": _scores(q, k, np.tril(np.ones((6, 6)))) @ v,
            "The last factor is missing: the product includes α_t itself.": _scores(
                q, k, np.tril(before[:, None] / gamma[None], -1) + np.eye(6)
            )
            @ v,
        },
    )


def _retention(q: Array, k: Array, v: Array, alpha: Array) -> Array:
    gamma = np.cumprod(alpha)
    return np.tril(gamma[:, None] / gamma[None] * (q @ k.T)) @ v


def _retention_twice(q: Array, k: Array, v: Array, alpha: Array) -> Array:
    gamma = np.cumprod(alpha)
    return np.tril(gamma[:, None] / (gamma / alpha)[None] * (q @ k.T)) @ v


def _retention_late(q: Array, k: Array, v: Array, alpha: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        y[t] = (memory + np.outer(v[t], k[t])) @ q[t]
        memory = alpha[t] * memory + np.outer(v[t], k[t])
    return y


def check_interference(function: Any) -> None:
    """(pairs, d_k) -> expected relative error: the formula, and a measurement that must be near it."""
    for pairs, width in ((9, 16), (2, 16), (50, 32), (1, 8)):
        got = ask(function, pairs, width)
        must_equal(
            f"the error for {pairs} pairs at d_k = {width}",
            got,
            np.sqrt((pairs - 1) / width),
            {
                "The pair that you ask for does not disturb itself: count N - 1.": np.sqrt(pairs / width),
                "That is the squared error; take the root.": (pairs - 1) / width,
                "For unit keys E(k_iᵀ k_j)² = 1/d_k, not 1/d_k².": np.sqrt(pairs - 1) / width,
            },
        )


EXERCISES = (
    Exercise(
        "01.1",
        "write linear attention as a loop",
        check_recurrence,
        _recurrence,
        (
            (_reads_first, "read before you wrote"),
            (lambda q, k, v: np.array([np.outer(v[t], k[t]) @ q[t] for t in range(len(k))]), "overwritten"),
            (lambda q, k, v: (q @ k.T) @ v, "later ones"),
            (lambda q, k, v: _recurrence(q, k, v).T, "transposed shape"),
        ),
    ),
    Exercise(
        "01.2",
        "find the parallel form with retention",
        check_retention,
        _retention,
        (
            (_retention_twice, "not decayed by its own"),
            (lambda q, k, v, alpha: np.tril(q @ k.T) @ v, "no retention"),
            (_retention_late, "last factor is missing"),
        ),
    ),
    Exercise(
        "01.3",
        "predict the recall error of N random unit keys",
        check_interference,
        lambda pairs, d_k: np.sqrt((pairs - 1) / d_k),
        (
            (lambda pairs, d_k: np.sqrt(pairs / d_k), "does not disturb itself"),
            (lambda pairs, d_k: (pairs - 1) / d_k, "take the root"),
            (lambda pairs, d_k: np.sqrt(pairs - 1) / d_k, "not 1/d_k²"),
        ),
    ),
)
