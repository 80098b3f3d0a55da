"""One level of the continuum memory, many tokens at once: parameters, state, options, signals, the update. [D]

Equal to `hope_ref.reference.continuum_levels` on every leading index. θ is per sequence: the state's weights have the
leading axes of the tokens, while the parameters may have fewer (usually none) and are shared. `continuum_memory` is
the door; the functions here take what it has checked, and let an overflow pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import silu

from hope_ref.parallel import doors
from hope_ref.validation import positive_integer, scalar, shape_is

EPSILON = 1e-6  # inside the root of RMSNorm


class Level(NamedTuple):
    """The parameters of one level. W1 and W2 are where θ starts; the others are slow and do not move here."""

    w1: Tensor  # (..., d, h), applied last
    w2: Tensor  # (..., h, d)
    gain: Tensor  # (..., d), of RMSNorm
    value: Tensor | None = (
        None  # V, (..., d, d): what an "associative" level is to answer; not needed otherwise
    )
    weight: Tensor | float = 1.0  # a_ℓ, (...), of the "independent" variant


class LevelState(NamedTuple):
    """What one level carries from token to token, for every sequence."""

    w1: Tensor  # θ, (..., d, h)
    w2: Tensor  # θ, (..., h, d)
    start1: Tensor  # θ_0, moves only in the "nested" variant
    start2: Tensor
    sum1: Tensor  # Σ u φᵀ over the open chunk, (..., d, h): carried, however short the chunk still is
    sum2: Tensor  # (..., h, d)
    gram1: Tensor  # Σ φ φᵀ over the open chunk, (..., h, h), for rule "dgd"
    gram2: Tensor  # (..., d, d)


class ContinuumState(NamedTuple):
    """The state of all levels, fast to slow, and the number of tokens whose signals they have taken in."""

    levels: tuple[LevelState, ...]
    position: int


class Pass(NamedTuple):
    """What a level computes on its way, for c tokens."""

    z: Tensor  # what it was given, (..., c, d)
    n: Tensor  # RMSNorm(z), (..., c, d), the input φ of W2
    hidden: Tensor  # W2 n, (..., c, h)
    phi: Tensor  # σ(W2 n), (..., c, h), the input φ of W1
    answer: Tensor  # f_θ(z), (..., c, d)


class Signal(NamedTuple):
    """What c tokens ask of one level: wanted outputs u = -∂L/∂(W φ) and inputs φ, one token per row."""

    u1: Tensor  # (..., c, d)
    phi1: Tensor  # (..., c, h), σ(W2 n)
    u2: Tensor  # (..., c, h)
    phi2: Tensor  # (..., c, d), n


class Sums(NamedTuple):
    """The sums of some tokens' signals; grams are None where the rule needs none."""

    sum1: Tensor  # Σ u φᵀ, (..., d, h)
    sum2: Tensor  # (..., h, d)
    gram1: Tensor | None = None  # Σ φ φᵀ, (..., h, h)
    gram2: Tensor | None = None  # (..., d, d)


def rms_norm(z: Tensor, gain: Tensor) -> Tensor:
    """gain ⊙ z / √(mean z² + 1e-6), over the last axis [D]; equals `reference.rms_norm`. z (..., c, d), gain (..., d)."""
    return gain[..., None, :] * z * torch.rsqrt(z.square().mean(-1, keepdim=True) + EPSILON)


def level_pass(z: Tensor, w1: Tensor, w2: Tensor, gain: Tensor) -> Pass:
    """f_θ(z) = W1 σ(W2 n), n = RMSNorm(z), and everything on the way, for tokens z (..., c, d) [P 89, D]."""
    n = rms_norm(z, gain)
    hidden = n @ w2.mT
    phi = silu(hidden)
    return Pass(z, n, hidden, phi, phi @ w1.mT)


def level_function(z: Tensor, w1: Tensor, w2: Tensor, gain: Tensor) -> Tensor:
    """f_θ(z), the residual branch of a level, (..., c, d); equals `reference.level_function` on every token."""
    return level_pass(z, w1, w2, gain).answer


