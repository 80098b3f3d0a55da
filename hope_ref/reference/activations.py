"""SiLU, its derivative, and RMSNorm. Source: [D], σ of [S 28], [P 89].

SiLU works entry by entry, on arrays of any shape that the public functions have checked already. What overflowed stays visible
(NaN and infinite entries go through): a memory that diverges must be seen to diverge.
"""

from __future__ import annotations

import numpy as np

from hope_ref.common.validation import Array

EPSILON = 1e-6  # inside the root of RMSNorm


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)); exp is only taken of numbers <= 0, so that it never overflows [D]."""
    small = np.exp(-np.abs(z))  # in [0, 1]
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def silu(z: Array) -> Array:
    """σ(z) = z / (1 + exp(-z)) [D]: about z for large z, about 0 for very negative z."""
    return z * sigmoid(z)


def silu_derivative(z: Array) -> Array:
    """σ′(z) = s (1 + z (1 - s)) with s = 1 / (1 + exp(-z)) [D]."""
    return sigmoid(z) * (1.0 + z * sigmoid(-z))  # 1 - s = sigmoid(-z), without the cancellation


def rms_norm(z: Array, gain: Array) -> Array:
    """gain ⊙ z / √(mean z² + 1e-6), over the last axis [D]."""
    mean_square = np.mean(z**2, axis=-1, keepdims=True)
    return np.asarray(gain * z / np.sqrt(mean_square + EPSILON))
