"""What is here for speed alone: matrix products without detours, and derivatives written by hand. [D]

Nothing in this file is an equation of HOPE: `product(a, b)` is ``a @ b``, `apply(w, z)` is ``z @ w.mT``, `through_silu`
is the derivative of SiLU times a gradient, and `unit_lower_solve` is a triangular solve. Each function here can be
differentiated as often as you like, in both modes, and under `torch.func`. Under `torch.compile` the plain formulas stand
in the place of the handwritten derivatives: the compiler makes its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def whole(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in float32 where they come in half precision: thousands of writes do not survive eight bits."""
    return tuple(tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors)


def by_hand() -> bool:
    """Whether the handwritten derivatives serve: in eager mode, where a gradient may be wanted."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


# --- products -------------------------------------------------------------------------------------------------------


def product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right; with one leading axis, of a length or 1, without the detours that @ makes to allow for more."""
    if left.ndim != 3 or right.ndim != 3:
        return left @ right
    ours, theirs = left.shape[0], right.shape[0]
    if ours == theirs:
        return torch.bmm(left, right)
    length = theirs if ours == 1 else ours  # not the larger one: it may be 0
    return torch.bmm(left.expand(length, -1, -1), right.expand(length, -1, -1))


def plus_product(start: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """start + left @ right, without a pass of its own for the sum; the leading axes of the product are those of start."""
    lead = start.shape[:-2]
    left, right = (side.expand(*lead, *side.shape[-2:]) for side in (left, right))
    if len(lead) == 1:
        return torch.baddbmm(start, left, right)
    if not lead:
        return torch.addmm(start, left, right)
    return torch.baddbmm(start.flatten(0, -3), left.flatten(0, -3), right.flatten(0, -3)).unflatten(0, lead)


def plus_product_(start: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """`plus_product` into ``start`` itself, a contiguous tensor that nobody else uses."""
    lead = start.shape[:-2]
    left, right = (side.expand(*lead, *side.shape[-2:]).flatten(0, -3) for side in (left, right))
    start.view(-1, *start.shape[-2:]).baddbmm_(left, right)
    return start


class _Apply(Function):
    """W z for rows of z, whose gradient by W comes out in the layout of W: so adding several costs no transposition."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, z: Tensor) -> Tensor:
        return product(z, weight.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,) = grads
        weight, z = ctx.saved_tensors
        by_weight = product(grad.mT, z).sum_to_size(weight.shape) if ctx.needs_input_grad[0] else None
        by_z = product(grad, weight).sum_to_size(z.shape) if ctx.needs_input_grad[1] else None
        return by_weight, by_z

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        d_weight, d_z = tangents
        weight, z = ctx.saved_tensors
        moved = torch.zeros_like(product(z, weight.mT))
        if d_weight is not None:
            moved = moved + product(z, d_weight.mT)
        return moved if d_z is None else moved + product(d_z, weight.mT)


def apply(weight: Tensor, z: Tensor) -> Tensor:
    """W z for every row z: z Wᵀ."""
    return _Apply.apply(weight, z) if by_hand() else product(z, weight.mT)


# --- SiLU -----------------------------------------------------------------------------------------------------------


class _ThroughSilu(Function):
    """g ⊙ σ′(z) with its own derivative: σ″ = s (1 - s) (2 + z (1 - 2 s)), s = sigmoid(z)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(g: Tensor, z: Tensor) -> Tensor:
        return torch.ops.aten.silu_backward(g, z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        g, z = ctx.saved_tensors
        return _ThroughSilu.apply(grad, z), grad * g * _bend(z)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        d_g, d_z = tangents
        g, z = ctx.saved_tensors
        moved = torch.zeros_like(g) if d_g is None else torch.ops.aten.silu_backward(d_g, z)
        return moved if d_z is None else moved + d_z * g * _bend(z)


def _bend(z: Tensor) -> Tensor:
    """σ″(z)."""
    s = torch.sigmoid(z)
    return s * (1 - s) * (2 + z * (1 - 2 * s))


def through_silu(g: Tensor, z: Tensor) -> Tensor:
    """g ⊙ σ′(z): a gradient on its way back through SiLU."""
    if by_hand():
        return _ThroughSilu.apply(g, z)
    return g * torch.sigmoid(z) * (1 + z * torch.sigmoid(-z))


# --- triangular systems ---------------------------------------------------------------------------------------------


class _UnitLowerSolve(Function):
    """x = (I + L)⁻¹ b with L the strictly lower part of a matrix, and the inverse itself: its backward solves nothing.

    From dx = (I + L)⁻¹ (db - dL x): the gradient of b is g = (I + L)⁻ᵀ ∂x, that of L is -g xᵀ below the diagonal.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(system: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        inverse = unit_lower_inverse(system)
        return product(inverse, target), inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        solution, inverse = output
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inverse, solution)
        ctx.save_for_forward(inverse, solution)
        ctx.shapes = inputs[0].shape, inputs[1].shape

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        grad, grad_inverse = grads  # the second is there only when a backward pass is itself differentiated
        inverse, solution = ctx.saved_tensors
        by_system = by_target = None
        if grad is not None:
            by_target = product(inverse.mT, grad)
            by_system = -product(by_target, solution.mT).tril(-1).sum_to_size(ctx.shapes[0])
            by_target = by_target.sum_to_size(ctx.shapes[1])
        if grad_inverse is not None:
            through = -(inverse.mT @ grad_inverse @ inverse.mT).tril(-1)
            by_system = through if by_system is None else by_system + through
        return by_system, by_target

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, Tensor]:
        d_system, d_target = tangents
        inverse, solution = ctx.saved_tensors
        moved, d_inverse = torch.zeros_like(solution), torch.zeros_like(inverse)
        if d_system is not None:
            lower = d_system.tril(-1)
            moved, d_inverse = -inverse @ (lower @ solution), -inverse @ lower @ inverse
        return (moved if d_target is None else moved + inverse @ d_target), d_inverse


def unit_lower_inverse(system: Tensor) -> Tensor:
    """(I + L)⁻¹. As X (I + L) = I, which is twice as fast on a CPU as (I + L) X = I, let alone as solving for (..., C, d)."""
    identity = torch.eye(system.shape[-1], dtype=system.dtype, device=system.device)
    return torch.linalg.solve_triangular(system, identity.mT, upper=False, left=False, unitriangular=True)


def unit_lower_solve(system: Tensor, target: Tensor) -> Tensor:
    """(I + L)⁻¹ b for L the strictly lower part of ``system`` (..., C, C) and b (..., C, n); one token: b itself."""
    if system.shape[-1] == 1:
        return target
    if by_hand():
        return _UnitLowerSolve.apply(system, target)[0]
    return product(unit_lower_inverse(system), target)


# PyTorch asks for the signature of `forward` at every call, and building it takes as long as a small product.
for _function in (_Apply, _ThroughSilu, _UnitLowerSolve):
    _forward: Any = _function.forward
    _forward.__signature__ = inspect.signature(_forward)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers too small to be normal count as 0: on a CPU each costs a hundred times the time of another."""
    tiny = torch.tensor(1e-310, dtype=torch.float64)
    before = float(tiny / 2) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
