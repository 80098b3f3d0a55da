"""Exercises of notebook 02: the gated delta rule, the rate that stores in one shot, and what the misplaced factor breaks."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, must_equal

Gated = tuple[Array, Array, Array, Array, Array]


def _tokens(length: int = 6) -> Gated:
    rng = np.random.default_rng(201)
    q, k, v = rng.normal(size=(length, 3)), rng.normal(size=(length, 3)), rng.normal(size=(length, 2))
    return q, k, v, rng.uniform(0.2, 0.5, size=length), rng.uniform(0.5, 0.9, size=length)


def _unrolled(q: Array, k: Array, v: Array, decay: Array, before: Array, write: Array) -> Array:
    """y_t = Σ_{s≤t} write_s v_s k_sᵀ T_{s+1} … T_t q_t with T_r = decay_r I - before_r k_r k_rᵀ: no memory, no loop over one."""
    y = np.zeros_like(v)
    for t in range(len(k)):
        read = q[t]  # becomes T_{s+1} … T_t q_t on the way back
        for s in range(t, -1, -1):
            y[t] += write[s] * v[s] * (k[s] @ read)
            read = decay[s] * read - before[s] * k[s] * (k[s] @ read)
    return y


def check_gated(function: Any) -> None:
    """(q, k, v, eta, alpha) -> y: compared with the sum over all writes, each carried to its read by the transitions."""
    q, k, v, eta, alpha = _tokens()
    one = np.ones_like(alpha)
    must_equal(
        "y",
        ask(function, q, k, v, eta, alpha),
        _unrolled(q, k, v, alpha, alpha * eta, eta),
        {
            "You measured the error before the decay; the gated rule decays first: the error is "
            "v_t - α_t M_{t-1} k_t.": _unrolled(q, k, v, alpha, eta, eta),
            "The new write is decayed too; α_t multiplies the old memory only.": _unrolled(
                q, k, v, alpha, alpha * eta, alpha * eta
            ),
            "There is no retention in it yet.": _unrolled(q, k, v, one, eta, eta),
            "There is no error correction in it: that is linear attention with retention.": _unrolled(
                q, k, v, alpha, 0 * eta, eta
            ),
            "You read before you wrote: y_t is M_t q_t, with the memory after the write.": _reads_first(
                q, k, v, eta, alpha
            ),
        },
    )


def _gated(q: Array, k: Array, v: Array, eta: Array, alpha: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        memory = alpha[t] * memory
        memory = memory + eta[t] * np.outer(v[t] - memory @ k[t], k[t])
        y[t] = memory @ q[t]
    return y


def _error_before_decay(q: Array, k: Array, v: Array, eta: Array, alpha: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        memory = alpha[t] * memory + eta[t] * np.outer(v[t] - memory @ k[t], k[t])
        y[t] = memory @ q[t]
    return y


def _decays_last(q: Array, k: Array, v: Array, eta: Array, alpha: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        memory = alpha[t] * (memory + eta[t] * np.outer(v[t] - memory @ k[t], k[t]))
        y[t] = memory @ q[t]
    return y


def _reads_first(q: Array, k: Array, v: Array, eta: Array, alpha: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        y[t] = memory @ q[t]
        memory = alpha[t] * memory
        memory = memory + eta[t] * np.outer(v[t] - memory @ k[t], k[t])
    return y


def check_one_shot(function: Any) -> None:
    """(k,) -> eta, one rate per key: the error after one write is linear in η, so two measurements find its zero."""
    rng = np.random.default_rng(202)
    k, memory, v = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=4)
    before = k @ memory - v  # (4,) the error at η = 0
    after = [key @ (memory - error * key) - value for key, error, value in zip(k, before, v, strict=True)]
    norm = np.linalg.norm(k, axis=1)
    must_equal(
        "eta",
        ask(function, k),
        before / (before - after),
        {
            "The error shrinks by 1 - η‖k‖²: the norm is squared.": 1 / norm,
            "That is the edge of stability, where the error only changes its sign.": 2 / norm**2,
            "η = 1 stores in one shot only when the key has norm 1; these have not.": np.ones(4),
            "That is upside down.": norm**2,
        },
    )


def check_left_factor(function: Any) -> None:
    """() -> (memory, k, v): square, as small as can be, and the two forms differ at η = 1/‖k‖²."""
    got = ask(function)
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise WrongAnswer("return three arrays: memory (d_v, d_k), k (d_k,), v (d_v,).")
    try:
        memory, k, v = (np.asarray(array, dtype=np.float64) for array in got)
    except (TypeError, ValueError) as error:
        raise WrongAnswer("memory, k and v must be arrays of numbers.") from error
    if memory.ndim != 2 or k.ndim != 1 or v.ndim != 1 or memory.shape != (len(v), len(k)):
        raise WrongAnswer(
            f"memory, k, v have shapes {memory.shape}, {k.shape}, {v.shape}; they should be (d_v, d_k), (d_k,), (d_v,)."
        )
    if memory.shape[0] != memory.shape[1]:
        raise WrongAnswer(
            f"memory has shape {memory.shape}: with d_v ≠ d_k NumPy refuses the printed form, so nobody is misled. "
            "Find a case in which it runs, and is wrong."
        )
    if not (np.isfinite(memory).all() and np.isfinite(v).all() and np.isfinite(k).all() and k.any()):
        raise WrongAnswer("all numbers must be finite, and the key must not be zero.")
    if len(k) == 1:
        raise WrongAnswer(
            "at size 1 both forms are one product of numbers, and numbers commute: go one larger."
        )
    square = k @ k
    answer = (memory - np.outer(k, k) @ memory / square + np.outer(v, k) / square) @ k  # the printed form
    if np.abs(answer - v).max() < 1e-6 * max(1.0, float(np.abs(v).max())):
        hint = (
            "with an empty memory there is nothing to erase, so the side does not matter"
            if not memory.any()
            else "this k kᵀ and this M give the same answer in both orders; does M k point along k?"
        )
        raise WrongAnswer(f"the printed form stores your pair correctly: {hint}.")
    if len(k) > 2:
        raise WrongAnswer(f"a counterexample, but not the smallest: size {len(k)} can be reduced.")


def _counterexample() -> tuple[Array, Array, Array]:
    return np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([1.0, 0.0]), np.array([0.0, 0.0])


EXERCISES = (
    Exercise(
        "02.1",
        "write the gated delta rule",
        check_gated,
        _gated,
        (
            (_error_before_decay, "decays first"),
            (_decays_last, "α_t multiplies the old memory only"),
            (_reads_first, "read before you wrote"),
            (lambda q, k, v, eta, alpha: _gated(q, k, v, eta, np.ones_like(alpha)), "no retention"),
            (
                lambda q, k, v, eta, alpha: _unrolled(q, k, v, alpha, 0 * eta, eta),
                "no error correction",
            ),
        ),
    ),
    Exercise(
        "02.2",
        "choose eta for one-shot storage, one rate per key",
        check_one_shot,
        lambda k: 1 / (k**2).sum(axis=1),
        (
            (lambda k: 1 / np.linalg.norm(k, axis=1), "squared"),
            (lambda k: 2 / (k**2).sum(axis=1), "edge of stability"),
            (lambda k: np.ones(len(k)), "norm 1"),
            (lambda k: (k**2).sum(axis=1), "upside down"),
            (lambda k: 1 / (k**2).sum(axis=0), "has shape (3,), it should be (4,)"),
        ),
    ),
    Exercise(
        "02.3",
        "find the smallest case in which the printed left factor runs and is wrong",
        check_left_factor,
        _counterexample,
        (
            (lambda: (np.eye(2), np.array([1.0, 0.0]), np.array([1.0, 2.0])), "in both orders"),
            (lambda: (np.zeros((2, 2)), np.ones(2), np.ones(2)), "nothing to erase"),
            (lambda: (np.ones((2, 3)), np.ones(3), np.ones(2)), "NumPy refuses"),
            (lambda: (np.ones((1, 1)), np.ones(1), np.zeros(1)), "numbers commute"),
            (
                lambda: (np.arange(9.0).reshape(3, 3), np.array([1.0, 0, 0]), np.zeros(3)),
                "not the smallest",
            ),
            (lambda: (np.ones(2), np.ones(2), np.ones(2)), "they should be (d_v, d_k)"),
            (lambda: (np.ones((2, 2)), np.zeros(2), np.ones(2)), "must not be zero"),
            (lambda: np.ones((2, 2)), "three arrays"),
            (lambda: ("M", "k", "v"), "arrays of numbers"),
        ),
    ),
)
