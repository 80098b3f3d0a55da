"""Newton–Schulz: make all singular values of a matrix (nearly) equal to 1, with products only. Source: [P 42-44]."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, positive_integer, scalar

# The polynomial a s + b s³ + c s⁵ that one step applies to every singular value s.
COEFFICIENTS = {"quintic": (3.4445, -4.7750, 2.0315), "cubic": (1.5, -0.5, 0.0)}


def newton_schulz(x: Any, steps: Any = 5, coefficients: str = "quintic") -> Array:
    """NS_n(X): from O = X/(‖X‖_F + 1e-7), n times O ← O (a I + b OᵀO + c (OᵀO)²); NS(0) = 0.

    [P 42]. Directions stay, each singular value s goes to a s + b s³ + c s⁵. The cubic (1.5, -0.5) has its fixed
    point at 1 and doubles the correct digits near it, but multiplies a small s by 1.5 only; the quintic [D] by 3.44,
    and never settles: it keeps s within 0.68 … 1.21. The normalisation makes s <= 1, well within the cubic's (0, √3).

    Args:
        x: (rows, columns), tall or wide: OᵀO on the right equals OOᵀ on the left, so the result is the same.
        steps: n >= 1.
        coefficients: "quintic" or "cubic".
    Returns:
        (rows, columns).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    o = float64("x", x, ("rows", "columns"))
    one_of("coefficients", coefficients, tuple(COEFFICIENTS))
    a, b, c = COEFFICIENTS[coefficients]
    o = o / (np.linalg.norm(o) + 1e-7)
    for _ in range(positive_integer("steps", steps)):
        gram = o.T @ o  # (columns, columns)
        o = o @ (a * np.eye(len(gram)) + b * gram + c * gram @ gram)
    return o


def orthogonality_step(o: Any, zeta: Any = 0.125) -> Array:
    """One gradient step on ‖OᵀO - I‖²_F: O' = O - 4ζ O (OᵀO - I). At ζ = 1/8 it is the cubic Newton–Schulz step.

    [P 43-44], without the term (O - g) that [P 44] adds and [P 43] does not contain. From singular values in
    (0, √3) repeated steps of 1/8 converge to 1; nothing is normalised here.

    Args: o, (rows, columns); zeta, the step size, >= 0.
    Returns: (rows, columns).
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    o, zeta = float64("o", o, ("rows", "columns")), scalar("zeta", zeta, low=0)
    return o - 4 * zeta * o @ (o.T @ o - np.eye(o.shape[1]))
