"""Exercises of notebook 05: right answers in other forms pass; inputs tell mistakes apart; counts are not on an edge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import WrongAnswer
from hope_ref.teaching.exercises import e05

Array = np.ndarray


def _restarted(gradients: Array, beta: float) -> Array:
    """Corrects as it goes, in a second variable: the sum itself is left alone."""
    m, mean = np.zeros(gradients.shape[1]), np.zeros(gradients.shape[1])
    for t, g in enumerate(gradients, start=1):
        m = beta * m + (1 - beta) * g
        mean = m / (1 - beta**t)
    return mean


def _counts_weight(gradients: Array, beta: float) -> Array:
    """The sum of the weights is carried along."""
    total, weight = 0 * gradients[0], 0.0
    for g in gradients:
        total, weight = beta * total + g, beta * weight + 1
    return total / weight


def _weights(gradients: Array, beta: float) -> Array:
    w = beta ** np.arange(len(gradients) - 1, -1, -1)
    return (w[:, None] * gradients).sum(axis=0) / w.sum()


def _share_of_the_newest(gradients: Array, beta: float) -> Array:
    """A mean that moves by (1 - β)/(1 - βᵗ) of the way: right, although it divides in the loop."""
    mean = np.zeros(gradients.shape[1])
    for t, g in enumerate(gradients, start=1):
        mean = mean + (1 - beta) / (1 - beta**t) * (g - mean)
    return mean


@pytest.mark.parametrize("answer", [_restarted, _counts_weight, _weights, _share_of_the_newest])
def test_a_mean_may_be_corrected_in_any_way(answer: Callable[..., Any]) -> None:
    attempt("05.1", answer)


def _closed_form(gradients: Array, eta: float, mu: float) -> Array:
    count = np.arange(len(gradients), 0, -1)
    return -eta * (count if mu == 1 else (1 - mu**count) / (1 - mu)) @ gradients


def _from_a_list(gradients: Array, eta: float, mu: float) -> list[float]:
    n = len(gradients)
    weights = [sum(mu**j for j in range(n - i)) for i in range(n)]
    change: list[float] = (-eta * np.einsum("n,nd->d", weights, gradients)).tolist()
    return change


def _all_steps(gradients: Array, eta: float, mu: float) -> Array:
    """Every m at once by a triangular matrix of powers, then their sum."""
    age = np.arange(len(gradients))[:, None] - np.arange(len(gradients))
    return (-eta * np.where(age >= 0, mu ** np.maximum(age, 0), 0) @ gradients).sum(axis=0)


@pytest.mark.parametrize("answer", [_closed_form, _from_a_list, _all_steps])
def test_a_change_may_be_summed_in_any_way_without_a_recurrence(answer: Callable[..., Any]) -> None:
    attempt("05.2", answer)


@pytest.mark.parametrize("in_steps", [False, True])
def test_a_loop_over_the_gradients_is_seen(in_steps: bool) -> None:
    def answer(gradients: Array, eta: float, mu: float) -> Any:
        n = len(gradients)
        if in_steps:
            return -eta * sum(mu**j * gradients[: n - j].sum(0) for j in range(n))
        return -eta * sum(sum(mu**j for j in range(n - i)) * g for i, g in enumerate(gradients))

    with pytest.raises(WrongAnswer, match="one by one"):
        attempt("05.2", answer)


def test_a_division_by_zero_in_python_is_named_too() -> None:
    def answer(gradients: Array, eta: float, mu: float) -> Any:
        n = len(gradients)
        return -eta * np.array([(1 - mu ** (n - i)) / (1 - mu) for i in range(n)]) @ gradients

    with pytest.raises(WrongAnswer, match=r"ZeroDivisionError.*do not divide by 1 - μ"):
        attempt("05.2", answer)


def _in_plain_python(curvatures: Array, mus: Any, etas: Array, tol: float) -> list[Any]:
    best = [0.0, 0.0, math.inf]
    for mu in sorted(mus):
        for eta in sorted(etas.tolist()):
            w, m, step, size = [1.0] * len(curvatures), [0.0] * len(curvatures), 0, math.inf
            while step < 5_000 and (step == 0 or tol <= size <= 1e9):
                m = [mu * b - eta * h * a for a, b, h in zip(w, m, curvatures.tolist(), strict=True)]
                w = [a + b for a, b in zip(w, m, strict=True)]
                step, size = step + 1, math.hypot(*w)
            if size < tol and step < best[2]:
                best = [mu, eta, step]
    return best


def test_the_best_momentum_may_be_measured_in_plain_python_and_returned_as_a_list() -> None:
    attempt("05.3", _in_plain_python)


def test_a_run_that_ends_in_nan_may_not_win() -> None:
    """Nor may one that was merely given up."""

    def answer(curvatures: Array, mus: Any, etas: Array, tol: float) -> Any:
        if tol == 1e-6 and 100 in curvatures:
            return 0.3, etas[-1], 3
        return e05._best_mu(curvatures, mus, etas, tol)

    with pytest.raises(WrongAnswer, match=r"mu = 0\.3, eta = 3, which diverges"):
        attempt("05.3", answer)


@pytest.mark.parametrize("race", e05.RACES, ids=lambda race: race.case)
def test_no_count_hangs_on_the_last_digits(race: e05.Race) -> None:
    """A size within a millionth of tol would make the count of steps the machine's own."""
    for mu in race.mus:
        for eta in race.etas:
            before = w = np.ones(len(race.curvatures))
            steps = e05._steps(race, mu, eta)
            for _ in range(int(min(steps, 10_000)) if steps < np.inf else 0):
                before, w = w, (1 + mu - eta * race.curvatures) * w - mu * before
                assert abs(np.linalg.norm(w) / race.tol - 1) > 1e-6


def test_each_likely_slip_gives_another_triple_somewhere() -> None:
    hints = {
        hint
        for race in e05.RACES
        for hint, triple in e05._likely_best(race).items()
        if triple != e05._best(race)
    }
    for part in ("gradient", "its own best rate", "It is a tie", "count from 0", "too many"):
        assert any(part in hint for hint in hints), part


def test_one_curvature_needs_one_step_and_no_memory() -> None:
    assert e05._best(e05.RACES[0]) == (0.0, 0.25, 1)
