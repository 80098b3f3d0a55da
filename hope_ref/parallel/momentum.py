"""Momentum, running mean and delta momentum, batched. Equal to `hope_ref.reference.momentum`. Source: [S 11-13], [P 33-49].

For momentum, running means and Adam as *optimisers* take PyTorch's own: `torch.optim.SGD` and `torch.optim.Adam`
are held against the reference in the tests. These functions are the steps themselves, differentiable in everything.
Half precision is computed in float32, and the results have the dtype that came in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hope_ref.common.validation import one_of, shape_is
from hope_ref.parallel import checks

WRITES = ("explicit", "implicit")


def _wide(tensor: Tensor) -> Tensor:
    """At least float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _rate(name: str, value: Tensor | float, w: Tensor, shape: tuple[int, ...], high: float) -> Tensor:
    """A number in [0, high], or a tensor of this shape, one rate per leading axis; at least float32."""
    if isinstance(value, Tensor):
        checks.tensors(w=w, **{name: value})
        rate = _wide(value)
    else:
        rate = checks.as_tensor(value, _wide(w))
    if rate.ndim:
        shape_is(name, tuple(rate.shape), shape)
    checks.values(0, high, **{name: rate})
    return rate


def _same_shape(w: Tensor, **named: Tensor) -> None:
    checks.tensors(w=w, **named)
    for name, value in named.items():
        shape_is(name, tuple(value.shape), tuple(w.shape))
    checks.values(-torch.inf, torch.inf, w=w, **named)


def momentum_step(
    w: Tensor, m: Tensor, gradient: Tensor, eta: Tensor | float, mu: Tensor | float
) -> tuple[Tensor, Tensor]:
    """m' = μ m - η g, W' = W + m', element by element; equals `reference.momentum.momentum_step`.

    Args:
        w, m, gradient: weights, momentum and loss gradient, tensors of one shape.
        eta: learning rate >= 0, a number or a tensor of that shape.
        mu: momentum decay in [0, 1], a number or a tensor of that shape.
    Returns:
        the new weights and the new momentum, both in the shape of w.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    _same_shape(w, m=m, gradient=gradient)
    eta = _rate("eta", eta, w, tuple(w.shape), torch.inf)
    mu = _rate("mu", mu, w, tuple(w.shape), 1)
    moved = mu * _wide(m) - eta * _wide(gradient)
    return (w + moved).to(w.dtype), moved.to(w.dtype)


def ema_step(m: Tensor, gradient: Tensor, beta: Tensor | float) -> Tensor:
    """m' = β m + (1 - β) g, element by element; equals `reference.momentum.ema_step`.

    Args: m, gradient of one shape; beta in [0, 1], a number or a tensor of that shape.
    Returns: the new average, in the shape of m.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    checks.tensors(m=m, gradient=gradient)
    shape_is("gradient", tuple(gradient.shape), tuple(m.shape))
    checks.values(m=m, gradient=gradient)
    beta = _rate("beta", beta, m, tuple(m.shape), 1)
    return (beta * _wide(m) + (1 - beta) * _wide(gradient)).to(m.dtype)


def delta_momentum_step(
    w: Tensor,
    m: Tensor,
    gradient: Tensor,
    eta: Tensor | float,
    mu: Tensor | float,
    target: Tensor | float = 1.0,
    write: str = "explicit",
) -> tuple[Tensor, Tensor]:
    """m' = m (μ I - η̃ gᵀg) - η P g, η̃ = η/(1 + η‖g‖²), W' = W + m'; equals `reference.momentum.delta_momentum_step`.

    Args:
        w, m, gradient: one shape, (columns,) for one parameter vector, else (..., rows, columns); vectors in a
            batch are matrices of one row, (..., 1, columns).
        eta: learning rate >= 0, a number or one per leading axis, (...).
        mu: momentum decay in [0, 1], a number or (...).
        target: P, a number (that many times I) or (..., rows, rows).
        write: "explicit" (-η P g) or "implicit" (-η̃ P g).
    Returns:
        the new weights and the new momentum, both in the shape of w.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    _same_shape(w, m=m, gradient=gradient)
    if w.ndim == 0:
        raise ValueError("w must have shape (columns,) or (..., rows, columns), got ()")
    one_of("write", write, WRITES)
    g, old = torch.atleast_2d(_wide(gradient)), torch.atleast_2d(_wide(m))  # (..., rows, columns)
    leading, rows = tuple(g.shape[:-2]), g.shape[-2]
    eta = _rate("eta", eta, w, leading, torch.inf)[..., None, None]
    mu = _rate("mu", mu, w, leading, 1)[..., None, None]
    if isinstance(target, Tensor):
        checks.tensors(w=w, target=target)
        shape_is("target", tuple(target.shape), (*leading, rows, rows) if target.ndim else ())
    p = checks.as_tensor(target, g).to(g.dtype)
    checks.values(target=p)
    eta_step = eta / (1 + eta * g.square().sum((-2, -1), keepdim=True))
    with checks.no_autocast(w.device.type):
        written = p @ g if p.ndim else p * g  # P g, (..., rows, columns)
        erased = mu * old - eta_step * (old @ g.mT) @ g  # m (μ I - η̃ gᵀg)
    new = (erased - (eta if write == "explicit" else eta_step) * written).reshape(w.shape)
    return (w + new).to(w.dtype), new.to(w.dtype)
