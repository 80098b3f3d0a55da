r"""The gradients of a chunk by its inputs, every chunk at once. [D]

`forward` has left S_0 and w of every chunk, `backward` S̄_C and g. With a bar, or ∂ before a Greek letter, for gradients,
and D, γ, D⁻, γ⁻, L, K as in `backward`:

    L̄ = -g wᵀ below the diagonal,    G = η L̄ ⊙ D⁻,    A = D ⊙ ō wᵀ

    ū  = η g
    ∂η = Σ_o g K + Σ_s L̄ ⊙ D⁻ ⊙ φφᵀ
    q̄  = γ ō S_0 + A φ
    ∂φ = D_C w S̄_C - γ⁻ ū S_0 + (G + Gᵀ) φ + Aᵀ q

and the gradients by the sums of log α, which are those by every D and γ times D and γ. Small tables stay in registers;
what is as wide as a state passes through them, a block of the state at a time:

        TILE            BLOCK         BLOCK               BLOCK
       ┌──────┐       ┌──────┐      ┌─────────┐         ┌───────────┐
  TILE │ A, G │  TILE │ φ, q │ TILE │ w, g, ō │   BLOCK │ S_0,  S̄_C │
       └──────┘       └──────┘      └─────────┘         └───────────┘

over all blocks for A and G, and over all blocks again for q̄ and ∂φ.
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
    through_sums,
)


@triton.jit(do_not_specialize=VARYING)
def gradients(
    q, phi, u, eta, alpha, boundaries, writes, grad_boundaries, grad_wanted, grad_outputs,
    grad_q, grad_phi, grad_u, grad_eta, grad_alpha,
    length, d_in, d_out, chunks, chunk_size,
    TILE: tl.constexpr, BLOCK: tl.constexpr, ERASE: tl.constexpr, READ: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    r"""One program: one chunk of one memory of one head of one sequence, all rows of its state. Grid (all chunks of all).

    Sums over rows are made here, in one order, so two runs give the same bits.
    """
    place = tl.program_id(0).to(tl.int64)
    which, chunk = place // chunks, place % chunks
    start = boundaries + place * d_out * d_in
    grad_end = grad_boundaries + place * d_out * d_in
    t = tl.arange(0, TILE)
    row, column = t[:, None], t[None, :]
    there = (t < chunk_size) & (chunk * chunk_size + t < length)
    token = which * length + chunk * chunk_size + t
    eta_c = tl.load(eta + token, mask=there, other=0.0).to(tl.float32)
    least = retained(alpha, token, there)
    log_alpha = tl.log(least)
    after, ratio, faded, seen, left = chunk_decays(log_alpha, TILE, ERASE, READ, PRECISION)
    reaches, kept = last_row(after, TILE), tl.exp(tl.sum(log_alpha, 0))
    # --- over all blocks: what the tables are made of
    by_eta = tl.zeros((TILE,), tl.float32)
    of_end = tl.zeros((TILE,), tl.float32)  # Σ_o w φ S̄_C
    of_start = tl.zeros((TILE,), tl.float32)  # Σ_o ō q S_0
    of_known = tl.zeros((TILE,), tl.float32)  # Σ_o g φ S_0
    of_kept = tl.zeros((BLOCK,), tl.float32)  # Σ S̄_C S_0
    answered = tl.zeros((TILE, TILE), tl.float32)  # ō wᵀ
    written = tl.zeros((TILE, TILE), tl.float32)  # g wᵀ
    for first_o in range(0, d_out, BLOCK):
        o = first_o + tl.arange(0, BLOCK)
        in_o = o < d_out
        reach = tl.zeros((TILE, BLOCK), tl.float32)  # φ S̄_Cᵀ
        known = tl.zeros((TILE, BLOCK), tl.float32)  # φ S_0ᵀ
        asked = tl.zeros((TILE, BLOCK), tl.float32)  # q S_0ᵀ
        for first_i in range(0, d_in, BLOCK):
            i = first_i + tl.arange(0, BLOCK)
            phi_c = loaded(phi, token, there, i, d_in)
            state = loaded(start, o, in_o, i, d_in)
            grad_state = loaded(grad_end, o, in_o, i, d_in)
            reach += tl.dot(phi_c, tl.trans(grad_state), input_precision=PRECISION)
            if ERASE != "none":
                known += tl.dot(phi_c, tl.trans(state), input_precision=PRECISION)
            if READ != "none":
                q_c = loaded(q, token, there, i, d_in)
                asked += tl.dot(q_c, tl.trans(state), input_precision=PRECISION)
            of_kept += tl.sum(grad_state * state, 1)
        write = loaded(writes, token, there, o, d_out)
        by_wanted = loaded(grad_wanted, token, there, o, d_out)
        of_end += tl.sum(write * reach, 1)
        missing = loaded(u, token, there, o, d_out)  # K
        if ERASE != "none":
            missing -= faded[:, None] * known
            of_known += tl.sum(by_wanted * known, 1)
            written += tl.dot(by_wanted, tl.trans(write), input_precision=PRECISION)
        if READ != "none":
            by_answer = loaded(grad_outputs, token, there, o, d_out)
            of_start += tl.sum(by_answer * asked, 1)
            answered += tl.dot(by_answer, tl.trans(write), input_precision=PRECISION)
        by_eta += tl.sum(by_wanted * missing, 1)
        stored(eta_c[:, None] * by_wanted, grad_u, token, there, o, d_out)
    # --- the tables, and through them the gradients by the sums of log α: of D and γ, and of those of the token before
    sums = tl.where(row == TILE - 1, (reaches * of_end)[None, :], 0.0)
    sums_before = tl.zeros((TILE, TILE), tl.float32)
    from_start = tl.where(t == TILE - 1, kept * tl.sum(of_kept, 0), 0.0)
    from_start_before = tl.zeros((TILE,), tl.float32)
    by_scores = tl.zeros((TILE, TILE), tl.float32)  # A
    by_gram = tl.zeros((TILE, TILE), tl.float32)  # G
    if READ != "none":
        by_scores = seen * answered
        of_scores = by_scores * products(q, phi, token, there, d_in, TILE, BLOCK, PRECISION)
        if READ == "post":
            sums += of_scores
            from_start += left * of_start
        else:
            sums_before += of_scores
            from_start_before += left * of_start
    if ERASE != "none":
        gram = products(phi, phi, token, there, d_in, TILE, BLOCK, PRECISION)
        by_ratio = tl.where(row > column, -written, 0.0) * ratio
        by_eta += tl.sum(by_ratio * gram, 1)
        by_gram = eta_c[:, None] * by_ratio
        of_faded = -faded * eta_c * of_known
        if ERASE == "after_decay":
            sums += by_gram * gram
            from_start += of_faded
        else:
            sums_before += by_gram * gram
            from_start_before += of_faded
    by_log = through_sums(sums, from_start, TILE, 0, PRECISION)
    by_log += through_sums(sums_before, from_start_before, TILE, 1, PRECISION)
    by_alpha = by_log / least  # every sum through α holds it as a factor, 1e-30 where α is 0
    tl.store(grad_eta + token, by_eta.to(grad_eta.dtype.element_ty), mask=there)
    tl.store(grad_alpha + token, by_alpha.to(grad_alpha.dtype.element_ty), mask=there)
    # --- over all blocks again: the gradients by q and φ
    both = by_gram + tl.trans(by_gram)
    for first_i in range(0, d_in, BLOCK):
        i = first_i + tl.arange(0, BLOCK)
        phi_c = loaded(phi, token, there, i, d_in)
        by_phi = tl.dot(both, phi_c, input_precision=PRECISION)
        by_q = tl.zeros((TILE, BLOCK), tl.float32)
        if READ != "none":
            by_q += tl.dot(by_scores, phi_c, input_precision=PRECISION)
            q_c = loaded(q, token, there, i, d_in)
            by_phi += tl.dot(tl.trans(by_scores), q_c, input_precision=PRECISION)
        for first_o in range(0, d_out, BLOCK):
            o = first_o + tl.arange(0, BLOCK)
            in_o = o < d_out
            grad_state = loaded(grad_end, o, in_o, i, d_in)
            reaching = reaches[:, None] * loaded(writes, token, there, o, d_out)
            by_phi += tl.dot(reaching, grad_state, input_precision=PRECISION)
            state = loaded(start, o, in_o, i, d_in)
            if ERASE != "none":
                by_known = -(faded * eta_c)[:, None] * loaded(grad_wanted, token, there, o, d_out)
                by_phi += tl.dot(by_known, state, input_precision=PRECISION)
            if READ != "none":
                by_start = left[:, None] * loaded(grad_outputs, token, there, o, d_out)
                by_q += tl.dot(by_start, state, input_precision=PRECISION)
        stored(by_phi, grad_phi, token, there, i, d_in)
        if READ != "none":
            stored(by_q, grad_q, token, there, i, d_in)
