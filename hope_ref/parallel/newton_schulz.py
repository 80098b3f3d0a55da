"""Newton–Schulz, batched. Equal to `hope_ref.reference.newton_schulz`. Source: [P 42-44]."""

from __future__ import annotations

import torch
from torch import Tensor

from hope_ref.common.validation import one_of, positive_integer
from hope_ref.parallel import checks

COEFFICIENTS = {"quintic": (3.4445, -4.7750, 2.0315), "cubic": (1.5, -0.5, 0.0)}
SMALL = 1e-7  # added to the norm


def _matrices(name: str, value: Tensor) -> None:
    checks.tensors(**{name: value})
    if value.ndim < 2:
        raise ValueError(f"{name} must have shape (..., rows, columns), got {tuple(value.shape)}")
    checks.values(-torch.inf, torch.inf, **{name: value})


def newton_schulz(x: Tensor, steps: int = 5, coefficients: str = "quintic") -> Tensor:
    """NS_n(X): O ← O (a I + b OᵀO + c (OᵀO)²), n times from X/(‖X‖_F + 1e-7); equals `reference.newton_schulz`.

    The products are taken on the short side: for a wide matrix OOᵀ from the left, which is the same polynomial in
    smaller matrices. Products only, no decomposition: made for GPUs. Half precision is computed in float32, also under
    autocast. No entry is too large, even where the sum of squares overflows. At a zero matrix the norm, which has no
    derivative there, counts as a constant 0.

    Args:
        x: (..., rows, columns), any floating-point dtype.
        steps: n >= 1.
        coefficients: "quintic" or "cubic".
    Returns:
        (..., rows, columns), in the dtype of x; 0 for a zero matrix.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    _matrices("x", x)
    one_of("coefficients", coefficients, tuple(COEFFICIENTS))
    return iterate(x, positive_integer("steps", steps), coefficients)


def iterate(x: Tensor, steps: int, coefficients: str) -> Tensor:
    """`newton_schulz` behind the door: checks nothing and lets NaN pass, for callers that have checked what they may."""
    a, b, c = COEFFICIENTS[coefficients]
    wide = x.shape[-2] < x.shape[-1]
    with checks.no_autocast(x.device.type):
        o = _normalised(x.to(torch.promote_types(x.dtype, torch.float32)))
        for _ in range(steps):
            gram = o @ o.mT if wide else o.mT @ o  # (..., short, short)
            higher = b * gram + c * gram @ gram
            o = a * o + (higher @ o if wide else o @ higher)
    return o.to(x.dtype)


def _normalised(x: Tensor) -> Tensor:
    """X/(‖X‖_F + 1e-7); where ‖X‖² overflows, numerator and denominator are divided by the largest entry first."""
    if x.shape[-1] == 0 or x.shape[-2] == 0:
        return x
    norm = _norm(x.detach())  # (..., 1, 1)
    largest = x.detach().abs().amax((-2, -1), keepdim=True)
    scale = torch.where(norm.isinf(), largest, 1.0)
    x = x / scale
    zero = norm == 0
    # The derivative of a norm at 0 is 0/0, and `where` would multiply it by 0: a zero matrix never gets there.
    norm = torch.where(zero, 0.0, _norm(torch.where(zero, 1.0, x)))
    return x / (norm + SMALL / scale)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)


def orthogonality_step(o: Tensor, zeta: Tensor | float = 0.125) -> Tensor:
    """O' = O - 4ζ O (OᵀO - I), a gradient step on ‖OᵀO - I‖²_F; equals `reference.newton_schulz.orthogonality_step`.

    Half precision is computed in float32.

    Args: o, (..., rows, columns); zeta, the step size, >= 0, a number or a tensor without axes.
    Returns: (..., rows, columns), in the dtype of o.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    _matrices("o", o)
    wide = o.to(torch.promote_types(o.dtype, torch.float32))
    zeta = checks.as_tensor(zeta, wide).to(wide)
    if zeta.ndim:
        raise ValueError(f"zeta must have shape (), got {tuple(zeta.shape)}")
    checks.values(0, zeta=zeta)
    with checks.no_autocast(o.device.type):
        return (wide - 4 * zeta * (wide @ (wide.mT @ wide) - wide)).to(o.dtype)
