"""The continuum memory system, segment by segment. Equal to `hope_ref.reference.continuum_memory`. Source: [S 14-15], [P 70-74].

Between two boundaries of *any* level no weight moves, so all tokens of such a segment go through all levels in plain
matrix products, and what they ask of a level is a sum over them. `continuum_memory` is the forward pass; `adapt` is the
driver that lets levels learn from a model's own loss on the tokens just seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hope_ref.continuum_settings import OBJECTIVES, SIGNALS, Settings, settings
from hope_ref.parallel import doors
from hope_ref.parallel.continuum_levels import (
    ContinuumState,
    Level,
    LevelState,
    Pass,
    Signal,
    Sums,
    associative_signal,
    checked_levels,
    checked_state,
    chunk_step,
    initial_state,
    level_function,
    level_pass,
    moved,
    random_levels,
    restarted,
    rms_norm,
    sums,
    taken_in,
)
from hope_ref.validation import one_of, shape_is

__all__ = [
    "AdaptState",
    "ContinuumState",
    "Level",
    "LevelState",
    "Signal",
    "adapt",
    "chunk_step",
    "continuum_memory",
    "initial_state",
    "level_function",
    "random_levels",
    "read",
    "rms_norm",
    "stream",
    "weights_of",
]

Weights = tuple[tuple[Tensor, Tensor], ...]  # (W1, W2) of every level, fast to slow
Collect = Callable[[int, Tensor, Tensor], None]  # level, φ of its W1, φ of its W2


class AdaptState(NamedTuple):
    """What `adapt` carries: the levels, the model's own state at the open segment's start and now, the open tokens."""

    continuum: ContinuumState
    start: Any
    running: Any
    segment: Tensor  # (..., s, ...), s <= the smallest chunk size


def weights_of(state: ContinuumState) -> Weights:
    """(W1, W2) of every level, as they are now."""
    return tuple((level.w1, level.w2) for level in state.levels)


def read(
    x: Tensor,
    weights: Weights,
    levels: Sequence[Level],
    variant: str,
    order: str,
    collect: Collect | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Send tokens through all levels; returns y and what each level was given; equals `reference.read` on every token.

    Args:
        x: tokens, (..., T, d).
        weights: (W1, W2) of every level, with leading axes that broadcast to those of x.
        levels: the slow parameters.
        variant, order: as `continuum_memory`.
        collect: called with the number of each level and the inputs φ of its W1, (..., T, h), and of its W2,
            (..., T, d): what `adapt` hands to a model.
    Returns:
        y, (..., T, d), and one (..., T, d) per level.
    """
    y, passes = _through(x, weights, levels, variant, order)
    if collect is not None:
        for index, seen in enumerate(passes):
            collect(index, seen.phi, seen.n)
    return y, [seen.z for seen in passes]


def _through(
    x: Tensor, weights: Weights, levels: Sequence[Level], variant: str, order: str
) -> tuple[Tensor, list[Pass]]:
    """y, and what every level computed on the way."""
    if variant == "independent":
        passes = [level_pass(x, *theta, level.gain) for theta, level in zip(weights, levels, strict=True)]
        branches = [
            torch.as_tensor(level.weight, dtype=x.dtype, device=x.device)[..., None, None] * seen.answer
            for seen, level in zip(passes, levels, strict=True)
        ]
        return x + sum(branches), passes
    found: dict[int, Pass] = {}
    indices = range(len(levels)) if order == "fast_to_slow" else reversed(range(len(levels)))
    for index in indices:
        found[index] = level_pass(x, *weights[index], levels[index].gain)
        x = x + found[index].answer
    return x, [found[index] for index in range(len(levels))]


def after(state: ContinuumState, asked: Sequence[Sums], length: int, options: Settings) -> ContinuumState:
    """Take in what ``length`` tokens ask of every level; then move the levels whose chunk is complete [S 15, P 71].

    The others stay as they are. In the nested variant a boundary of a level also restarts the next faster one, after
    every level has applied its own update. No boundary may lie inside the tokens.
    """
    levels = [taken_in(level, total) for level, total in zip(state.levels, asked, strict=True)]
    return moved_on(levels, state.position + length, options)


def moved_on(levels: Sequence[LevelState], position: int, options: Settings) -> ContinuumState:
    """The state at that position, the sums being up to date: levels whose chunk is complete move, see `after`."""
    levels = list(levels)
    due = [position % size == 0 for size in options.chunk_sizes]
    for index, rate in enumerate(options.rates):
        if due[index]:
            levels[index] = moved(levels[index], rate, options.rule)
    if options.variant == "nested":
        for faster, slower_is_due in enumerate(due[1:]):
            if slower_is_due:
                levels[faster] = restarted(levels[faster], options.nested_rate)
    return ContinuumState(tuple(levels), position)


