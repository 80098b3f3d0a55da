"""One level of the continuum memory, and what all levels share: parameters, state, options, signals, the update. [D]

`continuum_memory` is the door; the functions here take what it has checked, and let an overflow pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hope_ref.reference.activations import silu, silu_derivative
from hope_ref.validation import Array, float64, positive_integer, scalar, shape_is

EPSILON = 1e-6  # inside the root of RMSNorm


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


def rms_norm(z: Array, gain: Array) -> Array:
    """gain ⊙ z / √(mean z² + 1e-6), over the last axis [D]."""
    mean_square = np.mean(z**2, axis=-1, keepdims=True)
    return np.asarray(gain * z / np.sqrt(mean_square + EPSILON))


def level_function(z: Array, w1: Array, w2: Array, gain: Array) -> Array:
    """f_θ(z) = W1 σ(W2 n), n = RMSNorm(z): the residual branch of a level, (d,) to (d,) [P 89, D]."""
    return w1 @ silu(w2 @ rms_norm(z, gain))


def associative_signal(z: Array, w1: Array, w2: Array, level: Level, objective: str) -> Signal:
    """What one token asks of a level that is to answer V n: minus the gradient of ½‖f_θ(z) - V n‖² or -⟨f_θ(z), V n⟩.

    e = f_θ(z) - V n ("l2") or -V n ("dot"); W1: φ = σ(W2 n), u = -e; W2: φ = n, u = -(W1ᵀ e) ⊙ σ′(W2 n) [D].
    """
    n = rms_norm(z, level.gain)  # (d,)
    hidden = w2 @ n  # (h,)
    wanted = level.value @ n  # (d,)
    error = (w1 @ silu(hidden) if objective == "l2" else 0.0) - wanted
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


def checked_state(state: ContinuumState, levels: Sequence[Level]) -> ContinuumState:
    """Validate what an earlier call returned. It need not be finite: an overflow goes on, so that it is seen."""
    if len(state.levels) != len(levels):
        raise ValueError(
            f"state.levels must have one entry per level ({len(levels)}), got {len(state.levels)}"
        )
    fresh, checked = initial_state(levels), []
    for index, (got, want) in enumerate(zip(state.levels, fresh.levels, strict=True)):
        for name, array, pattern in zip(LevelState._fields, got, want, strict=True):
            if getattr(array, "dtype", None) != np.float64:
                kind = getattr(array, "dtype", type(array).__name__)
                raise ValueError(f"state.levels[{index}].{name} must be a float64 array, got {kind}")
            shape_is(f"state.levels[{index}].{name}", array.shape, pattern.shape)
        checked.append(got)
    position = state.position if state.position == 0 else positive_integer("state.position", state.position)
    return ContinuumState(tuple(checked), position)


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
