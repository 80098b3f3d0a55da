"""Exercises of notebook 05: bias correction, delta momentum and its bound, Adam as a regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, must_equal


def _gradients(count: int = 6) -> Array:
    return np.random.default_rng(105).normal(size=(count, 3)) + 1.0


def check_bias_correction(function: Any) -> None:
    """(gradients, beta) -> corrected mean: compared with NumPy's weighted average, which shares no line with a loop."""
    beta = 0.8
    for count in (6, 1):
        gradients = _gradients(count)
        newest_last = beta ** np.arange(count)[::-1]
        wanted = np.average(gradients, axis=0, weights=newest_last)
        raw = (1 - beta) * newest_last @ gradients  # what the loop holds before any correction
        must_equal(
            f"the average of {count} gradients",
            ask(function, gradients, beta),
            wanted,
            {
                "There is no correction in it: the start, zero, still has the weight βⁿ.": raw,
                "1 - β is the weight of one gradient; after n of them it is 1 - βⁿ.": raw / (1 - beta),
                "You count one gradient too many: after n gradients divide by 1 - βⁿ.": raw
                / (1 - beta ** (count + 1)),
                "The newest gradient must weigh most; yours fade the wrong way.": np.average(
                    gradients, axis=0, weights=newest_last[::-1]
                ),
                "That is the plain mean: old gradients do not fade.": gradients.mean(0),
            },
        )


def _bias_correction(gradients: Array, beta: float) -> Array:
    return _raw_mean(gradients, beta) / (1 - beta ** len(gradients))


def _raw_mean(gradients: Array, beta: float) -> Array:
    m = np.zeros_like(gradients[0])
    for g in gradients:
        m = beta * m + (1 - beta) * g
    return m


def _pair(got: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(got, tuple) or len(got) != 2:
        raise WrongAnswer(f"return two things, {what}")
    return got[0], got[1]


def _bound(g: Array, mu: float) -> float:
    """Bisect for the η at which an eigenvalue of μ I - η g gᵀ leaves the unit circle."""
    low, high = 0.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        outside = np.abs(np.linalg.eigvalsh(mu * np.eye(len(g)) - middle * np.outer(g, g))).max() > 1
        low, high = (low, middle) if outside else (middle, high)
    return low


def check_delta_momentum(function: Any) -> None:
    """(m, g, eta, mu) -> (next m, largest stable eta): by measured slopes, and by eigenvalues."""
    m, g = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.5, -0.5])
    eta, mu, h = 0.3, 0.9, 1e-4
    slope = np.zeros(3)
    for j, nudge in enumerate(h * np.eye(3)):
        slope[j] = (((m + nudge) @ g + 1) ** 2 - ((m - nudge) @ g + 1) ** 2) / (4 * h)
    new, bound = _pair(ask(function, m, g, eta, mu), "the next m and the largest stable eta.")
    must_equal(
        "the next m",
        new,
        mu * m - eta * slope,
        {
            "η is missing on the erase, as in [P 49]: both terms come from one gradient.": mu * m
            - (m @ g) * g
            - eta * g,
            "The target has the wrong sign: the memory should answer -1, so that the weights go downhill.": mu
            * m
            - eta * (m @ g - 1) * g,
            "That is plain momentum: the erase is missing.": mu * m - eta * g,
            "Erase from m itself, not from the decayed μ m.": mu * m - eta * mu * (m @ g) * g - eta * g,
        },
        bound=1e-7,
    )
    squared = float(g @ g)
    must_equal(
        "the largest stable eta",
        bound,
        _bound(g, mu),
        {
            "That is the bound for μ = 1: the eigenvalue along g is μ - η‖g‖², and must stay above -1.": 2
            / squared,
            "The eigenvalue along g may be negative, down to -1.": mu / squared,
            "Divide by ‖g‖², the squared length.": (1 + mu) / np.sqrt(squared),
            "That is the upper side: μ - η‖g‖² < 1 holds anyway. Look at -1.": (1 - mu) / squared,
        },
    )


