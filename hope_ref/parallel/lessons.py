"""Reading in lessons: only the levels carry from one to the next, every mixer begins anew. Equal to `hope_ref.reference.lessons`. [D]

What stands in a context is gone when the context ends. What the levels of the continuum memory learned while reading is
not: `learn` reads a lesson and returns the levels, `ask` reads on with them and nothing else. With ``differentiable`` the
outer loss flows through every update into the states that levels start from: they are meta-learned [P 73, p. 28, p. 31].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hope_ref.common.validation import whole_number
from hope_ref.parallel import continuum_memory, hope_adaptation, states
from hope_ref.parallel.continuum_memory import ContinuumState, LevelState
from hope_ref.parallel.hope import Hope


def begin(model: Hope, lead: tuple[int, ...] = ()) -> ContinuumState:
    """The levels of all blocks where they start, stacked: W1 of a level is (blocks, *lead, d, h).

    Args: model, with ``signal="task"``; lead, one entry of θ for every sequence.
    Raises: ValueError if the levels of the model do not learn from its loss.
    """
    hope_adaptation.check_model(model)
    return hope_adaptation.stacked(model.initial_state(lead))


def learn(
    model: Hope,
    tokens: Tensor,
    levels: ContinuumState | None = None,
    *,
    emptied: bool = False,
    segments: int = 0,
    differentiable: bool = False,
) -> tuple[Tensor, ContinuumState]:
    """Read a lesson while the levels learn from the model's own loss; every mixer begins empty, and none is kept.

    Logits and levels are those of `hope_adaptation.adapt`, bit for bit in exact arithmetic; here each segment of
    C = min_ℓ C^(ℓ) tokens is run once, because its targets are there from the start.

    Args:
        model: with ``signal="task"`` in its configuration.
        tokens: integers in [0, vocabulary), (..., n C + 1), n >= 1; the last one is only the target of the one before it.
        levels: what the last call returned, for the same leading axes; None: `begin`.
        emptied: mixers begin anew in every segment, so that levels alone carry within a lesson, too.
        segments: truncation. The outer gradient passes through the updates of so many segments; beyond, what a level has
            moved by counts as a constant, θ = θ_0 + [θ - θ_0], and so does all that a mixer holds. 0: through all of them.
        differentiable: keep the graph of logits and levels, through every update, to the parameters.
    Returns:
        logits, (..., n C, vocabulary), each before any level has heard its target; and the levels.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    hope_adaptation.check_model(model)
    tokens = model.check_tokens(tokens)
    size = model.config.levels_chunk_sizes[0]
    if tokens.shape[-1] < size + 1 or (tokens.shape[-1] - 1) % size:
        raise ValueError(
            f"tokens must have a multiple of {size} tokens, the fastest level's chunk, and 1 more, got {tokens.shape[-1]}"
        )
    segments = whole_number("segments", segments)
    lead = tuple(tokens.shape[:-1])
    with torch.set_grad_enabled(differentiable):
        first = model.initial_state(lead)
        start, fresh = hope_adaptation.stacked(first), hope_adaptation.mixers_of(first)
        now = start if levels is None else _checked(levels, start, size)
        options, forward = model.cms_options, hope_adaptation.forward_of(model)
        mixers, logits = fresh, []
        for number, at in enumerate(range(0, tokens.shape[-1] - 1, size)):
            if segments and number and number % segments == 0:
                now, mixers = shortened(now, start), states.mapped(Tensor.detach, mixers)
            demands, outputs, mixers = continuum_memory.demanded(
                tokens[..., at : at + size],
                tokens[..., at + 1 : at + size + 1],
                continuum_memory.weights_of(now),
                fresh if emptied else mixers,
                forward,
                hope_adaptation.loss_of,
                options.rule,
                differentiable,
            )
            now = continuum_memory.after(now, demands, size, options)
            if not differentiable:
                outputs, mixers = outputs.detach(), states.mapped(Tensor.detach, mixers)
            logits.append(outputs)
    return torch.cat(logits, -2), now


def read(model: Hope, tokens: Tensor) -> Tensor:
    """Logits of any number of tokens, (..., T, vocabulary), levels learning from where they start, mixers emptied every C tokens.

    Args: model, with ``signal="task"``; tokens, integers in [0, vocabulary), (..., T). Raises: ValueError, as `learn`.
    """
    size = model.config.levels_chunk_sizes[0]
    whole = max(tokens.shape[-1] - 1, 0) // size * size  # tokens of segments whose last target is there, too
    if not whole:
        return ask(model, tokens, begin(model, tuple(tokens.shape[:-1])))
    logits, levels = learn(model, tokens[..., : whole + 1], emptied=True)
    return torch.cat([logits, ask(model, tokens[..., whole:], levels)], -2)


def shortened(levels: ContinuumState, start: ContinuumState) -> ContinuumState:
    """The same levels, of which the start alone still depends on the parameters: θ_0 + [θ - θ_0], sums as constants [D]."""

    def constant(now: Tensor, first: Tensor) -> Tensor:
        return first + (now - first).detach()

    cut = []
    for now, first in zip(levels.levels, start.levels, strict=True):
        weights = (constant(*pair) for pair in zip(now[:4], first[:4], strict=True))
        cut.append(LevelState(*weights, *(total.detach() for total in now[4:])))
    return ContinuumState(tuple(cut), levels.position)


def ask(model: Hope, tokens: Tensor, levels: ContinuumState) -> Tensor:
    """Read with levels as they are and hold them still; every mixer begins empty: what is right was in the levels.

    Args:
        model: whose levels these are.
        tokens: integers in [0, vocabulary), (..., T). Leading axes beyond those of the levels count questions that do not
            hear each other: (batch, questions, T).
        levels: as `learn` returned them.
    Returns:
        logits, (..., T, vocabulary).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    hope_adaptation.check_model(model)
    tokens = model.check_tokens(tokens)
    known = isinstance(levels, ContinuumState) and levels.levels and isinstance(levels.levels[0].w1, Tensor)
    axes = levels.levels[0].w1.ndim - 3 if known else 0
    lead = tuple(tokens.shape[: min(axes, tokens.ndim - 1)])
    levels = _checked(levels, begin(model, lead), model.config.levels_chunk_sizes[0])
    x = functional.embedding(tokens, model.embedding)  # (*lead, ..., T, d)
    for index, block in enumerate(model.blocks):
        x, _ = block.mixer(x)  # type: ignore[operator]
        own = tuple((w1[index], w2[index]) for w1, w2 in continuum_memory.weights_of(levels))
        of_block = block.continuum.parameters_of_levels()  # type: ignore[operator, union-attr]
        rows = x.flatten(
            len(lead), -2
        )  # all questions of a sequence meet the same weights: one product for all
        y, _ = continuum_memory.read(rows, own, of_block, model.config.variant, model.config.order)
        x = y.reshape(x.shape)
    return model.head(x)


def _checked(levels: Any, like: ContinuumState, size: int) -> ContinuumState:
    """Raise a ValueError unless these are the model's levels, for the same sequences, at the end of a segment."""
    found: ContinuumState = states.checked(levels, like._replace(position=None), "levels")  # type: ignore[arg-type]
    if found.position % size:
        raise ValueError(f"levels.position must be a multiple of {size}, got {found.position}")
    return found
