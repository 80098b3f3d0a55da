"""Exercises of notebook 04: a chunk through Woodbury, inputs of any norm, and what Delta Gradient Descent forgets."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, ask, must_equal

ETA = 0.8


def _chunk() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(401)
    return rng.normal(size=(2, 6)), rng.normal(size=(3, 6)), rng.normal(size=(3, 2))


def _one_by_one(w: Array, x: Array, u: Array, eta: float) -> Array:
    for row, wanted in zip(x, u, strict=True):
        w = w - eta / (1 + eta * row @ row) * np.outer(w @ row - wanted, row)
    return w


def _all_from_the_start(w: Array, x: Array, u: Array, eta: float) -> Array:
    return w + sum(_one_by_one(w, x[[s]], u[[s]], eta) - w for s in range(len(x)))


def _woodbury(w: Array, x: Array, u: Array, eta: float, inside: float | None = None) -> Array:
    system = np.eye(len(x)) + (eta if inside is None else inside) * x @ x.T  # (C, C)
    return w + eta * np.linalg.solve(system, u - x @ w.T).T @ x


def check_chunk(function: Any) -> None:
    """(w, x, u, eta) -> W: compared with the least-squares solution of [X; I/√η] Wᵀ = [U; W_tᵀ/√η]."""
    w, x, u = _chunk()
    stack = np.vstack([x, np.eye(6) / np.sqrt(ETA)])
    wanted = np.linalg.lstsq(stack, np.vstack([u, w.T / np.sqrt(ETA)]), rcond=None)[0].T
    must_equal(
        "W",
        ask(function, w, x, u, ETA),
        wanted,
        {
            "Those are C single steps, one after the other: one step for the chunk solves for all inputs together.": _one_by_one(
                w, x, u, ETA
            ),
            "Those are C single steps from W_t, added up: inputs that overlap are then counted twice.": _all_from_the_start(
                w, x, u, ETA
            ),
            "There is no eta inside the inverse: (I + η X Xᵀ) for inputs in rows.": _woodbury(
                w, x, u, ETA, 1.0
            ),
            "The residual has the wrong sign: the step goes toward U, along U - X Wᵀ.": 2 * w
            - _woodbury(w, x, u, ETA),
            "That is the plain sum of outer products: divide by I + η X Xᵀ.": _woodbury(w, x, u, ETA, 0.0),
        },
    )


def _eta_by_search(x: Array, share: float) -> float:
    """The eta at which an exact step with nothing to write leaves 1 - share of W x: by bisection on literal solves."""
    low, high = -20.0, 20.0  # of log eta
    for _ in range(80):
        eta = np.exp((low + high) / 2)
        moved = np.linalg.solve(np.outer(x, x) + np.eye(len(x)) / eta, x / eta)  # W = xᵀ
        low, high = ((low + high) / 2, high) if moved @ x > (1 - share) * (x @ x) else (low, (low + high) / 2)
    return float(np.exp((low + high) / 2))


def check_share(function: Any) -> None:
    """(x, share) -> eta: compared with a search over literal steps, for inputs of several norms."""
    rng = np.random.default_rng(402)
    for norm, share in ((1.0, 0.5), (3.0, 0.9), (0.2, 0.25)):
        x = rng.normal(size=5)
        x *= norm / np.linalg.norm(x)
        must_equal(
            f"eta for ‖x‖ = {norm:g} and a share of {share:g}",
            ask(function, x, share),
            _eta_by_search(x, share),
            {
                "That is η': the step that is taken. Solve η' = η / (1 + η ‖x‖²) for η.": share / norm**2,
                "It must depend on the norm: η' ‖x‖² = share, with η' = η / (1 + η ‖x‖²).": share
                / (1 - share),
                "The norm enters squared.": share / ((1 - share) * norm),
                "Turned over: the share goes to 0 with η.": (1 - share) / (share * norm**2),
            },
        )


def _left(count: int, width: int, eta: float, diverse: bool) -> float:
    """Literal steps with zero gradients on a weight that treats all directions alike."""
    rng = np.random.default_rng(403)
    basis = np.linalg.qr(rng.normal(size=(width, width)))[0]
    w = np.linalg.qr(rng.normal(size=(width, width)))[0]
    for x in basis[:count] if diverse else np.repeat(basis[:1], count, axis=0):
        w = w - eta / (1 + eta) * np.outer(w @ x, x)
    return float((w**2).sum() / width)


def _share_left(count: int, width: int, eta: float, diverse: bool) -> float:
    one = 1 / (1 + eta) ** 2  # what a step leaves of ‖W x‖²
    return (width - count + count * one) / width if diverse else (width - 1 + one**count) / width


def check_left(function: Any) -> None:
    """(count, d, eta, diverse) -> share of ‖W‖² left: compared with literal steps."""
    for count, width, eta in ((1, 4, 1.0), (6, 8, 0.5), (8, 8, 3.0)):
        one, each = 1 / (1 + eta), 1 / (1 + eta) ** 2
        for diverse in (False, True):
            got = ask(function, count, width, eta, diverse)
            likely = {
                "‖W‖² is a square, and so is what a step leaves of it: (1/(1 + η))².": (
                    width - count + count * one
                )
                / width
                if diverse
                else (width - 1 + one**count) / width,
                "Only the direction of the input is erased; the other d - 1 stay as they are.": each**count,
            }
            if diverse:
                likely["That is one input repeated: each new input erases a direction of its own."] = (
                    _share_left(count, width, eta, False)
                )
            else:
                likely["That is for new inputs: a repeated one has a single direction to erase."] = (
                    _share_left(count, width, eta, True)
                )
                likely[
                    "x xᵀ does not add up over repeats: each one divides W x by 1 + η again, (1 + η)ⁿ in all."
                ] = (width - 1 + 1 / (1 + count * eta) ** 2) / width
            what = f"the share left after {count} {'new inputs' if diverse else 'repeats'}, d = {width}, η = {eta:g},"
            must_equal(what, got, _left(count, width, eta, diverse), likely)


EXERCISES = (
    Exercise(
        "04.1",
        "take one implicit step for a whole chunk",
        check_chunk,
        _woodbury,
        (
            (_one_by_one, "one after the other"),
            (_all_from_the_start, "counted twice"),
            (lambda w, x, u, eta: _woodbury(w, x, u, eta, 1.0), "no eta inside"),
            (lambda w, x, u, eta: 2 * w - _woodbury(w, x, u, eta), "wrong sign"),
            (lambda w, x, u, eta: w + eta * (u - x @ w.T).T @ x, "plain sum of outer products"),
            (lambda w, x, u, eta: _woodbury(w, x, u, eta).T, "transposed shape"),
        ),
    ),
    Exercise(
        "04.2",
        "choose eta for an input of any norm",
        check_share,
        lambda x, share: share / ((1 - share) * (x @ x)),
        (
            (lambda x, share: share / (x @ x), "Solve η' ="),
            (lambda x, share: share / (1 - share), "must depend on the norm"),
            (lambda x, share: share / ((1 - share) * np.linalg.norm(x)), "enters squared"),
            (lambda x, share: (1 - share) / (share * (x @ x)), "Turned over"),
        ),
    ),
    Exercise(
        "04.3",
        "say what repeated and diverse inputs leave of a memory",
        check_left,
        _share_left,
        (
            (lambda count, d, eta, diverse: _share_left(count, d, eta, False), "That is one input repeated"),
            (lambda count, d, eta, diverse: _share_left(count, d, eta, True), "That is for new inputs"),
            (lambda count, d, eta, diverse: (d - 1 + 1 / (1 + count * eta) ** 2) / d, "does not add up"),
            (lambda count, d, eta, diverse: 1 / (1 + eta) ** (2 * count), "Only the direction"),
            (
                lambda count, d, eta, diverse: (
                    (d - count + count / (1 + eta)) / d if diverse else (d - 1 + 1 / (1 + eta) ** count) / d
                ),
                "is a square",
            ),
        ),
    ),
)
