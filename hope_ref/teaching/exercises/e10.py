"""Exercises of notebook 10: a chunk of self-made targets, how far a memory can get, and what flows through a target."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, ask, must_equal

ETA, ALPHA = 0.6, 0.9


def _chunk() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1001)
    k, v = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in rng.normal(size=(2, 5, 3)))
    return 0.5 * rng.normal(size=(3, 3)), k, v


def _slope(w: Array, k: Array, target: Array) -> Array:
    """∂/∂W of ½‖k + W k - target‖² by central differences, which are exact on a square."""
    slope = np.zeros_like(w)
    for entry in np.ndindex(w.shape):
        moved = [w.copy(), w.copy()]
        moved[0][entry] += 1e-3
        moved[1][entry] -= 1e-3
        above, below = (0.5 * np.sum((k + m @ k - target) ** 2) for m in moved)
        slope[entry] = (above - below) / 2e-3
    return slope


def _literal(w: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    """[P 88] to the letter, the gradient by differences at the state before the chunk."""
    frozen = w
    for key, value in zip(k, v, strict=True):
        turned = w @ (alpha * np.eye(3) - eta * np.outer(key, key))
        w = turned - eta * _slope(frozen, key, value + frozen @ value)
    return w


def _loop(
    w: Array,
    k: Array,
    v: Array,
    eta: float,
    alpha: float,
    *,
    target: str = "frozen",
    gradient: str = "frozen",
    erase: str = "moving",
    skip: bool = True,
) -> Array:
    frozen = w
    for key, value in zip(k, v, strict=True):
        states = {"frozen": frozen, "moving": w, "none": np.zeros((3, 3))}
        wanted = (value if skip else 0) + states[target] @ value
        error = (key if skip else 0) + states[gradient] @ key - wanted
        w = alpha * w - eta * np.outer(states[erase] @ key + error, key)
    return w


def check_chunk(function: Any) -> None:
    """(w, k, v, eta, alpha) -> W after the chunk: compared with [P 88] and differences of the loss."""
    w, k, v = _chunk()
    given = (w, k, v, ETA, ALPHA)
    must_equal(
        "W",
        ask(function, *given),
        _literal(*given),
        {
            "The target is v itself: v̂ is what the memory answers to v, v + W v.": _loop(
                *given, target="none"
            ),
            "Targets and gradients are taken at the moving state: inside a chunk both come from the copy.": _loop(
                *given, target="moving", gradient="moving"
            ),
            "The target is made by the moving state: v̂ = M(v) with the copy.": _loop(*given, target="moving"),
            "The error M(k) - v̂ is taken at the moving state: the gradient belongs to the copy.": _loop(
                *given, gradient="moving"
            ),
            "The erase term reads the copy: W k kᵀ is no gradient, it acts on the moving state.": _loop(
                *given, erase="frozen"
            ),
            "The erase term is missing: W (α I - η k kᵀ), not α W alone.": _loop(*given, erase="none"),
            "The skip is missing: M(z) = z + W z, for k and for v.": _loop(*given, skip=False),
        },
    )


def _farthest(eta: float, alpha: float, c: float) -> float:
    """Iterate what one write can do to the square, at the worst length ‖φ‖ of a grid."""
    lengths = np.geomspace(1e-6, 1e3, 10_001)
    added = float((eta * alpha**2 / (2 * alpha + (2 * alpha - 1) * eta * lengths**2)).max())
    square = 0.0
    for _ in range(20_000):
        square = alpha**2 * square + added * c**2
    return float(np.sqrt(square))


def check_farthest(function: Any) -> None:
    """(eta, alpha, c) -> distance: compared with the inequality, iterated."""
    for eta, alpha, c in ((0.7, 0.99, 1.0), (2.0, 0.6, 3.0), (0.1, 0.995, 0.5)):
        one, kept, square = c * np.sqrt(eta) / 2, 1 - alpha, eta * alpha * c**2 / 2
        must_equal(
            f"the distance for η = {eta:g}, α = {alpha:g}, c = {c:g}",
            ask(function, eta, alpha, c),
            _farthest(eta, alpha, c),
            {
                "That is the longest single write: α keeps most of what the earlier ones did.": one,
                "True, and too wide: you add up lengths. Where a write pushes outward the erase pulls back: add up squares.": one
                / kept,
                "That is one write from D = 0: what is kept is added, square by square.": np.sqrt(square),
                "That is the square of the distance.": square / (1 - alpha**2),
                "A square is kept with α², not with α.": np.sqrt(square / kept),
                "c bounds the surprise u; a write adds η α c²/2 to the square.": c / kept,
                "A write adds η α c²/2: what it adds has an α, too.": np.sqrt(
                    square / alpha / (1 - alpha**2)
                ),
                "½: a write adds η α c²/2.": np.sqrt(2 * square / (1 - alpha**2)),
            },
            bound=1e-6,
        )


def _output(w: float, k: float, v: float, q: float, eta: float, alpha: float, target: float) -> float:
    """One printed write of M(z) = z + w z on ½(M(k) - target)², then a read."""
    w = w * (alpha - eta * k * k) - eta * (k + w * k - target) * k
    return q + w * q


def _by_differences(k: float, v: float, q: float, eta: float, alpha: float) -> Array:
    """∂o/∂w_0 with the target moving along, and with the target held: o is linear in w_0, so differences are exact."""
    w, h = 0.4, 0.5

    def target(at: float) -> float:
        return v + at * v

    found = []
    for moves in (True, False):
        ends = [_output(w + s, k, v, q, eta, alpha, target(w + s * moves)) for s in (h, -h)]
        found.append((ends[0] - ends[1]) / (2 * h))
    return np.array(found)


def check_derivatives(function: Any) -> None:
    """(k, v, q, eta, alpha) -> (flow, stop): compared with differences of the literal write."""
    for given in ((0.8, 1.5, 0.7, 0.5, 0.9), (1.2, -0.6, 1.1, 0.3, 1.0)):
        k, v, q, eta, _ = given
        flow, stop = _by_differences(*given)
        through = q * eta * v * k
        must_equal(
            "(∂o/∂w₀ with flow, with stop)",
            ask(function, *given),
            np.array([flow, stop]),
            {
                "The two are swapped: flow lets the derivative through the target.": np.array([stop, flow]),
                "Both are the same: with flow v̂ = v + w₀ v depends on w₀, too.": np.array([stop, stop]),
                "The error M(k) - v̂ depends on w₀ as well: it erases a second time.": np.array(
                    [flow + q * eta * k * k, stop + q * eta * k * k]
                ),
                "Through the target it grows: u = v̂ - M(k), so the sign is plus.": np.array(
                    [stop - through, stop]
                ),
                "The read multiplies by q.": np.array([flow, stop]) / q,
            },
        )


EXERCISES = (
    Exercise(
        "10.1",
        "let a linear memory read a chunk of its own targets",
        check_chunk,
        lambda w, k, v, eta, alpha: _loop(w, k, v, eta, alpha),
        (
            (lambda *given: _loop(*given, target="none"), "target is v itself"),
            (
                lambda *given: _loop(*given, target="moving", gradient="moving"),
                "inside a chunk both come from the copy",
            ),
            (lambda *given: _loop(*given, target="moving"), "made by the moving state"),
            (lambda *given: _loop(*given, gradient="moving"), "the gradient belongs to the copy"),
            (lambda *given: _loop(*given, erase="frozen"), "acts on the moving state"),
            (lambda *given: _loop(*given, erase="none"), "erase term is missing"),
            (lambda *given: _loop(*given, skip=False), "skip is missing"),
            (lambda w, k, v, eta, alpha: k @ w, "it should be (3, 3)"),
        ),
    ),
    Exercise(
        "10.2",
        "say how far a memory that forgets toward its start can get",
        check_farthest,
        lambda eta, alpha, c: c * np.sqrt(eta * alpha / (2 * (1 - alpha**2))),
        (
            (lambda eta, alpha, c: c * np.sqrt(eta) / 2, "longest single write"),
            (lambda eta, alpha, c: c * np.sqrt(eta) / 2 / (1 - alpha), "you add up lengths"),
            (lambda eta, alpha, c: c * np.sqrt(eta * alpha / 2), "one write from D = 0"),
            (lambda eta, alpha, c: c**2 * eta * alpha / (2 * (1 - alpha**2)), "the square of the distance"),
            (lambda eta, alpha, c: c * np.sqrt(eta * alpha / (2 * (1 - alpha))), "kept with α², not with α"),
            (lambda eta, alpha, c: c / (1 - alpha), "c bounds the surprise"),
            (lambda eta, alpha, c: c * np.sqrt(eta / (2 * (1 - alpha**2))), "has an α, too"),
            (lambda eta, alpha, c: c * np.sqrt(eta * alpha / (1 - alpha**2)), "½: a write adds"),
        ),
    ),
    Exercise(
        "10.3",
        "differentiate an output through a write, with and without the target",
        check_derivatives,
        lambda k, v, q, eta, alpha: np.array(
            [q * (alpha - 2 * eta * k**2 + eta * v * k), q * (alpha - 2 * eta * k**2)]
        ),
        (
            (
                lambda k, v, q, eta, alpha: np.array(
                    [q * (alpha - 2 * eta * k**2), q * (alpha - 2 * eta * k**2 + eta * v * k)]
                ),
                "swapped",
            ),
            (lambda k, v, q, eta, alpha: np.full(2, q * (alpha - 2 * eta * k**2)), "Both are the same"),
            (
                lambda k, v, q, eta, alpha: np.array(
                    [q * (alpha - eta * k**2 + eta * v * k), q * (alpha - eta * k**2)]
                ),
                "erases a second time",
            ),
            (
                lambda k, v, q, eta, alpha: np.array(
                    [q * (alpha - 2 * eta * k**2 - eta * v * k), q * (alpha - 2 * eta * k**2)]
                ),
                "the sign is plus",
            ),
            (
                lambda k, v, q, eta, alpha: np.array(
                    [alpha - 2 * eta * k**2 + eta * v * k, alpha - 2 * eta * k**2]
                ),
                "multiplies by q",
            ),
        ),
    ),
)
