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

from hope_ref.parallel.kernels.tiles import (
    VARYING,
    chunk_decays,
    last_row,
    loaded,
    products,
    retained,
    stored,
    unit_lower_inverse,
)


@triton.jit(do_not_specialize=VARYING)
def forward(
    q, phi, u, eta, alpha, start, outputs, end, boundaries, writes,
    length, d_in, d_out, chunks, chunk_size,
    TILE: tl.constexpr, LEVELS: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr,
    BLOCK: tl.constexpr, ERASE: tl.constexpr, READ: tl.constexpr, KEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    r"""One program: one memory of one head of one sequence, OUT rows of its state. Grid (memories of all, d_out / OUT).

    Rows of S never meet (row i of w is made of row i of u and of S), so blocks of OUT rows are programs of their own.
    If KEEP, the state where each chunk begins goes to ``boundaries``, and w to ``writes``: all that the gradients need
    besides the inputs.
    """
    which = tl.program_id(0).to(tl.int64)
    t = tl.arange(0, TILE)
    i = tl.arange(0, IN)
    o = tl.program_id(1) * OUT + tl.arange(0, OUT)
    in_o = o < d_out
    state = loaded(start + which * d_out * d_in, o, in_o, i, d_in)  # (OUT, IN)
    for chunk in range(0, chunks):
        there = (t < chunk_size) & (chunk * chunk_size + t < length)
        token = which * length + chunk * chunk_size + t
        if KEEP:
            stored(state, boundaries + (which * chunks + chunk) * d_out * d_in, o, in_o, i, d_in)
        phi_c = loaded(phi, token, there, i, d_in)
        u_c = loaded(u, token, there, o, d_out)
        eta_c = tl.load(eta + token, mask=there, other=0.0).to(tl.float32)
        log_alpha = tl.log(retained(alpha, token, there))
        after, ratio, faded, seen, left = chunk_decays(log_alpha, TILE, ERASE, READ, PRECISION)
        if ERASE == "none":
            write = eta_c[:, None] * u_c
        else:
            gram = products(phi, phi, token, there, d_in, TILE, BLOCK, PRECISION)
            inverse = unit_lower_inverse(eta_c[:, None] * ratio * gram, TILE, LEVELS, PRECISION)
            known = tl.dot(phi_c, tl.trans(state), input_precision=PRECISION)  # S_0 φ_t
            wanted = eta_c[:, None] * (u_c - faded[:, None] * known)
            write = tl.dot(inverse, wanted, input_precision=PRECISION)  # w_t, (TILE, OUT)
        if KEEP:
            stored(write, writes, token, there, o, d_out)
        if READ != "none":
            scores = products(q, phi, token, there, d_in, TILE, BLOCK, PRECISION)  # φ_sᵀ q_t
            q_c = loaded(q, token, there, i, d_in)
            answer = left[:, None] * tl.dot(q_c, tl.trans(state), input_precision=PRECISION)
            answer += tl.dot(seen * scores, write, input_precision=PRECISION)
            stored(answer, outputs, token, there, o, d_out)
        reaching = last_row(after, TILE)[:, None] * write  # D_{C,s} w_s
        kept = tl.exp(tl.sum(log_alpha, 0))  # γ_C
        state = kept * state + tl.dot(tl.trans(reaching), phi_c, input_precision=PRECISION)
    stored(state, end + which * d_out * d_in, o, in_o, i, d_in)
