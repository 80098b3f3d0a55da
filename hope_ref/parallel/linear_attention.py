"""Linear attention in chunks. Equal to `hope_ref.reference.linear_attention`. Source: [S 2-3], [P 15-18]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hope_ref.parallel import checks, chunks, layers


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor | float = 1.0,
    memory: Tensor | None = None,
    chunk_size: int = 64,
    *,
    backend: str = "torch",
) -> tuple[Tensor, Tensor]:
    """M_t = α_t M_{t-1} + v_t k_tᵀ, y_t = M_t q_t; equals `reference.linear_attention` on every leading index.

    Args:
        q, k: queries and keys, (..., T, d_k).
        v: values, (..., T, d_v).
        alpha: retention in [0, 1], a number or (..., T).
        memory: M_0, (..., d_v, d_k); None starts empty.
        chunk_size: tokens computed at once; changes speed and memory, not the result.
        backend: "torch", "triton", "compiled" or "auto", see `chunks.recurrence`.
    Returns:
        outputs y, (..., T, d_v), and the final memory, (..., d_v, d_k).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    memory = checks.sequence(q, k, v, memory)
    alpha = checks.per_token("alpha", alpha, k, low=0, high=1)
    return chunks.recurrence(
        q, k, v, torch.ones_like(alpha), alpha, memory, chunk_size, erase="none", backend=backend
    )


class LinearAttention(layers.Convolved):
    """A mixer with M_t = M_{t-1} + v_t k_tᵀ, unit keys and queries [S 2-3, D]. See `hope_ref.parallel.layers`."""

    def initial_memory(self, lead: tuple[int, ...], *, copy: bool = True) -> Tensor:
        """An empty memory."""
        d = self.config.head_width
        dtype = torch.promote_types(self.norm.dtype, torch.float32)
        return self.norm.new_zeros(*lead, d, d, dtype=dtype)

    def memory(
        self, n: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Any, backend: str
    ) -> tuple[Tensor, Any]:
        """The answers and the memory after the last token."""
        ones = torch.ones_like(q[..., 0])
        return chunks.recurrence(q, k, v, ones, ones, state, layers.BLOCK, erase="none", backend=backend)
