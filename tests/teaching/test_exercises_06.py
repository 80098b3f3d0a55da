"""Exercises of notebook 06: right answers in other forms pass; near misses are named; inputs tell mistakes apart."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from hope_ref.reference.titans import memory_gradients, memory_read, start, titans
from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import WrongAnswer
from hope_ref.teaching.exercises import e06


def _by_the_library(q: Any, k: Any, v: Any, eta: Any, alpha: Any, mu: Any) -> Any:
    q, k, v, eta, alpha, mu = (np.asarray(x, dtype=np.float64) for x in (q, k, v, eta, alpha, mu))
    return titans(q, k, v, eta, alpha, mu, start(np.zeros((v.shape[1], k.shape[1]))))[0]


def _as_rows(q: Any, k: Any, v: Any, eta: Any, alpha: Any, mu: Any) -> Any:
    """The memory transposed, y as a list, and the momentum with the other sign."""
    memory = momentum = np.zeros((k.shape[1], v.shape[1]))
    y = []
    for t in range(len(k)):
        momentum = mu[t] * momentum + eta[t] * np.outer(k[t], k[t] @ memory - v[t])
        memory = alpha[t] * memory - momentum
        y.append(q[t] @ memory)
    return y


@pytest.mark.parametrize("answer", [_by_the_library, _as_rows])
def test_titans_may_be_written_in_another_form(answer: Any) -> None:
    attempt("06.1", answer)


@pytest.mark.parametrize(
    "answer",
    [
        lambda alpha, eta, theta: [theta + theta, 1 - alpha, eta],
        lambda alpha, eta, theta: np.stack([2 * theta, 1 - alpha, eta]),
        lambda alpha, eta, theta: ((2 * theta).tolist(), (1 - alpha).tolist(), eta.tolist()),
    ],
    ids=["list", "one array", "lists of numbers"],
)
def test_gates_may_come_in_another_form(answer: Any) -> None:
    attempt("06.2", answer)


@pytest.mark.parametrize(
    "answer",
    [lambda a, e, t: (e, 1 - a, t), lambda a, e, t: (e, a, 2 * t), lambda a, e, t: (2 * e, a, t)],
)
def test_a_clash_of_eta_is_named_beside_another_slip(answer: Any) -> None:
    with pytest.raises(WrongAnswer, match=r"η is left in its place|η and μ are swapped"):
        attempt("06.2", answer)


def test_each_slip_of_the_letters_has_one_hint() -> None:
    """No two mistakes give the same gates, so that no hint hides another; the right answer is not among them."""
    gates = e06._paper_gates()
    rows = [np.concatenate(row) for _, row in e06._likely_gates(*gates)]
    hints = [hint for hint, _ in e06._likely_gates(*gates)]
    alike = [
        (hints[i], hints[j])
        for i in range(len(rows))
        for j in range(i)
        if np.allclose(rows[i], rows[j]) and "wrong order" not in hints[i] + hints[j]
    ]
    assert all("Nothing is renamed" in other or "left in its place" in other for _, other in alike), alike


def _with_a_curve(
    forget: Any, blanks: int, weights: Any, k: Any, v: Any, eta: float, share: float, most: int
) -> Any:
    """All errors first, then the first one below."""
    for _ in range(blanks):
        weights = forget(weights)
    errors = [np.linalg.norm(memory_read(weights, k) - v)]
    for _ in range(most):
        slopes = memory_gradients(weights, k, v)
        weights = tuple(w - eta * g for w, g in zip(weights, slopes, strict=True))
        errors.append(np.linalg.norm(memory_read(weights, k) - v))
    below = np.array(errors) < share * errors[0]
    return np.argmax(below) if below.any() else None


def _with_squares(
    forget: Any, blanks: int, weights: Any, k: Any, v: Any, eta: float, share: float, most: int
) -> Any:
    """Squared errors, weights as a list, own copies changed in place, a float for a count."""
    for _ in range(blanks):
        weights = forget(weights)
    own = [np.array(w) for w in weights]

    def error() -> float:
        return float(((memory_read(tuple(own), k) - v) ** 2).sum())

    first = error()
    for lesson in count(1):
        if lesson > most:
            return None
        for w, g in zip(own, memory_gradients(tuple(own), k, v), strict=True):
            w -= eta * g
        if error() < share**2 * first:
            return float(lesson)


@pytest.mark.parametrize("answer", [_with_a_curve, _with_squares])
def test_lessons_may_be_counted_in_another_way(answer: Any) -> None:
    attempt("06.3", answer)


def test_no_count_is_on_an_edge() -> None:
    """A count must be the same on every machine: no error within a millionth of the share, but for the exact half."""
    for case in e06._cases()[:-1]:
        for nudge in (1 - 1e-6, 1 + 1e-6):
            assert e06._count(case._replace(share=case.share * nudge)) == e06._count(case), case.what


def test_the_silence_and_the_lessons_are_told_apart() -> None:
    with pytest.raises(WrongAnswer, match="forget was called 0 times, expected 20"):
        attempt("06.3", lambda forget, *rest: e06._count(e06.Case("", lambda w: w, *rest)))
