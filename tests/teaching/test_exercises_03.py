"""Notebook 03: what its exercises accept in another form, and what they say to ideas that are nearly right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import WrongAnswer
from hope_ref.teaching.exercises import e03


@pytest.mark.parametrize("answer", e03.RIGHT_PERTURBATIONS, ids=lambda answer: answer.__name__)
def test_every_valid_idea_of_a_perturbation_is_accepted(answer: Any) -> None:
    attempt("03.2", answer)


def test_a_test_may_change_any_early_input_in_any_way() -> None:
    def other(values_of: Any, inputs: np.ndarray) -> bool:
        changed = inputs.copy()
        changed[2] = 0
        return bool(np.abs(values_of(changed)[3:] - values_of(inputs)[3:]).max() > 1e-9)

    attempt("03.2", other)


@pytest.mark.parametrize(
    "answer",
    [
        lambda inputs, d_out: min(int((np.linalg.svd(inputs)[1] > 1e-9).sum()), d_out),
        lambda inputs, d_out: min(np.linalg.matrix_rank(inputs @ inputs.T, tol=1e-9), d_out),
        lambda inputs, d_out: np.linalg.matrix_rank(
            np.random.default_rng(0).normal(size=(d_out, len(inputs))) @ inputs
        ),
        lambda inputs, d_out: np.float64(min(np.linalg.matrix_rank(inputs), d_out)),
    ],
    ids=["singular values", "gram matrix", "measured", "a float"],
)
def test_the_rank_may_be_found_in_another_way(answer: Any) -> None:
    attempt("03.1", answer)


def _as_a_product(W: Any, x: Any, v: Any, i: int, eta: float) -> Any:
    left = eta * np.outer(v[i], x[i])
    for later in x[i + 1 :]:
        left = left @ (np.eye(x.shape[1]) - eta * np.outer(later, later))
    return W - left


def _as_corrections(W: Any, x: Any, v: Any, i: int, eta: float) -> Any:
    """What the later surprises would have been, one triangular solve."""
    later = x[i + 1 :]
    system = np.eye(len(later)) + eta * np.tril(later @ later.T, -1)
    answers = np.linalg.solve(system, later @ x[i])
    return W - eta * np.outer(v[i], x[i] - eta * answers @ later)


@pytest.mark.parametrize("answer", [_as_a_product, _as_corrections])
def test_unlearning_is_accepted_in_another_form(answer: Any) -> None:
    attempt("03.3", answer)


def test_unlearning_in_float32_is_named() -> None:
    with pytest.raises(WrongAnswer, match="float32"):
        attempt("03.3", lambda *a: e03._unlearn(*a).astype(np.float32))


def test_the_memories_are_what_their_names_say() -> None:
    inputs = np.random.default_rng(1).normal(size=(9, 4))
    for name, depends, values_of in e03._memories():
        changed = inputs.copy()
        changed[0] += 1
        moved = np.abs(values_of(changed) - values_of(inputs))[1:].max(axis=1) > 0
        assert moved.any() == depends, name
        assert moved.all() == (depends and "batches" not in name), name
