r"""The exact chunk-parallel form of every rank-one recurrence in this project. It lives here, once.

The recurrence, for a matrix state S (d_out, d_in) with inputs φ_t, wanted outputs u_t, steps η_t, retentions α_t:

    S_t = α_t S_{t-1} + w_t φ_tᵀ        w_t = η_t (u_t - S_{t-1} φ_t)          erase="before_decay"
                                        w_t = η_t (u_t - α_t S_{t-1} φ_t)      erase="after_decay" (gated delta rule)
                                        w_t = η_t u_t                          erase="none" (linear attention)

Within a chunk of C tokens let γ_t = Π_{s≤t} α_s and D_{t,s} = γ_t / γ_s. Unrolling S_{t-1} in w_t gives a unit
lower-triangular system for all writes of the chunk at once,

    w_t + η_t Σ_{s<t} D_{t-1,s} (φ_tᵀ φ_s) w_s = η_t (u_t - γ_{t-1} S_0 φ_t),

(D_{t,s} and γ_t in their places for "after_decay"), and from the writes every read and the final state:

    S_t q = γ_t S_0 q + Σ_{s≤t} D_{t,s} (φ_sᵀ q) w_s,        S_C = γ_C S_0 + Σ_s D_{C,s} w_s φ_sᵀ.

With an inner momentum, B_t = μ B_{t-1} + η_t u_t φ_tᵀ in the place of η_t u_t φ_tᵀ, a write reaches later states by
c_{t,s} = Σ_{r=s..t} D_{t,r} μ^{r-s} and B_0 by b_t = Σ_{r≤t} D_{t,r} μ^r: see `reaches`. [D]

Nothing is divided by α: D comes from cumulative sums of log α, all of them <= 0, so every factor is at most 1. The
pieces below work on one chunk, (..., C, d), so that rules whose u depends on the state at the chunk's boundary (the
self-modifying Titans) can call them in turn; `recurrence` strings them together when φ, u, η, α are given.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hope_ref.common.validation import one_of, positive_integer
from hope_ref.parallel import compiling
from hope_ref.parallel.ops import plus_product, unit_lower_solve, whole

ERASE = ("before_decay", "after_decay", "none")
LEAST_ALPHA = 1e-30  # log of it is finite: -inf - (-inf) would be NaN


class Decays(NamedTuple):
    """The decays within one chunk; entry t counts the tokens of the chunk from 0."""

    gamma: Tensor  # γ_t = Π_{s≤t} α_s, (..., C)
    gamma_before: Tensor  # γ_{t-1}, 1 at t = 0, (..., C)
    ratio: Tensor  # D_{t,s} for s <= t, else 0, (..., C, C)
    ratio_before: Tensor  # D_{t-1,s} for s < t, else 0, (..., C, C)


def decays(alpha: Tensor, keeping: int = 0) -> Decays:
    """The decays of one chunk from its retentions α in [0, 1], (..., C).

    With ``keeping`` = n, of n + 1 states: n that forget nothing, α = 1, then the one that α (..., 1, C) acts on.

    α below 1e-30 counts as 1e-30, and its gradient is that of the product nevertheless, at α = 0 too (a second derivative
    by α is not: it cancels terms of the size of 1/α²). Entries above the
    diagonal mean nothing: their sums are empty, exp of them is 1, and then masked.
    """
    length = alpha.shape[-1]
    if length == 1:  # one token: nothing lies between its write and its read
        if keeping:
            alpha = functional.pad(alpha, (0, 0, keeping, 0), value=1.0)
        one = torch.ones_like(alpha)
        return Decays(alpha, one, one[..., None], torch.zeros_like(one)[..., None])
    # The floor is a constant that is added: so the derivative of the logarithm is 1/1e-30 where α is 0, and D holds 1e-30.
    least = alpha + (alpha.clamp_min(LEAST_ALPHA) - alpha).detach()
    # a token before the chunk's first, α = 1
    log_alpha = functional.pad(least.log(), (1, 0))
    past = alpha.new_ones(length + 1, length + 1).tril()  # 1 where s <= t
    # Σ log α_r over s < r <= t, for each s on its own: a difference of two long sums would lose digits.
    sums = past @ (log_alpha[..., :, None] * past.tril(-1))  # 0 above the diagonal too
    table = sums.exp() * past  # D_{t,s} for t and s from the token before the chunk: all four are parts of it
    if keeping:
        table = torch.cat([past.expand(*table.shape[:-3], keeping, -1, -1), table], -3)
    before, after = table[..., :-1, :], table[..., 1:, :]
    return Decays(after[..., 0], before[..., 0], after[..., 1:], before[..., 1:])


class Reaches(NamedTuple):
    """How much of B_0, and of a write made at s, has reached the state through an inner momentum."""

    start: Tensor  # b_t, (..., C)
    start_before: Tensor  # b_{t-1}, 0 at t = 0, (..., C)
    write: Tensor  # c_{t,s} for s <= t, else 0, (..., C, C)
    write_before: Tensor  # c_{t-1,s} for s < t, else 0, (..., C, C)
    fade: Tensor  # μ^{t-s} for s <= t, else 0, (C, C): what is left in B_t itself
    fade_start: Tensor  # μ^t for t = 1 … C, (C,)


def reaches(mu: float, decay: Decays) -> Reaches:
    """c_{t,s} = Σ_{r=s..t} D_{t,r} μ^{r-s} and b_t = Σ_{r=1..t} D_{t,r} μ^r: products of two triangles of decays."""
    ratio, before = decay.ratio, decay.ratio_before
    age = torch.arange(ratio.shape[-1], device=ratio.device, dtype=ratio.dtype)
    fade = (mu ** (age[:, None] - age).clamp_min(0)).tril()  # (C, C)
    fade_start = mu ** (age + 1)  # (C,)
    return Reaches(ratio @ fade_start, before @ fade_start, ratio @ fade, before @ fade, fade, fade_start)


def writes(gram: Tensor, eta: Tensor, ratio: Tensor | None, target: Tensor) -> Tensor:
    """All writes w_t of one chunk: w_t + η_t Σ_{s<t} D_{t-1,s} (φ_tᵀ φ_s) w_s = target_t, by one triangular solve.

    Args: gram φ_tᵀ φ_s (..., C, C); eta (..., C); ratio D_{t-1,s} (..., C, C), None if nothing
    decays; target η_t (u_t - γ_{t-1} S_0 φ_t), (..., C, d_out). Returns: (..., C, d_out).
    """
    return unit_lower_solve(eta[..., None] * (gram if ratio is None else ratio * gram), target)


def reads(scores: Tensor, ratio: Tensor, write: Tensor, start: Tensor) -> Tensor:
    """start + Σ_{s≤t} D_{t,s} (φ_sᵀ q_t) w_s: the answer S_t q_t to every q_t of the chunk, if start is γ_t S_0 q_t.

    Args: scores φ_sᵀ q_t (..., C, C); ratio D_{t,s} (..., C, C); write and start (..., C, d_out).
    """
    return plus_product(start, ratio * scores, write)


def final_state(phi: Tensor, ratio: Tensor | None, write: Tensor, start: Tensor) -> Tensor:
    """S_C = start + Σ_s D_{C,s} w_s φ_sᵀ, the state after the chunk's last token, (..., d_out, d_in); start is γ_C S_0."""
    return plus_product(start, reaching(ratio, write).mT, phi)


