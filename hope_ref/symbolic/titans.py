r"""Titans derived: the gradients of both memories, the delta rule inside it, and the clash of names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import gradient, matrix, positive, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.statement import Statement

M, K, V = matrix("M", 2, 3), vector("k", 3), vector("v", 2)  # d_v = 2, d_k = 3
W1, W2, KEY, VALUE = matrix("P", 2, 2), matrix("Q", 2, 2), vector("k", 2), vector("v", 2)  # d = h = 2
ETA, ALPHA = positive("eta alpha")


def _silu(z: sp.Expr) -> sp.Expr:
    return z / (1 + sp.exp(-z))


def _silu_derivative(z: sp.Expr) -> sp.Expr:
    gate = 1 / (1 + sp.exp(-z))
    return gate * (1 + z * (1 - gate))


def _half_squared_error(answer: sp.Matrix, target: sp.Matrix) -> sp.Expr:
    return squared_norm(answer - target) / 2


def _perceptron(w1: sp.Matrix, w2: sp.Matrix, z: sp.Matrix) -> sp.Matrix:
    """M(z) = z + W1 σ(W2 z)."""
    return z + w1 * (w2 * z).applyfunc(_silu)


def _gradients(
    answer: Callable[..., sp.Matrix], weights: tuple[sp.Matrix, ...], k: sp.Matrix, v: sp.Matrix
) -> list[sp.Matrix]:
    """∇½‖M(k) - v‖² by each weight: differentiated at fresh symbols, because a state is an expression."""
    fresh = [matrix(f"N{i}", *w.shape) for i, w in enumerate(weights)]
    loss = _half_squared_error(answer(*fresh, k), v)
    at_state = {n: e for f, w in zip(fresh, weights, strict=True) for n, e in zip(f, w, strict=True)}
    return [gradient(loss, f).xreplace(at_state) for f in fresh]


def _run(
    answer: Callable[..., sp.Matrix], weights: tuple[sp.Matrix, ...], chunk_size: int
) -> tuple[dict[str, Any], sp.Matrix, list[sp.Matrix], list[sp.Matrix]]:
    """Two tokens of Titans: (arguments, outputs, final weights, final momentum). A chunk of 2 freezes the second gradient."""
    d_v, d_k = weights[0].rows, weights[-1].cols
    q, k, v = matrix("q", 2, d_k), matrix("k", 2, d_k), matrix("v", 2, d_v)
    eta, alpha, mu = positive("eta_1:3"), positive("alpha_1:3"), positive("mu_1:3")
    state, rows = list(weights), []
    momentum = [sp.zeros(*w.shape) for w in weights]
    for t in range(2):
        if t % chunk_size == 0:
            frozen = tuple(state)
        slopes = _gradients(answer, frozen, k.row(t).T, v.row(t).T)
        momentum = [mu[t] * b - eta[t] * g for b, g in zip(momentum, slopes, strict=True)]
        state = [alpha[t] * w + b for w, b in zip(state, momentum, strict=True)]
        rows.append(answer(*state, q.row(t).T).T)
    arguments = {"q": q, "k": k, "v": v, "eta": eta, "alpha": alpha, "mu": mu}
    return arguments, sp.Matrix.vstack(*rows), state, momentum


def statement(chunk_size: int = 1) -> Statement:
    """Two tokens of `reference.titans` with a matrix memory, d_k = 2, d_v = 1, from B_0 = 0."""
    memory = matrix("M", 1, 2)
    arguments, y, (final,), (momentum,) = _run(lambda m, z: m * z, (memory,), chunk_size)
    return Statement(arguments | {"memory": memory}, {"y": y, "memory": final, "momentum": momentum})


def perceptron_statement(chunk_size: int = 1) -> Statement:
    """Two tokens of `reference.titans` with a perceptron memory, d = h = 2, from B_0 = 0."""
    arguments, y, weights, momentum = _run(_perceptron, (W1, W2), chunk_size)
    results = {"y": y, "w1": weights[0], "w2": weights[1], "momentum1": momentum[0], "momentum2": momentum[1]}
    return Statement(arguments | {"w1": W1, "w2": W2}, results)


def _matrix_gradient() -> Sides:
    """∂/∂M_ij ½ Σ_a (Σ_b M_ab k_b - v_a)² = (M k - v)_i k_j, at every size."""
    return Sides(gradient(_half_squared_error(M * K, V), M), (M * K - V) * K.T)


def _without_exponentials(side: sp.Matrix) -> sp.Matrix:
    """Write E_i for exp(-(W2 k)_i): what is left is a rational function, which has one cancelled form."""
    names = {sp.exp(-entry): sp.Symbol(f"E_{i + 1}", positive=True) for i, entry in enumerate(W2 * KEY)}
    return side.xreplace(names).applyfunc(sp.cancel)


def _error() -> sp.Matrix:
    return _perceptron(W1, W2, KEY) - VALUE  # e = M(k) - v


def _mlp_gradient_w1() -> Sides:
    """The chain rule: ∂ℓ/∂(W1)_ij = e_i a_j with a = σ(W2 k), at every size; the skip enters through e only."""
    derived = gradient(_half_squared_error(_perceptron(W1, W2, KEY), VALUE), W1)
    stated = _error() * (W2 * KEY).applyfunc(_silu).T
    return Sides(_without_exponentials(derived), _without_exponentials(stated))


def _mlp_gradient_w2() -> Sides:
    """The chain rule once more: ∂ℓ/∂(W2)_ij = (W1ᵀe)_i σ′((W2 k)_i) k_j, at every size."""
    derived = gradient(_half_squared_error(_perceptron(W1, W2, KEY), VALUE), W2)
    told = (W1.T * _error()).multiply_elementwise((W2 * KEY).applyfunc(_silu_derivative))
    return Sides(_without_exponentials(derived), _without_exponentials(told * KEY.T))


def _delta_rule() -> Sides:
    """Two tokens at μ = 0, α = 1 against the product of the delta rule's transitions; by induction at every t."""
    said = statement()
    k, v, eta, start = (said.arguments[name] for name in ("k", "v", "eta", "memory"))
    at_rest = dict.fromkeys(said.arguments["alpha"], 1) | dict.fromkeys(said.arguments["mu"], 0)
    stated = start
    for t in range(2):
        key = k.row(t).T
        stated = stated * (sp.eye(2) - eta[t] * key * key.T) + eta[t] * v.row(t).T * key.T
    return Sides(said.results["memory"].subs(at_rest), stated)


