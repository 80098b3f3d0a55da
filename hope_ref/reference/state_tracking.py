"""State tracking: by what one write multiplies a memory along its key, and parity by a factor of -1. Source: [P 92-93], [D].

For a linear memory, R = E = 0 and the surprise bound off, ‖k‖ = λ:

    f = α - n η̃ λ²,   n = 2 for "l2" token by token, where the slope erases once more than the erase term, and 1 otherwise.

A factor of -1 at each 1 and of 1 at each 0 holds the parity of a word. No f >= 0 can (Grazzi et al., arXiv:2411.12537); which f can be
reached, and why, is in `symbolic.state_tracking`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, scalar
from hope_ref.reference.delta_rule import delta_rule
from hope_ref.reference.self_modifying_titans import step_size

OBJECTIVES = ("dot", "l2")
STEPS = ("implicit", "explicit", "normalized")


def eigenvalue(
    objective: str, step: str, eta: Any, alpha: Any = 1.0, key_norm: Any = 1.0, frozen: bool = False
) -> float:
    """f = α - n η̃ ‖k‖²: what is left along k after one write of a linear memory; across k it is α [P 92-93].

    Args:
        objective: "dot" or "l2". step: "implicit", "explicit" or "normalized", which makes η̃ of η.
        eta: learning rate >= 0. alpha: retention in [0, 1]. key_norm: ‖k‖ >= 0.
        frozen: whether the gradient is that of the boundary's memory, not of the moving one.
    Returns:
        the factor, a number.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    one_of("objective", objective, OBJECTIVES)
    one_of("step", step, STEPS)
    eta, alpha = scalar("eta", eta, low=0), scalar("alpha", alpha, low=0, high=1)
    k = np.array([scalar("key_norm", key_norm, low=0)])
    erases = 2 if objective == "l2" and not frozen else 1  # n
    return float(alpha - erases * step_size(eta, k, step) * (k @ k))


def parity(bits: Any) -> Array:
    """The parity of a word so far, by one write of the delta rule a bit: η = 2x and v = 0 give M_t = (1 - 2 x_t) M_{t-1}, from M_0 = 1.

    Args: bits, 0 or 1, (T,). Returns: 1 where the number of ones so far is odd, else 0, (T,), exactly.
    Raises: ValueError, naming bits, what it got and what it wants.
    """
    bits = float64("bits", bits, ("T",))
    if not np.isin(bits, (0, 1)).all():
        raise ValueError(f"bits must be 0 or 1, got {bits[~np.isin(bits, (0, 1))][0]:g}")
    ones = np.ones((len(bits), 1))
    y, _ = delta_rule(ones, ones, 0 * ones, 2 * bits, np.ones((1, 1)))
    return (1 - y[:, 0]) / 2
