"""Memories in chunks: what they answer, what they are to write, and the write. Source: [S 28-29], [P 88-93].

The parallel form of `hope_ref.reference.self_modifying_titans`, under the same names. Weights are a tuple, (W1, W2) of
M(z) = z + W1 σ(W2 z) or (W,) of M(z) = z + W z, for one memory (..., rows, columns) or a stack (..., M, rows, columns);
vectors are rows, (..., C, d) or (..., M, C, d). Nothing is checked here, and inf and NaN pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hope_ref.config import HopeConfig
from hope_ref.parallel import chunks
from hope_ref.parallel.ops import apply, plus_product, plus_product_, product, through_silu

EPSILON = 1e-6  # inside the root of `unit`, and beside ‖φ‖² in the normalised step
Weights = tuple[Tensor, ...]


def unit(z: Tensor) -> Tensor:
    """z / √(‖z‖² + 1e-6): length one, and no division by zero [D]."""
    return z * torch.rsqrt(squared_norm(z) + EPSILON)


def squared_norm(z: Tensor) -> Tensor:
    """‖z‖² for every row z, (..., 1): a sum of squares, whose second derivative at 0 is 2 and not NaN."""
    return z.square().sum(-1, keepdim=True)


def answer(weights: Weights, z: Tensor, skip: bool = True) -> Tensor:
    """M(z) = z + W1 σ(W2 z) [P 89], or z + W z; without the leading z if not ``skip``."""
    inner = z if len(weights) == 1 else functional.silu(apply(weights[1], z))
    branch = apply(weights[0], inner)
    return z + branch if skip else branch


class Association(NamedTuple):
    """What one weight matrix is to answer, for every token of a chunk."""

    phi: Tensor  # its input, (..., M, C, d_in), or (..., 1, C, d_in) if it is the same for all
    u: Tensor  # the wanted output, (..., M, C, d_out), not yet bounded
    factor: Tensor | None  # what bounds it, see `bound_factor`, (..., M, C, 1)
    answer: Tensor  # W φ at the boundary, (..., M, C, d_out)


def associations(weights: Weights, k: Tensor, v: Tensor, config: HopeConfig) -> list[Association]:
    """Per weight matrix its input φ and wanted output u: minus the inner loss's gradient is u φᵀ, the target held fixed.

    The target v̂ is M(v), or v itself if shared. e = -v̂ for the loss -⟨M(k), v̂⟩ ("dot"), M(k) - v̂ for
    ½‖M(k) - v̂‖² ("l2"); W1: φ = σ(W2 k), u = -e;  W2: φ = k, u = -(W1ᵀ e) ⊙ σ′(W2 k);  W of a linear memory: φ = k,
    u = -e. k and v are (..., 1, C, d).
    """
    beyond = answer(weights, v, skip=False) if config.target == "self" else torch.zeros_like(v)  # v̂ - v
    if config.target_gradient == "stop":
        beyond, v = beyond.detach(), v.detach()
    if len(weights) == 1:
        inputs, answers = [k], [apply(weights[0], k)]
    else:
        hidden = apply(weights[1], k)  # (..., M, C, h)
        inputs, answers = [functional.silu(hidden), k], [hidden]
        answers.insert(0, apply(weights[0], inputs[0]))
    targets = [beyond + v if config.objective == "dot" else beyond - answers[0] + (v - k)]  # -e
    if len(weights) == 2:
        targets.append(through_silu(apply(weights[0].mT, targets[0]), answers[1]))
    return [
        Association(phi, u, bound_factor(u, config.surprise_bound), answer)
        for phi, u, answer in zip(inputs, targets, answers, strict=True)
    ]


def bound_factor(u: Tensor, bound: float) -> Tensor | None:
    """c / √(c² + ‖u‖²): u times it keeps its direction and is shorter than c; c = 0 leaves u as it is, None [D]."""
    return bound * torch.rsqrt(bound**2 + squared_norm(u)) if bound > 0 else None


def step_size(eta: Tensor, square: Tensor, step: str) -> Tensor:
    """η̃ from ‖φ‖²: η/(1 + η‖φ‖²) ("implicit" [P 57]), η/(‖φ‖² + 1e-6) ("normalized"), η ("explicit", as printed)."""
    if step == "implicit":
        return eta / (1 + eta * square)
    return eta / (square + EPSILON) if step == "normalized" else eta


class Retention(NamedTuple):
    """How the memories of a group forget within one chunk, and how far their writes reach."""

    forgetting: int  # how many of them, the last ones, do
    decay: chunks.Decays | None  # (..., M or 1, C, …); None: none does
    reach: chunks.Reaches | None  # with inner momentum


class Matrix(NamedTuple):
    """One weight matrix of a group where a chunk begins, every tensor (..., memories, d_out, d_in)."""

    weight: Tensor  # W_0, at the chunk's first token
    parts: tuple[
        Tensor, ...
    ]  # the same, those that keep and those that forget apart; the first may be absent
    initial: Tensor  # the parameter
    returning: Tensor  # the parameter again, of those that forget
    momentum: Tensor | None  # B_0
    retention: Retention


class Moving(NamedTuple):
    """One weight matrix of a group on its way through a chunk: where it starts and what every token writes."""

    start: Matrix
    phi: Tensor  # (..., M or 1, C, d_in)
    rows: Tensor | None  # w_t, reaches later states by D_{t,s}; None: nothing, (..., M, C, d_out)
    pushed: Tensor | None  # η̃ u, reaches later states by c_{t,s}: with inner momentum only


def write(start: Matrix, association: Association, gram: Tensor, eta: Tensor, config: HopeConfig) -> Moving:
    """All writes of a chunk to one weight matrix: W_t = α W_{t-1} + (1 - α) R - η̃ ((W_{t-1} - E) φ - u) φᵀ [P 88, D].

    With W_t = γ_t W_0 + (1 - γ_t) R + what the chunk wrote, what is erased, p_t = (W_{t-1} - E) φ_t, is known but for
    the chunk's own earlier writes: one triangular solve. R is the initial weight or 0, what forgetting returns to; E
    is 0 or the initial weight, what the erase term measures from. ``gram`` is φ_tᵀ φ_s, eta (..., M, C).
    """
    phi, u, factor, known = association
    _, decay, reach = start.retention
    eta = step_size(eta, gram.diagonal(dim1=-2, dim2=-1), config.step)[..., None]  # η̃, (..., M, C, 1)
    pushed = u * (eta if factor is None else eta * factor)  # η̃ u, (..., M, C, d_out)
    moving = Moving(start, phi, None, None if reach is None else pushed)
    if config.erase == "none":
        return moving if reach is not None else moving._replace(rows=pushed)
    known = _erasable(start, phi, known, config)  # p_t, but for what the chunk itself erases
    if reach is not None and start.momentum is not None:
        known = known + reach.start_before[..., None] * apply(start.momentum, phi)
        known = chunks.reads(gram, reach.write_before, pushed, known)
        target = -eta * known
    else:
        target = torch.addcmul(pushed, eta, known, value=-1)
    ratio = None if decay is None else decay.ratio_before
    return moving._replace(rows=chunks.writes(gram, eta[..., 0], ratio, target))


def _erasable(start: Matrix, phi: Tensor, known: Tensor, config: HopeConfig) -> Tensor:
    """(γ_{t-1} W_0 + (1 - γ_{t-1}) R - E) φ_t, where ``known`` is W_0 φ_t."""
    count, decay, _ = start.retention
    if decay is not None and phi.shape[-2] > 1:  # at a chunk's first token nothing is forgotten yet
        gamma = _last(decay.gamma_before[..., None], count)
        share = None
        if config.retention_target == "initial":
            share = apply(start.returning, _last(phi, count))
        known = _with_last(known, count, lambda last: _kept(last, share, gamma))
    return known - apply(start.initial, phi) if config.erase == "deviation" else known


def _kept(now: Tensor, initial: Tensor | None, gamma: Tensor) -> Tensor:
    """γ W + (1 - γ) R, of weights or of their answers: what forgetting leaves; R = 0 if None."""
    return gamma * now if initial is None else torch.lerp(initial, now, gamma)


def _last(stack: Tensor, count: int) -> Tensor:
    """The last memories of a stack, (..., count, :, :), or what is the same for all, (..., 1, :, :)."""
    return stack if stack.shape[-3] in (1, count) else stack[..., -count:, :, :]


def _with_last(stack: Tensor, count: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A new stack, its last memories changed, the others as they were."""
    if count == stack.shape[-3]:
        return change(stack)
    others, last = stack.split([stack.shape[-3] - count, count], -3)
    return torch.cat([others, change(last)], -3)


