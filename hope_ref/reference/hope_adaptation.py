"""HOPE that goes on learning while it reads: `signal="task"`, every level moved by the model's own loss on tokens just seen. [D]

L_t = -log p(x_{t+1} | x_≤t). Segments are the smallest chunk long; the token after a segment is its last target. Here
nothing is differentiated by machine: the gradients are four-point central differences, good to about 1e-10, one weight
at a time. So this is for tiny models, as a judge of faster code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, shape_is
from hope_ref.config import HopeConfig
from hope_ref.reference.activations import rms_norm, silu
from hope_ref.reference.continuum_memory import LevelState, moved_on, read, stream, weights_of
from hope_ref.reference.hope import (
    BlockState,
    HopeState,
    block,
    checked_state,
    checked_tokens,
    hope,
    initial_state,
    levels,
    mix,
    part,
)

STEP = 3e-4  # of the central differences: truncation and rounding both come to about 1e-11

Arrays = dict[str, Array]


class AdaptationState(NamedTuple):
    """All that a later token can see of earlier ones, and of the targets that have not yet come."""

    start: HopeState  # at the first token of the open segment
    now: HopeState
    segment: Array  # the tokens since then, (s,), s <= the smallest chunk


def adapt(
    tokens: Any, parameters: Arrays, config: HopeConfig, state: AdaptationState | None = None
) -> tuple[Array, AdaptationState]:
    """Logits of tokens read one by one, while the levels of every block learn from the loss on those before [S 14-15, P 71, D].

    When the token after a full segment arrives, -∂/∂W Σ L over the segment goes into every level's sum, the model's
    state at the segment's start held fixed; levels whose chunk is complete move; then the token is read. So no logit
    depends on a later token, and a split anywhere gives the same.

    Args:
        tokens, parameters, config: as `hope`; all ``levels_chunk_sizes`` are multiples of the smallest.
        state: what the last call returned; None starts from the parameters.
    Returns:
        logits, (T, vocabulary), and the state.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    if not isinstance(config, HopeConfig) or config.signal != "task":
        raise ValueError(f"config.signal must be 'task', got {getattr(config, 'signal', config)!r}")
    first = initial_state(parameters, config)
    tokens = checked_tokens(tokens, len(parameters["embedding"]))
    if state is None:
        state = AdaptationState(first, first, tokens[:0])
    start, now, segment = _checked(state, parameters, config)
    logits = [np.zeros((0, len(parameters["embedding"])))]
    for token in tokens:
        if len(segment) == config.levels_chunk_sizes[0]:
            targets = np.append(segment[1:], token)
            now = learned(now, start, segment, targets, parameters, config)
            start, segment = now, segment[:0]
        here, now = hope([token], parameters, config, now)
        logits.append(here)
        segment = np.append(segment, token)
    return np.concatenate(logits), AdaptationState(start, now, segment)


def _checked(state: Any, parameters: Arrays, config: HopeConfig) -> AdaptationState:
    """Both states as `hope` checks them, and an open segment that leads from one to the other."""
    if not isinstance(state, AdaptationState):
        raise ValueError(f"state must be an AdaptationState or None, got {type(state).__name__}")
    start, now = (
        checked_state(getattr(state, name), parameters, config, f"state.{name}") for name in ("start", "now")
    )
    segment = checked_tokens(state.segment, config.vocabulary, "state.segment")
    shape_is("state.segment", segment.shape, (now.position - start.position,))
    if len(segment) > config.levels_chunk_sizes[0]:
        raise ValueError(
            f"state.segment must have at most {config.levels_chunk_sizes[0]} tokens, got {len(segment)}"
        )
    for index, (first, last) in enumerate(zip(start.blocks, now.blocks, strict=True)):
        if last.continuum.position != first.continuum.position:
            raise ValueError(
                f"state.now.blocks[{index}].continuum.position must be {first.continuum.position}, "
                f"as in state.start, got {last.continuum.position}"
            )
    return AdaptationState(start, now, segment)


