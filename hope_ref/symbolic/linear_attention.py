r"""Attention derived: softmax as a weighted mean, linear as one gradient step on -⟨M k, v⟩ and as one masked product."""

from __future__ import annotations

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, minimiser, positive, real, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.statement import Statement

M, K, V = matrix("M", 2, 3), vector("k", 3), vector("v", 2)  # d_v = 2, d_k = 3


def statement() -> Statement:
    """Three tokens of `reference.linear_attention`, d_k = 2, d_v = 1, with retention, unrolled by hand."""
    q, k, v = matrix("q", 3, 2), matrix("k", 3, 2), matrix("v", 3, 1)
    alpha, memory = positive("alpha_1:4"), matrix("M", 1, 2)
    state, rows = memory, []
    for t in range(3):
        state = alpha[t] * state + v.row(t).T * k.row(t)
        rows.append((state * q.row(t).T).T)
    return Statement(
        {"q": q, "k": k, "v": v, "alpha": alpha, "memory": memory},
        {"y": sp.Matrix.vstack(*rows), "memory": state},
    )


def _gradient() -> Sides:
    """∂(-Σ_i v_i Σ_j M_ij k_j)/∂M_ij = -v_i k_j, at every size."""
    return Sides(gradient(-inner(M * K, V), M), -V * K.T)


def _pairs() -> Sides:
    """Two pairs in the columns of K and V. ⟨M K, V⟩ is the sum over the pairs, so at every size and number of them."""
    keys, values = matrix("k", 3, 2), matrix("v", 2, 2)
    return Sides(gradient(-inner(M * keys, values), M), -values * keys.T)


def _one_step() -> Sides:
    """The proximal problem is separable in the entries of M, so the size does not matter."""
    start = matrix("A", 2, 3)
    return Sides(minimiser(-inner(M * K, V) + squared_norm(M - start) / 2, M), start + V * K.T)


def _parallel_form() -> Sides:
    """y_t = Σ_{s≤t} v_s (k_sᵀ q_t): each row of tril(Q Kᵀ) V. By linearity in the writes, at every T."""
    said = statement()
    at_rest = dict.fromkeys(said.arguments["alpha"], 1) | dict.fromkeys(said.arguments["memory"], 0)
    scores = said.arguments["q"] * said.arguments["k"].T
    return Sides(said.results["y"].subs(at_rest), scores.lower_triangular() * said.arguments["v"])


def _retention() -> Sides:
    """A write made at s is multiplied by α_{s+1} … α_t before it is read at t; the start by α_1 … α_t. By induction, at every size."""
    said = statement()
    alpha = said.arguments["alpha"]
    decay = sp.Matrix(3, 3, lambda t, s: sp.prod(alpha[s + 1 : t + 1]) if s <= t else 0)
    scores = (said.arguments["q"] * said.arguments["k"].T).multiply_elementwise(decay)
    start = sp.Matrix(
        [
            sp.prod(alpha[: t + 1]) * (said.arguments["memory"] * said.arguments["q"].row(t).T)[0]
            for t in range(3)
        ]
    )
    return Sides(said.results["y"], scores * said.arguments["v"] + start)


def _weighted_mean() -> Sides:
    """Three tokens, the last two in the window; separable in the entries of m, so neither size nor length matters."""
    weights, values, mean = positive("kappa_1:4"), matrix("v", 3, 2), vector("m", 2)
    window = range(1, 3)
    loss = sum((weights[s] * squared_norm(values.row(s).T - mean) for s in window), sp.S.Zero)
    total = sum((weights[s] for s in window), sp.S.Zero)
    return Sides(
        minimiser(loss, mean),
        sum((weights[s] * values.row(s).T / total for s in window), sp.zeros(2, 1)),
    )


def _rotary() -> Sides:
    """One pair of entries, turned by t θ and by s θ; every other pair has an angle of its own and is separate."""
    t, s, angle = real("t s theta")
    q, k = vector("q", 2), vector("k", 2)

    def turn(place: sp.Expr) -> sp.Matrix:
        cos, sin = sp.cos(place * angle), sp.sin(place * angle)
        return sp.Matrix([[cos, -sin], [sin, cos]])

    def written_out(product: sp.Matrix) -> sp.Expr:
        return sp.expand(sp.expand_trig(product[0]))

    return Sides(written_out((turn(t) * q).T * (turn(s) * k)), written_out(q.T * turn(s - t) * k))


IDENTITIES = (
    Identity(
        "linear_attention.gradient",
        "S 2, P 17",
        "The gradient of minus the similarity is minus the association.",
        None,
        r"\nabla_M \left(-\langle M k, v \rangle\right) = -v k^\top",
        _gradient,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "linear_attention.pairs",
        "S 2",
        "Over several pairs, in columns, it is minus the sum of their associations.",
        None,
        r"\nabla_M \left(-\langle M K, V \rangle\right) = -V K^\top",
        _pairs,
        sizes="d_v = 2, d_k = 3, 2 pairs; every size",
    ),
    Identity(
        "linear_attention.one_step",
        "S 3, P 18",
        "Linear attention is one gradient step of size 1 on minus the similarity of M k and v.",
        r"M_t = M_{t-1} + v_t k_t^\top",
        r"\arg\min_M -\langle M k_t, v_t \rangle + \tfrac12 \|M - M_{t-1}\|^2 = M_{t-1} + v_t k_t^\top",
        _one_step,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "linear_attention.parallel_form",
        "P 15-16",
        "From an empty memory, the token loop equals one masked matrix product.",
        None,
        r"Y = \mathrm{tril}(Q K^\top) V",
        _parallel_form,
        sizes="d_v = 1, d_k = 2, 3 tokens; every size, every length by induction",
    ),
    Identity(
        "linear_attention.retention",
        "P 64",
        "With retention, each score is multiplied by the retentions between the write and the read.",
        r"M_t = \alpha_t M_{t-1} + \eta_t v_t \phi(k_t)^\top",
        r"y_t = \gamma_t M_0 q_t + \sum_{s \le t} \left(\textstyle\prod_{s < r \le t} \alpha_r\right) (k_s^\top q_t)\, v_s",
        _retention,
        sizes="d_v = 1, d_k = 2, 3 tokens; every size, every length by induction",
    ),
    Identity(
        "linear_attention.weighted_mean",
        "P 62-63",
        "Softmax attention answers with the mean of the values that weighted squares ask for, over all tokens or the last c.",
        r"\arg\min_M \sum_{i=t-c+1}^{t} s(k_i, q) \|v_i - M\|^2 = \sum_{i=t-c+1}^{t} \frac{s(k_i, q)}{\sum_{j=t-c+1}^{t} s(k_j, q)} v_i",
        r"\arg\min_m \sum_{t - c < s \le t} \kappa_s \|v_s - m\|^2 = "
        r"\frac{\sum_{t - c < s \le t} \kappa_s v_s}{\sum_{t - c < s \le t} \kappa_s}",
        _weighted_mean,
        sizes="d_v = 2, 3 tokens, a window of 2; every size",
    ),
    Identity(
        "linear_attention.rotary",
        "D",
        "Turned by their places, a query and a key meet as if only their distance counted.",
        None,
        r"(R_t q)^\top (R_s k) = q^\top R_{s-t} k",
        _rotary,
        sizes="one pair of entries; every size",
    ),
)
