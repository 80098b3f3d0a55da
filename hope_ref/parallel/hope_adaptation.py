"""HOPE that goes on learning while it reads: ``signal="task"``. Equal to `hope_ref.reference.hope_adaptation`. [D]

Every level of every block moves by the model's own loss on tokens just seen, L_t = -log p(x_{t+1} | x_≤t). The continuum
memories of all blocks adapt together: their weights are stacked along a leading axis, (blocks, ..., d, h).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hope_ref.common.validation import shape_is
from hope_ref.parallel import continuum_memory, states
from hope_ref.parallel.continuum_memory import AdaptState, Collect, ContinuumState, LevelState, Weights
from hope_ref.parallel.hope import BlockState, Hope, HopeState

Mixers = tuple[tuple[Any, ...], int]  # every block's mixer state, and the position


class _AdaptationState(NamedTuple):
    start: HopeState
    now: HopeState
    segment: Tensor


class AdaptationState(states.StreamState, _AdaptationState):  # type: ignore[misc]  # indexes the batch, not the fields
    """All that a later token can see of earlier ones, and of the targets that have not yet come. See `states.StreamState`.

    Attributes:
        start: the model's state at the first token of the open segment.
        now: its state after the last token.
        segment: the tokens since then, (..., s), s <= the smallest chunk.
    """

    __slots__ = ()


states.register(AdaptationState)


def adapt(
    model: Hope, tokens: Tensor, state: AdaptationState | None = None, *, differentiable: bool = False
) -> tuple[Tensor, AdaptationState]:
    """Logits while the levels learn from the loss on the tokens before; equals `reference.hope_adaptation.adapt`.

    Causal: the loss of a segment is known when the token after it arrives, and acts from that token on. A split
    anywhere gives the same. Each segment is run twice, once for its logits and once for its gradient.

    Args:
        model: with ``signal="task"`` in its configuration.
        tokens: integers in [0, vocabulary), (..., T): one stream per sequence, each with levels of its own.
        state: what the last call returned; None starts from the parameters.
        differentiable: let an outer gradient pass through every update, to the parameters.
    Returns:
        logits, (..., T, vocabulary), and the state.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    check_model(model)
    tokens = model.check_tokens(tokens)
    batch = tuple(tokens.shape[:-1])
    with torch.set_grad_enabled(differentiable):
        if state is None:
            first = model.initial_state(batch)
            state = AdaptationState(first, first, tokens[..., :0])
        state = _checked_state(model, state, batch)
        if not differentiable:
            state = states.mapped(torch.Tensor.detach, state)
        logits, after = continuum_memory.adapt_stream(
            tokens,
            forward_of(model),
            loss_of,
            AdaptState(stacked(state.now), mixers_of(state.start), mixers_of(state.now), state.segment),
            model.cms_options,
            token_axis=len(batch),
            differentiable=differentiable,
        )
    # Levels hold still within a segment, so those of its start are those of now.
    start, now = (_whole(after.continuum, mixers, model) for mixers in (after.start, after.running))
    return logits, AdaptationState(start, now, after.segment)


def check_model(model: Any) -> None:
    """Raise a ValueError unless it is a model whose levels learn from its own loss."""
    if not isinstance(model, Hope) or model.config.signal != "task":
        got = repr(model.config.signal) if isinstance(model, Hope) else type(model).__name__
        raise ValueError(f"model must be a Hope with signal='task', got {got}")


def _checked_state(model: Hope, state: Any, batch: tuple[int, ...]) -> AdaptationState:
    """Both states as the model checks them, and an open segment no longer than the smallest chunk."""
    if not isinstance(state, AdaptationState):
        raise ValueError(f"state must be an AdaptationState or None, got {type(state).__name__}")
    start, now = (
        model.check_state(getattr(state, name), batch, f"state.{name}") for name in ("start", "now")
    )
    segment = model.check_tokens(state.segment, "state.segment")
    shape_is("state.segment", tuple(segment.shape), (*batch, now.position - start.position))
    if segment.shape[-1] > model.config.levels_chunk_sizes[0]:
        raise ValueError(
            f"state.segment must have at most {model.config.levels_chunk_sizes[0]} tokens, got {segment.shape[-1]}"
        )
    return AdaptationState(start, now, segment)


def forward_of(model: Hope) -> Any:
    """The model on some tokens with given weights of its levels, as `continuum_memory.adapt` asks for it."""

    def forward(
        tokens: Tensor, weights: Weights, mixers: Mixers, collect: Collect | None
    ) -> tuple[Tensor, Mixers]:
        states, position = mixers
        x, after = functional.embedding(tokens, model.embedding), []
        inputs: list[list[tuple[Tensor, Tensor]]] = []
        for index, block in enumerate(model.blocks):
            x, mixed = block.mixer(x, states[index])  # type: ignore[operator]
            own = tuple((w1[index], w2[index]) for w1, w2 in weights)
            inputs.append([])

            def keep(level: int, phi1: Tensor, phi2: Tensor, pairs: list[Any] = inputs[-1]) -> None:
                pairs.append((phi1, phi2))

            levels = block.continuum.parameters_of_levels()  # type: ignore[operator, union-attr]
            x, _ = continuum_memory.read(
                x, own, levels, model.config.variant, model.config.order, keep if collect else None
            )
            after.append(mixed)
        if collect is not None:
            for level in range(len(weights)):
                phi1, phi2 = (torch.stack([pairs[level][part] for pairs in inputs]) for part in (0, 1))
                collect(level, phi1, phi2)  # (blocks, ..., s, h) and (blocks, ..., s, d)
        return model.head(x), (tuple(after), position + tokens.shape[-1])

    return forward


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Σ -log p of the targets, in nats."""
    return functional.cross_entropy(
        logits.flatten(0, -2).to(torch.promote_types(logits.dtype, torch.float32)),
        targets.flatten().long(),
        reduction="sum",
    )


def stacked(state: HopeState) -> ContinuumState:
    """The levels of all blocks as one."""
    levels = zip(*(block.continuum.levels for block in state.blocks), strict=True)
    joined = tuple(
        LevelState(*(torch.stack(parts) for parts in zip(*of_blocks, strict=True))) for of_blocks in levels
    )
    return ContinuumState(joined, state.blocks[0].continuum.position)


def mixers_of(state: HopeState) -> Mixers:
    """What the mixers of all blocks carry, without the levels."""
    return tuple(block.mixer for block in state.blocks), state.position


def _whole(continuum: ContinuumState, mixers: Mixers, model: Hope) -> HopeState:
    """The model's state again, from the stacked levels and the mixers' states."""
    states, position = mixers
    blocks = []
    for index, mixed in enumerate(states):
        levels = tuple(LevelState(*(part[index] for part in level)) for level in continuum.levels)
        blocks.append(BlockState(mixed, ContinuumState(levels, continuum.position)))
    return HopeState(tuple(blocks), position, model.config)
