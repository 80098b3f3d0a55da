"""Momentum, running mean and delta momentum, batched. Equal to `hope_ref.reference.momentum`. Source: [S 11-13], [P 33-49].

For momentum, running means and Adam as *optimisers* take PyTorch's own: `torch.optim.SGD` and `torch.optim.Adam`
are held against the reference in the tests. These functions are the steps themselves, differentiable in everything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hope_ref.parallel import doors
from hope_ref.validation import one_of, shape_is

WRITES = ("explicit", "implicit")


def _rate(name: str, value: Tensor | float, w: Tensor, wanted: tuple[int, ...], high: float) -> Tensor:
    """A number in [0, high], or a tensor of the wanted shape, one rate per leading axis."""
    if not isinstance(value, Tensor):
        value = torch.as_tensor(value, dtype=w.dtype, device=w.device)
    doors.tensors(w=w, **{name: value})
    if value.ndim:
        shape_is(name, tuple(value.shape), wanted)
    doors.values(0, high, **{name: value})
    return value


def _same_shape(w: Tensor, **named: Tensor) -> None:
    doors.tensors(w=w, **named)
    for name, value in named.items():
        shape_is(name, tuple(value.shape), tuple(w.shape))
    doors.values(-torch.inf, torch.inf, w=w, **named)


def momentum_step(
    w: Tensor, m: Tensor, gradient: Tensor, eta: Tensor | float, mu: Tensor | float
) -> tuple[Tensor, Tensor]:
    """m' = μ m - η g, W' = W + m', element by element; equals `reference.momentum_step`.

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
    m = mu * m - eta * gradient
    return w + m, m


def ema_step(m: Tensor, gradient: Tensor, beta: Tensor | float) -> Tensor:
    """m' = β m + (1 - β) g, element by element; equals `reference.ema_step`.

    Args: m, gradient of one shape; beta in [0, 1], a number or a tensor of that shape.
    Returns: the new average, in the shape of m.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    doors.tensors(m=m, gradient=gradient)
    shape_is("gradient", tuple(gradient.shape), tuple(m.shape))
    doors.values(m=m, gradient=gradient)
    beta = _rate("beta", beta, m, tuple(m.shape), 1)
    return beta * m + (1 - beta) * gradient


def delta_momentum_step(
    w: Tensor,
    m: Tensor,
    gradient: Tensor,
    eta: Tensor | float,
    mu: Tensor | float,
    target: Tensor | float = 1.0,
    write: str = "explicit",
) -> tuple[Tensor, Tensor]:
    """m' = m (μ I - η̃ gᵀg) - η P g, η̃ = η/(1 + η‖g‖²), W' = W + m'; equals `reference.delta_momentum_step`.

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
    g, old = torch.atleast_2d(gradient), torch.atleast_2d(m)  # (..., rows, columns)
    leading, rows = tuple(g.shape[:-2]), g.shape[-2]
    eta = _rate("eta", eta, w, leading, torch.inf)[..., None, None]
    mu = _rate("mu", mu, w, leading, 1)[..., None, None]
    if isinstance(target, Tensor):
        doors.tensors(w=w, target=target)
        shape_is("target", tuple(target.shape), (*leading, rows, rows) if target.ndim else ())
    p = torch.as_tensor(target, dtype=w.dtype, device=w.device)
    doors.values(target=p)
    wanted = p @ g if p.ndim else p * g  # P g, (..., rows, columns)
    eta_step = eta / (1 + eta * g.square().sum((-2, -1), keepdim=True))
    erased = mu * old - eta_step * (old @ g.mT) @ g  # m (μ I - η̃ gᵀg)
    new = (erased - (eta if write == "explicit" else eta_step) * wanted).reshape(w.shape)
    return w + new, new