def _without_momentum() -> Sides:
    """α M - η (M k - v) kᵀ regrouped: what is erased does not carry α, so the gated rule differs by (1 - α) η M k kᵀ, at every size."""
    titans = ALPHA * M - ETA * gradient(_half_squared_error(M * K, V), M)
    gated = ALPHA * M * (sp.eye(3) - ETA * K * K.T) + ETA * V * K.T
    descent = M * (ALPHA * sp.eye(3) - ETA * K * K.T) + ETA * V * K.T
    return Sides(
        sp.Matrix.vstack(titans, gated - titans), sp.Matrix.vstack(descent, (1 - ALPHA) * ETA * M * K * K.T)
    )


def _alpha_clash() -> Sides:
    """Titans' own two lines, differentiated as printed, against ours renamed; term by term, so at every size and t.

    Ours is the solution of the recursion: each write times the retentions and momentum decays after it.
    """
    said = statement()
    k, v, start = (said.arguments[name] for name in ("k", "v", "memory"))
    forget, decay, rate = positive("a_1:3"), positive("h_1:3"), positive("theta_1:3")
    state, surprise, fresh = start, sp.zeros(1, 2), matrix("N", 1, 2)
    for t in range(2):
        loss = squared_norm(fresh * k.row(t).T - v.row(t).T)  # no ½
        slope = gradient(loss, fresh).xreplace(dict(zip(fresh, state, strict=True)))
        surprise = decay[t] * surprise - rate[t] * slope
        state = (1 - forget[t]) * state + surprise
    names = {
        ours: theirs
        for symbol, titans in (
            ("alpha", [1 - a for a in forget]),
            ("mu", decay),
            ("eta", [2 * theta for theta in rate]),
        )
        for ours, theirs in zip(said.arguments[symbol], titans, strict=True)
    }
    renamed = sp.Matrix.vstack(said.results["memory"], said.results["momentum"]).subs(
        names, simultaneous=True
    )
    return Sides(sp.Matrix.vstack(state, surprise), renamed)


