"""The continuum memory system: MLPs in a row, each holding still for its own number of tokens. Source: [S 14-15], [P 70-74].

Within its chunk a level adds up what it would write; at the end of the chunk it moves once. `continuum_memory` is the
forward pass; `adapt` is the driver that lets levels learn from a model's own loss on the tokens just seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, positive_integer, scalar
from hope_ref.config import CHOICES, CmsOptions, cms_options
from hope_ref.reference.activations import rms_norm, silu, silu_derivative
from hope_ref.reference.states import check

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
    "stream",
]

Weights = tuple[tuple[Array, Array], ...]  # (W1, W2) of every level, fast to slow


class Level(NamedTuple):
    """The parameters of one level. W1 and W2 are where θ starts; the others are slow and do not move here."""

    w1: Any  # (d, h), applied last
    w2: Any  # (h, d)
    gain: Any  # (d,), of RMSNorm
    value: Any = None  # V, (d, d): what an "associative" level is to answer; not needed otherwise
    weight: Any = 1.0  # a_ℓ, of the "independent" variant


class LevelState(NamedTuple):
    """What one level carries from token to token."""

    w1: Array  # θ, (d, h)
    w2: Array  # θ, (h, d)
    start1: Array  # θ_0, moves only in the "nested" variant
    start2: Array
    sum1: Array  # Σ u φᵀ over the open chunk, (d, h): carried, however short the chunk still is
    sum2: Array  # (h, d)
    gram1: Array  # Σ φ φᵀ over the open chunk, (h, h), for rule "dgd"
    gram2: Array  # (d, d)


class ContinuumState(NamedTuple):
    """The state of all levels, fast to slow, and the number of tokens whose signals they have taken in."""

    levels: tuple[LevelState, ...]
    position: int


class Signal(NamedTuple):
    """What c tokens ask of one level: wanted outputs u = -∂L/∂(W φ) and inputs φ, one token per row."""

    u1: Array  # (c, d)
    phi1: Array  # (c, h), σ(W2 n)
    u2: Array  # (c, h)
    phi2: Array  # (c, d), n


class AdaptState(NamedTuple):
    """What `adapt` carries: the levels, the model's own state at the open segment's start and now, the open tokens."""

    continuum: ContinuumState
    start: Any
    running: Any
    segment: Array  # (s, ...), s <= the smallest chunk size


def level_function(z: Array, w1: Array, w2: Array, gain: Array) -> Array:
    """f_θ(z) = W1 σ(W2 n), n = RMSNorm(z): the residual branch of a level, (d,) to (d,) [P 89, D]."""
    return w1 @ silu(w2 @ rms_norm(z, gain))


def associative_signal(z: Array, w1: Array, w2: Array, level: Level, objective: str) -> Signal:
    """What one token asks of a level that is to answer V n: minus the gradient of ½‖f_θ(z) - V n‖² or -⟨f_θ(z), V n⟩.

    e = f_θ(z) - V n ("l2") or -V n ("dot"); W1: φ = σ(W2 n), u = -e; W2: φ = n, u = -(W1ᵀ e) ⊙ σ′(W2 n) [D].
    """
    n = rms_norm(z, level.gain)  # (d,)
    hidden = w2 @ n  # (h,)
    target = level.value @ n  # (d,)
    error = (w1 @ silu(hidden) if objective == "l2" else 0.0) - target
    rows = (-error, silu(hidden), -(w1.T @ error) * silu_derivative(hidden), n)
    return Signal(*(row[None] for row in rows))


def taken_in(state: LevelState, signal: Signal, rule: str) -> LevelState:
    """Add the signals of some tokens to the level's sums; θ holds still."""
    u1, phi1, u2, phi2 = signal
    state = state._replace(sum1=state.sum1 + u1.T @ phi1, sum2=state.sum2 + u2.T @ phi2)
    if rule == "dgd":
        state = state._replace(gram1=state.gram1 + phi1.T @ phi1, gram2=state.gram2 + phi2.T @ phi2)
    return state


def chunk_step(w: Array, total: Array, gram: Array, rate: float, rule: str) -> Array:
    """One update for a whole chunk, from its sums alone: "gd" W + η Σ u φᵀ; "dgd" (W + η Σ u φᵀ)(I + η Σ φ φᵀ)⁻¹.

    The second is the implicit step W + η (U - W X)(I + η XᵀX)⁻¹ Xᵀ [S 35, D], rearranged so that no token is kept.
    """
    explicit = w + rate * total
    if rule == "gd":
        return explicit
    system = np.eye(len(gram)) + rate * gram  # symmetric
    return np.linalg.solve(system, explicit.T).T.astype(np.float64)


def moved(state: LevelState, rate: float, rule: str) -> LevelState:
    """The level at the end of its chunk: one update, and empty sums."""
    return state._replace(
        w1=chunk_step(state.w1, state.sum1, state.gram1, rate, rule),
        w2=chunk_step(state.w2, state.sum2, state.gram2, rate, rule),
        **{name: np.zeros_like(getattr(state, name)) for name in ("sum1", "sum2", "gram1", "gram2")},
    )


def restarted(state: LevelState, rate: float) -> LevelState:
    """θ_0 ← θ_0 + ε (θ - θ_0), then θ ← θ_0: a slower boundary sends the level back to a start that has learned [D]."""
    start1 = state.start1 + rate * (state.w1 - state.start1)
    start2 = state.start2 + rate * (state.w2 - state.start2)
    return state._replace(w1=start1, w2=start2, start1=start1, start2=start2)


