"""The NumPy floor: every equation in float64, one token at a time, with no cleverness.

Read these files beside the equations; judge faster code by them. Arrays in, arrays out; a state goes in
and comes back, never hidden.
"""

from hope_ref.reference import (
    activations,
    delta_gradient_descent,
    delta_rule,
    gradient_descent,
    linear_attention,
    momentum,
    newton_schulz,
)

__all__ = [
    "activations",
    "delta_gradient_descent",
    "delta_rule",
    "gradient_descent",
    "linear_attention",
    "momentum",
    "newton_schulz",
]
