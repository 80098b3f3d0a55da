r"""The delta rule derived: one gradient step on ½‖M k - v‖², its eigenvalues, its gated form, its chunk form."""

from __future__ import annotations

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, positive, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.statement import Statement

M, K, V = matrix("M", 2, 3), vector("k", 3), vector("v", 2)  # d_v = 2, d_k = 3
ETA, ALPHA = positive("eta alpha")
STEP = M * (sp.eye(3) - ETA * K * K.T) + ETA * V * K.T  # the delta rule's closed form


def statement() -> Statement:
    """Three tokens of `reference.delta_rule`, d_k = 2, d_v = 1."""
    gated = gated_statement()
    at_rest = dict.fromkeys(gated.arguments["alpha"], 1)
    arguments = {name: value for name, value in gated.arguments.items() if name != "alpha"}
    return Statement(arguments, {name: value.subs(at_rest) for name, value in gated.results.items()})


def gated_statement() -> Statement:
    """Three tokens of `reference.delta_rule.gated_delta_rule`, d_k = 2, d_v = 1, in the form M (I - η k kᵀ)."""
    q, k, v = matrix("q", 3, 2), matrix("k", 3, 2), matrix("v", 3, 1)
    eta, alpha = positive("eta_1:4"), positive("alpha_1:4")
    memory = matrix("M", 1, 2)
    state, rows = memory, []
    for t in range(3):
        key = k.row(t).T
        state = alpha[t] * state * (sp.eye(2) - eta[t] * key * key.T) + eta[t] * v.row(t).T * key.T
        rows.append((state * q.row(t).T).T)
    return Statement(
        {"q": q, "k": k, "v": v, "eta": eta, "alpha": alpha, "memory": memory},
        {"y": sp.Matrix.vstack(*rows), "memory": state},
    )


def _one_step() -> Sides:
    """(M k - v) kᵀ distributes to M k kᵀ - v kᵀ at every size."""
    return Sides(M - ETA * gradient(squared_norm(M * K - V) / 2, M), STEP)


def _one_step_printed() -> Sides:
    """The printed factor stands on the left, which needs d_v = d_k: so 2 × 2 here."""
    square, key, value = matrix("M", 2, 2), vector("k", 2), vector("v", 2)
    derived = square - ETA * gradient(squared_norm(square * key - value) / 2, square)
    return Sides(derived, (sp.eye(2) - ETA * key * key.T) * square + ETA * value * key.T)


def _gradient() -> Sides:
    """Entry by entry the square brings a factor 2, at every size; ½ cancels it, and without ½ η absorbs it."""
    return Sides(gradient(squared_norm(M * K - V), M), 2 * (M * K - V) * K.T)


def _gradient_printed() -> Sides:
    return Sides(gradient(squared_norm(M * K - V), M), (M * K - V) * K.T)


def _pairs() -> Sides:
    """Two pairs in the columns of K and V. The squares add up over the columns, so at every size and number of pairs."""
    keys, values = matrix("k", 3, 2), matrix("v", 2, 2)
    return Sides(gradient(squared_norm(M * keys - values), M), 2 * (M * keys - values) * keys.T)


def _error_shrinks() -> Sides:
    """M' k - v = (M k - v)(1 - η kᵀk), at every size."""
    return Sides(STEP * K - V, (1 - ETA * squared_norm(K)) * (M * K - V))


def _eigenvalues() -> Sides:
    """k is an eigenvector with 1 - η‖k‖², and the d_k - 1 directions orthogonal to it have eigenvalue 1, at every size."""
    x = sp.Symbol("x")
    transition = sp.eye(3) - ETA * K * K.T
    return Sides(transition.charpoly(x).as_expr(), (x - 1) ** 2 * (x - 1 + ETA * squared_norm(K)))


def _one_shot() -> Sides:
    """At η = 1/‖k‖² the factor of `error_shrinks` is 0, at every size: the pair is stored exactly."""
    return Sides((STEP * K).subs(ETA, 1 / squared_norm(K)), V)


def _gated() -> Sides:
    """α M (I - η k kᵀ) + η v kᵀ regrouped; associativity only, so at every size."""
    write = ETA * (V - ALPHA * M * K)
    return Sides(ALPHA * M + write * K.T, ALPHA * M * (sp.eye(3) - ETA * K * K.T) + ETA * V * K.T)


def _gated_and_delta_gradient_descent() -> Sides:
    """The two differ by (1 - α) η M k kᵀ, which is 0 for every M and k iff α = 1."""
    descent = M * (ALPHA * sp.eye(3) - ETA * K * K.T) + ETA * V * K.T
    gated = ALPHA * M * (sp.eye(3) - ETA * K * K.T) + ETA * V * K.T
    return Sides(gated - descent, (1 - ALPHA) * ETA * M * K * K.T)


