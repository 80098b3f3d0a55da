r"""A memory as an online learner: what an implicit step guarantees, what the projection stores, what two layers add.

    W_t = argmin_W ℓ_t(W) + ‖W - W_{t-1}‖²/(2η),   ℓ_t(W) = ½‖W k_t - v_t‖²

is the implicit step of Kulis and Bartlett (2010); with the target v_t in the place of u it is the step of `delta_gradient_descent`.
With η → ∞ it is Kaczmarz's projection (1937). U is any fixed memory to compare with.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, positive, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.rational import minimiser, solve

W, U = matrix("W", 1, 2), matrix("U", 1, 2)  # d_v = 1, d_k = 2
K, V = vector("k", 2), vector("v", 1)
ETA, TAKEN = positive(r"eta \tilde{\eta}")
TOKENS = 3


def _loss(weight: sp.Matrix, k: sp.Matrix, v: sp.Matrix) -> sp.Expr:
    return squared_norm(weight * k - v) / 2


def _projection(k: sp.Matrix) -> sp.Matrix:
    """I - k kᵀ/‖k‖²: what is left of a memory's error by a step that stores k."""
    return sp.eye(k.rows) - k * k.T / squared_norm(k)


def _one_step() -> Sides:
    """SymPy minimises. Half of ‖·‖² is a quadratic, so its Taylor series around W' ends with the last term, at every size.

    That term is never positive: without it stands the inequality. A row of W is a problem of its own.
    """
    new = matrix("A", 1, 2)
    moved = minimiser(_loss(new, K, V) + squared_norm(new - W) / (2 * ETA), new)
    nearer = squared_norm(W - U) - squared_norm(moved - U) - squared_norm(moved - W)
    return Sides(_loss(moved, K, V) - _loss(U, K, V), nearer / (2 * ETA) - squared_norm((moved - U) * K) / 2)


def _regret() -> Sides:
    """Three steps, from the last to the first: the condition of stationarity gives W_{t-1} from W_t without a quotient.

    `one_step` summed over the tokens: the distances to U cancel but for the first and the last, by induction at every T.
    """
    eta, weight = ETA, matrix("W", 1, 2)
    last, total, paid = weight, sp.Integer(0), sp.Integer(0)
    for t in range(TOKENS, 0, -1):
        k, v = vector(f"k{t}", 2), vector(f"v{t}", 1)
        old, new = matrix("B", 1, 2), matrix("A", 1, 2)
        slope = gradient(_loss(new, k, v) + squared_norm(new - old) / (2 * eta), new)
        before = solve(slope, old).xreplace(dict(zip(new, weight, strict=True)))
        total += _loss(weight, k, v) - _loss(U, k, v)
        paid += squared_norm(weight - before) / (2 * eta) + squared_norm((weight - U) * k) / 2
        weight = before
    return Sides(total, (squared_norm(weight - U) - squared_norm(last - U)) / (2 * eta) - paid)


def _distance() -> Sides:
    """A target that U answers, v = U k, and any step taken: only kᵀk enters, so at every size. Below, the implicit step put in."""
    wanted = U * K
    moved = W - TAKEN * gradient(_loss(W, K, wanted), W)
    lam = squared_norm(K)
    nearer = TAKEN * (2 - TAKEN * lam)
    implicit = ETA * (2 + ETA * lam) / (1 + ETA * lam) ** 2
    return Sides(
        sp.Matrix([squared_norm(W - U) - squared_norm(moved - U), nearer.subs(TAKEN, ETA / (1 + ETA * lam))]),
        sp.Matrix([nearer * squared_norm(W * K - wanted), implicit]),
    )


def _kaczmarz() -> Sides:
    """The nearest memory that answers v, by Lagrange's multiplier: SymPy solves for it and for the memory, at every size."""
    new, multiplier = matrix("A", 1, 2), matrix("m", 1, 1)
    objective = squared_norm(new - W) / 2 + inner(multiplier, new * K - V)
    unknown = new.row_join(multiplier)
    return Sides(solve(gradient(objective, unknown), unknown)[:, :2], W + (V - W * K) * K.T / squared_norm(K))


def _one_pass() -> Sides:
    """Two stored pairs of one memory U, v = U k: a step multiplies the error W - U by a projection, by induction at every N and size."""
    weight, keys = W, (vector("k1", 2), vector("k2", 2))
    for k in keys:
        weight = weight + (U * k - weight * k) * k.T / squared_norm(k)
    return Sides(weight - U, (W - U) * _projection(keys[0]) * _projection(keys[1]))


