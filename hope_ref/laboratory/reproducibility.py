"""Do differences of rounding fade or grow along a stream? Twins that round elsewhere, and the largest Lyapunov exponent. [D]

In exact arithmetic a stream that is cut elsewhere, or read in another precision, is the same stream. In floating-point
numbers the two differ by rounding, and the memories multiply that difference by exp(λ) per token on average. With λ < 0
the dynamics contract, and the difference stays as small as the rounding. With λ > 0 they are chaotic: the difference
doubles every log(2) / λ tokens until it is as large as the logits themselves.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hope_ref.common.nested import rebuilt
from hope_ref.common.validation import positive_integer
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.hope_adaptation import adapt
from hope_ref.parallel.states import flattened, mapped

LIMIT = 1e-3  # relative error of a token's logits beyond which a twin has left the stream
SIZE = 1e-8  # of the difference whose growth is measured, relative to the state
PIECE, CUT = 256, 97  # tokens of one call, and of one call of the twin that is cut elsewhere
LEAST = 4 * PIECE  # tokens: fewer show no growth

Pair = Any  # a structure of tensors whose first axis, of 2, holds a state and its twin


# --- the largest Lyapunov exponent ----------------------------------------------------------------------------------


def growths(advance: Callable[[Pair], Pair], pair: Pair, steps: int, size: float = SIZE) -> list[float]:
    """log of the factor by which each step stretches a small difference, which is made small again: Benettin's method.

    Their mean over many steps tends to the largest Lyapunov exponent per step, the first steps left out, in which the
    difference turns towards the direction that grows most.

    Args:
        advance: one step, of state and twin alike.
        pair: state and twin; only the direction of their difference counts. Integers are those of the state.
        steps: an integer >= 1.
        size: of the difference at the start of each step, relative to the norm of the state.
    Returns:
        a number per step; a difference that vanishes ends the list with -inf, one that is not finite with inf.
    """
    logarithms: list[float] = []
    for _ in range(positive_integer("steps", steps)):
        if _distance(pair) == 0:
            return [*logarithms, -math.inf]
        pair = renormalised(pair, size)
        before = _distance(pair)
        pair = advance(pair)
        after = _distance(pair)
        if not math.isfinite(after):
            return [*logarithms, math.inf]
        logarithms.append(math.log(after / before) if after else -math.inf)
    return logarithms


def renormalised(pair: Pair, size: float) -> Pair:
    """The twin moved towards the state until their distance is ``size`` times the norm of the state."""
    norm = math.sqrt(sum(float(leaf[0].square().sum()) for leaf in _reals(pair)))
    factor = size * norm / _distance(pair)

    def nearer(_: str, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        change = factor * (leaf[1] - leaf[0]) if leaf.is_floating_point() else 0
        return torch.stack((leaf[0], leaf[0] + change))

    return rebuilt(pair, nearer)


def settled(logarithms: list[float]) -> float:
    """The mean of the second half: the first is left to the transient."""
    half = logarithms[len(logarithms) // 2 :]
    return sum(half) / len(half)


def _distance(pair: Pair) -> float:
    return math.sqrt(sum(float((leaf[1] - leaf[0]).square().sum()) for leaf in _reals(pair)))


def _reals(pair: Pair) -> list[Tensor]:
    leaves = flattened(pair).values()
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


# --- twins of a stream ----------------------------------------------------------------------------------------------


class Drift(NamedTuple):
    """How far a twin is from the stream: ‖difference of the logits‖ / ‖logits‖, token by token."""

    left: int | None  # the first token, counted from 0, with an error above LIMIT or none that is finite
    largest: float
    last: float  # the largest of the last piece


class Reproducibility(NamedTuple):
    """What became of rounding along one stream that was read in float64, in pieces of PIECE tokens."""

    tokens: int
    float32: Drift  # of the twin in float32
    cut: Drift  # of the twin in float64 that is cut every CUT tokens of a piece
    exponent: float  # the largest Lyapunov exponent per token

    @property
    def reproducible(self) -> bool:
        """Whether no twin left the stream."""
        return self.float32.left is None and self.cut.left is None

    @property
    def chaotic(self) -> bool:
        """Whether differences grow by more than a factor e over the stream: less cannot be told from none."""
        return self.exponent * self.tokens > 1

    @property
    def doubling(self) -> float:
        """Tokens in which a difference doubles; infinite if it does not grow."""
        return math.log(2) / self.exponent if self.exponent > 0 else math.inf


def measure(model: Hope, tokens: Tensor, *, learning: bool = True) -> Reproducibility:
    """Read a stream with all twins at once.

    The twin that measures the growth reads another first piece; its state is then moved next to that of the stream.

    Args:
        model: in any precision; it stays as it is.
        tokens: integers in [0, vocabulary), (T,) with T >= LEAST; only whole pieces are read.
        learning: with ``signal="task"``, let the levels learn by `adapt`.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    model.check_tokens(tokens)
    if tokens.ndim != 1 or len(tokens) < LEAST:
        raise ValueError(f"tokens must have shape (T,) with T >= {LEAST}, got {tuple(tokens.shape)}")
    double, single = copy.deepcopy(model).double(), copy.deepcopy(model).float()
    errors: dict[str, list[Tensor]] = {"float32": [], "cut": []}
    states: dict[str, Any] = dict.fromkeys(errors)
    parts = iter(tokens.split(PIECE))

    def advance(pair: Pair, shift: int = 0) -> Pair:
        part = next(parts)
        both = torch.stack((part, (part + shift) % len(model.embedding)))
        logits, pair = read(double, both, pair, learning)
        for name, twin, length in (("float32", single, PIECE), ("cut", double, CUT)):
            pieces = []
            for piece in part.split(length):
                own, states[name] = read(twin, piece, states[name], learning)
                pieces.append(own)
            apart = torch.cat(pieces).double() - logits[0]
            errors[name].append(apart.norm(dim=-1) / logits[0].norm(dim=-1))
        return pair

    steps = len(tokens) // PIECE - 1
    exponent = settled(growths(advance, advance(None, shift=1), steps)) / PIECE
    return Reproducibility((steps + 1) * PIECE, drift(errors["float32"]), drift(errors["cut"]), exponent)


def read(model: Hope, tokens: Tensor, state: Any, learning: bool = True) -> tuple[Tensor, Any]:
    """Logits and state, without a graph; with ``signal="task"`` by `adapt`, unless nothing is to be learnt."""
    if learning and model.config.signal == "task":
        logits, state = adapt(model, tokens, state)
    else:
        with torch.no_grad():
            logits, state = model(tokens, state)
    return logits.detach(), mapped(torch.Tensor.detach, state)


def drift(errors: list[Tensor]) -> Drift:
    """Of the relative errors of every token, piece by piece."""
    every = torch.cat(errors).nan_to_num(nan=math.inf)
    beyond = (every > LIMIT).nonzero()
    last = errors[-1].nan_to_num(nan=math.inf)
    return Drift(int(beyond[0]) if len(beyond) else None, float(every.max()), float(last.max()))
