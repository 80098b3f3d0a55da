"""Reading in lessons: only the levels carry from one to the next, every mixer begins anew. Source: [P 73, p. 28, p. 31], [D].

What stands in a context is gone when the context ends; what the levels of the continuum memory learned while reading is
not. The gradients are four-point central differences, as in `reference.hope_adaptation`: for tiny models, as a judge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.reference import hope_adaptation, states
from hope_ref.reference.continuum_memory import ContinuumState
from hope_ref.reference.hope import BlockState, HopeState, checked_tokens, initial_state, stream
from hope_ref.reference.parameters import checked_parameters

Arrays = dict[str, Array]
Levels = tuple[ContinuumState, ...]  # of each block


def begin(parameters: Arrays, config: HopeConfig) -> Levels:
    """The levels of every block where they start. Raises: ValueError, as `hope`, or if they do not learn from its loss."""
    if not isinstance(config, HopeConfig) or config.signal != "task":
        raise ValueError(f"config.signal must be 'task', got {getattr(config, 'signal', config)!r}")
    return tuple(block.continuum for block in initial_state(parameters, config).blocks)


def learn(
    tokens: Any,
    parameters: Arrays,
    config: HopeConfig,
    levels: Levels | None = None,
    *,
    emptied: bool = False,
) -> tuple[Array, Levels]:
    """Read a lesson, segment by segment; after each the levels take in -∂/∂W Σ L, and those whose chunk is complete move.

    L_t = -log p(x_{t+1} | x_≤t), the mixers' state at the segment's start held fixed [S 14-15, P 71, D].

    Args:
        tokens: integers in [0, vocabulary), (n C + 1,), C the fastest level's chunk, n >= 1; the last one is only the
            target of the one before it.
        parameters, config: as `hope`, with ``signal="task"``.
        levels: what the last call returned; None: `begin`.
        emptied: mixers begin anew in every segment; else in every lesson.
    Returns:
        logits, (n C, vocabulary), each before any level has heard its target; and the levels.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    levels = _checked(levels, begin(parameters, config), config)
    parameters = checked_parameters(parameters, config)
    tokens = checked_tokens(tokens, config.vocabulary)
    size = config.levels_chunk_sizes[0]
    if len(tokens) < size + 1 or (len(tokens) - 1) % size:
        raise ValueError(
            f"tokens must have a multiple of {size} tokens, the fastest level's chunk, and 1 more, got {len(tokens)}"
        )
    fresh, logits = initial_state(parameters, config), []
    state = _with(fresh, levels)
    for at in range(0, len(tokens) - 1, size):
        segment, targets = tokens[at : at + size], tokens[at + 1 : at + size + 1]
        start = _with(fresh, levels) if emptied else state
        outputs, state = stream(segment, parameters, config, start)
        logits.append(outputs)
        state = hope_adaptation.learned(state, start, segment, targets, parameters, config)
        levels = tuple(block.continuum for block in state.blocks)
    return np.concatenate(logits), levels


def ask(tokens: Any, parameters: Arrays, config: HopeConfig, levels: Levels) -> Array:
    """Read with levels as they are and hold them still; every mixer begins empty: what is right was in the levels.

    Args: tokens, (T,); parameters and config as `learn`; levels, as `learn` returned them.
    Returns: logits, (T, vocabulary). Raises: ValueError, naming the argument, what it got and what it wants.
    """
    levels = _checked(levels, begin(parameters, config), config)
    parameters = checked_parameters(parameters, config)
    tokens = checked_tokens(tokens, config.vocabulary)
    return stream(tokens, parameters, config, _with(initial_state(parameters, config), levels))[0]


def _with(fresh: HopeState, levels: Levels) -> HopeState:
    """A state in which nothing was read, with these levels."""
    blocks = (BlockState(block.mixer, own) for block, own in zip(fresh.blocks, levels, strict=True))
    return fresh._replace(blocks=tuple(blocks))


def _checked(levels: Any, like: Levels, config: HopeConfig) -> Levels:
    """The levels, if they are the model's, at the end of a segment."""
    if levels is None:
        return like
    states.check(levels, tuple(one._replace(position=None) for one in like), "levels")  # type: ignore[arg-type]
    size, seen = config.levels_chunk_sizes[0], {one.position for one in levels}
    if len(seen) > 1 or seen.pop() % size:
        raise ValueError(
            f"levels must have one position, a multiple of {size}, got {[one.position for one in levels]}"
        )
    return levels
