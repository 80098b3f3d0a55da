"""Exercises of notebook 09: the slow clock, how late it is, and what Newton–Schulz makes of a fading memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.reference.newton_schulz import COEFFICIENTS
from hope_ref.teaching.checks import to_numpy
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, changed, must_equal, unchanged

# --- 09.1 ---------------------------------------------------------------------------------------------------------


def _slow(gradients: Array, every: int, beta: float) -> tuple[Array, Array]:
    m, window = np.zeros(gradients.shape[1:]), np.zeros(gradients.shape[1:])
    for i, g in enumerate(gradients, start=1):
        window = window + g
        if i % every == 0:
            m, window = beta * m + (1 - beta) * window, np.zeros_like(window)
    return m, window


def _slipping(gradients: Array, every: int, beta: float, slip: str) -> tuple[Array, Array]:
    """m2 and the open window, with a slip by its name."""
    m = window = np.zeros(gradients.shape[1:])
    keep, new = {"swapped": (1 - beta, beta), "no 1 - β": (beta, 1), "printed": (1, beta)}.get(
        slip, (beta, 1 - beta)
    )
    new = {"mean": new / every, "sign": -new}.get(slip, new)
    for i, g in enumerate(gradients, start=1):
        window = g if slip == "last only" else window + g
        closed = i % every == 0
        if slip in ("from 0", "from 0, g_1 alone"):
            closed = (i - 1) % every == 0 and (slip == "from 0, g_1 alone" or i > 1)
        if slip == "every step":
            m = keep * m + new * g
        elif slip == "decays on":
            m = keep * m + (new * window if closed else 0)
        elif closed:
            m = keep * m + new * window
        if closed and slip == "both ends":
            window = g
        elif closed and slip != "never emptied":
            window = np.zeros_like(window)
    if slip == "flushed":
        return keep * m + new * window, np.zeros_like(window)
    if slip == "corrected" and len(gradients) >= every:
        m = m / (1 - beta ** (len(gradients) // every))
    return m, window


_WINDOWS = {
    "both ends": "Your windows have f + 1 terms: the boundary gradient is in two of them.",
    "printed": "Nothing decays in it: that is the printed sum, m2 + β3 Σ g.",
    "mean": "That takes in the mean of a window; [S 37] takes in its sum.",
    "flushed": "The last, partial window is carried, not taken in.",
    "last only": "Only the last gradient of each window is in it: add up all f.",
    "every step": "That moves at every step: it is a fast momentum.",
    "decays on": "m2 decays at every step there; it rests between two windows and decays once for each.",
    "from 0": "You count steps from 0: row i - 1 is step i, and a window closes after steps f, 2f, …",
    "from 0, g_1 alone": "You count steps from 0, so that a window closes after the first gradient: row i - 1 is step i.",
    "never emptied": "The window is never emptied: every window adds up its own f gradients only.",
    "swapped": "β3 and 1 - β3 are swapped: β3 is what m2 keeps.",
    "no 1 - β": "A window enters with the factor 1 - β3.",
    "corrected": "There is no bias correction in it: m2 starts at 0 and is left so.",
    "sign": "The sign is turned: the weight subtracts the update, so m2 points along the gradients.",
}


def _pair(got: Any) -> tuple[Any, Any]:
    """Two things, as a tuple, a list or one array; a single matrix is not two."""
    two = isinstance(got, tuple | list) or (hasattr(got, "shape") and len(got.shape) == 3)
    if not two or len(got) != 2:
        raise WrongAnswer(f"return two things, m2 and the open window, got {type(got).__name__}.")
    return got[0], got[1]


def _is(got: Any, value: Array) -> bool:
    try:
        found = to_numpy(got)
    except (TypeError, ValueError):
        return False
    return found.shape == value.shape and np.allclose(found, value)


def check_slow(function: Any) -> None:
    """(gradients, f, beta3) -> (m2, open window): as one weighted sum over all gradients."""
    if not callable(function):
        ask(function)
    rng = np.random.default_rng(901)
    for count, every, beta in ((11, 4, 0.8), (8, 4, 0.8), (3, 5, 0.8), (6, 1, 0.6), (7, 3, 0.0)):
        gradients = rng.normal(size=(count, 2, 3))
        window_of = np.arange(count) // every  # which window a gradient falls into
        windows = count // every
        weights = np.where(
            window_of < windows, (1 - beta) * beta ** np.maximum(windows - 1.0 - window_of, 0), 0.0
        )
        wanted, rest = np.tensordot(weights, gradients, axes=1), gradients[windows * every :].sum(0)
        own = gradients.copy()
        m, window = _pair(ask(lambda own=own, every=every, beta=beta: function(own, every, beta)))
        where = f"after {count} gradients with f = {every}, β3 = {beta:g}"
        if count == 11 and _is(m, rest) and _is(window, wanted):
            raise WrongAnswer("the two are in the other order: return m2 first, then the open window.")
        slips = {hint: _slipping(gradients, every, beta, slip) for slip, hint in _WINDOWS.items()}
        must_equal(f"{where}: m2", m, wanted, {hint: pair[0] for hint, pair in slips.items()})
        must_equal(
            f"{where}: the open window",
            window,
            rest,
            {
                "It is emptied when m2 takes it in.": gradients.sum(0),
                "The window that is full is not open any more.": gradients[-every:].sum(0),
                "A partial window is carried: it must not be lost.": np.zeros((2, 3)),
                "The open window is a sum: it is no part of m2 yet, so it has no factor.": (1 - beta) * rest,
                "The open window is a sum, not a mean.": rest / max(count - windows * every, 1),
                "Only the newest gradient is in it; the window adds up all since the last boundary.": gradients[
                    -1
                ],
            },
        )
        unchanged(
            changed({"gradients": gradients}, {"gradients": own}),
            "right values, but you changed {} in place; the caller still needs them. "
            "`window = {}[0]` is no copy: write window = window + g.",
        )


def _adds_in_place(gradients: Array, every: int, beta: float) -> tuple[Array, Array]:
    result = _slow(gradients, every, beta)
    for i in range(1, min(every, len(gradients))):
        gradients[0] += gradients[i]
    return result


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


def _newer(step: int, every: int) -> dict[str, int]:
    """Hint -> the number that this mistake gives."""
    right = _heard(step, every)
    return {
        "O_2 is made after the step that closes a window, and acts from the next one on.": every
        * (step // every),
        "That is the step itself: the slow clock does not know this step's gradient.": step,
        "That is the window that is still open.": every * (-(-step // every)),
        "That is how old it is; asked is its number.": step - right,
        "The window that closed last acts at once in the next step; you are one window late.": max(
            right - every, 0
        ),
        "That is the gradient of the step before: it acts through O_1; O_2 waits for the end of its window.": step
        - 1,
        "Gradients count from 1, as steps do.": right - 1,
        "That is the oldest gradient of that window; asked is the newest.": max(right - every + 1, 0),
        "That is the first gradient of the open window, which does not act yet.": right + 1,
        "That is how many windows have closed; each has f gradients.": (step - 1) // every,
    }


def check_newest(function: Any) -> None:
    """(step, f) -> the newest gradient that acts through O_2 in that step: by perturbed gradients."""
    for step, every in NEWEST:
        must_equal(
            f"the newest gradient in O_2 at step {step} with f = {every}",
            ask(function, step, every),
            _heard(step, every),
            _newer(step, every),
        )


NEWEST = ((23, 5), (15, 5), (7, 3), (3, 3), (4, 3), (2, 5), (1, 1), (9, 1), (200, 100), (201, 100))


# --- 09.3 ---------------------------------------------------------------------------------------------------------


def _acts(
    count: float, beta: float, coefficients: str = "quintic", divide: str = "norm", steps: int = 5
) -> float:
    old, new = beta**count, 1 - beta**count
    s = old / {"norm": float(np.hypot(old, new)), "sum": old + new, "largest": max(old, new)}[divide]
    a, b, c = COEFFICIENTS[coefficients]
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return float(s)


def _other_acts(count: int, beta: float) -> dict[str, float]:
    """Hint -> the part that this mistake gives."""
    old, new = beta**count, 1 - beta**count
    grown = 3.4445**5 * old / float(np.hypot(old, new))
    return {
        "That is what the momentum holds; Newton–Schulz comes after it.": old,
        "That is the singular value of m/‖m‖, before the five steps.": _acts(count, beta, steps=0),
        "Newton–Schulz starts from m/‖m‖: divide by √((βⁿ)² + (1 - βⁿ)²).": _acts(count, beta, divide="sum"),
        "‖m‖ is the Frobenius norm, √((βⁿ)² + (1 - βⁿ)²), not the largest singular value.": _acts(
            count, beta, divide="largest"
        ),
        "That is the cubic polynomial; the default is the quintic.": _acts(count, beta, "cubic"),
        "The polynomial is applied five times.": _acts(count, beta, steps=1),
        "The polynomial is applied five times; you have one step too few.": _acts(count, beta, steps=4),
        "The polynomial is applied five times; you have one step too many.": _acts(count, beta, steps=6),
        "That is the part of B: A has the singular value βⁿ, B has 1 - βⁿ.": _acts(
            float(np.log(new) / np.log(beta)), beta
        ),
        "n steps of B leave βⁿ of A, not βⁿ⁻¹.": _acts(count - 1, beta),
        "n steps of B leave βⁿ of A, not βⁿ⁺¹.": _acts(count + 1, beta),
        "Each step has a cubic and a fifth-order term as well; 3.4445⁵ is right for small s only.": grown,
        "Exactly 1 is what it tends to at best: five steps of the quintic ripple, and do not reach every value.": 1.0,
        "A fades, but Newton–Schulz lifts what is left of it: it is not 0.": 0.0,
    }


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
    for count, beta in ((10, 0.9), (40, 0.9), (70, 0.9), (5, 0.5), (3, 0.7), (1, 0.9)):
        must_equal(
            f"the part of A after {count} steps of B, β = {beta:g},",
            ask(function, count, beta),
            _measured(count, beta),
            _other_acts(count, beta),
            bound=1e-9,
        )


EXERCISES = (
    Exercise(
        "09.1",
        "write the slow clock: a momentum of windows",
        check_slow,
        _slow,
        (
            *((partial(_slipping, slip=slip), hint) for slip, hint in _WINDOWS.items()),
            (lambda g, f, beta: (_slow(g, f, beta)[0], 0 * g[0]), "must not be lost"),
            (lambda g, f, beta: (_slow(g, f, beta)[0], g.sum(0)), "emptied when m2 takes it in"),
            (lambda g, f, beta: (_slow(g, f, beta)[0], g[-f:].sum(0)), "not open any more"),
            (lambda g, f, beta: (_slow(g, f, beta)[0], (1 - beta) * _slow(g, f, beta)[1]), "has no factor"),
            (lambda g, f, beta: (_slow(g, f, beta)[0], g[-1]), "Only the newest gradient is in it"),
            (lambda g, f, beta: (_slow(g, f, beta)[0], _slow(g, f, beta)[1] / 3), "not a mean"),
            (lambda g, f, beta: _slow(g, f, beta)[::-1], "in the other order"),
            (lambda g, f, beta: _slow(g, f, beta)[0], "return two things"),
            (_adds_in_place, "you changed gradients in place"),
        ),
    ),
    Exercise(
        "09.2",
        "say which gradient is the newest that the slow clock lets act",
        check_newest,
        _newest,
        tuple((lambda step, f, hint=hint: _newer(step, f)[hint], hint) for hint in _newer(23, 5)),
    ),
    Exercise(
        "09.3",
        "predict how much of an old task still acts",
        check_acts,
        _acts,
        tuple((lambda n, beta, hint=hint: _other_acts(n, beta)[hint], hint) for hint in _other_acts(10, 0.9)),
    ),
)
