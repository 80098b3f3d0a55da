"""Linear memories with and without the skip: what a repeated pair settles at, and what self-made targets come to.

M(z) = W z is where the erase, the gradient and the target of a write can be told apart; M(z) = z + W z is the linear
memory of [P 92-93]. Everything is measured with the reference floor, in float64.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, in_range, one_of, positive_integer, scalar
from hope_ref.config import HopeConfig
from hope_ref.laboratory.stability import GROWN, norm
from hope_ref.reference.chunks import OBJECTIVES, boundary, wanted_output
from hope_ref.reference.self_modifying_titans import answer, write

PRINTED = HopeConfig.printed(architecture="linear")  # explicit steps, no bound, forgetting toward 0


class Pair(NamedTuple):
    """One pair (k, v), both unit, written again and again into a linear memory.

    Attributes:
        answers: the answer to k before the first write and after each, (writes + 1, d).
        limit: the shares (a, b) of the last answer a k + b v.
        factor: by what the distance from the limit is multiplied in one write; NaN: there was none to multiply.
    """

    answers: Array
    limit: tuple[float, float]
    factor: float


def repeated_pair(
    eta: Any, objective: str, alpha: Any = 1.0, skip: bool = False, chunk_size: int = 1, writes: int = 400
) -> Pair:
    """W_t = α W_{t-1} - η (W_{t-1} k - u_t) kᵀ, u_t = v (dot), v - M_b(k) (l2) [P 92-93]: where does M(k) settle?

    M(z) = W z, or z + W z with ``skip``. Without retention and token by token it settles at v with "dot", v/2 with "l2"
    and 2v/3 with "l2_without_half"; with the skip at k + v with "dot" and (k + v)/2 with "l2".

    Args:
        eta: step along the unit key, >= 0; objective: "dot", "l2" or "l2_without_half"; alpha: in [0, 1].
        skip: whether M(z) = z + W z; chunk_size: writes between two looks at M; writes: how many, >= 3 chunks.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    eta, alpha = scalar("eta", eta, low=0), scalar("alpha", alpha, low=0, high=1)
    one_of("objective", objective, OBJECTIVES)
    chunk_size, writes = positive_integer("chunk_size", chunk_size), positive_integer("writes", writes)
    in_range("writes", writes, writes, low=3 * chunk_size)
    k, v = np.eye(3)[0], np.array([0.6, 0.8, 0.0])
    w, frozen, answers = np.diag([0.3, 0.5, -0.2]), np.zeros((3, 3)), []
    for t in range(writes + 1):
        answers.append(answer((w,), k, skip))
        if t == boundary(t, chunk_size):
            frozen = w
        u = wanted_output(answer((frozen,), k, skip), v, objective)
        w, _ = write(w, w, None, k, u, eta, alpha, PRINTED)
    found = np.array(answers)
    b = found[-1, 1] / v[1]
    moves = np.diff(found[::chunk_size], axis=0)  # (chunks, 3)
    first = float(moves[0] @ moves[0])
    factor = float(moves[1] @ moves[0] / first) if first > 0 else math.nan
    return Pair(found, (float(found[-1, 0] - b * v[0]), float(b)), factor)


class SkipFree(NamedTuple):
    """A linear memory that makes its own targets, over a stream of random unit keys and values.

    Attributes:
        norms: ‖W_t‖, (T + 1,).
        rate: mean growth of log ‖W_t‖ per token over the second half; -inf at 0, inf after an overflow.
        verdict: "collapses" below 1/GROWN of the start, "explodes" above GROWN times it, else "settles".
    """

    norms: Array
    rate: float
    verdict: str


def skip_free(
    eta: Any,
    objective: str,
    skip: bool = False,
    alpha: Any = 1.0,
    width: int = 8,
    tokens: int = 1200,
    seed: int = 0,
    scale: Any = 0.5,
) -> SkipFree:
    """M(z) = W z with targets v̂ = W v is homogeneous: the write of s W is s times that of W, and 0 stays 0 [D].

    Explicit printed steps, random unit k and v, W_0 ~ N(0, scale²/d); with ``skip`` M(z) = z + W z.

    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    eta, alpha = scalar("eta", eta, low=0), scalar("alpha", alpha, low=0, high=1)
    scale = scalar("scale", scale, low=0)
    one_of("objective", objective, OBJECTIVES)
    width, tokens = positive_integer("width", width), positive_integer("tokens", tokens)
    rng = np.random.default_rng(seed)
    w = scale * rng.normal(size=(width, width)) / math.sqrt(width)
    norms = np.full(tokens + 1, np.inf)
    norms[0] = norm(w)
    for t in range(tokens):
        k, v = (z / norm(z) for z in rng.normal(size=(2, width)))
        with np.errstate(over="ignore", invalid="ignore"):
            u = wanted_output(answer((w,), k, skip), answer((w,), v, skip), objective)
            w, _ = write(w, w, None, k, u, eta, alpha, PRINTED)
        if not np.isfinite(w).all():
            break
        norms[t + 1] = norm(w)
    half, last = norms[tokens // 2], norms[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = float((np.log(last) - np.log(half)) / (tokens - tokens // 2))
    if not np.isfinite(last):
        return SkipFree(norms, math.inf, "explodes")
    if last <= norms[0] / GROWN:
        return SkipFree(norms, -math.inf if last == 0 else rate, "collapses")
    return SkipFree(norms, rate, "explodes" if last > GROWN * max(norms[0], 1.0) else "settles")
