"""Exercises of notebook 00: right answers in another form are accepted, near misses are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import WrongAnswer, exercise


def test_shapes_may_be_lists_and_numpy_integers() -> None:
    attempt(
        "00.1",
        lambda T, d_k, d_v: {
            "memory": [d_v, d_k],
            "association": np.array([d_v, d_k]),
            "answer": [d_v],
            "scores": (np.int64(T), T),
            "outputs": torch.Size([T, d_v]),
        },
    )


@pytest.mark.parametrize("shape", [(3.0,), "3", None, 3])
def test_a_shape_is_made_of_integers(shape: Any) -> None:
    right = exercise("00.1").solution
    with pytest.raises(WrongAnswer, match="a tuple of integers"):
        attempt("00.1", lambda *sizes: right(*sizes) | {"answer": shape})


def by_torch(logits: np.ndarray, tokens: np.ndarray) -> Any:
    return torch.nn.functional.cross_entropy(
        torch.from_numpy(logits[:-1]), torch.from_numpy(tokens[1:]), reduction="none"
    ) / np.log(2)


def by_a_loop(logits: np.ndarray, tokens: np.ndarray) -> list[float]:
    return [
        float(np.logaddexp.reduce(row) - row[token]) / np.log(2)
        for row, token in zip(logits[:-1], tokens[1:], strict=True)
    ]


@pytest.mark.parametrize("answer", [by_torch, by_a_loop])
def test_bits_may_be_counted_in_another_way(answer: Any) -> None:
    attempt("00.2", answer)


def test_bits_in_float32_are_told_so() -> None:
    right = exercise("00.2").solution
    with pytest.raises(WrongAnswer, match="do you compute in float32"):
        attempt("00.2", lambda logits, tokens: right(logits.astype(np.float32), tokens).astype(np.float32))


def test_gains_may_be_cut_in_another_way() -> None:
    def gains(read: Any, text: bytes, times: int) -> list[float]:
        saved = []
        for learn in (True, False):
            bits = np.append(np.nan, read(text * times, learn)).reshape(times, len(text))
            first, *_, last = np.nanmean(np.vstack([bits, bits[-1:]]), axis=1)
            saved.insert(0, first - last)
        return saved

    attempt("00.3", gains)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda read, text, times: (0.0, 0.0), "never called read"),
        (lambda read, text, times: (read(text, False), read(text, True)), "expected 15"),
        (lambda read, text, times: (read(list(text * times), False), 0.0), "read must get bytes"),
        (lambda read, text, times: (read(text * times, False), read(text * times, True))[0][0], "shape"),
    ],
)
def test_gains_need_both_readings_of_the_whole(answer: Any, hint: str) -> None:
    with pytest.raises(WrongAnswer, match=hint):
        attempt("00.3", answer)