def random_levels(width: int, count: int, seed: int) -> tuple[Level, ...]:
    """Levels to start from: h = 4 d, W1 ~ N(0, 0.25/h), W2 ~ N(0, 1/d), gains 1, V orthogonal, a = 1 [D]."""
    rng, hidden = np.random.default_rng(seed), 4 * positive_integer("width", width)
    return tuple(
        Level(
            rng.normal(size=(width, hidden)) * np.sqrt(0.25 / hidden),
            rng.normal(size=(hidden, width)) / np.sqrt(width),
            np.ones(width),
            np.linalg.qr(rng.normal(size=(width, width))).Q,
        )
        for _ in range(positive_integer("count", count))
    )


def initial_state(parameters: Sequence[Level]) -> ContinuumState:
    """Every level at its parameters, with empty sums."""
    states = []
    for w1, w2, *_ in checked_levels(parameters, False):
        grams = np.zeros((len(w2), len(w2))), np.zeros((len(w1), len(w1)))
        states.append(LevelState(w1, w2, w1, w2, np.zeros_like(w1), np.zeros_like(w2), *grams))
    return ContinuumState(tuple(states), 0)


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
    inputs, z = [x] * len(levels), x
    indices = range(len(levels)) if order == "fast_to_slow" else reversed(range(len(levels)))
    for index in indices:
        inputs[index] = z
        z = z + level_function(z, *weights[index], levels[index].gain)
    return z, inputs


def after(state: ContinuumState, signals: Sequence[Signal], options: CmsOptions) -> ContinuumState:
    """Take in the signals of the same tokens at every level; then move the levels whose chunk is complete [S 15, P 71].

    The others stay as they are. In the nested variant a boundary of a level also restarts the next faster one, after
    every level has applied its own update.
    """
    levels = [taken_in(s, signal, options.rule) for s, signal in zip(state.levels, signals, strict=True)]
    return moved_on(levels, state.position + len(signals[0].u1), options)


def moved_on(levels: Sequence[LevelState], position: int, options: CmsOptions) -> ContinuumState:
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
    one_of("signal", signal, CHOICES["signal"])
    one_of("objective", objective, CHOICES["objective"])
    options = cms_options(len(levels), levels_chunk_sizes, cms_rate, nested_rate, variant, order, rule)
    state = initial_state(levels) if state is None else checked_state(state, levels)
    return stream(x, levels, state, options, signal, objective)


def stream(
    x: Array, levels: Sequence[Level], state: ContinuumState, options: CmsOptions, signal: str, objective: str
) -> tuple[Array, ContinuumState]:
    """The loop over tokens of `continuum_memory`, which has checked the arguments; inf and NaN pass."""
    y = np.zeros_like(x)  # (T, d)
    for t in range(len(x)):
        y[t], inputs = read(x[t], weights_of(state), levels, options.variant, options.order)
        if signal == "associative":
            demands = [
                associative_signal(z, *theta, level, objective)
                for z, theta, level in zip(inputs, weights_of(state), levels, strict=True)
            ]
            state = after(state, demands, options)
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
    chosen = cms_options(len(levels), **options)
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
            demands = signals(segment, targets, weights_of(continuum), start)
            continuum = after(continuum, checked_signals(demands, levels, length), chosen)
            start, segment = running, segment[:0]
        output, running = step(token, weights_of(continuum), running)
        outputs.append(output)
        segment = np.concatenate([segment, token[None]]) if len(segment) else token[None]
    return np.array(outputs), AdaptState(continuum, start, running, segment)


# --- checks --------------------------------------------------------------------------------------------------------------


def checked_levels(parameters: Sequence[Level], with_value: bool) -> tuple[Level, ...]:
    """Validate the parameters: one width d for all levels, any hidden width for each."""
    if len(parameters) == 0:
        raise ValueError("parameters must have at least one level, got none")
    levels, width = [], np.shape(parameters[0].w1)[:1]
    for index, (w1, w2, gain, value, weight) in enumerate(parameters):
        name = f"parameters[{index}]"
        w1 = float64(f"{name}.w1", w1, (*(width or ("d",)), "h"))
        d, hidden = w1.shape
        if value is None and with_value:
            raise ValueError(f"{name}.value must be given for signal='associative', got None")
        levels.append(
            Level(
                w1,
                float64(f"{name}.w2", w2, (hidden, d)),
                float64(f"{name}.gain", gain, (d,)),
                None if value is None else float64(f"{name}.value", value, (d, d)),
                scalar(f"{name}.weight", weight),
            )
        )
    return tuple(levels)


def checked_state(state: Any, levels: Sequence[Level]) -> ContinuumState:
    """Validate what an earlier call returned. It need not be finite: an overflow goes on, so that it is seen."""
    check(state, initial_state(levels)._replace(position=None))  # type: ignore[arg-type]
    return state


def checked_signals(signals: Sequence[Signal], levels: Sequence[Level], length: int) -> list[Signal]:
    """Validate what a model's ``signals`` answered."""
    if len(signals) != len(levels):
        raise ValueError(f"signals must return one entry per level ({len(levels)}), got {len(signals)}")
    checked = []
    for index, (signal, level) in enumerate(zip(signals, levels, strict=True)):
        d, hidden = level.w1.shape
        arrays = [
            float64(f"signals[{index}].{name}", array, (length, size))
            for name, array, size in zip(Signal._fields, signal, (d, hidden, hidden, d), strict=True)
        ]
        checked.append(Signal(*arrays))
    return checked
