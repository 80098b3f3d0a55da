"""Notebook 04: what its exercises accept in another form, and what they say to ideas that are nearly right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import WrongAnswer
from hope_ref.teaching.exercises import e04


def _by_the_new_error(W: Any, x: Any, u: Any, eta: Any) -> Any:
    """Against the error after the step, which is the old one divided by 1 + η‖x‖²."""
    after = (W @ x - u) / (1 + eta * np.sum(x**2))
    return W - eta * after[:, None] * x[None, :]


def _erase_then_write(W: Any, x: Any, u: Any, eta: Any) -> Any:
    taken = eta / (1 + eta * np.linalg.norm(x) ** 2)
    W = W - taken * np.outer(W @ x, x)
    return W + taken * np.outer(u, x)


def _in_a_loop(W: Any, x: Any, u: Any, eta: Any) -> Any:
    taken = eta / (1 + eta * np.dot(x, x))
    return np.array([row - taken * (row @ x - target) * x for row, target in zip(W, u, strict=True)])


@pytest.mark.parametrize("answer", [_by_the_new_error, _erase_then_write, _in_a_loop])
def test_a_step_is_accepted_in_another_form(answer: Any) -> None:
    attempt("04.1", answer)


def _by_an_inverse(W: Any, X: Any, U: Any, eta: Any) -> Any:
    return W + eta * (U - X @ W.T).T @ np.linalg.inv(np.eye(len(X)) + eta * X @ X.T) @ X


def _with_the_bracket_divided(W: Any, X: Any, U: Any, eta: Any) -> Any:
    if eta == 0:
        return W
    return W + (U - X @ W.T).T @ np.linalg.inv(np.eye(len(X)) / eta + X @ X.T) @ X


def _entry_by_entry(W: Any, X: Any, U: Any, eta: Any) -> Any:
    system = np.array([[eta * (a @ b) for b in X] for a in X]) + np.identity(len(X))
    missing = np.linalg.solve(system, U - np.einsum("ci,oi->co", X, W))
    return W + eta * sum(np.outer(m, x) for m, x in zip(missing, X, strict=True))


@pytest.mark.parametrize("answer", [_by_an_inverse, _with_the_bracket_divided, _entry_by_entry])
def test_a_chunk_is_accepted_in_another_form(answer: Any) -> None:
    attempt("04.2", answer)


def _by_two_steps(eta: float, alpha: float, step: str, loss: str) -> float | None:
    return e04._iterate(eta, alpha, step, loss)


def _by_a_condition(eta: float, alpha: float, step: str, loss: str) -> Any:
    taken = eta if step == "explicit" else eta / (1 + eta)
    slope = 2 * taken if loss == "l2" else taken
    return np.float64(taken / (1 - alpha + slope)) if slope < 1 + alpha else None


@pytest.mark.parametrize("answer", [_by_two_steps, _by_a_condition])
def test_the_resting_point_may_be_found_in_another_way(answer: Any) -> None:
    attempt("04.3", answer)


@pytest.mark.parametrize(
    ("name", "solution"), [("04.1", e04._step), ("04.2", e04._woodbury)], ids=["a step", "a chunk"]
)
def test_float32_is_named(name: str, solution: Any) -> None:
    with pytest.raises(WrongAnswer, match="float32"):
        attempt(name, lambda *a: solution(*a).astype(np.float32))


def test_the_settings_of_the_resting_point_tell() -> None:
    """Some settle, some jump for ever at exactly -1, some run away; some fade, some do not."""
    ends = {setting: e04._rest(*setting) for setting in e04.REST_CASES}
    assert ends[1.0, 1.0, "explicit", "l2"] is None
    assert ends[1.0, 0.0, "implicit", "l2"] is None
    assert ends[1e6, 0.9, "implicit", "l2"] is None
    assert ends[1e6, 1.0, "implicit", "l2"] == pytest.approx(0.5)
    assert ends[1.0, 0.9, "implicit", "l2"] == pytest.approx(0.4545, abs=1e-4)
    assert ends[10.0, 0.9, "implicit", "dot"] == pytest.approx(0.9009, abs=1e-4)
    for setting, end in ends.items():
        assert e04._same(end, e04._iterate(*setting)), setting


def test_an_answer_that_needs_many_steps_is_told_so() -> None:
    with pytest.raises(WrongAnswer, match="has not settled yet"):
        attempt("04.3", e04._after(777))
