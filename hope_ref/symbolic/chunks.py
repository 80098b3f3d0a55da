r"""Chunks derived: where a boundary is, the token loop as one triangular solve, and when the chunk size is part of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, positive, squared_norm
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.statement import Statement


def statement(erase: str = "before_decay", length: int = 3, d_out: int = 1) -> Statement:
    """`reference.chunks.recurrence` on a few tokens, d_in = 2, in the form S M_t + η u φᵀ with the transition M_t written out."""
    q, phi, u = matrix("q", length, 2), matrix("x", length, 2), matrix("u", length, d_out)
    eta, alpha = positive(f"eta_1:{length + 1}"), positive(f"alpha_1:{length + 1}")
    start = state = matrix("S", d_out, 2)
    rows = []
    for t in range(length):
        key = phi.row(t).T
        erased = {"before_decay": 1, "after_decay": alpha[t], "none": 0}[erase] * eta[t] * key * key.T
        state = state * (alpha[t] * sp.eye(2) - erased) + eta[t] * u.row(t).T * key.T
        rows.append((state * q.row(t).T).T)
    return Statement(
        {"q": q, "phi": phi, "u": u, "eta": eta, "alpha": alpha, "state": start},
        {"y": sp.Matrix.vstack(*rows), "state": state},
    )


def momentum_statement(length: int = 3) -> Statement:
    """`reference.chunks.momentum_recurrence`, d_in = 2, d_out = 1, with a shift, in its transition form."""
    said = statement(length=length)
    q, phi, u, eta, alpha, start = said.arguments.values()
    mu = positive(f"mu_1:{length + 1}")
    first, shift = matrix("B", 1, 2), matrix("R", 1, 2)
    state, momentum, rows = start, first, []
    for t in range(length):
        key = phi.row(t).T
        along = eta[t] * key * key.T
        momentum = mu[t] * momentum + eta[t] * u.row(t).T * key.T
        state = state * (alpha[t] * sp.eye(2) - along) - shift * along + momentum
        rows.append((state * q.row(t).T).T)
    return Statement(
        said.arguments | {"mu": mu, "momentum": first, "shift": shift},
        {"y": sp.Matrix.vstack(*rows), "state": state, "momentum": momentum},
    )


def _decays(alpha: Any) -> tuple[list[Any], sp.Matrix]:
    """γ_0 = 1, γ_1 … γ_T, and D_{t,s} for t, s = 1 … T, all as products: nothing is divided."""
    length = len(alpha)
    gamma = [sp.prod(alpha[:t]) for t in range(length + 1)]
    return gamma, sp.Matrix(length, length, lambda t, s: sp.prod(alpha[s + 1 : t + 1]) if s <= t else 0)


def _before(ratio: sp.Matrix) -> sp.Matrix:
    """D_{t-1,s}: the rows of D moved down by one token."""
    return sp.Matrix(ratio.rows, ratio.cols, lambda t, s: ratio[t - 1, s] if s < t else 0)


def _writes(said: Statement) -> sp.Matrix:
    """w from the triangular system, one row per token."""
    phi, u, eta, alpha, start = (said.arguments[name] for name in ("phi", "u", "eta", "alpha", "state"))
    gamma, ratio = _decays(alpha)
    length, gram = len(eta), phi * phi.T
    system = sp.eye(length) + sp.diag(*eta) * _before(ratio).multiply_elementwise(gram)
    wanted = sp.diag(*eta) * (u - sp.diag(*gamma[:-1]) * phi * start.T)
    return system.lower_triangular_solve(wanted)


def _chunk_state(said: Statement) -> sp.Matrix:
    """γ_C S_0 + Σ_s D_{C,s} w_s φ_sᵀ."""
    gamma, ratio = _decays(said.arguments["alpha"])
    writes = sp.diag(*ratio.row(-1)) * _writes(said)
    return gamma[-1] * said.arguments["state"] + writes.T * said.arguments["phi"]


def _token_writes() -> Sides:
    """Three tokens, d_out = 2: w_t = η_t (u_t - S_{t-1} φ_t), read off the token loop before each write.

    Put S_{t-1} = γ_{t-1} S_0 + Σ_{s<t} D_{t-1,s} w_s φ_sᵀ into it: by induction at every C. Three tokens are the fewest at
    which a D_{t-1,s} with s < t - 1 is not 1.
    """
    said = statement(length=3, d_out=2)
    phi, u, eta = (said.arguments[name] for name in ("phi", "u", "eta"))
    rows = []
    for t in range(3):
        before = statement(length=t, d_out=2).results["state"]  # S_{t-1}
        rows.append(eta[t] * (u.row(t) - phi.row(t) * before.T))
    return Sides(sp.Matrix.vstack(*rows), _writes(said))


def _three_steps() -> Sides:
    """Three tokens. Put S_{t-1} = γ_{t-1} S_0 + Σ_{s<t} D_{t-1,s} w_s φ_sᵀ into w_t: by induction at every C."""
    said = statement(length=3)
    return Sides(said.results["state"], _chunk_state(said))


def _reads() -> Sides:
    """S_t q_t for each of three tokens: the same unrolling, stopped at t; by linearity in the writes, at every C."""
    said = statement(length=3)
    q, phi, alpha, start = (said.arguments[name] for name in ("q", "phi", "alpha", "state"))
    gamma, ratio = _decays(alpha)
    scores = ratio.multiply_elementwise(q * phi.T)
    return Sides(said.results["y"], sp.diag(*gamma[1:]) * q * start.T + scores * _writes(said))


def _momentum() -> Sides:
    """Three tokens with a momentum that starts anywhere, and a shift: final state and all reads.

    B_t is itself an unrolled recurrence with decays μ, so what has reached S_t is a product of two triangular matrices
    of decays, c = D E and b = D ε; the rest is the induction of `three_steps`. With two tokens c_{t-1,s} would be 1.
    """
    said = momentum_statement(length=3)
    q, phi, u, eta, alpha, start, mu, first, shift = said.arguments.values()
    (gamma, ratio), (fade, fade_ratio) = _decays(alpha), _decays(mu)
    fade_column = sp.Matrix(fade[1:])
    reach, ratio_u = ratio * fade_column, ratio * fade_ratio  # b_t and c_{t,s}
    before = _before(ratio)
    rates = phi * phi.T * sp.diag(*eta)  # η_s (φ_tᵀ φ_s)
    wanted = sp.diag(*gamma[:-1]) * phi * start.T + phi * shift.T
    wanted += sp.diag(*(before * fade_column)) * phi * first.T
    wanted += (before * fade_ratio).multiply_elementwise(rates) * u
    erased = (sp.eye(3) + before.multiply_elementwise(rates)).lower_triangular_solve(
        wanted
    )  # p, a row per token
    answers = []
    for t in range(3):
        moved = sp.diag(*eta) * (sp.diag(*ratio_u.row(t)) * u - sp.diag(*ratio.row(t)) * erased)
        state = gamma[t + 1] * start + reach[t] * first + moved.T * phi
        answers.append(state * q.row(t).T)
    return Sides(
        sp.Matrix.vstack(said.results["y"], said.results["state"].T),
        sp.Matrix.vstack(*answers, state.T),
    )


CHUNKS = (2, 3)  # the sizes at which boundaries are counted


def _boundaries() -> sp.Matrix:
    """Walk through two chunks of each size: a chunk's tokens all use the number of tokens seen before its first one."""
    rows = []
    for size in CHUNKS:
        kept, seen = [], 0
        for _ in range(2):
            at_start = seen
            for _ in range(size):
                kept.append(at_start)
                seen += 1
        rows.append(sp.Matrix([kept, kept]))
    return sp.Matrix.hstack(*rows)


