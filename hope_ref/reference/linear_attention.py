"""Linear attention: a matrix memory that adds one association per token. Source: [S 2-3], [P 15-18]."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array, float64, per_token


def sequence(q: Any, k: Any, v: Any, memory: Any) -> tuple[Array, Array, Array, Array]:
    """Validate the four arrays that every matrix memory takes; ``memory=None`` means an empty one."""
    k = float64("k", k, ("T", "d_k"))
    v = float64("v", v, (k.shape[0], "d_v"))
    q = float64("q", q, k.shape)
    shape = (v.shape[1], k.shape[1])
    return q, k, v, np.zeros(shape) if memory is None else float64("memory", memory, shape)


def linear_attention(q: Any, k: Any, v: Any, alpha: Any = 1.0, memory: Any = None) -> tuple[Array, Array]:
    """Write v kᵀ, then read with q, token by token: M_t = α_t M_{t-1} + v_t k_tᵀ, y_t = M_t q_t.

    With α = 1 this is [S 3] = [P 18], one gradient step of size 1 on -⟨M k_t, v_t⟩; α < 1 is [P 64].

    Args:
        q, k: queries and keys, (T, d_k).
        v: values, (T, d_v).
        alpha: retention in [0, 1], a number or (T,): 1 keeps the memory, 0 erases it.
        memory: M_0, (d_v, d_k); None starts empty.
    Returns:
        outputs y, (T, d_v), and the final memory M_T, (d_v, d_k).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    q, k, v, memory = sequence(q, k, v, memory)
    alpha = per_token("alpha", alpha, len(k), low=0, high=1)
    y = np.zeros_like(v)  # (T, d_v)
    for t in range(len(k)):
        memory = alpha[t] * memory + np.outer(v[t], k[t])  # (d_v, d_k)
        y[t] = memory @ q[t]
    return y, memory
