"""One gradient step on a linear layer, with leading axes. Equal to `hope_ref.reference.gradient_descent`. Source: [S 7], [P 8]."""

from __future__ import annotations

import torch
from torch import Tensor

from hope_ref.common.validation import shape_is
from hope_ref.parallel import checks


def gradient_descent_step(w: Tensor, x: Tensor, grad_y: Tensor, eta: Tensor | float) -> Tensor:
    """W - Σ_n η_n ∇_y L_n x_nᵀ; equals `reference.gradient_descent.gradient_descent_step` on every leading index.

    The N writes are one matrix product: a batch is a memory to which all its writes are added at once.

    Args:
        w: weight of y = W x, (..., d_out, d_in).
        x: inputs, (..., N, d_in).
        grad_y: the loss's gradients at the outputs, (..., N, d_out).
        eta: inner learning rate >= 0, a number or (..., N).
    Returns:
        the weight after the step, (..., d_out, d_in).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    checks.tensors(w=w, x=x, grad_y=grad_y)
    if w.ndim < 2:
        raise ValueError(f"w must have shape (..., d_out, d_in), got {tuple(w.shape)}")
    shape_is("x", tuple(x.shape), (*w.shape[:-2], "N", w.shape[-1]))
    shape_is("grad_y", tuple(grad_y.shape), (*x.shape[:-1], w.shape[-2]))
    checks.values(w=w, x=x, grad_y=grad_y)
    eta = checks.per_token("eta", eta, x, low=0, high=torch.inf, like_name="w")
    return w - (eta[..., None] * grad_y).mT @ x