def _counted(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> sp.Matrix:
    """A formula for tokens counted from 0, in the first row, and one for tokens counted from 1, in the second."""
    return sp.Matrix(
        [
            [size * first(sp.Rational(t, size)) for size in CHUNKS for t in range(2 * size)],
            [size * second(sp.Rational(t, size)) for size in CHUNKS for t in range(1, 2 * size + 1)],
        ]
    )


def _boundary() -> Sides:
    """t = a C + r with 0 <= r < C has ⌊t/C⌋ = a, and a C tokens came before its chunk; from 1, ⌈t/C⌉ - 1 = a: at every C."""
    return Sides(_boundaries(), _counted(sp.floor, lambda part: sp.ceiling(part) - 1))


def _boundary_printed() -> Sides:
    """Counted from 1 the print is C too large at every token; from 0, at every token but the first of a chunk."""
    return Sides(_boundaries(), _counted(sp.ceiling, sp.ceiling))


def _frozen(loss: Callable[[sp.Matrix, sp.Matrix], Any], chunk_size: int, length: int) -> sp.Matrix:
    """M_t = α_t M_{t-1} - η_t ∇L(M_{b(t)}; k_t, v_t), d_v = 1, d_k = 2: each gradient differentiated, then put at M_b."""
    k, v = matrix("k", length, 2), matrix("v", length, 1)
    eta, alpha = positive(f"eta_1:{length + 1}"), positive(f"alpha_1:{length + 1}")
    state, fresh = matrix("M", 1, 2), matrix("N", 1, 2)
    for t in range(length):
        if t % chunk_size == 0:
            boundary = state
        slope = gradient(loss(fresh * k.row(t).T, v.row(t).T), fresh)
        state = alpha[t] * state - eta[t] * slope.xreplace(dict(zip(fresh, boundary, strict=True)))
    return state


def _dot(answer: sp.Matrix, v: sp.Matrix) -> sp.Expr:
    return -inner(answer, v)


def _half_square(answer: sp.Matrix, v: sp.Matrix) -> sp.Expr:
    return squared_norm(answer - v) / 2


def _frozen_dot() -> Sides:
    """Chunks of 1, 2 and 3 give one sum. -⟨M k, v⟩ is linear in M, so its gradient is the same at every M."""
    length = 3
    k, v, start = matrix("k", length, 2), matrix("v", length, 1), matrix("M", 1, 2)
    gamma, ratio = _decays(positive(f"alpha_1:{length + 1}"))
    eta = sp.diag(*positive(f"eta_1:{length + 1}"))
    one = gamma[-1] * start + (sp.diag(*ratio.row(-1)) * eta * v).T * k
    derived = sp.Matrix.vstack(*(_frozen(_dot, size, length) for size in (1, 2, 3)))
    return Sides(derived, sp.Matrix.vstack(one, one, one))


def _frozen_l2() -> Sides:
    """Two tokens. The frozen error of token 2 is that of M_0, and M_1 - M_0 = (α_1 - 1) M_0 - η_1 (M_0 k_1 - v_1) k_1ᵀ.

    At every width; in a longer chunk token t is wrong by η_t (M_{t-1} - M_b) k_t k_tᵀ, and later tokens carry it on.
    """
    k, v, start = matrix("k", 2, 2), matrix("v", 2, 1), matrix("M", 1, 2)
    (eta_1, eta_2), (alpha_1, _) = positive("eta_1:3"), positive("alpha_1:3")
    one, two = k.row(0).T, k.row(1).T
    error = start * one - v.row(0).T  # e_1 = M_0 k_1 - v_1
    stated = eta_2 * ((alpha_1 - 1) * start * two - eta_1 * inner(one, two) * error) * two.T
    return Sides(_frozen(_half_square, 2, 2) - _frozen(_half_square, 1, 2), stated)


_SOLVE = r"w_t + \eta_t \sum_{s<t} D_{t-1,s} (\varphi_t^\top \varphi_s) w_s = \eta_t (u_t - \gamma_{t-1} S_0 \varphi_t)"
_FINAL = r"S_C = \gamma_C S_0 + \sum_s D_{C,s} w_s \varphi_s^\top"
_READS = r"S_t q_t = \gamma_t S_0 q_t + \sum_{s \le t} D_{t,s} (\varphi_s^\top q_t)\, w_s"
_MOMENTUM = r"S_t = \gamma_t S_0 + b_t B_0 + \sum_{s \le t} \eta_s (c_{t,s} u_s - D_{t,s} p_s) \varphi_s^\top"
_DOT = r"\nabla_M \left(-\langle M_{b(t)} k_t, v_t \rangle\right) = -v_t k_t^\top"
_L2 = r"M_2^{C=2} - M_2^{C=1} = \eta_2 \left((\alpha_1 - 1) M_0 k_2 - \eta_1 (k_1^\top k_2)(M_0 k_1 - v_1)\right) k_2^\top"

IDENTITIES = (
    Identity(
        "chunks.boundary",
        "S 30-33, P 90",
        "Causal is the state at the start of a token's chunk; the printed one is its end, which has seen the token.",
        r"\mathcal{M}_{C \lceil t/C \rceil}",
        r"M_{b(t)},\ b(t) = C \lfloor t/C \rfloor \text{ from } t = 0,\ C (\lceil t/C \rceil - 1) \text{ from } t = 1",
        _boundary,
        _boundary_printed,
        sizes="chunks of 2 and 3, two of each; every size, every length by induction",
    ),
    Identity(
        "chunks.writes",
        "D",
        "The writes of a chunk solve one unit lower-triangular system.",
        None,
        _SOLVE,
        _token_writes,
        sizes="d_out = 2, d_in = 2, 3 tokens; every size, every length by induction",
    ),
    Identity(
        "chunks.three_steps",
        "D",
        "Three steps of decay, erase and write equal one unit lower-triangular solve and one weighted sum.",
        None,
        _FINAL,
        _three_steps,
        sizes="d_out = 1, d_in = 2, 3 tokens; every size, every length by induction",
    ),
    Identity(
        "chunks.reads",
        "D",
        "Every read of a chunk comes from the same writes.",
        None,
        _READS,
        _reads,
        sizes="d_out = 1, d_in = 2, 3 tokens; every size, every length by induction",
    ),
    Identity(
        "chunks.momentum",
        "D",
        "With an inner momentum, a write made at s has reached the state at t with the weight c, and B_0 with b.",
        None,
        _MOMENTUM,
        _momentum,
        sizes="d_out = 1, d_in = 2, 3 tokens; every size, every length by induction",
    ),
    Identity(
        "chunks.frozen_dot",
        "P 92",
        "The gradient of the dot product does not depend on the memory: with given keys and values every chunk size is one model.",
        None,
        _DOT,
        _frozen_dot,
        sizes="d_v = 1, d_k = 2, 3 tokens in chunks of 1, 2 and 3; every size, every length by induction",
    ),
    Identity(
        "chunks.frozen_l2",
        "P 90, P 93",
        "On ½‖M k - v‖² the chunk size is part of the model: the second token does not see what the first decayed and wrote.",
        None,
        _L2,
        _frozen_l2,
        sizes="d_v = 1, d_k = 2, 2 tokens; every size",
    ),
)
