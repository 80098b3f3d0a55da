"""Exercises of notebook 01: right answers in other forms pass, and the method that the task asks for is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import WrongAnswer

# --- 01.1: a recurrence -----------------------------------------------------------------------------------------------


def in_a_list(q: Any, k: Any, v: Any) -> Any:
    memory, outputs = 0, []
    for query, key, value in zip(q, k, v, strict=True):
        memory = memory + value[:, None] * key[None]
        outputs.append((memory * query).sum(1))
    return outputs


def in_place(q: Any, k: Any, v: Any) -> Any:
    memory = np.zeros((v.shape[1], k.shape[1]))
    y = np.empty((0, v.shape[1]))
    for t in range(len(k)):
        memory += np.einsum("i,j->ij", v[t], k[t])
        y = np.vstack([y, memory.dot(q[t])])
    return y


def transposed(q: Any, k: Any, v: Any) -> Any:
    memory, y = np.zeros((k.shape[1], v.shape[1])), np.zeros(v.shape)
    for t in range(len(k)):
        memory += np.outer(k[t], v[t])
        y[t] = q[t] @ memory
    return y


def all_states(q: Any, k: Any, v: Any) -> Any:
    """Every memory at once, by a cumulative sum: a recurrence that NumPy runs."""
    return np.einsum("tij,tj->ti", np.cumsum(v[:, :, None] * k[:, None, :], axis=0), q)


def with_torch(q: Any, k: Any, v: Any) -> Any:
    torch = pytest.importorskip("torch")
    q, k, v = (torch.tensor(np.array(x)) for x in (q, k, v))
    memory, y = torch.zeros(v.shape[1], k.shape[1], dtype=q.dtype), []
    for t in range(len(k)):
        memory = memory + torch.outer(v[t], k[t])
        y.append(memory @ q[t])
    return torch.stack(y)


def in_chunks(q: Any, k: Any, v: Any) -> Any:
    memory, y = np.zeros((v.shape[1], k.shape[1])), []
    for start in range(0, len(k), 8):
        part = slice(start, start + 8)
        y.append(q[part] @ memory.T + np.tril(q[part] @ k[part].T) @ v[part])
        memory = memory + v[part].T @ k[part]
    return np.concatenate(y)


# --- 01.2: no loop over tokens ----------------------------------------------------------------------------------------


def decay_of(alpha: Any) -> Any:
    t, s = np.indices((len(alpha), len(alpha)))
    return np.where(s <= t, np.where(s < t, alpha[:, None], 1.0).cumprod(0), 0)


def by_einsum(q: Any, k: Any, v: Any, alpha: Any) -> Any:
    return np.einsum("ts,td,sd,sv->tv", decay_of(alpha), q, k, v)


def by_three_axes(q: Any, k: Any, v: Any, alpha: Any) -> Any:
    """The product over r written out: weight[t, s] = Π_r (α_r where s < r ≤ t, else 1)."""
    r = np.arange(len(alpha))
    inside = (r > r[None, :, None]) & (r <= r[:, None, None])  # (t, s, r)
    weights = np.prod(np.where(inside, alpha, 1.0), axis=2)
    return np.tril(weights * (q @ k.T)) @ v


def by_clipped_logarithms(q: Any, k: Any, v: Any, alpha: Any) -> Any:
    total = np.cumsum(np.log(np.maximum(alpha, 1e-100)))
    return np.tril(np.exp(total[:, None] - total[None]) * (q @ k.T)) @ v


def token_loop_in_lists(q: Any, k: Any, v: Any, alpha: Any) -> Any:
    memory, y = 0, []
    for query, key, value, a in zip(q, k, v, alpha, strict=True):
        memory = a * memory + np.outer(value, key)
        y.append(memory @ query)
    return np.array(y)


def weights_by_comprehension(q: Any, k: Any, v: Any, alpha: Any) -> Any:
    weights = np.array(
        [[alpha[s + 1 : t + 1].prod() if s <= t else 0 for s in range(len(k))] for t in range(len(k))]
    )
    return (weights * (q @ k.T)) @ v


def zeros_lifted(q: Any, k: Any, v: Any, alpha: Any) -> Any:
    gamma = np.cumprod(alpha + 1e-12)
    return np.tril(gamma[:, None] / gamma[None] * (q @ k.T)) @ v


def not_a_number_to_zero(q: Any, k: Any, v: Any, alpha: Any) -> Any:
    gamma = np.cumprod(alpha)
    return np.tril(np.nan_to_num(gamma[:, None] / gamma[None]) * (q @ k.T)) @ v


# --- 01.3: a measurement ----------------------------------------------------------------------------------------------


def one_by_one(k: Any, v: Any) -> Any:
    memory = sum(np.outer(value, key) for key, value in zip(k, v, strict=True))
    hits = 0
    for i in range(len(k)):
        scores = [value @ (memory @ k[i]) for value in v]
        hits += int(scores[i] >= max(scores))
    return hits / len(k)


def nearest(k: Any, v: Any) -> Any:
    answers = k @ (v.T @ k).T
    distance = ((answers[:, None] - v[None]) ** 2).sum(-1)
    return (distance.argmin(1) == np.arange(len(k))).mean()


def of_the_mean(k: Any, v: Any) -> Any:
    answers = k @ (v.T @ k / len(k)).T
    return np.mean(np.argmax(v @ answers.T, axis=0) == np.arange(len(k)))


def alone(k: Any, v: Any) -> Any:
    return 1.0


def rounded(k: Any, v: Any) -> Any:
    return round(float(nearest(k, v)))


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("01.1", in_a_list),
    ("01.1", in_place),
    ("01.1", transposed),
    ("01.1", all_states),
    ("01.1", with_torch),
    ("01.1", in_chunks),
    ("01.2", by_einsum),
    ("01.2", by_three_axes),
    ("01.2", by_clipped_logarithms),
    ("01.3", one_by_one),
    ("01.3", nearest),
    ("01.3", of_the_mean),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=lambda x: getattr(x, "__name__", x))
def test_another_right_form_passes(
    name: str, answer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(name, answer)
    assert capsys.readouterr().out.startswith(f"ok  exercise {name}")


WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("01.1", lambda q, k, v: np.einsum("ts,sv->tv", np.tril(np.einsum("td,sd->ts", q, k)), v), "the work"),
    ("01.1", lambda q, k, v: [np.zeros(3)] * len(k), r"shape \(6, 3\), it should be \(6, 2\)"),
    ("01.1", lambda q, k, v: in_place(q, k, v)[-1], r"shape \(2,\)"),
    ("01.2", token_loop_in_lists, "loop over tokens"),
    ("01.2", weights_by_comprehension, "loop over tokens"),
    ("01.2", zeros_lifted, "1e-3 and 128 tokens is not finite"),
    ("01.2", not_a_number_to_zero, r"alpha\[3\] = 0"),
    ("01.2", lambda q, k, v, alpha: by_einsum(q, k, v, alpha[None]), "row t for the token that reads"),
    ("01.3", alone, "asked alone"),
    ("01.3", rounded, "the share of"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_a_wrong_form_does_not(name: str, answer: Callable[..., Any], hint: str) -> None:
    with pytest.raises(WrongAnswer, match=hint):
        attempt(name, answer)


def test_two_equal_values_may_be_named_either_way() -> None:
    def last_of_equals(k: Any, v: Any) -> Any:
        scores = np.round(k @ (v.T @ k).T @ v.T, 9)
        return np.mean(len(k) - 1 - np.argmax(scores[:, ::-1], axis=1) == np.arange(len(k)))

    def first_of_equals(k: Any, v: Any) -> Any:
        return np.mean(np.argmax(np.round(k @ (v.T @ k).T @ v.T, 9), axis=1) == np.arange(len(k)))

    def every_one_of_them(k: Any, v: Any) -> Any:
        scores = np.round(k @ (v.T @ k).T @ v.T, 9)
        return np.mean(np.diag(scores) >= scores.max(1))

    for answer in (first_of_equals, last_of_equals, every_one_of_them):
        attempt("01.3", answer)
