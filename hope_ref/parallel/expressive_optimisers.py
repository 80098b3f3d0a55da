"""Expressive optimisers, batched. Equal to `hope_ref.reference.expressive_optimisers`. Source: [P 38-41, 45, 47, 50-52, 59-60].

Steps, differentiable in every tensor. Leading axes, (...), are a batch: each index is a problem of its own. Half precision is
computed in float32, and the results have the dtype that came in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hope_ref.common.validation import one_of, positive_integer, shape_is
from hope_ref.parallel import checks
from hope_ref.parallel.newton_schulz import newton_schulz
from hope_ref.parallel.ops import whole

FEATURES = {"identity": lambda g: g, "cube": lambda g: g**3, "tanh": torch.tanh}
OUTPUTS = ("identity", "newton_schulz")
SIDES = ("both", "left")
LOSSES = ("dot", "l2")


def _rate(name: str, value: Tensor | float, like: Tensor, low: float, high: float = torch.inf) -> Tensor:
    """A number in [low, high], or one per leading axis of the matrices ``like``, as (..., 1, 1)."""
    rate = checks.as_tensor(value, like).to(like.dtype)
    if rate.ndim:
        shape_is(name, tuple(rate.shape), tuple(like.shape[:-2]))
    checks.values(low, high, **{name: rate})
    return rate[..., None, None]


def _matrices(name: str, first: Tensor, **others: Tensor) -> None:
    """Raise a ValueError unless all are finite matrices, (..., rows, columns), of one shape, dtype and device."""
    checks.tensors(**{name: first}, **others)
    if first.ndim < 2:
        raise ValueError(f"{name} must have shape (..., rows, columns), got {tuple(first.shape)}")
    for other, value in others.items():
        shape_is(other, tuple(value.shape), tuple(first.shape))
    checks.values(-torch.inf, torch.inf, **{name: first}, **others)


def preconditioner_step(p: Tensor, g_hat: Tensor, gradient: Tensor, zeta: Tensor | float) -> Tensor:
    """P' = P - ζ (P ĝ - g) ĝᵀ; equals `reference.expressive_optimisers.preconditioner_step`. [P 38-41]

    Args: p, (..., rows, columns); g_hat, (..., columns); gradient, (..., rows); zeta >= 0, a number or (...).
    Returns: the new preconditioner, in the shape and dtype of p.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    _matrices("p", p)
    checks.tensors(p=p, g_hat=g_hat, gradient=gradient)
    shape_is("g_hat", tuple(g_hat.shape), (*p.shape[:-2], p.shape[-1]))
    shape_is("gradient", tuple(gradient.shape), tuple(p.shape[:-1]))
    checks.values(g_hat=g_hat, gradient=gradient)
    memory, key, value = whole(p, g_hat[..., None], gradient[..., None])
    with checks.no_autocast(p.device.type):
        step = _rate("zeta", zeta, memory, 0) * (memory @ key - value) @ key.mT
    return (memory - step).to(p.dtype)


def feature_momentum_step(
    w: Tensor,
    m: Tensor,
    gradient: Tensor,
    eta: Tensor | float,
    mu: Tensor | float,
    target: Tensor | float = 1.0,
    feature: str = "identity",
    output: str = "identity",
    scale: Tensor | float = 1.0,
    steps: int = 5,
    coefficients: str = "quintic",
) -> tuple[Tensor, Tensor]:
    """m' = μ m - η P φ(g), W' = W + s σ(m'); equals `reference.expressive_optimisers.feature_momentum_step`. [P 47, 51-52]

    Args:
        w, m, gradient: (..., rows, columns).
        eta, mu, scale: η >= 0, μ in [0, 1] and s >= 0, numbers or (...).
        target: P, a number or (..., rows, rows).
        feature: "identity", "cube" or "tanh". output: "identity" or "newton_schulz", with its steps and coefficients.
    Returns:
        the new weights and the new momentum, both in the shape and dtype of w.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    _matrices("w", w, m=m, gradient=gradient)
    one_of("feature", feature, tuple(FEATURES))
    one_of("output", output, OUTPUTS)
    weight, old, g = whole(w, m, gradient)
    p = checks.as_tensor(target, g).to(g.dtype)
    if p.ndim:
        shape_is("target", tuple(p.shape), (*w.shape[:-1], w.shape[-2]))
    checks.values(target=p)
    phi = FEATURES[feature](g)
    with checks.no_autocast(w.device.type):
        new = _rate("mu", mu, g, 0, 1) * old - _rate("eta", eta, g, 0) * (p @ phi if p.ndim else p * phi)
    answer = newton_schulz(new, steps, coefficients) if output == "newton_schulz" else new
    return (weight + _rate("scale", scale, g, 0) * answer).to(w.dtype), new.to(w.dtype)


def deep_momentum_step(
    w: Tensor,
    w1: Tensor,
    w2: Tensor,
    gradient: Tensor,
    eta: Tensor | float,
    mu: Tensor | float,
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """W' = W + m'(u), m(u) = W1 σ(W2 u); equals `reference.expressive_optimisers.deep_momentum_step`. [P 50]

    Args:
        w, gradient: parameter vectors and their loss gradients, (..., d).
        w1, w2: the layers of each one's memory, (..., d, h) and (..., h, d).
        eta, mu: η >= 0 and μ in [0, 1], numbers or (...).
        target: P, (..., d); None: the gradient.
    Returns:
        the new weights and the two new layers, in the dtype of w.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    target = gradient if target is None else target
    checks.tensors(w=w, w1=w1, w2=w2, gradient=gradient, target=target)
    if w.ndim == 0:
        raise ValueError("w must have shape (..., d), got ()")
    shape_is("w1", tuple(w1.shape), (*w.shape, "h"))
    shape_is("w2", tuple(w2.shape), (*w.shape[:-1], w1.shape[-1], w.shape[-1]))
    for name, value in (("gradient", gradient), ("target", target)):
        shape_is(name, tuple(value.shape), tuple(w.shape))
    checks.values(w=w, w1=w1, w2=w2, gradient=gradient, target=target)
    first, second, u, p = whole(w1, w2, gradient[..., None], target[..., None])
    eta, mu = _rate("eta", eta, first, 0), _rate("mu", mu, first, 0, 1)
    with checks.no_autocast(w.device.type):
        hidden = second @ u  # (..., h, 1)
        gate = torch.sigmoid(hidden)
        slope = gate * (1 + hidden * (1 - gate))  # σ′
        new1 = mu * first - eta * p @ functional.silu(hidden).mT
        new2 = mu * second - eta * (first.mT @ p * slope) @ u.mT
        answer = new1 @ functional.silu(new2 @ u)
    return (w + answer[..., 0]).to(w.dtype), new1.to(w.dtype), new2.to(w.dtype)


