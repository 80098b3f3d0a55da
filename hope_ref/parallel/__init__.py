"""The PyTorch floor: the same functions as `hope_ref.reference`, in chunks, with batch and head axes.

Any number of leading axes is allowed; the field's order is (batch, heads, tokens, width). Every function is
differentiable in every tensor argument and runs on CPU, CUDA and MPS in the dtype of its inputs.
"""

from hope_ref.parallel import (
    chunks,
    continuum_memory,
    continuum_schedule,
    delta_gradient_descent,
    delta_rule,
    expressive_optimisers,
    gradient_descent,
    hope,
    hope_adaptation,
    layers,
    linear_attention,
    m3,
    momentum,
    newton_schulz,
    self_modifying_titans,
    shared_gain,
    state_tracking,
    states,
    titans,
)

__all__ = [
    "chunks",
    "continuum_memory",
    "continuum_schedule",
    "delta_gradient_descent",
    "delta_rule",
    "expressive_optimisers",
    "gradient_descent",
    "hope",
    "hope_adaptation",
    "layers",
    "linear_attention",
    "m3",
    "momentum",
    "newton_schulz",
    "self_modifying_titans",
    "shared_gain",
    "state_tracking",
    "states",
    "titans",
]
