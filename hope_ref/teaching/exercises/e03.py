"""Exercises of notebook 03: the rank of an update, who writes the values, and a batch as summed memories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.reference.gradient_descent import train_linear
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, must_equal


def _measured_rank(inputs: Array, d_out: int) -> int:
    """Train on random targets and ask LAPACK for the rank of what was written."""
    rng = np.random.default_rng(301)
    start, targets = rng.normal(size=(d_out, inputs.shape[1])), rng.normal(size=(len(inputs), d_out))
    final, _ = train_linear(start, inputs, targets, 0.05)
    return int(np.linalg.matrix_rank(final - start, tol=1e-8))


def check_rank(function: Any) -> None:
    """(inputs, d_out) -> rank of W_T - W_0: compared with the rank measured after training."""
    rng = np.random.default_rng(302)
    three = rng.normal(size=(3, 6))
    cases = (
        ("3 samples", three, 5),
        ("3 samples, each seen four times", np.tile(three, (4, 1)), 5),
        ("5 samples with 2 outputs", rng.normal(size=(5, 6)), 2),
        ("9 samples with 4 inputs", rng.normal(size=(9, 4)), 8),
        ("one sample, all zeros", np.zeros((1, 4)), 3),
    )
    for case, inputs, d_out in cases:
        must_equal(
            f"the rank for {case}",
            ask(function, inputs, d_out),
            _measured_rank(inputs, d_out),
            {
                "A repeated or dependent input adds no new direction: count independent inputs.": min(
                    len(inputs), d_out
                ),
                "The update has only d_out rows: its rank cannot be larger.": min(inputs.shape),
                "The matrix cannot have a larger rank than either of its sides.": len(inputs),
            },
        )


def _rank(inputs: Array, d_out: int) -> int:
    return min(int(np.linalg.matrix_rank(inputs)), d_out)


def _memories() -> tuple[tuple[str, bool, Callable[[Array], Array]], ...]:
    """Memories to be tested, as functions inputs -> values written, and whether they write their values themselves."""
    rng = np.random.default_rng(303)
    start, project, targets = rng.normal(size=(2, 4)), rng.normal(size=(2, 4)), rng.normal(size=(7, 2))
    return (
        ("a linear layer in training", True, lambda x: train_linear(start, x, targets, 0.1)[1]),
        ("linear attention, v_t = W_v x_t", False, lambda x: x @ project.T),
        ("a linear layer with learning rate 0", False, lambda x: train_linear(start, x, targets, 0.0)[1]),
        ("linear attention with given values", False, lambda x: targets[: len(x)]),
        ("a layer that learns slowly", True, lambda x: train_linear(start, x, targets, 1e-4)[1]),
    )


def check_perturbation(function: Any) -> None:
    """(values_of, inputs) -> bool: tried on five memories of which the answer is known."""
    inputs = np.random.default_rng(304).normal(size=(7, 4))
    for name, depends, values_of in _memories():
        got = ask(function, values_of, inputs)
        if not isinstance(got, (bool, np.bool_)):
            raise WrongAnswer(f"the answer for {name} must be True or False, got {type(got).__name__}")
        if got and not depends:
            raise WrongAnswer(
                f"you say that {name} reads its memory before it writes; it does not. Token 0 writes another value because "
                "its own input changed: compare the later tokens only."
            )
        if depends and not got:
            raise WrongAnswer(
                f"you say that {name} writes given values; but its later values do change. Change an *early* input, look at "
                "*later* values, and do not round small changes away."
            )


def _perturbation(values_of: Callable[[Array], Array], inputs: Array) -> bool:
    changed = inputs.copy()
    changed[0] += 1.0
    return not np.array_equal(values_of(changed)[1:], values_of(inputs)[1:])


def _perturbs_and_compares_all(values_of: Callable[[Array], Array], inputs: Array) -> bool:
    changed = inputs.copy()
    changed[0] += 1.0
    return not np.array_equal(values_of(changed), values_of(inputs))


def _perturbs_the_last(values_of: Callable[[Array], Array], inputs: Array) -> bool:
    changed = inputs.copy()
    changed[-1] += 1.0
    return not np.array_equal(values_of(changed)[:-1], values_of(inputs)[:-1])


def _perturbs_and_rounds(values_of: Callable[[Array], Array], inputs: Array) -> bool:
    changed = inputs.copy()
    changed[0] += 1.0
    return not np.allclose(values_of(changed)[1:], values_of(inputs)[1:], atol=0.05)


def check_batch(function: Any) -> None:
    """(w, x, grad_y, eta) -> w after a batch step: compared with one write after the other."""
    rng = np.random.default_rng(305)
    w, x, grad_y, eta = rng.normal(size=(3, 4)), rng.normal(size=(6, 4)), rng.normal(size=(6, 3)), 0.1
    written = np.zeros_like(w)
    for n in range(6):
        written -= eta * np.outer(grad_y[n], x[n])
    must_equal(
        "w",
        ask(function, w, x, grad_y, eta),
        w + written,
        {
            "That is gradient ascent: a surprise is *minus* the gradient.": w - written,
            "You took the mean; the writes are summed (a mean is a smaller learning rate, η/N).": w
            + written / 6,
            "Every gradient belongs to its own input: sum the outer products, not the factors.": w
            - eta * np.outer(grad_y.sum(0), x.sum(0)),
            "Only the write is there; add it to w.": written,
        },
    )


EXERCISES = (
    Exercise(
        "03.1",
        "predict the rank of the update",
        check_rank,
        _rank,
        (
            (lambda inputs, d_out: min(len(inputs), d_out, inputs.shape[1]), "adds no new direction"),
            (lambda inputs, d_out: int(np.linalg.matrix_rank(inputs)), "only d_out rows"),
            (lambda inputs, d_out: len(inputs), "than either of its sides"),
        ),
    ),
    Exercise(
        "03.2",
        "write the perturbation test: does a memory write its own values?",
        check_perturbation,
        _perturbation,
        (
            (_perturbs_and_compares_all, "compare the later tokens only"),
            (_perturbs_the_last, "Change an *early* input"),
            (_perturbs_and_rounds, "do not round small changes away"),
            (lambda values_of, inputs: values_of(inputs), "must be True or False"),
        ),
    ),
    Exercise(
        "03.3",
        "write a whole batch in one product",
        check_batch,
        lambda w, x, grad_y, eta: w - eta * grad_y.T @ x,
        (
            (lambda w, x, grad_y, eta: w + eta * grad_y.T @ x, "gradient ascent"),
            (lambda w, x, grad_y, eta: w - eta * grad_y.T @ x / len(x), "You took the mean"),
            (
                lambda w, x, grad_y, eta: w - eta * np.outer(grad_y.sum(0), x.sum(0)),
                "sum the outer products",
            ),
            (lambda w, x, grad_y, eta: -eta * grad_y.T @ x, "add it to w"),
            (lambda w, x, grad_y, eta: (w - eta * grad_y.T @ x).T, "transposed shape"),
        ),
    ),
)
