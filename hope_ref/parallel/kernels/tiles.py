r"""What a chunk's three kernels share: tiles from memory, tables of decays, and the inverse of a unit lower-triangular matrix. [D]

A *tile* is a small matrix that one program holds in registers. Its sides are powers of two and at least 16, as tensor
cores want them; where a chunk is shorter, the rest of the tile is filled with tokens that change nothing: φ = 0, u = 0,
η = 0, α = 1.
"""

from __future__ import annotations

import triton
import triton.language as tl

# What changes from call to call while a model runs. A kernel made for one such number serves all others: no compiling midway.
VARYING = ["length", "chunks", "chunk_size"]


@triton.jit
def loaded(matrix, rows, in_rows, columns, width):
    """Rows and columns of a matrix in memory, as float32; 0 where there are none. ``width`` is a row's length there."""
    inside = in_rows[:, None] & (columns < width)[None, :]
    return tl.load(matrix + rows[:, None] * width + columns[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def stored(value, matrix, rows, in_rows, columns, width):
    """The way back."""
    inside = in_rows[:, None] & (columns < width)[None, :]
    where = matrix + rows[:, None] * width + columns[None, :]
    tl.store(where, value.to(matrix.dtype.element_ty), mask=inside)


@triton.jit
def products(
    left, right, rows, in_rows, width, TILE: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr
):
    """Σ_i left_{t,i} right_{s,i} for the tokens of a chunk, BLOCK columns at a time: few are in registers at once."""
    found = tl.zeros((TILE, TILE), tl.float32)
    for first in range(0, width, BLOCK):
        i = first + tl.arange(0, BLOCK)
        of_left = loaded(left, rows, in_rows, i, width)
        found += tl.dot(of_left, tl.trans(loaded(right, rows, in_rows, i, width)), input_precision=PRECISION)
    return found


@triton.jit
def retained(alpha, tokens, there):
    """α, at least 1e-30, for its logarithm. Not by tl.maximum, which would hide a NaN."""
    alpha_c = tl.load(alpha + tokens, mask=there, other=1.0).to(tl.float32)
    return tl.where(alpha_c < 1e-30, 1e-30, alpha_c)


@triton.jit
def summed_logs(log_alpha, TILE: tl.constexpr, SKIP: tl.constexpr, PRECISION: tl.constexpr):
    r"""Σ_{s < r ≤ t - SKIP} log α_r for all t (rows) and s (columns), 0 where the sum is empty: exp of it is D_{t-SKIP,s}.

        s →              one product of two triangles: row t picks the tokens up to t - SKIP,
      ┌─────────┐        column s those after s. Nothing is subtracted, so that a long sum
    t │ 0       │        of large logarithms loses no digits: D is as exact as its own
    ↓ │ α 0     │        sum, and what is far from it does not matter.
      │ αα α 0  │
      └─────────┘
    """
    row = tl.arange(0, TILE)[:, None]
    column = tl.arange(0, TILE)[None, :]
    upto = tl.where(column <= row - SKIP, 1.0, 0.0)
    after = tl.where(row > column, log_alpha[:, None] + tl.zeros((TILE, TILE), tl.float32), 0.0)
    return tl.dot(upto, after, input_precision=PRECISION)


@triton.jit
def summed_logs_from_start(log_alpha, TILE: tl.constexpr, SKIP: tl.constexpr):
    """Σ_{r ≤ t - SKIP} log α_r for all t: exp of it is γ_{t-SKIP}."""
    row = tl.arange(0, TILE)[:, None]
    column = tl.arange(0, TILE)[None, :]
    return tl.sum(tl.where(column <= row - SKIP, log_alpha[None, :], 0.0), 1)


@triton.jit
def decays(log_alpha, TILE: tl.constexpr, SKIP: tl.constexpr, PRECISION: tl.constexpr):
    """D_{t-SKIP,s}, 0 where s > t - SKIP, and γ_{t-SKIP}: of the token itself, or with SKIP = 1 of the one before."""
    row = tl.arange(0, TILE)[:, None]
    column = tl.arange(0, TILE)[None, :]
    table = tl.exp(summed_logs(log_alpha, TILE, SKIP, PRECISION))
    return (
        tl.where(row - SKIP >= column, table, 0.0),
        tl.exp(summed_logs_from_start(log_alpha, TILE, SKIP)),
    )


@triton.jit
def chunk_decays(
    log_alpha, TILE: tl.constexpr, ERASE: tl.constexpr, READ: tl.constexpr, PRECISION: tl.constexpr
):
    """D_{t,s}; D and γ by which what is erased has faded; D and γ by which what is read has: at t, or at t - 1."""
    after, gamma = decays(log_alpha, TILE, 0, PRECISION)
    before, gamma_before = after, gamma
    if ERASE == "before_decay" or READ == "pre":
        before, gamma_before = decays(log_alpha, TILE, 1, PRECISION)
    ratio, faded = before, gamma_before
    if ERASE == "after_decay":
        ratio, faded = after, gamma
    seen, left = before, gamma_before
    if READ == "post":
        seen, left = after, gamma
    return after, ratio, faded, seen, left


@triton.jit
def through_sums(grad, grad_start, TILE: tl.constexpr, SKIP: tl.constexpr, PRECISION: tl.constexpr):
    """The gradient by log α_r, from those by the sums above: Σ_{t ≥ r+SKIP} (grad_start_t + Σ_{s<r} grad_{t,s})."""
    row = tl.arange(0, TILE)[:, None]
    column = tl.arange(0, TILE)[None, :]
    upto = tl.where(row <= column - SKIP, 1.0, 0.0)  # of r (rows) and t (columns)
    later = tl.dot(upto, grad, input_precision=PRECISION)  # Σ_{t ≥ r+SKIP} grad_{t,s}, of r and s
    found = tl.sum(tl.where(row > column, later, 0.0), 1)
    return found + tl.sum(upto * grad_start[None, :], 1)


@triton.jit
def unit_lower_inverse(system, TILE: tl.constexpr, LEVELS: tl.constexpr, PRECISION: tl.constexpr):
    r"""(I + L)⁻¹ for L the part of ``system`` below the diagonal, by blocks that double: LEVELS = log2 TILE.

    ┌ A    ┐⁻¹   ┌ A⁻¹            ┐     Blocks of one number first: their inverse is 1. Two inverted blocks
    └ M  B ┘   = └ -B⁻¹ M A⁻¹  B⁻¹┘     become one of twice the side. With X the matrix of all inverted
                                        blocks, every pair at once is X - X M X.
    """
    row = tl.arange(0, TILE)[:, None]
    column = tl.arange(0, TILE)[None, :]
    inverse = tl.where(row == column, 1.0, 0.0)
    for level in tl.static_range(LEVELS):
        side = 2**level
        pair = (row // (2 * side) == column // (2 * side)) & (row // side > column // side)
        between = tl.where(pair, system, 0.0)
        step = tl.dot(inverse, between, input_precision=PRECISION)
        inverse -= tl.dot(step, inverse, input_precision=PRECISION)
    return inverse


@triton.jit
def last_row(table, TILE: tl.constexpr):
    """Row TILE - 1 of a table: past the chunk's last token nothing decays, so it is that token's."""
    row = tl.arange(0, TILE)[:, None]
    return tl.sum(tl.where(row == TILE - 1, table, 0.0), 0)