def _two_keys() -> Sides:
    """E = F P_2 is any error after a pass, for E k_2 = 0; three directions, and only products of the two keys enter: every size."""
    one, two, free = vector("k1", 3), vector("k2", 3), matrix("F", 1, 3)
    error = free * _projection(two)
    cosine = inner(one, two) ** 2 / (squared_norm(one) * squared_norm(two))
    return Sides(error * _projection(one) * _projection(two) * one, cosine * error * one)


def _orthogonal_pass() -> Sides:
    """Two orthogonal keys, the second the first one turned: a step leaves what is orthogonal to its key, at every size and N."""
    one, length = K, positive("s")
    two = length * sp.Matrix([-K[1], K[0]])
    values, weight = (vector("v1", 1), vector("v2", 1)), W
    for k, v in zip((one, two), values, strict=True):
        weight = weight + (v - weight * k) * k.T / squared_norm(k)
    return Sides(sp.Matrix.vstack(weight * one, weight * two), sp.Matrix.vstack(*values))


def _halves() -> Sides:
    """The erase and the slope of ½‖·‖² add up to one delta rule: twice the step, half the target, at every size."""
    written = W * (sp.eye(2) - TAKEN * K * K.T) - TAKEN * gradient(_loss(W, K, V), W)
    return Sides(written, W - 2 * TAKEN * (W * K - V / 2) * K.T)


def _orthogonal_halves() -> Sides:
    """A pass over two orthogonal keys with the full erase, ½‖·‖²: each is a problem of its own, at every size and N."""
    two, weight = sp.Matrix([-K[1], K[0]]), W
    values = (vector("v1", 1), vector("v2", 1))
    for k, v in zip((K, two), values, strict=True):
        weight = weight * (sp.eye(2) - TAKEN * k * k.T) - TAKEN * gradient(_loss(W, k, v), W).xreplace(
            dict(zip(W, weight, strict=True))
        )
    factor = 1 - 2 * TAKEN * squared_norm(K)
    apart = [(weight * k - v / 2, factor * (W * k - v / 2)) for k, v in zip((K, two), values, strict=True)]
    return Sides(*(sp.Matrix.vstack(*rows) for rows in zip(*apart, strict=True)))