def reading(moving: Moving, q: Tensor, config: HopeConfig, after: bool) -> Tensor:
    """W_t q_t of `memory`, the group's last, after token t's write or before it, (..., 1, C, d_out)."""
    _, decay, reach = moving.start.retention
    assert decay is not None  # `memory` always forgets
    moment = 0 if after else 1  # the second of each pair is that of the token before
    gamma, ratio = (
        _last(pair[moment], 1) for pair in ((decay[0][..., None], decay[1][..., None]), decay[2:])
    )
    phi = _last(moving.phi, 1)
    scores = product(q, phi.mT)  # φ_sᵀ q_t, (..., 1, C, C)
    share = apply(_last(moving.start.returning, 1), q) if config.retention_target == "initial" else None
    answered = _kept(apply(_last(moving.start.parts[-1], 1), q), share, gamma)
    if moving.rows is not None:
        answered = chunks.reads(scores, ratio, _last(moving.rows, 1), answered)
    if reach is not None and moving.start.momentum is not None and moving.pushed is not None:
        begun, written = (
            _last(pair[moment], 1) for pair in ((reach[0][..., None], reach[1][..., None]), reach[2:4])
        )
        answered = answered + begun * apply(_last(moving.start.momentum, 1), q)
        answered = chunks.reads(scores, written, _last(moving.pushed, 1), answered)
    return answered


def moved(moving: Moving, config: HopeConfig, overwrite: bool = False) -> tuple[Tensor, Tensor | None]:
    """W_C and B_C, after the chunk's last token; ``overwrite`` puts W_C in the place of W_0."""
    start = moving.start
    count, decay, reach = start.retention
    weight, ratio = start.weight, None
    if decay is not None:
        ratio = decay.ratio
        returning = start.returning if config.retention_target == "initial" else None
        last = _kept(start.parts[-1], returning, _last(decay.gamma[..., -1, None, None], count))
        if overwrite:
            start.parts[-1].copy_(last)  # a part of W_0
        else:
            weight = torch.cat([start.parts[0], last], -3) if len(start.parts) == 2 else last
    if moving.rows is not None:
        own = overwrite or decay is not None  # what was kept is a new tensor
        add = plus_product_ if own else plus_product
        weight = add(weight, chunks.reaching(ratio, moving.rows).mT, moving.phi)
    if reach is None or start.momentum is None or moving.pushed is None:
        return weight, None
    weight = weight + reach.start[..., -1, None, None] * start.momentum
    weight = chunks.final_state(moving.phi, reach.write, moving.pushed, weight)
    momentum = reach.fade_start[-1] * start.momentum
    return weight, chunks.final_state(moving.phi, reach.fade, moving.pushed, momentum)
