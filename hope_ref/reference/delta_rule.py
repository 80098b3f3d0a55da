"""The delta rule, plain and gated: write only what the memory got wrong. Source: [S 4-5], [P 65]."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array, per_token
from hope_ref.reference.linear_attention import sequence


def delta_rule(q: Any, k: Any, v: Any, eta: Any, memory: Any = None) -> tuple[Array, Array]:
    """Correct the memory by its error, then read: M_t = M_{t-1} - η_t (M_{t-1} k_t - v_t) k_tᵀ, y_t = M_t q_t.

    [S 5]: one gradient step of size η_t on ½‖M k_t - v_t‖². Stable along k_t iff 0 < η_t ‖k_t‖² < 2; at
    η_t = 1/‖k_t‖² the pair is stored in one shot.

    Args:
        q, k: queries and keys, (T, d_k).
        v: values, (T, d_v).
        eta: inner learning rate >= 0, a number or (T,).
        memory: M_0, (d_v, d_k); None starts empty.
    Returns:
        outputs y, (T, d_v), and the final memory, (d_v, d_k).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    q, k, v, memory = sequence(q, k, v, memory)
    eta = per_token("eta", eta, len(k), low=0)
    y = np.zeros_like(v)  # (T, d_v)
    for t in range(len(k)):
        error = memory @ k[t] - v[t]  # (d_v,)
        memory = memory - eta[t] * np.outer(error, k[t])  # (d_v, d_k)
        y[t] = memory @ q[t]
    return y, memory


def gated_delta_rule(q: Any, k: Any, v: Any, eta: Any, alpha: Any, memory: Any = None) -> tuple[Array, Array]:
    """Decay first, then correct: M_t = α_t M_{t-1} (I - η_t k_t k_tᵀ) + η_t v_t k_tᵀ, y_t = M_t q_t.

    The field's gated form of [P 65]. Equal to M_t = α_t M_{t-1} + w_t k_tᵀ with
    w_t = η_t (v_t - α_t M_{t-1} k_t): the error is measured after the decay. With α = 1 it is `delta_rule`.

    Args, Returns, Raises: as `delta_rule`; alpha is the retention in [0, 1], a number or (T,).
    """
    q, k, v, memory = sequence(q, k, v, memory)
    eta = per_token("eta", eta, len(k), low=0)
    alpha = per_token("alpha", alpha, len(k), low=0, high=1)
    y = np.zeros_like(v)  # (T, d_v)
    for t in range(len(k)):
        decayed = alpha[t] * memory  # (d_v, d_k)
        memory = decayed + eta[t] * np.outer(v[t] - decayed @ k[t], k[t])
        y[t] = memory @ q[t]
    return y, memory
