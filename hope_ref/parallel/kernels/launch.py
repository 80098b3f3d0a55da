"""From tensors to a launch and back: shapes, tile sizes, and the gradient's place in autograd. [D]"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hope_ref.common.validation import one_of
from hope_ref.parallel.kernels import DTYPES, too_wide
from hope_ref.parallel.kernels.backward import backward
from hope_ref.parallel.kernels.forward import forward
from hope_ref.parallel.kernels.gradients import gradients

LEAST = 16  # a tile's shortest side: what tensor cores multiply
# Tokens and rows of one tile. The result is the same for every choice; these spill least (`compiled`, whose report has it).
TOKENS = {torch.float32: 16, torch.bfloat16: 32}
ROWS = 16
BLOCK = 16  # columns and rows of a state at once, where it does not stay in registers
WARPS = 4
# float32 as three products of its parts on tensor cores, near float32 itself. One product holds more digits than bfloat16.
PRECISION = {torch.float32: "tf32x3", torch.bfloat16: "tf32"}
READS = ("post", "pre", "none")


class Tiles(NamedTuple):
    """The constants of a launch: every set of them, but for the first, is a kernel of its own."""

    chunk_size: int  # tokens at once
    TILE: int  # their place: a power of two, at least 16
    LEVELS: int  # doublings of `unit_lower_inverse`
    IN: int  # the place of d_in
    OUT: int  # rows of the state in one program
    BLOCK: int  # columns, and rows, of what passes through registers
    PRECISION: str  # of products, see above; the interpreter has but one, float32
    warps: int


def power_of_two(number: int) -> int:
    """The least power of two that is at least the number, and at least 16."""
    return max(LEAST, 1 << (number - 1).bit_length())


def tiles(chunk_size: int, d_in: int, dtype: torch.dtype) -> Tiles:
    """The constants for a size. Raises: ValueError if a row of the state does not fit in registers."""
    if why := too_wide(d_in, dtype):
        raise ValueError(why)
    tokens = min(chunk_size, TOKENS[dtype])
    tile, width = power_of_two(tokens), power_of_two(d_in)
    return Tiles(tokens, tile, tile.bit_length() - 1, width, ROWS, min(width, BLOCK), PRECISION[dtype], WARPS)


class _Recurrence(torch.autograd.Function):
    """Flat tensors, (N, T, …), contiguous; the state float32."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor | None, phi: Tensor, u: Tensor, eta: Tensor, alpha: Tensor, state: Tensor, chunk_size: int,
        erase: str, read: str,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        n, length, d_in = phi.shape
        d_out = u.shape[-1]
        sizes = tiles(min(chunk_size, length), d_in, phi.dtype)
        count = -(-length // sizes.chunk_size)
        keep = any(ctx.needs_input_grad)
        how = {
            "ERASE": erase,
            "READ": read,
            "PRECISION": sizes.PRECISION,
            "num_warps": sizes.warps,
            "num_stages": 1,
        }
        outputs = torch.empty_like(u if read != "none" else u[:0])
        end = torch.empty_like(state)
        boundaries = state.new_empty(n, count, d_out, d_in) if keep else end
        writes = torch.empty_like(u, dtype=torch.float32) if keep else end
        with torch.cuda.device_of(phi):  # Triton launches where PyTorch's current device is
            forward[n, -(-d_out // sizes.OUT)](
                phi if q is None else q, phi, u, eta, alpha, state, outputs, end, boundaries, writes,
                length, d_in, d_out, count,
                *sizes[:6], KEEP=keep, **how,
            )  # fmt: skip
        ctx.save_for_backward(q, phi, u, eta, alpha, boundaries, writes)
        ctx.sizes, ctx.how = sizes, how
        return outputs, end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, grad_end: Tensor) -> tuple[Tensor | None, ...]:
        q, phi, u, eta, alpha, boundaries, writes = ctx.saved_tensors
        sizes, how = ctx.sizes, ctx.how
        n, length, d_in = phi.shape
        d_out, count = u.shape[-1], boundaries.shape[1]
        asked = phi if q is None else q
        shape = length, d_in, d_out, count
        grad_outputs, grad_end = grad_outputs.contiguous(), grad_end.float().contiguous()
        grad_boundaries, by_wanted = torch.empty_like(boundaries), torch.empty_like(writes)
        by_state = boundaries.new_empty(n, d_out, d_in)
        by_q, by_phi, by_u, by_eta, by_alpha = (torch.empty_like(x) for x in (asked, phi, u, eta, alpha))
        with torch.cuda.device_of(phi):
            backward[n, -(-d_out // sizes.OUT)](
                asked, phi, eta, alpha, grad_outputs, grad_end, grad_boundaries, by_wanted, by_state,
                *shape, *sizes[:6], **how,
            )  # fmt: skip
            gradients[(n * count,)](
                asked, phi, u, eta, alpha, boundaries, writes, grad_boundaries, by_wanted, grad_outputs,
                by_q, by_phi, by_u, by_eta, by_alpha, *shape, sizes.chunk_size, sizes.TILE, sizes.BLOCK, **how,
            )  # fmt: skip
        of_q = None if q is None or how["READ"] == "none" else by_q
        return of_q, by_phi, by_u, by_eta, by_alpha, by_state, None, None, None


def recurrence(
    q: Tensor | None, phi: Tensor, u: Tensor, eta: Tensor, alpha: Tensor, state: Tensor, chunk_size: int, erase: str,
    read: str = "post",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`hope_ref.parallel.chunks.recurrence` in one launch: the same arguments, equations and results.

    Args:
        q, phi: (..., T, d_in), float32 or bfloat16, d_in <= 128; q may be None with read="none".
        u: (..., T, d_out). eta, alpha: (..., T). state: (..., d_out, d_in), kept in float32. Leading axes broadcast.
        chunk_size: >= 1; more than fit in a tile are taken in several, which changes nothing in the result.
        erase: as there. read: S_t q_t ("post"), S_{t-1} q_t ("pre"), or no answers ("none").
    Returns: answers, (..., T, d_out) in the dtype of u (empty with read="none"), and the final state in its own dtype.
    Raises: ValueError naming the argument, for a size or dtype that the kernels do not have.
    """
    one_of("read", read, READS)
    given = {"phi": phi, "u": u, "eta": eta, "alpha": alpha, "state": state} | ({} if q is None else {"q": q})
    for name, tensor in given.items():
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} must be float32 or bfloat16 with backend='triton', got {tensor.dtype}")
    lead = torch.broadcast_shapes(*(x.shape[:-2] for x in (phi, u, state)), eta.shape[:-1], alpha.shape[:-1])
    length, (d_out, d_in) = phi.shape[-2], state.shape[-2:]

    def flat(x: Tensor, *shape: int) -> Tensor:
        return x.expand(*lead, *shape).reshape(-1, *shape).contiguous()

    if length == 0 or 0 in lead:
        return u.expand(*lead, length, d_out)[..., : length if read != "none" else 0, :], state.expand(
            *lead, d_out, d_in
        )
    answers, end = _Recurrence.apply(
        None if q is None else flat(q, length, d_in),
        flat(phi, length, d_in), flat(u, length, d_out), flat(eta, length), flat(alpha, length),
        flat(state, d_out, d_in).float(), chunk_size, erase, read,
    )  # fmt: skip
    if read != "none":
        answers = answers.reshape(*lead, length, d_out)
    return answers, end.reshape(*lead, d_out, d_in).to(state.dtype)