def associative_signal(seen: Pass, w1: Tensor, value: Tensor, objective: str) -> Signal:
    """What tokens ask of a level that is to answer V n; equals `reference.associative_signal`, all tokens at once.

    e = f_θ(z) - V n ("l2") or -V n ("dot"); W1: φ = σ(W2 n), u = -e; W2: φ = n, u = -(W1ᵀ e) ⊙ σ′(W2 n) [D].
    """
    wanted = seen.n @ value.mT  # (..., c, d)
    error = seen.answer - wanted if objective == "l2" else -wanted
    gate = torch.sigmoid(seen.hidden)
    slope = gate * (1 + seen.hidden * torch.sigmoid(-seen.hidden))  # σ′, (..., c, h)
    return Signal(-error, seen.phi, -(error @ w1) * slope, seen.n)


def sums(signal: Signal, rule: str) -> Sums:
    """Σ u φᵀ and, for "dgd", Σ φ φᵀ over the tokens."""
    u1, phi1, u2, phi2 = signal
    written = Sums(u1.mT @ phi1, u2.mT @ phi2)
    return written._replace(gram1=phi1.mT @ phi1, gram2=phi2.mT @ phi2) if rule == "dgd" else written


def taken_in(state: LevelState, asked: Sums) -> LevelState:
    """Add some tokens' sums to the level's; θ holds still."""
    state = state._replace(sum1=state.sum1 + asked.sum1, sum2=state.sum2 + asked.sum2)
    if asked.gram1 is not None and asked.gram2 is not None:
        state = state._replace(gram1=state.gram1 + asked.gram1, gram2=state.gram2 + asked.gram2)
    return state


def chunk_step(w: Tensor, total: Tensor, gram: Tensor, rate: float, rule: str) -> Tensor:
    """One update for a whole chunk, from its sums alone; equals `reference.chunk_step` on every leading index.

    "gd": W + η Σ u φᵀ; "dgd": (W + η Σ u φᵀ)(I + η Σ φ φᵀ)⁻¹, one implicit step for the chunk [S 35, D].
    """
    explicit = w + rate * total
    if rule == "gd":
        return explicit
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    # the system is positive definite: a GPU need not report back whether it was singular (`solve_ex`)
    return torch.linalg.solve_ex(identity + rate * gram, explicit.mT)[0].mT


def moved(state: LevelState, rate: float, rule: str) -> LevelState:
    """The level at the end of its chunk: one update, and empty sums."""
    return state._replace(
        w1=chunk_step(state.w1, state.sum1, state.gram1, rate, rule),
        w2=chunk_step(state.w2, state.sum2, state.gram2, rate, rule),
        **{
            name: _zeros(state.w1, *getattr(state, name).shape) for name in ("sum1", "sum2", "gram1", "gram2")
        },
    )


def restarted(state: LevelState, rate: float) -> LevelState:
    """θ_0 ← θ_0 + ε (θ - θ_0), then θ ← θ_0: a slower boundary sends the level back to a start that has learned [D]."""
    start1 = state.start1 + rate * (state.w1 - state.start1)
    start2 = state.start2 + rate * (state.w2 - state.start2)
    return state._replace(w1=start1, w2=start2, start1=start1, start2=start2)


def random_levels(width: int, count: int, seed: int, dtype: torch.dtype | None = None) -> tuple[Level, ...]:
    """Levels to start from, the numbers of `reference.random_levels`: W1 ~ N(0, 0.25/h), W2 ~ N(0, 1/d), V orthogonal [D]."""
    rng, hidden = np.random.default_rng(seed), 4 * positive_integer("width", width)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    drawn = []
    for _ in range(positive_integer("count", count)):
        w1 = rng.normal(size=(width, hidden)) * np.sqrt(0.25 / hidden)
        w2 = rng.normal(size=(hidden, width)) / np.sqrt(width)
        value = np.linalg.qr(rng.normal(size=(width, width))).Q
        drawn.append(Level(*(torch.from_numpy(p).to(dtype) for p in (w1, w2, np.ones(width), value))))
    return tuple(drawn)


