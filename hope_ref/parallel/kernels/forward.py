r"""The rank-one recurrence, forward: every chunk of a sequence in one launch. [S 2-5], [P 65, 88-93], [D]

The equations of `hope_ref.parallel.chunks`, with S_0 the state where the chunk begins,

    w_t + η_t Σ_{s<t} D_{t-1,s} (φ_tᵀ φ_s) w_s = η_t (u_t - γ_{t-1} S_0 φ_t)
    S_t q_t = γ_t S_0 q_t + Σ_{s≤t} D_{t,s} (φ_sᵀ q_t) w_s
    S_C = γ_C S_0 + Σ_s D_{C,s} w_s φ_sᵀ

What one program holds, the tiles, and how long:

         IN             TILE                OUT
       ┌──────┐       ┌──────┐            ┌──────┐
  TILE │ φ, q │  TILE │ φφᵀ  │ D, X  TILE │ u, w │      per chunk, loaded or made, then forgotten
       └──────┘       └──────┘            └──────┘
       ┌──────┐
   OUT │  S   │   float32, stays in registers from the first chunk to the last
       └──────┘
"""

from __future__ import annotations

import triton
import triton.language as tl

from hope_ref.parallel.kernels.tiles import last_row, summed_logs, summed_logs_from_start, unit_lower_inverse


@triton.jit
def forward(
    q, phi, u, eta, alpha, start, outputs, end, boundaries,
    length, d_in, d_out, chunks,
    CHUNK: tl.constexpr, TILE: tl.constexpr, LEVELS: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr,
    ERASE: tl.constexpr, READ: tl.constexpr, KEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    r"""One program: one memory of one head of one sequence, OUT rows of its state. Grid (memories of all, d_out / OUT).

    Rows of S never meet (row i of w is made of row i of u and of S), so blocks of OUT rows are programs of their own.
    The state where each chunk begins goes to ``boundaries`` if KEEP: all that the backward pass needs besides the inputs.
    """
    which = tl.program_id(0).to(tl.int64)
    t = tl.arange(0, TILE)
    i = tl.arange(0, IN)
    o = tl.program_id(1) * OUT + tl.arange(0, OUT)
    in_i, in_o = i < d_in, o < d_out
    row, column = t[:, None], t[None, :]
    of_state = which * d_out * d_in + o[:, None] * d_in + i[None, :]
    in_state = in_o[:, None] & in_i[None, :]
    state = tl.load(start + of_state, mask=in_state, other=0.0).to(tl.float32)  # (OUT, IN)
    for chunk in range(0, chunks):
        token = chunk * CHUNK + t
        there = (t < CHUNK) & (token < length)
        of_in = (which * length + token)[:, None] * d_in + i[None, :]
        of_out = (which * length + token)[:, None] * d_out + o[None, :]
        in_in, in_out = there[:, None] & in_i[None, :], there[:, None] & in_o[None, :]
        if KEEP:
            tl.store(boundaries + (which * chunks + chunk) * d_out * d_in + of_state - which * d_out * d_in,
                     state, mask=in_state)  # fmt: skip
        phi_c = tl.load(phi + of_in, mask=in_in, other=0.0).to(tl.float32)
        u_c = tl.load(u + of_out, mask=in_out, other=0.0).to(tl.float32)
        eta_c = tl.load(eta + which * length + token, mask=there, other=0.0).to(tl.float32)
        alpha_c = tl.load(alpha + which * length + token, mask=there, other=1.0).to(tl.float32)
        least = tl.where(alpha_c < 1e-30, 1e-30, alpha_c)  # and not tl.maximum, which would hide a NaN
        log_alpha = tl.log(least)
        # D_{t,s} and γ_t; those of the token before, with SKIP = 1
        after = tl.where(row >= column, tl.exp(summed_logs(log_alpha, TILE, 0, PRECISION)), 0.0)
        gamma = tl.exp(summed_logs_from_start(log_alpha, TILE, 0))
        if ERASE == "none":
            write = eta_c[:, None] * u_c
        else:
            if ERASE == "after_decay":
                ratio, faded = after, gamma
            else:
                ratio = tl.exp(summed_logs(log_alpha, TILE, 1, PRECISION))
                faded = tl.exp(summed_logs_from_start(log_alpha, TILE, 1))
            gram = tl.dot(phi_c, tl.trans(phi_c), input_precision=PRECISION)
            system = tl.where(row > column, eta_c[:, None] * ratio * gram, 0.0)
            inverse = unit_lower_inverse(system, TILE, LEVELS, PRECISION)
            known = tl.dot(phi_c, tl.trans(state), input_precision=PRECISION)  # S_0 φ_t
            wanted = eta_c[:, None] * (u_c - faded[:, None] * known)
            write = tl.dot(inverse, wanted, input_precision=PRECISION)  # w_t, (TILE, OUT)
        if READ != "none":
            q_c = tl.load(q + of_in, mask=in_in, other=0.0).to(tl.float32)
            if READ == "post":
                seen, left = after, gamma
            else:
                seen = tl.where(row > column, tl.exp(summed_logs(log_alpha, TILE, 1, PRECISION)), 0.0)
                left = tl.exp(summed_logs_from_start(log_alpha, TILE, 1))
            scores = tl.dot(q_c, tl.trans(phi_c), input_precision=PRECISION)  # φ_sᵀ q_t
            answer = left[:, None] * tl.dot(q_c, tl.trans(state), input_precision=PRECISION)
            answer += tl.dot(seen * scores, write, input_precision=PRECISION)
            tl.store(outputs + of_out, answer.to(outputs.dtype.element_ty), mask=in_out)
        reaching = last_row(after, TILE)[:, None] * write  # D_{C,s} w_s
        kept = tl.exp(tl.sum(log_alpha, 0))  # γ_C
        state = kept * state + tl.dot(tl.trans(reaching), phi_c, input_precision=PRECISION)
    tl.store(end + of_state, state, mask=in_state)