def reaching(ratio: Tensor | None, write: Tensor) -> Tensor:
    """D_{C,s} w_s: what is left of every write after the chunk's last token, (..., C, d_out); all, if nothing decays."""
    return write if ratio is None else ratio[..., -1, :, None] * write


def recurrence(
    q: Tensor, phi: Tensor, u: Tensor, eta: Tensor, alpha: Tensor, state: Tensor, chunk_size: int, erase: str,
    backend: str = "torch",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run the recurrence over T tokens in chunks; the last one may be shorter. T = 0 changes nothing.

    Args:
        q, phi: (..., T, d_in). u: (..., T, d_out). eta, alpha: (..., T). state: (..., d_out, d_in).
        chunk_size: >= 1. erase: see above.
        backend: "torch", "triton", "compiled" or "auto", see `hope_ref.parallel.kernels` and `hope_ref.parallel.compiling`.
    Returns: outputs S_t q_t, (..., T, d_out), and the final state, (..., d_out, d_in), both in the dtype that came in;
    half precision is computed in float32.
    Raises: ValueError if chunk_size is no integer >= 1 or erase no known word; RuntimeError if a backend cannot run here.
    """
    chunk_size = positive_integer("chunk_size", chunk_size)
    one_of("erase", erase, ERASE)
    if backend != "torch":
        from hope_ref.parallel import kernels

        backend = kernels.chosen(backend, phi, kernels.too_wide(phi.shape[-1], phi.dtype))
    if backend == "triton":
        from hope_ref.parallel.kernels.launch import recurrence as in_one_launch

        return in_one_launch(q, phi, u, eta, alpha, state, chunk_size, erase)
    one = compiling.compiled(one_chunk) if backend == "compiled" else one_chunk
    dtypes = u.dtype, state.dtype
    q, phi, u, eta, alpha, state = whole(q, phi, u, eta, alpha, state)
    outputs = [u[..., :0, :]]  # so that T = 0 gives an empty tensor of the right shape
    for start in range(0, phi.shape[-2], chunk_size):
        tokens = slice(start, start + chunk_size)
        q_c, phi_c, u_c = (z[..., tokens, :] for z in (q, phi, u))
        read, state = one(q_c, phi_c, u_c, eta[..., tokens], alpha[..., tokens], state, erase)
        outputs.append(read)
    return torch.cat(outputs, -2).to(dtypes[0]), state.to(dtypes[1])


def one_chunk(
    q: Tensor, phi: Tensor, u: Tensor, eta: Tensor, alpha: Tensor, state: Tensor, erase: str
) -> tuple[Tensor, Tensor]:
    """One chunk of `recurrence`: its outputs and the state after it."""
    decay = decays(alpha)
    if erase == "none":
        write = eta[..., None] * u
    else:
        after = erase == "after_decay"
        gamma = decay.gamma if after else decay.gamma_before
        target = eta[..., None] * (u - gamma[..., None] * (phi @ state.mT))  # (..., C, d_out)
        write = writes(phi @ phi.mT, eta, decay.ratio if after else decay.ratio_before, target)
    start_answer = decay.gamma[..., None] * (q @ state.mT)  # γ_t S_0 q_t
    outputs = reads(q @ phi.mT, decay.ratio, write, start_answer)
    return outputs, final_state(phi, decay.ratio, write, decay.gamma[..., -1, None, None] * state)