def continuum_memory(
    x: Tensor,
    parameters: Sequence[Level],
    state: ContinuumState | None = None,
    *,
    levels_chunk_sizes: Any = (512, 2048, 8192),
    cms_rate: Any = None,
    nested_rate: Any = 0.1,
    variant: str = "sequential",
    order: str = "fast_to_slow",
    signal: str = "task",
    rule: str = "gd",
    objective: str = "l2",
) -> tuple[Tensor, ContinuumState]:
    """y = MLP^(K)(… MLP^(1)(x)), levels moving at their boundaries; equals `reference.continuum_memory`.

    Differentiable in x and in every parameter, through every update.

    Args:
        x: tokens, (..., T, d).
        parameters: one `Level` each, fast to slow; leading axes, if any, broadcast to those of x.
        state: what the last call returned, with the leading axes of x; None starts every level at its parameters.
        levels_chunk_sizes: C^(ℓ), fast to slow.
        cms_rate: η^(ℓ) >= 0, a number or one per level; None is 0.1/C^(ℓ).
        nested_rate: ε in [0, 1], see `restarted`.
        variant: "sequential", "nested" (each C a multiple of the one before) or "independent".
        order: "fast_to_slow" or "slow_to_fast": which level a token meets first; no matter to "independent".
        signal: "associative": levels move in here; "task": only `adapt` moves them; "none": they are plain MLPs. With
            the last two the state comes back as it went in.
        rule: "gd" or "dgd", see `chunk_step`.
        objective: "l2" or "dot", see `associative_signal`.
    Returns:
        outputs y, (..., T, d), and the state after the last token.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    doors.tensors(x=x)
    lead = tuple(x.shape[:-2])
    levels = checked_levels(parameters, signal == "associative", lead)
    doors.tensors(**{"parameters[0].w1": levels[0].w1, "x": x})
    shape_is("x", tuple(x.shape), (*lead, "T", levels[0].gain.shape[-1]))
    doors.values(x=x)
    one_of("signal", signal, SIGNALS)
    one_of("objective", objective, OBJECTIVES)
    options = settings(len(levels), levels_chunk_sizes, cms_rate, nested_rate, variant, order, rule)
    state = initial_state(levels, lead) if state is None else checked_state(state, levels, lead)
    return stream(x, levels, state, options, signal, objective)


def stream(
    x: Tensor, levels: Sequence[Level], state: ContinuumState, options: Settings, signal: str, objective: str
) -> tuple[Tensor, ContinuumState]:
    """The loop over segments of `continuum_memory`, which has checked the arguments; equals `reference.stream`."""
    if signal != "associative":
        return read(x, weights_of(state), levels, options.variant, options.order)[0], state
    outputs, at = [x[..., :0, :]], 0
    while at < x.shape[-2]:
        to_boundary = min(size - state.position % size for size in options.chunk_sizes)
        part = x[..., at : at + to_boundary, :]
        y, passes = _through(part, weights_of(state), levels, options.variant, options.order)
        asked = []
        for (w1, _), level, seen in zip(weights_of(state), levels, passes, strict=True):
            assert level.value is not None  # checked_levels
            asked.append(sums(associative_signal(seen, w1, level.value, objective), options.rule))
        state = after(state, asked, part.shape[-2], options)
        outputs.append(y)
        at += part.shape[-2]
    return torch.cat(outputs, -2), state


# --- learning from the model's own loss -----------------------------------------------------------------------------


def adapt(
    tokens: Tensor,
    parameters: Sequence[Level],
    forward: Callable[[Tensor, Weights, Any, Collect | None], tuple[Tensor, Any]],
    loss: Callable[[Tensor, Tensor], Tensor],
    state: AdaptState | None = None,
    *,
    model_state: Any = None,
    token_axis: int = 0,
    lead: Sequence[int] | None = None,
    differentiable: bool = False,
    **options: Any,
) -> tuple[Tensor, AdaptState]:
    """Stream tokens through a model whose levels learn from its loss on tokens just seen; equals `reference.adapt`.

    Segments are the smallest chunk long. When the token after a segment arrives, it is the segment's last target: the
    segment is run once more, from the model's state at its start (a constant), and Σ u φᵀ is minus the gradient of its
    summed loss with respect to each W, so that no u has to be known. Then levels whose chunk is complete move, and
    the token is processed: no output depends on a later token.

    Several continuum memories in one model (one per block) adapt together as one whose parameters have an axis more:
    `lead` is then (blocks, batch), W1 of a level (blocks, 1, d, h), and block n takes entry n of its weights.

    Args:
        tokens: of any dtype, (T, ...), or with leading axes, see ``token_axis``.
        parameters: as `continuum_memory`.
        forward: (tokens, weights, model state, collect) -> outputs, model state: the model on some tokens. It hands
            ``collect``, which is None or a function, on to `read`: so rule "dgd" learns Σ φ φᵀ.
        loss: (outputs, targets) -> losses, of any shape; their sum is differentiated.
        state: what the last call returned; None starts from the parameters and ``model_state``.
        model_state: where the model's own state starts; anything, None if it has none.
        token_axis: which axis of tokens and outputs counts the tokens.
        lead: leading axes of θ, one weight per sequence; None: the axes of ``tokens`` before ``token_axis``.
        differentiable: keep the graph of outputs and state, through every update; else nothing is kept.
        options: levels_chunk_sizes (all multiples of the smallest), cms_rate, nested_rate, variant, order and rule,
            as `continuum_memory`. Variant and order are the model's to obey, too.
    Returns:
        outputs, the token axis in its place, and the state. With no tokens the model is asked for none.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    if not isinstance(tokens, Tensor) or not 0 <= token_axis < tokens.ndim:
        got = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ValueError(f"tokens must be a tensor with a token axis {token_axis}, got {got}")
    lead = tuple(tokens.shape[:token_axis] if lead is None else lead)
    levels = checked_levels(parameters, False, lead)
    chosen = settings(len(levels), **options)
    length = chosen.chunk_sizes[0]
    if any(size % length for size in chosen.chunk_sizes):
        raise ValueError(
            f"levels_chunk_sizes must all be multiples of the smallest (task), got {chosen.chunk_sizes}"
        )
    with torch.set_grad_enabled(differentiable):
        if state is None:
            empty = tokens.narrow(token_axis, 0, 0)
            state = AdaptState(initial_state(levels, lead), model_state, model_state, empty)
        continuum, start, running, segment = state
        continuum = checked_state(continuum, levels, lead)
        if not differentiable:  # without a gradient mode, but views of a parameter would still ask for one
            detached = (LevelState(*(part.detach() for part in level)) for level in continuum.levels)
            continuum = continuum._replace(levels=tuple(detached))
        outputs: list[Tensor] = []
        at, total = 0, tokens.shape[token_axis]
        while at < total or not outputs:
            if segment.shape[token_axis] == length and at < total:
                # the token that has come is the segment's last target
                targets = torch.cat(
                    [segment.narrow(token_axis, 1, length - 1), tokens.narrow(token_axis, at, 1)], token_axis
                )
                asked = _asked(
                    segment, targets, weights_of(continuum), start, forward, loss, chosen.rule, differentiable
                )
                continuum = after(continuum, asked, length, chosen)
                start, segment = running, segment.narrow(token_axis, 0, 0)
            part = tokens.narrow(token_axis, at, min(length - segment.shape[token_axis], total - at))
            output, later = forward(part, weights_of(continuum), running, None)
            outputs.append(output)
            if part.shape[token_axis]:
                running, segment = later, torch.cat([segment, part], token_axis)
            at += part.shape[token_axis]
    return torch.cat(outputs, token_axis), AdaptState(continuum, start, running, segment)