class _Sigma(sp.Function):
    """σ, with its slope as an unknown function."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.Function(r"\sigma'")(*self.args)


def _joint_gap() -> Sides:
    """Both steps to second order in η, by their defining equations, for W_1 of M(k) = W_1 σ(W_2 k), σ any function.

    Jointly W' = W - η∇ℓ(W'), so W' = W - η g + η² H g + …; apart, W_1' = W_1 - η/(1 + η‖a‖²) e aᵀ. The block of H that
    belongs to W_1 alone gives just that ‖a‖² e aᵀ: what is left is the cross block, at every size.
    """
    w1, w2, k, v = matrix("A", 2, 2), matrix("B", 2, 1), vector("k", 1), vector("v", 2)
    a = (w2 * k).applyfunc(_Sigma)
    e = w1 * a - v
    loss, unknown = squared_norm(e) / 2, [*w1, *w2]
    slopes = [sp.diff(loss, w) for w in unknown]
    along = [sum(sp.diff(g, w) * s for w, s in zip(unknown, slopes, strict=True)) for g in slopes[:4]]
    taken = ETA / (1 + ETA * squared_norm(a))
    apart = sp.Matrix(2, 2, along) - (sp.diff(-taken, ETA, 2) / 2).subs(ETA, 0) * e * a.T
    slope = (w2 * k).applyfunc(sp.Function(r"\sigma'"))
    b = sp.Matrix([s**2 * d for s, d in zip(slope, w1.T * e, strict=True)])
    return Sides(apart, squared_norm(k) * (w1 * b * a.T + e * b.T))


def _entry(what: str, claim: str, latex: str, proof: Any, sizes: str) -> Identity:
    """Not printed."""
    return Identity(f"online_learning.{what}", "D", claim, None, latex, proof, sizes=sizes)


IDENTITIES = (
    _entry(
        "one_step",
        "After an implicit step the loss exceeds that of any other memory by no more than the step has come nearer to it.",
        r"\tfrac12 \|W_t k_t - v_t\|^2 - \tfrac12 \|U k_t - v_t\|^2 = \tfrac{1}{2 \eta} "
        r"(\|W_{t-1} - U\|^2 - \|W_t - U\|^2 - \|W_t - W_{t-1}\|^2) - \tfrac12 \|(W_t - U) k_t\|^2",
        _one_step,
        "d_v = 1, d_k = 2; every size",
    ),
    _entry(
        "regret",
        "Over a stream the losses after the steps exceed those of any fixed memory by at most its first distance, "
        "whatever the rate.",
        r"\sum_{t=1}^{T} (\tfrac12 \|W_t k_t - v_t\|^2 - \tfrac12 \|U k_t - v_t\|^2) = \tfrac{1}{2 \eta} "
        r"(\|W_0 - U\|^2 - \|W_T - U\|^2) "
        r"- \sum_{t=1}^{T} (\tfrac{1}{2 \eta} \|W_t - W_{t-1}\|^2 + \tfrac12 \|(W_t - U) k_t\|^2)",
        _regret,
        "d_v = 1, d_k = 2, 3 tokens; every size, every length by induction",
    ),
    _entry(
        "distance",
        "A step comes nearer to each memory that answers the pair as long as the step taken is below twice the projection's; "
        "the implicit one always is.",
        r"\|W_{t-1} - U\|^2 - \|W_t - U\|^2 = \tilde\eta (2 - \tilde\eta \lambda^2) \|W_{t-1} k_t - U k_t\|^2, \quad "
        r"\tilde\eta = \frac{\eta}{1 + \eta \lambda^2} \Rightarrow "
        r"\tilde\eta (2 - \tilde\eta \lambda^2) = \frac{\eta (2 + \eta \lambda^2)}{(1 + \eta \lambda^2)^2}",
        _distance,
        "d_v = 1, d_k = 2; every size",
    ),
    _entry(
        "kaczmarz",
        "The delta rule that stores in one step is the projection onto the memories that answer the pair.",
        r"W_t = W_{t-1} + \frac{1}{\|k_t\|^2} (v_t - W_{t-1} k_t) k_t^\top",
        _kaczmarz,
        "d_v = 1, d_k = 2; every size",
    ),
    _entry(
        "one_pass",
        "A pass over pairs that one memory answers multiplies the error by a product of projections.",
        r"W_N - U = (W_0 - U) \prod_{i=1}^{N} (I - \frac{1}{\|k_i\|^2} k_i k_i^\top)",
        _one_pass,
        "d_v = 1, d_k = 2, 2 tokens; every size, every length by induction",
    ),
    _entry(
        "two_keys",
        "With two keys each further pass multiplies the error by the squared cosine between them.",
        r"E k_2 = 0 \Rightarrow E P_1 P_2 k_1 = \frac{(k_1^\top k_2)^2}{\|k_1\|^2 \|k_2\|^2} E k_1",
        _two_keys,
        "d_v = 1, d_k = 3; every size",
    ),
    _entry(
        "orthogonal_pass",
        "Orthogonal keys are stored after a single pass.",
        r"k_1^\top k_2 = 0 \Rightarrow W k_1 = v_1, \quad W k_2 = v_2",
        _orthogonal_pass,
        "d_v = 1, d_k = 2, 2 tokens; every size, every length by induction",
    ),
    _entry(
        "halves",
        "Regression inside Delta Gradient Descent is the delta rule with twice the step and half the target.",
        r"M (I - \tilde\eta k k^\top) + \tilde\eta (v - M k) k^\top = M - 2 \tilde\eta (M k - \tfrac12 v) k^\top",
        _halves,
        "d_v = 1, d_k = 2; every size",
    ),
    _entry(
        "orthogonal_halves",
        "With orthogonal keys every stored pair comes to half its value, each at a rate of its own.",
        r"k_1^\top k_2 = 0 \Rightarrow M_2 k_1 - \tfrac12 v_1 = (1 - 2 \tilde\eta \|k_1\|^2) (M_0 k_1 - \tfrac12 v_1), \quad "
        r"M_2 k_2 - \tfrac12 v_2 = (1 - 2 \tilde\eta \|k_2\|^2) (M_0 k_2 - \tfrac12 v_2)",
        _orthogonal_halves,
        "d_v = 1, d_k = 2, 2 tokens; every size, every length by induction",
    ),
    _entry(
        "joint_gap",
        "Two layers stepped apart miss the joint implicit step by the square of the rate: in the outer one by the cross terms.",
        r"\tfrac{1}{\eta^2} (\hat W_1 - \tilde W_1) \to \|k\|^2 (W_1 b a^\top + e b^\top), \quad "
        r"b = \sigma'(W_2 k) \odot \sigma'(W_2 k) \odot W_1^\top e",
        _joint_gap,
        "d = 2, h = 2, d_k = 1; every size",
    ),
)
