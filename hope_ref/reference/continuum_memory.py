"""The continuum memory system: MLPs in a row, each holding still for its own number of tokens. Source: [S 14-15], [P 70-74].

Within its chunk a level adds up what it would write; at the end of the chunk it moves once. `continuum_memory` is the
forward pass; `adapt` is the driver that lets levels learn from a model's own loss on the tokens just seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hope_ref.continuum_settings import OBJECTIVES, SIGNALS, Settings, settings
from hope_ref.reference.continuum_levels import (
    ContinuumState,
    Level,
    LevelState,
    Signal,
    associative_signal,
    checked_levels,
    checked_signals,
    checked_state,
    chunk_step,
    initial_state,
    level_function,
    moved,
    random_levels,
    restarted,
    rms_norm,
    taken_in,
)
from hope_ref.validation import Array, float64, one_of

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
]

Weights = tuple[tuple[Array, Array], ...]  # (W1, W2) of every level, fast to slow


class AdaptState(NamedTuple):
    """What `adapt` carries: the levels, the model's own state at the open segment's start and now, the open tokens."""

    continuum: ContinuumState
    start: Any
    running: Any
    segment: Array  # (s, ...), s <= the smallest chunk size


def weights_of(state: ContinuumState) -> Weights:
    """(W1, W2) of every level, as they are now."""
    return tuple((level.w1, level.w2) for level in state.levels)


def read(
    x: Array, weights: Weights, levels: Sequence[Level], variant: str, order: str
) -> tuple[Array, list[Array]]:
    """Send one token through all levels; returns y and what each level was given, both (d,).

    "sequential" and "nested": z ← z + f_θ(z), level after level [S 14, P 72-73]; "independent":
    y = x + Σ_ℓ a_ℓ f_θ(ℓ)(x) [P 74].
    """
    if variant == "independent":
        branches = [
            level.weight * level_function(x, *theta, level.gain)
            for theta, level in zip(weights, levels, strict=True)
        ]
        return x + sum(branches), [x] * len(levels)
    given, z = [x] * len(levels), x
    indices = range(len(levels)) if order == "fast_to_slow" else reversed(range(len(levels)))
    for index in indices:
        given[index] = z
        z = z + level_function(z, *weights[index], levels[index].gain)
    return z, given


def after(state: ContinuumState, signals: Sequence[Signal], options: Settings) -> ContinuumState:
    """Take in the signals of the same tokens at every level; then move the levels whose chunk is complete [S 15, P 71].

    The others stay as they are. In the nested variant a boundary of a level also restarts the next faster one, after
    every level has applied its own update.
    """
    levels = [taken_in(s, signal, options.rule) for s, signal in zip(state.levels, signals, strict=True)]
    return moved_on(levels, state.position + len(signals[0].u1), options)


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
    x: Any,
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
) -> tuple[Array, ContinuumState]:
    """y = MLP^(K)(… MLP^(1)(x)), token by token; after token i with (i + 1) ≡ 0 (mod C) a level moves by its chunk's sum.

    [S 14-15], [P 70-74], corrected: C terms, first used by the next token, and θ *unchanged* at all other tokens.

    Args:
        x: tokens, (T, d).
        parameters: one `Level` each, fast to slow.
        state: what the last call returned; None starts every level at its parameters.
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
        outputs y, (T, d), and the state after the last token.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    levels = checked_levels(parameters, signal == "associative")
    x = float64("x", x, ("T", levels[0].gain.size))
    one_of("signal", signal, SIGNALS)
    one_of("objective", objective, OBJECTIVES)
    options = settings(len(levels), levels_chunk_sizes, cms_rate, nested_rate, variant, order, rule)
    state = initial_state(levels) if state is None else checked_state(state, levels)
    return stream(x, levels, state, options, signal, objective)


def stream(
    x: Array, levels: Sequence[Level], state: ContinuumState, options: Settings, signal: str, objective: str
) -> tuple[Array, ContinuumState]:
    """The loop over tokens of `continuum_memory`, which has checked the arguments; inf and NaN pass."""
    y = np.zeros_like(x)  # (T, d)
    for t in range(len(x)):
        y[t], given = read(x[t], weights_of(state), levels, options.variant, options.order)
        if signal == "associative":
            asked = [
                associative_signal(z, *theta, level, objective)
                for z, theta, level in zip(given, weights_of(state), levels, strict=True)
            ]
            state = after(state, asked, options)
    return y, state


def adapt(
    tokens: Any,
    parameters: Sequence[Level],
    step: Callable[[Any, Weights, Any], tuple[Array, Any]],
    signals: Callable[[Array, Array, Weights, Any], Sequence[Signal]],
    state: AdaptState | None = None,
    *,
    model_state: Any = None,
    **options: Any,
) -> tuple[Array, AdaptState]:
    """Stream tokens through a model and let its levels learn from its own loss on tokens just seen: ``signal="task"`` [D].

    Segments are the smallest chunk long. When the token after a segment arrives, it is the segment's last target:
    ``signals`` is asked once, the sums take its answer in, levels whose chunk is complete move; then the token is
    processed. So no output depends on a later token.

    Args:
        tokens: (T, ...), of any type that the model reads.
        parameters: as `continuum_memory`.
        step: (token, weights, model state) -> output, model state: the model's forward pass for one token.
        signals: (tokens, targets, weights, model state at the segment's start) -> one `Signal` per level, of the sum
            of the losses over the segment. That state counts as a constant: no gradient reaches earlier segments.
        state: what the last call returned; None starts from the parameters and ``model_state``.
        model_state: where the model's own state starts; anything, None if it has none.
        options: levels_chunk_sizes (all multiples of the smallest), cms_rate, nested_rate, variant, order and rule,
            as `continuum_memory`. Variant and order are the model's to obey, too.
    Returns:
        outputs, (T, ...), and the state.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    levels = checked_levels(parameters, False)
    chosen = settings(len(levels), **options)
    length = chosen.chunk_sizes[0]
    if any(size % length for size in chosen.chunk_sizes):
        raise ValueError(
            f"levels_chunk_sizes must all be multiples of the smallest (task), got {chosen.chunk_sizes}"
        )
    tokens, outputs = np.asarray(tokens), []
    if tokens.ndim == 0:
        raise ValueError("tokens must have shape (T, ...), got ()")
    if state is None:
        state = AdaptState(initial_state(levels), model_state, model_state, tokens[:0])
    continuum, start, running, segment = state
    continuum = checked_state(continuum, levels)
    for token in tokens:
        if len(segment) == length:  # this token is the last target of the segment
            targets = np.concatenate([segment[1:], token[None]])
            asked = signals(segment, targets, weights_of(continuum), start)
            continuum = after(continuum, checked_signals(asked, levels, length), chosen)
            start, segment = running, segment[:0]
        output, running = step(token, weights_of(continuum), running)
        outputs.append(output)
        segment = np.concatenate([segment, token[None]]) if len(segment) else token[None]
    return np.array(outputs), AdaptState(continuum, start, running, segment)
