"""Parity in chunks, by the delta rule with η‖k‖² = 2. Equal to `hope_ref.reference.state_tracking`. Source: [D]."""

from __future__ import annotations

import torch
from torch import Tensor

from hope_ref.parallel.delta_rule import delta_rule


def parity(bits: Tensor, chunk_size: int = 64) -> Tensor:
    """The parity of each word so far: η = 2x and v = 0 give M_t = (1 - 2 x_t) M_{t-1}, from M_0 = 1; equals `reference.state_tracking.parity`.

    Args: bits, 0 or 1, of a floating dtype, (..., T); chunk_size, tokens computed at once, which changes speed alone.
    Returns: 1 where the number of ones so far is odd, else 0, (..., T).
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    if not bool(((bits == 0) | (bits == 1)).all()):
        raise ValueError(f"bits must be 0 or 1, got {bits[(bits != 0) & (bits != 1)][0]:g}")
    ones = torch.ones_like(bits)[..., None]  # (..., T, 1)
    start = torch.ones(*bits.shape[:-1], 1, 1, dtype=bits.dtype, device=bits.device)
    y, _ = delta_rule(ones, ones, 0 * ones, 2 * bits, start, chunk_size)
    return (1 - y[..., 0]) / 2
