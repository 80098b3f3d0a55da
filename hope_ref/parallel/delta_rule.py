"""The delta rule in chunks, plain and gated. Equal to `hope_ref.reference.delta_rule`. Source: [S 4-5], [P 65]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hope_ref.config import HopeConfig
from hope_ref.parallel import checks, chunks, layers
from hope_ref.parallel.linear_attention import LinearAttention


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    eta: Tensor | float,
    memory: Tensor | None = None,
    chunk_size: int = 64,
    *,
    backend: str = "torch",
) -> tuple[Tensor, Tensor]:
    """M_t = M_{t-1} - η_t (M_{t-1} k_t - v_t) k_tᵀ, y_t = M_t q_t; equals `reference.delta_rule`.

    Args:
        q, k: queries and keys, (..., T, d_k).
        v: values, (..., T, d_v).
        eta: inner learning rate >= 0, a number or (..., T); stable iff η ‖k‖² < 2.
        memory: M_0, (..., d_v, d_k); None starts empty.
        chunk_size: tokens computed at once; changes speed and memory, not the result.
        backend: "torch", "triton", "compiled" or "auto", see `chunks.recurrence`.
    Returns:
        outputs y, (..., T, d_v), and the final memory, (..., d_v, d_k).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    memory = checks.sequence(q, k, v, memory)
    eta = checks.per_token("eta", eta, k, low=0, high=torch.inf)
    return chunks.recurrence(
        q, k, v, eta, torch.ones_like(eta), memory, chunk_size, erase="before_decay", backend=backend
    )


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    eta: Tensor | float,
    alpha: Tensor | float,
    memory: Tensor | None = None,
    chunk_size: int = 64,
    *,
    backend: str = "torch",
) -> tuple[Tensor, Tensor]:
    """M_t = α_t M_{t-1} (I - η_t k_t k_tᵀ) + η_t v_t k_tᵀ, y_t = M_t q_t; equals `reference.delta_rule.gated_delta_rule`.

    Args, Returns, Raises: as `delta_rule`; alpha is the retention in [0, 1], a number or (..., T).
    """
    memory = checks.sequence(q, k, v, memory)
    eta = checks.per_token("eta", eta, k, low=0, high=torch.inf)
    alpha = checks.per_token("alpha", alpha, k, low=0, high=1)
    return chunks.recurrence(q, k, v, eta, alpha, memory, chunk_size, erase="after_decay", backend=backend)


class GatedDeltaRule(LinearAttention):
    """A mixer with M_t = α_t M_{t-1} (I - β_t k kᵀ) + β_t v kᵀ, α and β from the token [P 65, D]. See `hope_ref.parallel.layers`.

    With ``beta_max`` 2 the factor along the key, α (1 - β), may be negative, as tracking a parity needs;
    ``gated=False`` is the plain delta rule, α = 1.
    """

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator)
        self.add_rate("beta", 0.5)
        if config.gated:
            self.add_rate("alpha", config.alpha_init)

    def memory(
        self, n: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Any, backend: str
    ) -> tuple[Tensor, Any]:
        """The answers and the memory after the last token."""
        beta = self.config.beta_max * self.rate("beta", n)
        gated = self.config.gated
        alpha, erase = (
            (self.rate("alpha", n), "after_decay") if gated else (torch.ones_like(beta), "before_decay")
        )
        return chunks.recurrence(q, k, v, beta, alpha, state, layers.BLOCK, erase=erase, backend=backend)
