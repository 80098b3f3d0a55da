r"""State tracking derived: which factors one write can multiply a memory by along its key, and which of them can count modulo 2.

Hypotheses: a matrix memory M(z) = W z (with the skip z + W z the same), one direction k of length λ, R = E = 0, the surprise bound off.
Along k the memory is one number, m = W k/λ², and a write is m ← f m + b; f = α - n η̃ λ², see `factor`:

    C = 1, dot              n = 1        η̃ = η/(1 + ηλ²) with η > 0 ("implicit"): f in (α - n, α), both ends open
    C = 1, ½‖·‖²            n = 2        η̃ = η < H ("explicit"): f in (α - n H λ², α)
    inside a frozen chunk   n = 1        η̃ = η/λ² with η < H ("normalized"): f in (α - n H, α)

So with the dot product, or inside a chunk, an implicit step never reaches below -(1 - α). Frozen, that is said of one token's write: a
chunk as a whole, from boundary to boundary, has a factor of its own, `delta_gradient_descent.frozen_chunk`.

Theorem (the case of one direction of Grazzi et al. 2024, arXiv:2411.12537, Theorem 1). Let f and b depend on the symbol alone.
 1. With f = -1 on the symbol 1, f = 1 on 0, b = 0 the sign of m is the parity of the word, for every length: `parity`.
 2. With f >= 0 on the symbol 1 no threshold of m is parity, and no other read-out is if m is kept in finitely many numbers. For on 1 1 1 ...
    m moves one way only, `one_way`: it crosses a threshold at most once. Rounded, m ← round(f m + b) is still a monotone map, so the
    sequence is monotone, and in a finite set it comes to rest; parity never does. The same holds for any product of factors f >= 0,
    which is such a factor again.
 3. With -1 < f < 0 the steps alternate and shrink by |f|: it serves for words as long as the precision allows, not for all.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, positive, real, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides

OBJECTIVES, STEPS = ("dot", "l2"), ("implicit", "explicit", "normalized")
CASES = (
    ("dot", False),
    ("l2", True),
    ("l2", False),
)  # objective, and whether the gradient is frozen at a boundary
ETA, ALPHA, LENGTH, MOST = positive("eta alpha lambda H")
LETTERS = 4  # the words that are run


def factor(objective: str, step: str, frozen: bool) -> Any:
    """f: how much of a change of W along k is left after one write, differentiated; ‖k‖ = λ is put in at the end.

    The write is W ← α W - η̃ W k kᵀ - η̃ ∇L, the slope taken at W, or at the boundary's Z if ``frozen``.
    """
    weight, boundary, unknown = (matrix(name, 1, 2) for name in "WZX")
    k, v, moved = vector("k", 2), vector("v", 1), real("m")
    loss = -inner(unknown * k, v) if objective == "dot" else squared_norm(unknown * k - v) / 2
    before = weight + moved * k.T
    at = dict(zip(unknown, boundary if frozen else before, strict=True))
    slope = gradient(loss, unknown).xreplace(at)
    square = squared_norm(k)
    taken = {"implicit": ETA / (1 + ETA * square), "explicit": ETA, "normalized": ETA / square}[step]
    after = ALPHA * before - taken * inner(before, k.T) * k.T - taken * slope
    found = sp.diff(inner(after, k.T), moved) / square
    return sp.factor(sp.simplify(found.subs(k[1], sp.sqrt(LENGTH**2 - k[0] ** 2))))


def interval(objective: str, step: str, frozen: bool) -> tuple[Any, Any]:
    """The open interval of `factor` over all rates, η > 0 ("implicit") or 0 < η < H: limits at both ends of a falling function.

    Raises: ValueError if it does not fall everywhere; then its ends would say nothing.
    """
    said = factor(objective, step, frozen)
    slope = sp.simplify(sp.diff(said, ETA))
    if not slope.is_negative:
        raise ValueError(f"the factor must fall with the rate, got the slope {slope}")
    low = sp.limit(said, ETA, sp.oo) if step == "implicit" else said.subs(ETA, MOST)
    return sp.expand(low), sp.limit(said, ETA, 0)


def table() -> dict[tuple[str, str, bool], tuple[Any, Any]]:
    """`interval` by objective, step and whether the gradient is frozen; that of "dot" is the same frozen or not."""
    return {(o, s, frozen): interval(o, s, frozen) for (o, frozen), s in product(CASES, STEPS)}


def _distances(step: str) -> Sides:
    """From either end of the interval, a row per case; n = 1, 1, 2."""
    derived, stated = [], []
    for (objective, frozen), times in zip(CASES, (1, 1, 2), strict=True):
        said = factor(objective, step, frozen)
        low, high = interval(objective, step, frozen)
        derived.append([high - said, said - low])
        grown = {"implicit": ETA * LENGTH**2, "explicit": LENGTH**2, "normalized": sp.Integer(1)}[step]
        if step == "implicit":
            stated.append([times * grown / (1 + grown), times / (1 + grown)])
        else:
            stated.append([times * ETA * grown, times * (MOST - ETA) * grown])
    return Sides(sp.Matrix(derived), sp.Matrix(stated))


def _implicit() -> Sides:
    """The write differentiated, its limits at η → 0 and η → ∞ taken. Only kᵀk enters, so at every size."""
    return _distances("implicit")


def _explicit() -> Sides:
    """As `implicit`, with the ends at η = 0 and η = H: at every size."""
    return _distances("explicit")


def _normalized() -> Sides:
    """As `explicit`, and λ cancels: at every size. (The code's 1e-6 beside ‖k‖² is left out here.)"""
    return _distances("normalized")


def _parity() -> Sides:
    """Every word of four bits through the delta rule with η‖k‖² = 2x and nothing to write, from M k = λ²; beside it xor.

    p = (1 - m)/2 goes to p + x - 2 p x, which is xor on bits: by induction at every length. A key of any size is an axis.
    """
    k, words = vector("k", 2), list(product((0, 1), repeat=LETTERS))
    rows, counted = [], []
    for word in words:
        memory, odd, row, count = k.T, 0, [], []
        for x in word:
            memory = memory - 2 * x / squared_norm(k) * inner(memory, k.T) * k.T
            odd ^= x
            row.append((1 - inner(memory, k.T) / squared_norm(k)) / 2)
            count.append(odd)
        rows.append(row)
        counted.append(count)
    return Sides(sp.Matrix(rows), sp.Matrix(counted))


def _one_way() -> Sides:
    """Four equal symbols: a step is f times the step before, by induction at every length. For f >= 0 none changes its sign."""
    f, b, start = real("f b m_0")
    m = [start]
    for _ in range(LETTERS):
        m.append(sp.expand(f * m[-1] + b))
    steps = [later - earlier for earlier, later in pairwise(m)]
    return Sides(sp.Matrix(steps), sp.Matrix([f**t * (m[1] - m[0]) for t in range(LETTERS)]))


def _entry(what: str, source: str, claim: str, latex: str, proof: Any, sizes: str) -> Identity:
    """Not printed in the sources."""
    return Identity(f"state_tracking.{what}", source, claim, None, latex, proof, sizes=sizes)


_ENDS = r"\alpha - f = n \eta %s, \quad f - (\alpha - n H %s) = n (H - \eta) %s"

IDENTITIES = (
    _entry(
        "implicit",
        "P 92-93, D",
        "With implicit steps the factor along the key comes as near as one likes to either end of its interval and never reaches it.",
        r"\alpha - f = \frac{n \eta \lambda^2}{1 + \eta \lambda^2}, \quad "
        r"f - (\alpha - n) = \frac{n}{1 + \eta \lambda^2}",
        _implicit,
        "two inputs, one output; every size",
    ),
    _entry(
        "explicit",
        "P 92-93, D",
        "With explicit steps the lower end depends on the largest rate and on the key's length.",
        _ENDS % ((r"\lambda^2",) * 3),
        _explicit,
        "two inputs, one output; every size",
    ),
    _entry(
        "normalized",
        "P 92-93, D",
        "With normalised steps the lower end depends on the largest rate alone.",
        _ENDS % (("",) * 3),
        _normalized,
        "two inputs, one output; every size",
    ),
    _entry(
        "parity",
        "D",
        "A write that turns the sign along its key at each one, and does nothing at a zero, holds the parity of the word.",
        r"m_t = (1 - 2 x_t) m_{t-1}, \quad \tfrac12 (1 - m_t) = \left(\sum_{s \le t} x_s\right) \bmod 2",
        _parity,
        "all words of 4 bits, two inputs; every size, every length by induction",
    ),
    _entry(
        "one_way",
        "D",
        "Along equal symbols each step is the factor times the step before: without a negative factor the memory moves one way only.",
        r"m_{t+1} - m_t = f^t (m_1 - m_0)",
        _one_way,
        "4 symbols; every length by induction",
    ),
)
