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

Nothing is divided by α: D comes from cumulative sums of log α, all of them <= 0, so every factor is at most 1. [D] The pieces below work on one chunk, (..., C, d), so that rules whose u depends on the state at
the chunk's boundary can call them in turn; `recurrence` strings them together when φ, u, η, α are given.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hope_ref.validation import one_of, positive_integer

ERASE = ("before_decay", "after_decay", "none")
LEAST_ALPHA = 1e-30  # log of it is finite: -inf - (-inf) would be NaN


class Decays(NamedTuple):
    """The decays within one chunk; entry t counts the tokens of the chunk from 0."""

    gamma: Tensor  # γ_t = Π_{s≤t} α_s, (..., C)
    gamma_before: Tensor  # γ_{t-1}, 1 at t = 0, (..., C)
    ratio: Tensor  # D_{t,s} for s <= t, else 0, (..., C, C)
    ratio_before: Tensor  # D_{t-1,s} for s < t, else 0, (..., C, C)


def decays(alpha: Tensor) -> Decays:
    """The decays of one chunk from its retentions α in [0, 1], (..., C).

    α below 1e-30 counts as 1e-30 (so at α = 0 exactly the gradient with respect to α is 0, where the token
    loop has one). Entries above the diagonal are masked before the exponential: there they mean nothing.
    """
    log_alpha = alpha.clamp_min(LEAST_ALPHA).log()
    gamma = log_alpha.cumsum(-1).exp()
    past = torch.ones(alpha.shape[-1], alpha.shape[-1], dtype=torch.bool, device=alpha.device).tril()
    # Σ log α_r over s < r <= t, for each s on its own: a difference of two long sums would lose digits.
    steps = log_alpha[..., :, None].expand(*alpha.shape, alpha.shape[-1])  # (..., r, s)
    ratio = steps.masked_fill(~past.tril(-1), 0).cumsum(-2).masked_fill(~past, -torch.inf).exp()
    gamma_before = torch.cat([torch.ones_like(gamma[..., :1]), gamma[..., :-1]], -1)
    ratio_before = torch.cat(
        [torch.zeros_like(ratio[..., :1, :]), ratio[..., :-1, :]], -2
    )  # D_{t-1,s}, one row on
    return Decays(gamma, gamma_before, ratio, ratio_before)


def writes(phi: Tensor, u: Tensor, eta: Tensor, decay: Decays, state: Tensor, erase: str) -> Tensor:
    """All writes w_t of one chunk, (..., C, d_out), by one triangular solve.

    Args: phi (..., C, d_in); u (..., C, d_out); eta (..., C); state S_0 (..., d_out, d_in); erase as above.
    """
    if erase == "none":
        return eta[..., None] * u
    if erase == "after_decay":
        ratio, gamma = decay.ratio, decay.gamma
    else:
        ratio, gamma = decay.ratio_before, decay.gamma_before
    gram = phi @ phi.mT  # φ_tᵀ φ_s, (..., C, C)
    system = eta[..., None] * (ratio * gram)  # only its strictly lower part is read below
    wanted = eta[..., None] * (u - gamma[..., None] * (phi @ state.mT))  # (..., C, d_out)
    return torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)


def reads(q: Tensor, phi: Tensor, write: Tensor, decay: Decays, state: Tensor) -> Tensor:
    """S_t q_t for every token t of the chunk, after its own write, (..., C, d_out)."""
    scores = decay.ratio * (q @ phi.mT)  # D_{t,s} (φ_sᵀ q_t), (..., C, C)
    return decay.gamma[..., None] * (q @ state.mT) + scores @ write


def final_state(phi: Tensor, write: Tensor, decay: Decays, state: Tensor) -> Tensor:
    """S_C, the state after the chunk's last token, (..., d_out, d_in)."""
    weighted = decay.ratio[..., -1, :, None] * write  # D_{C,s} w_s, (..., C, d_out)
    return decay.gamma[..., -1, None, None] * state + weighted.mT @ phi


def recurrence(
    q: Tensor, phi: Tensor, u: Tensor, eta: Tensor, alpha: Tensor, state: Tensor, chunk_size: int, erase: str
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over T tokens in chunks; the last one may be shorter. T = 0 changes nothing.

    Args: q, phi (..., T, d_in); u (..., T, d_out); eta, alpha (..., T); state (..., d_out, d_in); chunk_size >= 1.
    Returns: outputs S_t q_t, (..., T, d_out), and the final state, (..., d_out, d_in).
    Raises: ValueError if chunk_size is no integer >= 1 or erase no known word.
    """
    chunk_size = positive_integer("chunk_size", chunk_size)
    one_of("erase", erase, ERASE)
    outputs = [u[..., :0, :]]  # so that T = 0 gives an empty tensor of the right shape and dtype
    for start in range(0, phi.shape[-2], chunk_size):
        tokens = slice(start, start + chunk_size)
        q_c, phi_c, u_c = q[..., tokens, :], phi[..., tokens, :], u[..., tokens, :]
        decay = decays(alpha[..., tokens])
        write = writes(phi_c, u_c, eta[..., tokens], decay, state, erase)
        outputs.append(reads(q_c, phi_c, write, decay, state))
        state = final_state(phi_c, write, decay, state)
    return torch.cat(outputs, -2), state