def outer_product_memory(gradients: Tensor, target: Tensor, lam: Tensor | float) -> Tensor:
    """P M̃ (H + λ I)⁻¹; equals `reference.expressive_optimisers.outer_product_memory`. [P 106-108]

    Args: gradients, (..., n, d), n >= 1; target, (..., rows); lam > 0, a number or (...).
    Returns: m, (..., rows, d), in the dtype of gradients.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    _matrices("gradients", gradients)
    checks.tensors(gradients=gradients, target=target)
    shape_is("target", tuple(target.shape), (*gradients.shape[:-2], "rows"))
    checks.values(target=target)
    g, p = whole(gradients, target)
    ridge = _rate("lam", lam, g, 0)
    if g.shape[-2] == 0 or (checks.has_values(ridge) and bool((ridge == 0).any())):
        raise ValueError(f"lam must be > 0 and n >= 1, got lam {lam} and n {g.shape[-2]}")
    with checks.no_autocast(g.device.type):
        h = g.mT @ g + ridge * torch.eye(g.shape[-1], dtype=g.dtype, device=g.device)
        solved = torch.linalg.solve(h, g.sum(-2)[..., None] * p[..., None, :])
    return solved.mT.to(gradients.dtype)


class ShampooState(NamedTuple):
    """What Shampoo remembers: sums of outer products of the gradient, over its columns and over its rows."""

    left: Tensor  # L, (..., rows, rows)
    right: Tensor  # R, (..., columns, columns)


class _InverseRoot(Function):
    """H^(-1/root), root 2 or 4, of symmetric positive matrices; its derivative has no quotient that vanishes.

    In H's own basis dF_ij = (f(λ_i) - f(λ_j))/(λ_i - λ_j) dH_ij. With a = λ_i^(-1/4) and b = λ_j^(-1/4) that is
    -a⁴b⁴/((a + b)(a² + b²)) for the fourth root and -a⁴b⁴/(a² + b²) for the square root: equal eigenvalues are nothing special.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, root: int) -> Tensor:
        values, vectors = torch.linalg.eigh(h)
        ctx.save_for_backward(values, vectors)
        ctx.root = root
        return (vectors * values[..., None, :] ** (-1 / root)) @ vectors.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        values, vectors = ctx.saved_tensors
        a = values[..., :, None] ** -0.25
        b = a.mT
        quotient = -(a**4) * b**4 / ((a**2 + b**2) * (a + b if ctx.root == 4 else 1))
        return vectors @ (quotient * (vectors.mT @ slope @ vectors)) @ vectors.mT, None


def inverse_root(h: Tensor, root: int) -> Tensor:
    """H^(-1/root) for root 2 or 4 of symmetric positive matrices, (..., n, n), differentiable once. Nothing is checked."""
    return _InverseRoot.apply(h, root)


