"""Exercises of notebook 09: the slow clock, how late it is, and what Newton–Schulz makes of a fading memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.reference.newton_schulz import COEFFICIENTS
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, must_equal

BETA = 0.8

# --- 09.1 ---------------------------------------------------------------------------------------------------------


def _slow(gradients: Array, every: int, beta: float) -> tuple[Array, Array]:
    m, window = np.zeros(gradients.shape[1:]), np.zeros(gradients.shape[1:])
    for i, g in enumerate(gradients, start=1):
        window = window + g
        if i % every == 0:
            m, window = beta * m + (1 - beta) * window, np.zeros_like(window)
    return m, window


def _with_both_ends(gradients: Array, every: int, beta: float) -> tuple[Array, Array]:
    m = np.zeros(gradients.shape[1:])
    for i in range(every, len(gradients) + 1, every):
        m = beta * m + (1 - beta) * gradients[max(i - every - 1, 0) : i].sum(0)
    return m, _slow(gradients, every, beta)[1]


def _plain_sum(gradients: Array, every: int, beta: float) -> tuple[Array, Array]:
    full = len(gradients) // every * every
    return np.asarray(beta * gradients[:full].sum(0)), _slow(gradients, every, beta)[1]


def _mean(gradients: Array, every: int, beta: float) -> tuple[Array, Array]:
    m, window = _slow(gradients, every, beta)
    return m / every, window


def _flushed(gradients: Array, every: int, beta: float) -> tuple[Array, Array]:
    m, window = _slow(gradients, every, beta)
    return beta * m + (1 - beta) * window, np.zeros_like(window)


def _last_only(gradients: Array, every: int, beta: float) -> tuple[Array, Array]:
    m = np.zeros(gradients.shape[1:])
    for i in range(every, len(gradients) + 1, every):
        m = beta * m + (1 - beta) * gradients[i - 1]
    return m, _slow(gradients, every, beta)[1]


def _every_step(gradients: Array, every: int, beta: float) -> tuple[Array, Array]:
    return _slow(gradients, 1, beta)[0], _slow(gradients, every, beta)[1]


def _pair(got: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(got, tuple) or len(got) != 2:
        raise WrongAnswer(f"return two things, {what}")
    return got[0], got[1]


def check_slow(function: Any) -> None:
    """(gradients, f, beta3) -> (m2, open window): as one weighted sum over all gradients."""
    rng = np.random.default_rng(901)
    for count, every in ((11, 4), (8, 4), (3, 5)):
        gradients = rng.normal(size=(count, 2, 3))
        window_of = np.arange(count) // every  # which window a gradient falls into
        windows = count // every
        weights = np.where(window_of < windows, (1 - BETA) * BETA ** (windows - 1.0 - window_of), 0.0)
        wanted = np.tensordot(weights, gradients, axes=1)
        m, window = _pair(ask(function, gradients, every, BETA), "m2 and the open window.")
        arguments = (gradients, every, BETA)
        must_equal(
            f"m2 after {count} gradients with f = {every}",
            m,
            wanted,
            {
                "Your windows have f + 1 terms: the boundary gradient is in two of them.": _with_both_ends(
                    *arguments
                )[0],
                "Nothing decays in it: that is the printed sum, m2 + β3 Σ g.": _plain_sum(*arguments)[0],
                "That takes in the mean of a window; [S 37] takes in its sum.": _mean(*arguments)[0],
                "The last, partial window is carried, not taken in.": _flushed(*arguments)[0],
                "Only the last gradient of each window is in it: add up all f.": _last_only(*arguments)[0],
                "That moves at every step: it is a fast momentum.": _every_step(*arguments)[0],
                "The sign is turned: the weight subtracts the update, so m2 points along the gradients.": -wanted,
            },
        )
        must_equal(
            f"the open window after {count} gradients with f = {every}",
            window,
            gradients[windows * every :].sum(0),
            {
                "It is emptied when m2 takes it in.": gradients.sum(0),
                "A partial window is carried: it must not be lost.": np.zeros((2, 3)),
            },
        )


# --- 09.2 ---------------------------------------------------------------------------------------------------------


def _newest(step: int, every: int) -> int:
    return every * ((step - 1) // every)


def _heard(step: int, every: int) -> int:
    """Change gradients one by one and look at what the slow clock contributes to that step; all scalars."""

    def contribution(gradients: Array) -> float:
        slow, waiting, window = 0.0, 0.0, 0.0
        for i, g in enumerate(gradients[:step], start=1):
            slow = waiting  # what acts in step i was ready before it
            window += g
            if i % every == 0:
                waiting, window = 0.9 * waiting + 0.1 * window, 0.0
        return slow

    base = np.zeros(step)
    heard = [j for j in range(1, step + 1) if contribution(base + np.eye(step)[j - 1]) != 0]
    return max(heard, default=0)


def check_newest(function: Any) -> None:
    """(step, f) -> the newest gradient that acts through O_2 in that step: by perturbed gradients."""
    for step, every in ((7, 3), (6, 3), (3, 3), (4, 3), (2, 5), (1, 1), (9, 1), (200, 100), (201, 100)):
        must_equal(
            f"the newest gradient in O_2 at step {step} with f = {every}",
            ask(function, step, every),
            _heard(step, every),
            {
                "O_2 is made after the step that closes a window, and acts from the next one on.": every
                * (step // every),
                "That is the step itself: the slow clock does not know this step's gradient.": step,
                "That is the window that is still open.": every * (-(-step // every)),
                "That is how old it is; asked is its number.": step - _newest(step, every),
                "The window that closed last acts at once in the next step; you are one window late.": max(
                    _newest(step, every) - every, 0
                ),
            },
        )


# --- 09.3 ---------------------------------------------------------------------------------------------------------


def _acts(
    count: int, beta: float, coefficients: str = "quintic", normalised: bool = True, steps: int = 5
) -> float:
    old, new = beta**count, 1 - beta**count
    s = old / np.hypot(old, new) if normalised else old
    a, b, c = COEFFICIENTS[coefficients]
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return float(s)


def _measured(count: int, beta: float) -> float:
    """Literal matrices: two tasks that share no direction, a momentum that has settled on A, then steps of B."""
    rng = np.random.default_rng(903)
    left, right = (np.linalg.qr(rng.normal(size=(6, 6))).Q for _ in range(2))
    a, b = np.outer(left[:, 0], right[:, 0]), np.outer(left[:, 1], right[:, 1])
    m = a
    for _ in range(count):
        m = beta * m + (1 - beta) * b
    o = m / np.linalg.norm(m)
    for _ in range(5):
        gram = o @ o.T
        o = 3.4445 * o - 4.7750 * gram @ o + 2.0315 * gram @ gram @ o
    return float((o * a).sum())


def check_acts(function: Any) -> None:
    """(n, beta) -> the part of A in NS(m) after n steps of B: compared with literal matrices."""
    for count, beta in ((10, 0.9), (40, 0.9), (70, 0.9), (5, 0.5)):
        must_equal(
            f"the part of A after {count} steps of B, β = {beta:g},",
            ask(function, count, beta),
            _measured(count, beta),
            {
                "That is what the momentum holds; Newton–Schulz comes after it.": beta**count,
                "That is the singular value of m/‖m‖, before the five steps.": _acts(count, beta, steps=0),
                "Newton–Schulz starts from m/‖m‖: divide by √(βⁿ² + (1 - βⁿ)²).": _acts(
                    count, beta, normalised=False
                ),
                "That is the cubic polynomial; the default is the quintic.": _acts(count, beta, "cubic"),
                "The polynomial is applied five times.": _acts(count, beta, steps=1),
                "Exactly 1 is what it tends to at best: five steps of the quintic ripple, and do not reach every value.": 1.0,
            },
            bound=1e-6,
        )


EXERCISES = (
    Exercise(
        "09.1",
        "write the slow clock: a momentum of windows",
        check_slow,
        _slow,
        (
            (_with_both_ends, "f + 1 terms"),
            (_plain_sum, "Nothing decays"),
            (_mean, "takes in its sum"),
            (_flushed, "carried, not taken in"),
            (_last_only, "add up all f"),
            (_every_step, "it is a fast momentum"),
            (lambda g, f, beta: (-_slow(g, f, beta)[0], _slow(g, f, beta)[1]), "The sign is turned"),
            (lambda g, f, beta: (_slow(g, f, beta)[0], 0 * g[0]), "must not be lost"),
        ),
    ),
    Exercise(
        "09.2",
        "say which gradient is the newest that the slow clock lets act",
        check_newest,
        _newest,
        (
            (lambda step, f: f * (step // f), "acts from the next one on"),
            (lambda step, f: step, "the step itself"),
            (lambda step, f: f * -(-step // f), "still open"),
            (lambda step, f: step - _newest(step, f), "asked is its number"),
            (lambda step, f: max(_newest(step, f) - f, 0), "one window late"),
        ),
    ),
    Exercise(
        "09.3",
        "predict how much of an old task still acts",
        check_acts,
        _acts,
        (
            (lambda n, beta: beta**n, "Newton–Schulz comes after it"),
            (lambda n, beta: _acts(n, beta, steps=0), "before the five steps"),
            (lambda n, beta: _acts(n, beta, normalised=False), "starts from m/‖m‖"),
            (lambda n, beta: _acts(n, beta, "cubic"), "cubic polynomial"),
            (lambda n, beta: _acts(n, beta, steps=1), "five times"),
            (lambda n, beta: 1.0, "Exactly 1"),
        ),
    ),
)
