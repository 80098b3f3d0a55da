r"""The rank-one recurrence, backward: from the last chunk to the first in one launch, each computed again. [D]

With X = (I + L)⁻¹, L_{t,s} = η_t D_{t-1,s} φ_tᵀφ_s below the diagonal, K = u - γ S_0 φ, w = X η K and a bar for gradients:

    w̄ = (D ⊙ qφᵀ)ᵀ ō + D_C ⊙ (φ S̄_Cᵀ)
    g = Xᵀ w̄,    L̄ = -g wᵀ below the diagonal,    K̄ = η g = ū
    S̄_0 = γ_C S̄_C + (γ ō)ᵀ q - (γ K̄)ᵀ φ

The gradient of the state stays in registers, from the last chunk to the first:

       chunk n-1        chunk 1        chunk 0
    S̄ ──────────► S̄ ── … ──────► S̄ ──────────► gradient by the initial state
         ▲ ō, S_0       ▲ ō, S_0      ▲ ō, S_0     (S_0: what the forward pass has left in ``boundaries``)
"""

from __future__ import annotations

import triton
import triton.language as tl

from hope_ref.parallel.kernels.tiles import (
    last_row,
    summed_logs,
    summed_logs_from_start,
    through_sums,
    unit_lower_inverse,
)


@triton.jit
def backward(
    q, phi, u, eta, alpha, boundaries, grad_outputs, grad_end,
    grad_q, grad_phi, grad_u, grad_eta, grad_alpha, grad_start,
    length, d_in, d_out, chunks,
    CHUNK: tl.constexpr, TILE: tl.constexpr, LEVELS: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr,
    ERASE: tl.constexpr, READ: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    r"""One program: as in `forward`. The gradient of the state, (OUT, IN), stays in registers from the last chunk on.

    Gradients by q, φ, η and α are sums over all rows of the state: each block of OUT rows writes its own share, (block,
    …), and the shares are added outside, in one order. No atomic sums, so two runs give the same bits.
    """
    which = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    share = block.to(tl.int64) * tl.num_programs(0) + which
    t = tl.arange(0, TILE)
    i = tl.arange(0, IN)
    o = block * OUT + tl.arange(0, OUT)
    in_i, in_o = i < d_in, o < d_out
    row, column = t[:, None], t[None, :]
    of_state = o[:, None] * d_in + i[None, :]
    in_state = in_o[:, None] & in_i[None, :]
    grad_state = tl.load(grad_end + which * d_out * d_in + of_state, mask=in_state, other=0.0).to(tl.float32)
    for back in range(0, chunks):
        chunk = chunks - 1 - back
        token = chunk * CHUNK + t
        there = (t < CHUNK) & (token < length)
        of_in = token[:, None] * d_in + i[None, :]
        of_out = (which * length + token)[:, None] * d_out + o[None, :]
        in_in, in_out = there[:, None] & in_i[None, :], there[:, None] & in_o[None, :]
        # --- the chunk again, as in `forward`
        state = tl.load(
            boundaries + (which * chunks + chunk) * d_out * d_in + of_state, mask=in_state, other=0.0
        )
        phi_c = tl.load(phi + which * length * d_in + of_in, mask=in_in, other=0.0).to(tl.float32)
        u_c = tl.load(u + of_out, mask=in_out, other=0.0).to(tl.float32)
        eta_c = tl.load(eta + which * length + token, mask=there, other=0.0).to(tl.float32)
        alpha_c = tl.load(alpha + which * length + token, mask=there, other=1.0).to(tl.float32)
        least = tl.where(alpha_c < 1e-30, 1e-30, alpha_c)
        log_alpha = tl.log(least)
        after = tl.where(row >= column, tl.exp(summed_logs(log_alpha, TILE, 0, PRECISION)), 0.0)
        before = tl.where(row > column, tl.exp(summed_logs(log_alpha, TILE, 1, PRECISION)), 0.0)
        gamma = tl.exp(summed_logs_from_start(log_alpha, TILE, 0))
        gamma_before = tl.exp(summed_logs_from_start(log_alpha, TILE, 1))
        kept = tl.exp(tl.sum(log_alpha, 0))
        if ERASE == "none":
            write = eta_c[:, None] * u_c
        else:
            if ERASE == "after_decay":
                ratio, faded = tl.where(row > column, after, 0.0), gamma
            else:
                ratio, faded = before, gamma_before
            gram = tl.dot(phi_c, tl.trans(phi_c), input_precision=PRECISION)
            inverse = unit_lower_inverse(eta_c[:, None] * ratio * gram, TILE, LEVELS, PRECISION)
            known = tl.dot(phi_c, tl.trans(state), input_precision=PRECISION)
            missing = u_c - faded[:, None] * known  # K
            write = tl.dot(inverse, eta_c[:, None] * missing, input_precision=PRECISION)
        # --- through S_C = γ_C S_0 + Σ D_{C,s} w_s φ_sᵀ
        reaches = last_row(after, TILE)
        of_write = tl.dot(phi_c, tl.trans(grad_state), input_precision=PRECISION)  # φ S̄_Cᵀ
        by_write = reaches[:, None] * of_write
        by_phi = tl.dot(reaches[:, None] * write, grad_state, input_precision=PRECISION)
        # gradients by the sums of log α: of D and γ, and of those of the token before
        sums = tl.where(row == TILE - 1, (reaches * tl.sum(write * of_write, 1))[None, :], 0.0)
        sums_before = tl.zeros((TILE, TILE), tl.float32)
        from_start = tl.where(t == TILE - 1, kept * tl.sum(grad_state * state), 0.0)
        from_start_before = tl.zeros((TILE,), tl.float32)
        by_state = kept * grad_state
        # --- through o_t = γ_t S_0 q_t + Σ D_{t,s} (φ_sᵀ q_t) w_s
        if READ != "none":
            q_c = tl.load(q + which * length * d_in + of_in, mask=in_in, other=0.0).to(tl.float32)
            by_answer = tl.load(grad_outputs + of_out, mask=in_out, other=0.0).to(tl.float32)
            if READ == "post":
                seen, left = after, gamma
            else:
                seen, left = before, gamma_before
            scores = tl.dot(q_c, tl.trans(phi_c), input_precision=PRECISION)
            by_write += tl.dot(tl.trans(seen * scores), by_answer, input_precision=PRECISION)
            by_scores = seen * tl.dot(by_answer, tl.trans(write), input_precision=PRECISION)
            by_start = left[:, None] * by_answer  # by S_0 q_t
            of_start = tl.sum(by_start * tl.dot(q_c, tl.trans(state), input_precision=PRECISION), 1)
            if READ == "post":
                sums += by_scores * scores
                from_start += of_start
            else:
                sums_before += by_scores * scores
                from_start_before += of_start
            by_q = tl.dot(by_start, state, input_precision=PRECISION)
            by_q += tl.dot(by_scores, phi_c, input_precision=PRECISION)
            tl.store(grad_q + share * length * d_in + of_in, by_q, mask=in_in)
            by_phi += tl.dot(tl.trans(by_scores), q_c, input_precision=PRECISION)
            by_state += tl.dot(tl.trans(by_start), q_c, input_precision=PRECISION)
        # --- through (I + L) w = η K
        if ERASE == "none":
            by_eta = tl.sum(by_write * u_c, 1)
            by_u = eta_c[:, None] * by_write
        else:
            by_wanted = tl.dot(tl.trans(inverse), by_write, input_precision=PRECISION)  # g
            by_system = tl.dot(by_wanted, tl.trans(write), input_precision=PRECISION)
            by_system = tl.where(row > column, -by_system, 0.0)
            by_eta = tl.sum(by_wanted * missing, 1) + tl.sum(by_system * ratio * gram, 1)
            by_u = eta_c[:, None] * by_wanted
            by_known = -faded[:, None] * by_u  # by S_0 φ_t
            by_gram = eta_c[:, None] * ratio * by_system
            by_phi += tl.dot(by_known, state, input_precision=PRECISION)
            by_phi += tl.dot(by_gram + tl.trans(by_gram), phi_c, input_precision=PRECISION)
            by_state += tl.dot(tl.trans(by_known), phi_c, input_precision=PRECISION)
            if ERASE == "after_decay":
                sums += by_gram * gram
                from_start += tl.sum(by_known * known, 1)
            else:
                sums_before += by_gram * gram
                from_start_before += tl.sum(by_known * known, 1)
        by_log = through_sums(sums, from_start, TILE, 0, PRECISION)
        by_log += through_sums(sums_before, from_start_before, TILE, 1, PRECISION)
        by_alpha = tl.where(alpha_c < 1e-30, 0.0, by_log / least)  # below, α counts as 1e-30
        tl.store(grad_phi + share * length * d_in + of_in, by_phi, mask=in_in)
        tl.store(grad_u + of_out, by_u, mask=in_out)
        tl.store(grad_eta + share * length + token, by_eta, mask=there)
        tl.store(grad_alpha + share * length + token, by_alpha, mask=there)
        grad_state = by_state
    tl.store(grad_start + which * d_out * d_in + of_state, grad_state, mask=in_state)