def _asked(
    segment: Tensor,
    targets: Tensor,
    weights: Weights,
    start: Any,
    forward: Callable[..., tuple[Tensor, Any]],
    loss: Callable[[Tensor, Tensor], Tensor],
    rule: str,
    differentiable: bool,
) -> list[Sums]:
    """Σ u φᵀ of every level, as minus the gradient of the segment's summed loss, and its grams if the rule needs them."""
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def collect(index: int, phi1: Tensor, phi2: Tensor) -> None:
        grams = []
        for w, phi in zip(weights[index], (phi1, phi2), strict=True):
            shape_is(f"collect: φ of level {index}", tuple(phi.shape), (*w.shape[:-2], "c", w.shape[-1]))
            phi = phi if differentiable else phi.detach()
            grams.append(phi.mT @ phi)
        if index in found:  # a model may read its tokens in parts
            grams = [old + new for old, new in zip(found[index], grams, strict=True)]
        found[index] = grams[0], grams[1]

    with torch.enable_grad():
        # Fresh copies: the model's state at the start depends on the same θ, and must count as a constant.
        copies = tuple((_copy(w1, differentiable), _copy(w2, differentiable)) for w1, w2 in weights)
        outputs, _ = forward(segment, copies, start, collect if rule == "dgd" else None)
        total = loss(outputs, targets).sum()
        flat = [w for pair in copies for w in pair]
        if not total.requires_grad:
            raise ValueError("loss must depend on the weights that forward was given, got a constant")
        gradients = torch.autograd.grad(total, flat, create_graph=differentiable, allow_unused=True)
    for index in range(len(weights)):
        if any(g is None for g in gradients[2 * index : 2 * index + 2]):
            raise ValueError(f"forward must use the weights of every level, got none of level {index}")
        if rule == "dgd" and index not in found:
            raise ValueError(
                f"forward must hand collect on to read (rule='dgd'), got nothing of level {index}"
            )
    pairs = zip(gradients[::2], gradients[1::2], strict=True)
    return [Sums(-g1, -g2, *found.get(index, ())) for index, (g1, g2) in enumerate(pairs)]


def _copy(w: Tensor, differentiable: bool) -> Tensor:
    return w.clone() if differentiable and w.requires_grad else w.detach().clone().requires_grad_()