def initial_state(parameters: Sequence[Level], lead: Sequence[int] = ()) -> ContinuumState:
    """Every level at its parameters, with empty sums, for sequences in the leading axes ``lead``."""
    states = []
    for w1, w2, *_ in checked_levels(parameters, False, tuple(lead)):
        w1, w2 = (w.expand(*lead, *w.shape[-2:]) for w in (w1, w2))
        d, hidden = w1.shape[-2:]
        sums = (_zeros(w1, *lead, *shape) for shape in ((d, hidden), (hidden, d), (hidden, hidden), (d, d)))
        states.append(LevelState(w1, w2, w1, w2, *sums))
    return ContinuumState(tuple(states), 0)


def _zeros(like: Tensor, *shape: int) -> Tensor:
    """Zeros that take no room until something is added: a gram that no rule uses costs one number."""
    return torch.zeros((), dtype=like.dtype, device=like.device).expand(shape)


def checked_levels(parameters: Sequence[Level], with_value: bool, lead: tuple[int, ...]) -> tuple[Level, ...]:
    """Validate the parameters: one width d for all levels, any hidden width for each, leading axes that suit ``lead``."""
    if len(parameters) == 0:
        raise ValueError("parameters must have at least one level, got none")
    levels, first = [], parameters[0].w1
    doors.tensors(**{"parameters[0].w1": first})
    width = tuple(first.shape[-2:-1])
    for index, level in enumerate(parameters):
        name = f"parameters[{index}]"
        if level.value is None and with_value:
            raise ValueError(f"{name}.value must be given for signal='associative', got None")
        weight = level.weight
        if not isinstance(weight, Tensor):
            weight = torch.as_tensor(scalar(f"{name}.weight", weight), dtype=first.dtype, device=first.device)
        level = level._replace(weight=weight)
        _fits(f"{name}.w1", level.w1, (*(width or ("d",)), "h"), lead, first)
        d, hidden = level.w1.shape[-2:]
        _fits(f"{name}.w2", level.w2, (hidden, d), lead, first)
        _fits(f"{name}.gain", level.gain, (d,), lead, first)
        if level.value is not None:
            _fits(f"{name}.value", level.value, (d, d), lead, first)
        _fits(f"{name}.weight", weight, (), lead, first)
        levels.append(level)
    return tuple(levels)


def _fits(name: str, value: Any, core: tuple[int | str, ...], lead: tuple[int, ...], first: Tensor) -> None:
    """A finite tensor of shape (..., *core) like the first one, whose leading axes broadcast to ``lead``."""
    doors.tensors(**{"parameters[0].w1": first, name: value})
    shape, cut = tuple(value.shape), value.ndim - len(core)
    shape_is(name, shape[max(cut, 0) :], core)
    before = shape[:cut]
    fits = len(before) <= len(lead) and all(
        have in (1, want) for have, want in zip(reversed(before), reversed(lead), strict=False)
    )
    if not fits:
        raise ValueError(f"{name} must have leading axes that broadcast to {lead}, got shape {shape}")
    doors.values(**{name: value})


def checked_state(state: Any, levels: Sequence[Level], lead: tuple[int, ...]) -> ContinuumState:
    """Validate what an earlier call returned. It need not be finite: an overflow goes on, so that it is seen."""
    if not isinstance(state, ContinuumState):
        raise ValueError(f"state must be a ContinuumState or None, got {type(state).__name__}")
    if len(state.levels) != len(levels):
        raise ValueError(
            f"state.levels must have one entry per level ({len(levels)}), got {len(state.levels)}"
        )
    for index, (got, level) in enumerate(zip(state.levels, levels, strict=True)):
        d, hidden = level.w1.shape[-2:]
        shapes = ((d, hidden), (hidden, d)) * 3 + ((hidden, hidden), (d, d))
        for name, tensor, shape in zip(LevelState._fields, got, shapes, strict=True):
            doors.tensors(**{"parameters[0].w1": levels[0].w1, f"state.levels[{index}].{name}": tensor})
            shape_is(f"state.levels[{index}].{name}", tuple(tensor.shape), (*lead, *shape))
    position = state.position if state.position == 0 else positive_integer("state.position", state.position)
    return ContinuumState(state.levels, position)
