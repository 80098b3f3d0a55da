"""Exercises of notebook 02: right answers in other forms pass, and what only looks right does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import WrongAnswer
from hope_ref.teaching.exercises import e02

Array = np.ndarray


def error_of_notebook(M: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    return alpha * M + eta * (v - alpha * (M @ k))[:, None] * k


def factor_on_the_right(M: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    return alpha * M @ (np.eye(k.size) - eta * np.outer(k, k)) + eta * np.outer(v, k)


def entry_by_entry(M: Array, k: Array, v: Array, eta: float, alpha: float) -> list[list[float]]:
    new = []
    for row, value in zip(M.tolist(), v.tolist(), strict=True):
        answer = alpha * sum(m * x for m, x in zip(row, k.tolist(), strict=True))
        new.append([alpha * m - eta * (answer - value) * x for m, x in zip(row, k.tolist(), strict=True)])
    return new


def inverse(M: Array, k: Array, v: Array, eta: Array) -> Array:
    system = np.eye(len(k)) + np.diag(eta) @ np.tril(k @ k.T, -1)
    return M + (np.linalg.inv(system) @ np.diag(eta) @ (v - k @ M.T)).T @ k


def divided_by_the_rates(M: Array, k: Array, v: Array, eta: Array) -> Array:
    """(1 + tril) with the rates on the columns: unknowns w_t / η_t."""
    system = np.eye(len(k)) + np.tril(k @ k.T, -1) * eta
    return M + (eta[:, None] * np.linalg.solve(system, v - k @ M.T)).T @ k


def einsum(M: Array, k: Array, v: Array, eta: Array) -> Array:
    overlaps = np.einsum("ti,si->ts", k, k)
    mask = np.arange(len(k))[:, None] > np.arange(len(k))
    system = np.where(mask, eta[:, None] * overlaps, 0.0) + np.eye(len(k))
    writes = np.linalg.solve(system, eta[:, None] * (v - np.einsum("ij,tj->ti", M, k)))
    return M + np.einsum("ti,tj->ij", writes, k)


def mean_of_squares(k: Array, v: Array, rates: Array) -> Any:
    best = (np.inf, np.inf)
    for rate in rates:
        M = np.zeros((v.shape[1], k.shape[1]))
        for key, value in zip(k, v, strict=True):
            M = M + rate * np.outer(value - M @ key, key)
        best = min(best, (np.mean((k @ M.T - v) ** 2), rate))
    return np.array(best[1])


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("02.1", error_of_notebook),
        ("02.1", factor_on_the_right),
        ("02.1", entry_by_entry),
        ("02.2", inverse),
        ("02.2", divided_by_the_rates),
        ("02.2", einsum),
        ("02.3", mean_of_squares),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_right_in_another_form_passes(name: str, answer: Any) -> None:
    attempt(name, answer)


def test_each_mistake_leads_to_a_value_of_its_own() -> None:
    """Otherwise a hint would name another mistake than the one that was made."""
    for case, right, mistakes in (
        (e02._write_case(), e02._written, e02._write_mistakes),
        (e02._tokens(5), e02._loop, e02._write_all_mistakes),
        (e02._pairs(), e02._best_rate, e02._rate_mistakes),
    ):
        values = [right(**case), *mistakes(**case).values()]
        for i, one in enumerate(values):
            assert not any(np.allclose(one, other, atol=1e-4) for other in values[:i])


def only_plain_keys(M: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    with np.errstate(invalid="ignore"):
        k = k / np.linalg.norm(k) * 2
    return error_of_notebook(M, k, v, eta, alpha)


def divides_by_alpha(M: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    with np.errstate(all="ignore"):
        return alpha * (M - eta * np.outer(M @ k - v / np.float64(alpha), k))


def needs_two(M: Array, k: Array, v: Array, eta: Array) -> Array:
    return inverse(M, k, v, eta) if len(k) > 1 else M


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("02.1", only_plain_keys, "with a key of zeros"),
        ("02.1", divides_by_alpha, "with α = 0"),
        ("02.2", needs_two, "of a single token"),
        (
            "02.2",
            lambda M, k, v, eta: inverse(M.astype("f"), k, v, eta).astype("f"),
            "do you compute in float32?",
        ),
    ],
)
def test_what_holds_in_the_first_case_only_is_rejected(name: str, answer: Any, hint: str) -> None:
    with pytest.raises(WrongAnswer, match=hint.replace("?", r"\?")):
        attempt(name, answer)


def test_a_loop_is_counted_and_a_solve_is_not() -> None:
    counts = []
    for answer in (e02._write_all, e02._loop, e02._forward):
        arguments = {name: e02._counted(value) for name, value in e02._tokens(e02.MANY).items()}
        e02._Counted.operations = 0
        got = answer(**arguments)
        counts.append(e02._Counted.operations)
        np.testing.assert_allclose(e02._plain(got), e02._loop(**e02._tokens(e02.MANY)), atol=1e-9)
    assert counts[0] < 20
    assert min(counts[1:]) >= e02.MANY


def test_an_error_in_a_counted_call_keeps_the_lines_of_the_learner() -> None:
    def answer(M: Array, k: Array, v: Array, eta: Array) -> Array:
        if len(k) > 10:
            raise RuntimeError("too many")
        return inverse(M, k, v, eta)

    with pytest.raises(WrongAnswer, match="RuntimeError: too many") as caught:
        attempt("02.2", answer)
    assert "raise RuntimeError" in caught.value._render_traceback_()[-1]
