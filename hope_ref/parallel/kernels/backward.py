r"""The recurrence of the gradients, from the last chunk to the first in one launch. [D]

With D⁻_{t,s} = D_{t-1,s} and γ⁻_t = γ_{t-1} (erase="after_decay": D_{t,s} and γ_t), L = η D⁻ ⊙ φφᵀ below the diagonal,
X = (I + L)⁻¹, K = u - γ⁻ S_0 φ, w = X η K and a bar for gradients:

    w̄ = (D ⊙ qφᵀ)ᵀ ō + D_C ⊙ (φ S̄_Cᵀ)
    g = Xᵀ w̄,    ū = η g
    S̄_0 = γ_C S̄_C + (γ ō)ᵀ q - (γ⁻ ū)ᵀ φ

It needs neither u nor S: the recurrence is linear in them. The gradient of the state stays in registers:

       chunk n-1        chunk 1        chunk 0
    S̄ ──────────► S̄ ── … ──────► S̄ ──────────► gradient by the initial state
    │     ▲ ō      │     ▲ ō      │     ▲ ō
    ▼              ▼              ▼
    S̄_C, g         S̄_C, g         S̄_C, g        to memory

From S̄_C and g, `gradients` makes all the others, all chunks at once.
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
def backward(
    q, phi, eta, alpha, grad_outputs, grad_end, grad_boundaries, grad_wanted, grad_start,
    length, d_in, d_out, chunks, chunk_size,
    TILE: tl.constexpr, LEVELS: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr,
    BLOCK: tl.constexpr, ERASE: tl.constexpr, READ: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    r"""One program: as in `forward`, OUT rows of the gradient by the state. Grid (memories of all, d_out / OUT).

    S̄_C, of the state where each chunk ends, goes to ``grad_boundaries``, g to ``grad_wanted``.
    """
    which = tl.program_id(0).to(tl.int64)
    t = tl.arange(0, TILE)
    i = tl.arange(0, IN)
    o = tl.program_id(1) * OUT + tl.arange(0, OUT)
    in_o = o < d_out
    grad_state = loaded(grad_end + which * d_out * d_in, o, in_o, i, d_in)  # (OUT, IN)
    for back in range(0, chunks):
        chunk = chunks - 1 - back
        there = (t < chunk_size) & (chunk * chunk_size + t < length)
        token = which * length + chunk * chunk_size + t
        stored(grad_state, grad_boundaries + (which * chunks + chunk) * d_out * d_in, o, in_o, i, d_in)
        phi_c = loaded(phi, token, there, i, d_in)
        log_alpha = tl.log(retained(alpha, token, there))
        after, ratio, faded, seen, left = chunk_decays(log_alpha, TILE, ERASE, READ, PRECISION)
        # through S_C = γ_C S_0 + Σ D_{C,s} w_s φ_sᵀ
        of_write = tl.dot(phi_c, tl.trans(grad_state), input_precision=PRECISION)  # φ S̄_Cᵀ
        by_write = last_row(after, TILE)[:, None] * of_write
        grad_state = tl.exp(tl.sum(log_alpha, 0)) * grad_state
        # through o_t = γ_t S_0 q_t + Σ D_{t,s} (φ_sᵀ q_t) w_s
        if READ != "none":
            by_answer = loaded(grad_outputs, token, there, o, d_out)
            scores = products(q, phi, token, there, d_in, TILE, BLOCK, PRECISION)
            by_write += tl.dot(tl.trans(seen * scores), by_answer, input_precision=PRECISION)
            by_start = left[:, None] * by_answer  # by S_0 q_t
            q_c = loaded(q, token, there, i, d_in)
            grad_state += tl.dot(tl.trans(by_start), q_c, input_precision=PRECISION)
        # through (I + L) w = η K
        by_wanted = by_write
        if ERASE != "none":
            eta_c = tl.load(eta + token, mask=there, other=0.0).to(tl.float32)
            gram = products(phi, phi, token, there, d_in, TILE, BLOCK, PRECISION)
            inverse = unit_lower_inverse(eta_c[:, None] * ratio * gram, TILE, LEVELS, PRECISION)
            by_wanted = tl.dot(tl.trans(inverse), by_write, input_precision=PRECISION)  # g
            by_known = -(faded * eta_c)[:, None] * by_wanted  # by S_0 φ_t
            grad_state += tl.dot(tl.trans(by_known), phi_c, input_precision=PRECISION)
        stored(by_wanted, grad_wanted, token, there, o, d_out)
    stored(grad_state, grad_start + which * d_out * d_in, o, in_o, i, d_in)