def _two_tokens() -> Sides:
    """Two tokens in closed form, gradients frozen at M_0: the second keeps α_2 of the first write and adds μ_2 of it
    again, at every size.

    In general a write made at s has reached M_t with the weight c_{t,s} = Σ_{r=s..t} α_{r+1} … α_t μ_{s+1} … μ_r.
    """
    said = statement(chunk_size=2)
    k, v, eta, start = (said.arguments[name] for name in ("k", "v", "eta", "memory"))
    alpha, mu = said.arguments["alpha"], said.arguments["mu"]
    first, second = (eta[t] * (v.row(t).T - start * k.row(t).T) * k.row(t) for t in range(2))
    return Sides(said.results["memory"], alpha[0] * alpha[1] * start + (alpha[1] + mu[1]) * first + second)


_TITANS = r"\mathcal{M}_t = (1 - \alpha_t) \mathcal{M}_{t-1} + S_t,\ S_t = \eta_t S_{t-1} - \theta_t \nabla \|\mathcal{M}_{t-1}(k_t) - v_t\|^2"
_OURS = r"M_t = \alpha_t M_{t-1} + B_t,\ B_t = \mu_t B_{t-1} - \eta_t \nabla \tfrac12\|M_{t-1}(k_t) - v_t\|^2"
_MATRIX = r"\nabla_M \tfrac12\|M k - v\|^2 = (M k - v) k^\top"
_FIRST = r"\nabla_{W_1} \tfrac12\|M(k) - v\|^2 = e\, \sigma(W_2 k)^\top, \quad e = M(k) - v"
_SECOND = r"\nabla_{W_2} \tfrac12\|M(k) - v\|^2 = \left((W_1^\top e) \odot \sigma'(W_2 k)\right) k^\top"
_WITHOUT = r"\mu = 0:\ M_t = M_{t-1}(\alpha_t I - \eta_t k_t k_t^\top) + \eta_t v_t k_t^\top"
_TWO = r"M_2 = \alpha_1 \alpha_2 M_0 + (\alpha_2 + \mu_2)\, \eta_1 (v_1 - M_0 k_1) k_1^\top + \eta_2 (v_2 - M_0 k_2) k_2^\top"

IDENTITIES = (
    Identity(
        "titans.matrix_gradient",
        "D",
        "The gradient of ½‖M k - v‖² is the error times the key.",
        None,
        _MATRIX,
        _matrix_gradient,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "titans.mlp_gradient_w1",
        "D",
        "In a perceptron memory with a skip, W1 is told the error at the activation σ(W2 k).",
        None,
        _FIRST,
        _mlp_gradient_w1,
        sizes="d = 2, h = 2; every size",
    ),
    Identity(
        "titans.mlp_gradient_w2",
        "D",
        "W2 is told the error sent back through W1 and the slope of σ, at the key.",
        None,
        _SECOND,
        _mlp_gradient_w2,
        sizes="d = 2, h = 2; every size",
    ),
    Identity(
        "titans.delta_rule",
        "S 5, Titans",
        "Titans with a matrix memory, no momentum and no forgetting is the delta rule.",
        None,
        r"\mu = 0, \alpha = 1:\ M_t = M_{t-1} (I - \eta_t k_t k_t^\top) + \eta_t v_t k_t^\top",
        _delta_rule,
        sizes="d_v = 1, d_k = 2, 2 tokens; every size, every length by induction",
    ),
    Identity(
        "titans.without_momentum",
        "Titans",
        "Without momentum it is Delta Gradient Descent on the dot product, and not the gated delta rule unless α = 1.",
        None,
        _WITHOUT + r" = \text{gated} - (1 - \alpha_t) \eta_t M_{t-1} k_t k_t^\top",
        _without_momentum,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "titans.alpha_clash",
        "Titans",
        "The Titans paper's rule is ours with α → 1 - α, η → μ, θ → η/2 and S → B.",
        _TITANS,
        _OURS,
        _alpha_clash,
        sizes="d_v = 1, d_k = 2, 2 tokens; every size, every length by induction",
    ),
    Identity(
        "titans.two_frozen_tokens",
        "D",
        "Through the momentum, a write of a chunk arrives again at every later token.",
        None,
        _TWO,
        _two_tokens,
        sizes="d_v = 1, d_k = 2, 2 tokens; every size",
    ),
)
