"""Exercises of notebook A0: right answers in other forms pass, and what is right in the first case only does not."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import WrongAnswer
from hope_ref.teaching.exercises import a00

Array = np.ndarray


def in_a_list(v: Array, k: Array, q: Array) -> list[float]:
    overlap = sum(a * b for a, b in zip(k, q, strict=True))
    return [float(value * overlap) for value in v]


def by_einsum(v: Array, k: Array, q: Array) -> Array:
    return np.einsum("j,j->", k, q) * v


def by_vdot(v: Array, k: Array, q: Array) -> Array:
    return np.multiply(np.vdot(q, k), v)


def row_by_row(v: Array, k: Array, q: Array) -> list[Any]:
    return [(value * k) @ q for value in v]


def with_torch(v: Array, k: Array, q: Array) -> Any:
    torch = pytest.importorskip("torch")
    v, k, q = (torch.tensor(np.array(x)) for x in (v, k, q))
    return v * torch.dot(k, q)


def by_columns(M: Array, k: Array, v: Array) -> tuple[Array, Array]:
    e = M @ k - v
    return e[:, None] * k, e @ M


def as_a_list(M: Array, k: Array, v: Array) -> list[Any]:
    e = [sum(m * x for m, x in zip(row, k, strict=True)) - y for row, y in zip(M, v, strict=True)]
    dk = [sum(M[i, j] * e[i] for i in range(len(e))) for j in range(len(k))]
    return [[[error * x for x in k] for error in e], dk]


def by_autograd(M: Array, k: Array, v: Array) -> Any:
    torch = pytest.importorskip("torch")
    M, k, v = (torch.tensor(np.array(x)) for x in (M, k, v))
    M.requires_grad_(), k.requires_grad_()
    (0.5 * (M @ k - v).square().sum()).backward()
    return M.grad, k.grad


def by_a_loop(x: Array) -> float:
    best = 0.0
    for i in range(len(x)):
        for j in range(i):
            cosine = x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])
            best = max(best, abs(cosine))
    return best


def by_the_triangle(x: Array) -> Any:
    lengths = np.sqrt((x**2).sum(1))
    return np.abs(np.triu(x @ x.T / np.outer(lengths, lengths), 1)).max()


def by_a_zeroed_diagonal(x: Array) -> Any:
    table = np.corrcoef(np.hstack([x, -x]))  # the mean of each row is 0, so this is the cosine
    np.fill_diagonal(table, 0)
    return np.array(max(table.max(), -table.min()))


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("A0.1", in_a_list),
    ("A0.1", by_einsum),
    ("A0.1", by_vdot),
    ("A0.1", row_by_row),
    ("A0.1", with_torch),
    ("A0.2", by_columns),
    ("A0.2", as_a_list),
    ("A0.2", by_autograd),
    ("A0.3", by_a_loop),
    ("A0.3", by_the_triangle),
    ("A0.3", by_a_zeroed_diagonal),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=lambda x: getattr(x, "__name__", x))
def test_another_right_form_passes(
    name: str, answer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(name, answer)
    assert capsys.readouterr().out.startswith(f"ok  exercise {name}")


def table_in_lists(v: Array, k: Array, q: Array) -> Any:
    table = [[value * key for key in k] for value in v]
    return np.array(table) @ q


WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("A0.1", table_in_lists, "you build the matrix"),
    ("A0.1", lambda v, k, q: np.ones((2, 2)), r"shape \(2, 2\), it should be \(3,\)"),
    ("A0.1", lambda v, k, q: np.einsum("i,i->", v, q) * k, "The key meets the query"),
    ("A0.1", lambda v, k, q: v[:3] * k[:3] @ q[:3] * v, r"\[0\] is"),
    ("A0.1", lambda v, k, q: "text", "must be numbers, got str"),
    ("A0.1", lambda v, k, q: v * (k.astype("f") @ q.astype("f")), r"do you compute in float32\?"),
    ("A0.2", lambda M, k, v: (np.outer(M @ k - v, k), k), r"dk\[0\] is"),
    ("A0.2", lambda M, k, v: (np.outer(M @ k - v, k), M.T), r"dk has shape \(3, 4\)"),
    ("A0.2", lambda M, k, v: (None, None), "dM is None"),
    ("A0.2", lambda M, k, v: ("text", "text"), "dM must be numbers"),
    ("A0.3", lambda x: np.arccos(0.99 * by_a_loop(x)), "the largest overlap is"),
    ("A0.3", lambda x: x @ x.T, r"has shape \(8, 8\), it should be \(\)"),
    ("A0.3", lambda x: by_a_loop(x[:8]), "of 40 rows in 2 dimensions"),
    ("A0.3", lambda x: by_a_loop(x + 1e-4), "the largest overlap is"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_a_wrong_form_does_not(name: str, answer: Callable[..., Any], hint: str) -> None:
    with pytest.raises(WrongAnswer, match=hint):
        attempt(name, answer)


def test_each_mistake_leads_to_a_value_of_its_own() -> None:
    """Otherwise a hint would name another mistake than the one that was made."""
    square, layer, x = a00._vectors(3, 3), a00._layer(4, 3), a00._rows()
    slopes = list(a00._wrong_slopes(**layer))
    for values in (
        [a00._read_outer(**square), *a00._misread(**square).values()],
        [a00._gradients(**layer)[0], *(dM for _, dM, _ in slopes)],
        [a00._gradients(**layer)[1], *(dk for _, _, dk in slopes)],
        [a00._largest_overlap(x), *a00._misjudged(x).values()],
    ):
        for i, one in enumerate(values):
            assert not any(np.allclose(one, other, atol=1e-4) for other in values[:i])


def test_the_inputs_tell() -> None:
    """The key is no unit vector, the rows have lengths of their own, and the largest overlap is one of opposites."""
    assert np.linalg.norm(a00._vectors(3, 3)["k"]) == pytest.approx(2)
    x = a00._rows()
    assert np.ptp(np.linalg.norm(x, axis=1)) > 1
    cosines = a00._pair_by_pair(x)
    assert -min(cosines) > max(cosines) + 0.1


def test_memory_is_measured_whether_or_not_somebody_traces_already() -> None:
    for answer, hint in ((a00._read_outer, None), (lambda v, k, q: np.outer(v, k) @ q, "build the matrix")):
        tracemalloc.start()
        try:
            if hint is None:
                attempt("A0.1", answer)
            else:
                with pytest.raises(WrongAnswer, match=hint):
                    attempt("A0.1", answer)
            assert tracemalloc.is_tracing()
        finally:
            tracemalloc.stop()
    attempt("A0.1", a00._read_outer)
    assert not tracemalloc.is_tracing()