def _chunk_form() -> Sides:
    """The final state of three gated tokens from one triangular solve.

    Unrolling S_{t-1} = γ_{t-1} S_0 + Σ_{s<t} D_{t-1,s} w_s k_sᵀ inside w_t = η_t (v_t - α_t S_{t-1} k_t) gives the
    system at every C, by induction over t.
    """
    said = gated_statement()
    k, v, eta, alpha, start = (said.arguments[name] for name in ("k", "v", "eta", "alpha", "memory"))
    gamma = [sp.prod(alpha[: t + 1]) for t in range(3)]
    decay = sp.Matrix(3, 3, lambda t, s: sp.prod(alpha[s + 1 : t + 1]) if s <= t else 0)
    system = sp.eye(3) + sp.Matrix(
        3, 3, lambda t, s: eta[t] * decay[t, s] * inner(k.row(t), k.row(s)) if s < t else 0
    )
    wanted = sp.Matrix(3, 1, lambda t, _: eta[t] * (v[t] - gamma[t] * inner(start, k.row(t))))
    writes = system.lower_triangular_solve(wanted)
    final = gamma[2] * start
    for s in range(3):
        final = final + decay[2, s] * writes[s] * k.row(s)
    return Sides(said.results["memory"], final)


IDENTITIES = (
    Identity(
        "delta_rule.one_step",
        "S 5, P 65",
        "The delta rule is one gradient step of size η on ½‖M k - v‖²; its factor stands on the right.",
        r"M_t = (I - \eta_t k_t k_t^\top) M_{t-1} + \eta_t v_t k_t^\top",
        r"M_t = M_{t-1} (I - \eta_t k_t k_t^\top) + \eta_t v_t k_t^\top",
        _one_step,
        _one_step_printed,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "delta_rule.gradient",
        "S 4, P 65",
        "Without the ½ the gradient carries a 2, which the learning rate absorbs.",
        r"\nabla_M \|M k - v\|^2 = (M k - v) k^\top",
        r"\nabla_M \|M k - v\|^2 = 2 (M k - v) k^\top",
        _gradient,
        _gradient_printed,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "delta_rule.pairs",
        "S 4",
        "Over several pairs, in columns, the gradient of the squared error adds up twice each error at its key.",
        None,
        r"\nabla_M \|M K - V\|^2 = 2 (M K - V) K^\top",
        _pairs,
        sizes="d_v = 2, d_k = 3, 2 pairs; every size",
    ),
    Identity(
        "delta_rule.error_shrinks",
        "D",
        "One step multiplies the error by 1 - η‖k‖²: stable iff 0 < η‖k‖² < 2.",
        None,
        r"M_t k - v = (1 - \eta \|k\|^2)(M_{t-1} k - v)",
        _error_shrinks,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "delta_rule.eigenvalues",
        "D",
        "The transition changes the memory along k only: its eigenvalues are 1 (d_k - 1 times) and 1 - η‖k‖².",
        None,
        r"\det(x I - (I - \eta k k^\top)) = (x - 1)^{d_k - 1} (x - 1 + \eta \|k\|^2)",
        _eigenvalues,
        sizes="d_k = 3; every size",
    ),
    Identity(
        "delta_rule.one_shot",
        "D",
        "At η = 1/‖k‖² one step stores the pair exactly.",
        None,
        r"\eta = 1/\|k\|^2 \Rightarrow M_t k = v",
        _one_shot,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "delta_rule.gated",
        "D",
        "The gated delta rule decays first, then erases and writes along k.",
        None,
        r"M_t = \alpha_t M_{t-1} + \eta_t (v_t - \alpha_t M_{t-1} k_t) k_t^\top",
        _gated,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "delta_rule.gated_and_delta_gradient_descent",
        "P 92",
        "The gated delta rule and Delta Gradient Descent on the dot product are equal iff α = 1.",
        None,
        r"\text{gated} - \text{DGD} = (1 - \alpha) \eta M k k^\top",
        _gated_and_delta_gradient_descent,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "delta_rule.chunk_form",
        "D",
        "Three gated steps equal one unit lower-triangular solve and one weighted sum.",
        None,
        r"w_t + \eta_t \sum_{s<t} D_{t,s} (k_t^\top k_s) w_s = \eta_t (v_t - \gamma_t M_0 k_t)",
        _chunk_form,
        sizes="d_v = 1, d_k = 2, 3 tokens; every size, every length by induction",
    ),
)
