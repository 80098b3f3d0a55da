"""The NumPy floor: every equation in float64, one token at a time, with no cleverness.

Read these files beside the equations; judge faster code by them. Arrays in, arrays out; a state goes in
and comes back, never hidden.
"""

from hope_ref.reference import (
    activations,
    chunks,
    continuum_memory,
    delta_gradient_descent,
    delta_rule,
    expressive_optimisers,
    gradient_descent,
    hope,
    hope_adaptation,
    linear_attention,
    m3,
    momentum,
    newton_schulz,
    parameters,
    self_modifying_titans,
    shared_gain,
    state_tracking,
    states,
    titans,
)

__all__ = [
    "activations",
    "chunks",
    "continuum_memory",
    "delta_gradient_descent",
    "delta_rule",
    "expressive_optimisers",
    "gradient_descent",
    "hope",
    "hope_adaptation",
    "linear_attention",
    "m3",
    "momentum",
    "newton_schulz",
    "parameters",
    "self_modifying_titans",
    "shared_gain",
    "state_tracking",
    "states",
    "titans",
]
