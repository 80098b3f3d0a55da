"""The activation of the memories, SiLU, and its derivative. Source: [D], σ of [S 28], [P 89]."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.validation import Array, float64


def sigmoid(z: Any) -> Array:
    """1 / (1 + exp(-z)), entry by entry; exp is only taken of numbers <= 0, so that it never overflows [D].

    Args: z: any shape. Returns: the same shape. Raises: ValueError if z is not finite float64.
    """
    z = float64("z", z)
    small = np.exp(-np.abs(z))  # in (0, 1]
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def silu(z: Any) -> Array:
    """σ(z) = z / (1 + exp(-z)), entry by entry [D]: about z for large z, about 0 for very negative z.

    Args: z: any shape. Returns: the same shape. Raises: ValueError if z is not finite float64.
    """
    z = float64("z", z)
    return z * sigmoid(z)


def silu_derivative(z: Any) -> Array:
    """σ′(z) = s (1 + z (1 - s)) with s = 1 / (1 + exp(-z)), entry by entry [D].

    Args: z: any shape. Returns: the same shape. Raises: ValueError if z is not finite float64.
    """
    z = float64("z", z)
    gate = sigmoid(z)
    return gate * (1.0 + z * sigmoid(-z))  # 1 - s = sigmoid(-z), without the cancellation