def shampoo_step(
    w: Tensor,
    gradient: Tensor,
    state: ShampooState | None = None,
    eta: Tensor | float = 0.1,
    epsilon: float = 1e-4,
    sides: str = "both",
) -> tuple[Tensor, ShampooState]:
    """W' = W - η (L' + ε I)^(-1/4) g (R' + ε I)^(-1/4); equals `reference.expressive_optimisers.shampoo_step`. [P App. B]

    Args:
        w, gradient: (..., rows, columns).
        state: what the last call returned; None starts from nothing. Half-precision weights have a float32 state.
        eta: >= 0, a number or (...). epsilon > 0. sides: "both" or "left", W - η (L' + ε I)^(-1/2) g.
    Returns:
        the new weights, in the dtype of w, and the new state.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    _matrices("w", w, gradient=gradient)
    one_of("sides", sides, SIDES)
    if not epsilon > 0:
        raise ValueError(f"epsilon must be > 0, got {epsilon:g}")
    weight, g = whole(w, gradient)
    left, right = g @ g.mT, g.mT @ g
    if state is not None:
        for name, old, product in zip(ShampooState._fields, state, (left, right), strict=True):
            checks.tensors(w=weight, **{f"state.{name}": old})
            shape_is(f"state.{name}", tuple(old.shape), tuple(product.shape))
            checks.values(-torch.inf, torch.inf, **{f"state.{name}": old})
        left, right = left + state.left, right + state.right

    def root(h: Tensor, power: int) -> Tensor:
        return inverse_root(h + epsilon * torch.eye(h.shape[-1], dtype=h.dtype, device=h.device), power)

    with checks.no_autocast(w.device.type):
        change = root(left, 4) @ g @ root(right, 4) if sides == "both" else root(left, 2) @ g
    return (weight - _rate("eta", eta, g, 0) * change).to(w.dtype), ShampooState(left, right)


def general_step(
    loss: str, retention: Sequence[tuple[Tensor | float, Tensor]], x: Tensor, u: Tensor
) -> Tensor:
    """argmin_W loss(W; x, u) + Σ_j (r_j/2)‖W - A_j‖², in closed form; equals `reference.expressive_optimisers.general_step`.

    With ρ = Σ r_j and Ā = Σ r_j A_j/ρ it is Ā + (u - δ Ā x) xᵀ/(ρ + δ‖x‖²), δ = 1 for "l2" and 0 for "dot". [P 59-60]

    Args:
        loss: "dot" or "l2".
        retention: pairs of a rate, a number or (...), and an anchor, (..., d_out, d_in); the rates add up to more than 0.
        x, u: (..., d_in) and (..., d_out).
    Returns:
        W', (..., d_out, d_in), in the dtype of x.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    one_of("loss", loss, LOSSES)
    named = {f"retention[{j}][1]": anchor for j, (_, anchor) in enumerate(retention)}
    checks.tensors(x=x, u=u, **named)
    shape_is("u", tuple(u.shape), (*x.shape[:-1], "d_out"))
    for name, anchor in named.items():
        shape_is(name, tuple(anchor.shape), (*u.shape, x.shape[-1]))
    checks.values(-torch.inf, torch.inf, x=x, u=u, **named)
    key, wanted, *anchors = whole(x[..., None], u[..., None], *named.values())
    like = wanted @ key.mT  # (..., d_out, d_in)
    rates = [_rate(f"retention[{j}][0]", rate, like, -torch.inf) for j, (rate, _) in enumerate(retention)]
    total = sum(rates, torch.zeros((1, 1), dtype=like.dtype, device=like.device))
    if not rates or (checks.has_values(total) and bool((total <= 0).any())):
        raise ValueError(f"retention must have rates that add up to more than 0, got {float(total.min()):g}")
    with checks.no_autocast(x.device.type):
        mean = sum((r * a for r, a in zip(rates, anchors, strict=True)), torch.zeros_like(like)) / total
        if loss == "dot":
            return (mean + like / total).to(x.dtype)
        damped = total + key.square().sum(-2, keepdim=True)
        return (mean + (wanted - mean @ key) @ key.mT / damped).to(x.dtype)


class StaleMotion(NamedTuple):
    """What an old momentum does after a switch: what of it is left, and how far it has moved the weights."""

    held: Tensor
    moved: Tensor


def stale_motion(m: Tensor, directions: Tensor, mu: Tensor | float, steps: int) -> StaleMotion:
    """μⁿ m⊥ and (μ + … + μⁿ) m⊥; equals `reference.expressive_optimisers.stale_motion`. [P 45]

    Args: m, (..., rows, columns); directions, (..., n, columns), linearly independent; mu in [0, 1], a number or (...); steps >= 1.
    Returns: both parts, in the shape and dtype of m.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    _matrices("m", m)
    _matrices("directions", directions)
    checks.tensors(m=m, directions=directions)
    shape_is("directions", tuple(directions.shape), (*m.shape[:-2], "n", m.shape[-1]))
    steps = positive_integer("steps", steps)
    old, rows = whole(m, directions)
    mu = _rate("mu", mu, old, 0, 1)
    with checks.no_autocast(m.device.type):
        stale = old - old @ torch.linalg.pinv(rows) @ rows
    faded = torch.stack([mu**i for i in range(1, steps + 1)]).sum(0)
    return StaleMotion((mu**steps * stale).to(m.dtype), (faded * stale).to(m.dtype))