def check_adam(function: Any) -> None:
    """(gradients, beta) -> (weights, target) of the regression whose minimiser is Adam's step: by literal Adam."""
    gradients, beta = _gradients(), 0.8
    count = len(gradients)
    weights, target = _pair(ask(function, gradients, beta), "the weights and the target P.")
    mean = square = np.zeros(3)
    for g in gradients:
        mean, square = beta * mean + (1 - beta) * g, beta * square + (1 - beta) * g**2
    corrected = 1 - beta**count
    raw = np.array([(1 - beta) * beta ** (count - 1 - i) for i in range(count)])
    must_equal(
        "the weights",
        weights,
        raw / corrected,
        {
            "They have the right ratios but not the right sum: bias correction makes them sum to 1.": raw,
            "They have the right ratios but must sum to 1: divide by their sum.": raw / (1 - beta),
            "The newest gradient, the last row, must weigh most.": raw[::-1] / corrected,
            "Equal weights are AdaGrad's; Adam's fade by β per step.": np.full(count, 1 / count),
        },
    )
    must_equal(
        "the target P",
        target,
        np.sqrt(square / corrected),
        {
            "Take the root: with P = Σ w g² the minimiser is Σ w g, plain momentum.": square / corrected,
            "P needs the same weights as the regression.": np.sqrt((gradients**2).sum(0)),
            "Square first, then average: P is √(Σ w g²), not |Σ w g|.": np.abs(mean / corrected),
        },
    )


def _weights(gradients: Array, beta: float) -> Array:
    weights = beta ** np.arange(len(gradients))[::-1]
    return weights / weights.sum()


def _adam(gradients: Array, beta: float) -> tuple[Array, Array]:
    weights = _weights(gradients, beta)
    return weights, np.sqrt(weights @ gradients**2)


EXERCISES = (
    Exercise(
        "05.1",
        "correct the bias of a running mean that starts at zero",
        check_bias_correction,
        _bias_correction,
        (
            (_raw_mean, "no correction"),
            (lambda g, beta: _raw_mean(g, beta) / (1 - beta), "after n of them"),
            (lambda g, beta: _raw_mean(g, beta) / (1 - beta ** (len(g) + 1)), "one gradient too many"),
            (lambda g, beta: _bias_correction(g[::-1], beta), "fade the wrong way"),
            (lambda g, beta: g.mean(0), "do not fade"),
        ),
    ),
    Exercise(
        "05.2",
        "write delta momentum with a plain step, and find the largest stable η",
        check_delta_momentum,
        lambda m, g, eta, mu: (mu * m - eta * (m @ g + 1) * g, (1 + mu) / (g @ g)),
        (
            (lambda m, g, eta, mu: (mu * m - (m @ g) * g - eta * g, (1 + mu) / (g @ g)), "η is missing"),
            (lambda m, g, eta, mu: (mu * m - eta * (m @ g - 1) * g, (1 + mu) / (g @ g)), "wrong sign"),
            (lambda m, g, eta, mu: (mu * m - eta * g, (1 + mu) / (g @ g)), "erase is missing"),
            (lambda m, g, eta, mu: (mu * (m - eta * (m @ g) * g) - eta * g, (1 + mu) / (g @ g)), "not from the decayed"),
            (lambda m, g, eta, mu: (mu * m - eta * (m @ g + 1) * g, 2 / (g @ g)), "bound for μ = 1"),
            (lambda m, g, eta, mu: (mu * m - eta * (m @ g + 1) * g, mu / (g @ g)), "may be negative"),
            (lambda m, g, eta, mu: mu * m - eta * (m @ g + 1) * g, "return two things"),
        ),
    ),
    Exercise(
        "05.3",
        "find the regression that Adam with β₁ = β₂ solves",
        check_adam,
        _adam,
        (
            (lambda g, beta: ((1 - beta) * _weights(g, beta) * (1 - beta ** len(g)) / (1 - beta), _adam(g, beta)[1]), "not the right sum"),
            (lambda g, beta: (_weights(g, beta)[::-1], _adam(g, beta)[1]), "newest gradient"),
            (lambda g, beta: (np.full(len(g), 1 / len(g)), _adam(g, beta)[1]), "AdaGrad"),
            (lambda g, beta: (_weights(g, beta), _weights(g, beta) @ g**2), "Take the root"),
            (lambda g, beta: (_weights(g, beta), np.sqrt((g**2).sum(0))), "same weights"),
            (lambda g, beta: (_weights(g, beta), np.abs(_weights(g, beta) @ g)), "Square first"),
        ),
    ),
)  # fmt: skip