@np.errstate(over="ignore", invalid="ignore")  # seen in the results
def learned(
    now: HopeState,
    start: HopeState,
    segment: Array,
    targets: Array,
    parameters: Arrays,
    config: HopeConfig,
) -> HopeState:
    """Take one segment's gradients into the sums of every level; move the levels whose chunk is complete."""
    options, blocks = config.cms_options, []
    if config.learned_rates:
        options = options._replace(rates=tuple(np.exp(parameters["log_rates"])))
    mixed = mixed_rows(segment, parameters, config, start)
    inputs = level_inputs(mixed, parameters, config, start)
    for index, block_state in enumerate(now.blocks):
        updated = []
        for level, before in enumerate(block_state.continuum.levels):
            loss = with_weights(start, index, level, mixed[index], targets, parameters, config)
            gradient1 = central_differences(partial(loss, "w1"), before.w1)
            gradient2 = central_differences(partial(loss, "w2"), before.w2)
            phi1, phi2 = inputs[index][level]
            sums = {"sum1": before.sum1 - gradient1, "sum2": before.sum2 - gradient2}
            if config.rule == "dgd":
                sums |= {"gram1": before.gram1 + phi1.T @ phi1, "gram2": before.gram2 + phi2.T @ phi2}
            updated.append(before._replace(**sums))
        continuum = moved_on(updated, block_state.continuum.position + len(segment), options)
        blocks.append(BlockState(block_state.mixer, continuum))
    return now._replace(blocks=tuple(blocks))


def with_weights(
    start: HopeState,
    index: int,
    level: int,
    mixed: Array,
    targets: Array,
    parameters: Arrays,
    config: HopeConfig,
) -> Callable[[str, Array], float]:
    """Σ L over the segment as a function of w1 or w2, by name, of one level of one block; ``mixed`` is what its levels are given."""
    own, state, options = part(parameters, f"blocks.{index}"), start.blocks[index], config.cms_options

    def loss(name: str, weight: Array) -> float:
        moved: list[LevelState] = list(state.continuum.levels)
        moved[level] = moved[level]._replace(**{name: weight})
        continuum = state.continuum._replace(levels=tuple(moved))
        x, _ = stream(mixed, levels(own, config), continuum, options, config.signal, config.objective)
        for later in range(index + 1, len(start.blocks)):
            x, _ = block(x, part(parameters, f"blocks.{later}"), config, start.blocks[later])
        return next_token_loss(rms_norm(x, parameters["norm"]) @ parameters["embedding"].T, targets)

    return loss


def next_token_loss(logits: Array, targets: Array) -> float:
    """Σ_t -log softmax(logits_t)[target_t], in nats."""
    largest = logits.max(axis=1, keepdims=True)
    log_sum = largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1))
    return float(np.sum(log_sum - logits[np.arange(len(targets)), targets]))


def central_differences(function: Callable[[Array], float], at: Array) -> Array:
    """The gradient by (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h in every entry: its error is of order h⁴."""
    gradient = np.zeros_like(at)
    for entry in np.ndindex(at.shape):
        direction = np.zeros_like(at)
        direction[entry] = STEP
        near = function(at + direction) - function(at - direction)
        far = function(at + 2 * direction) - function(at - 2 * direction)
        gradient[entry] = (8 * near - far) / (12 * STEP)
    return gradient


def mixed_rows(segment: Array, parameters: Arrays, config: HopeConfig, start: HopeState) -> list[Array]:
    """Per block what its first sub-layer hands to the levels, (s, d): no level of that block has a part in it."""
    x, rows = parameters["embedding"][segment], []
    for index, before in enumerate(start.blocks):
        own = part(parameters, f"blocks.{index}")
        mixed, _ = mix(x, own, config, before.mixer)
        rows.append(mixed)
        x, _ = stream(
            mixed,
            levels(own, config),
            before.continuum,
            config.cms_options,
            config.signal,
            config.objective,
        )
    return rows


def level_inputs(
    mixed: list[Array], parameters: Arrays, config: HopeConfig, start: HopeState
) -> list[list[tuple[Array, Array]]]:
    """Per block and level the inputs of W1 and of W2, σ(W2 n) and n, one row a token, at the segment's constant weights."""
    inputs = []
    for index, before in enumerate(start.blocks):
        weights, slow = weights_of(before.continuum), levels(part(parameters, f"blocks.{index}"), config)
        level_rows = [
            read(row, weights, slow, config.variant, config.order)[1] for row in mixed[index]
        ]  # (s, levels)
        rows = []
        for level, (_, w2) in enumerate(weights):
            n = np.array([rms_norm(token[level], slow[level].gain) for token in level_rows])  # (s, d)
            rows.append((silu(n @ w2.T), n))
        inputs.append(rows)
    return inputs
