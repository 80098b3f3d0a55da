"""Exercises of notebook 10: a chunk of self-made targets, how far a memory can get, and what flows through a target."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, ask_named, must_equal, unchanged

ETA, ALPHA = 0.6, 0.9


def _chunk(count: int = 5, alpha: float = ALPHA) -> tuple[Array, Array, Array, float, float]:
    rng = np.random.default_rng(1001)
    k, v = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in rng.normal(size=(2, count, 3)))
    return 0.5 * rng.normal(size=(3, 3)), k, v, ETA, alpha


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


def _read_chunk(w: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    frozen = w
    for key, value in zip(k, v, strict=True):
        error = key + frozen @ key - (value + frozen @ value)
        w = alpha * w - eta * np.outer(w @ key + error, key)
    return w


def _loop(w: Array, k: Array, v: Array, eta: float, alpha: float, slip: str) -> Array:
    """W after the chunk: w ← α w - η (erased + error) kᵀ, with a slip by its name."""
    start, kept = w, {"no α": 1.0, "α all": 1.0}.get(slip, alpha)
    for key, value in zip(k, v, strict=True):
        asked = w if slip in ("all moving", "target moving") else start
        erring = w if slip in ("all moving", "error moving") else start
        skip = 0 if slip == "no skip" else 1
        target = {
            "plain target": value,
            "W v alone": asked @ value,
            "target of k": key + asked @ key,
        }.get(slip, skip * value + asked @ value)
        error = {
            "no skip in the error": erring @ key,
            "no answer": 0 * key,
        }.get(slip, skip * key + erring @ key) - target
        error = {"twice": 2 * error, "up": -error}.get(slip, error)
        erased = {
            "erase frozen": start @ key,
            "no erase": 0 * key,
            "erase with skip": key + w @ key,
            "erase decayed": alpha * w @ key,
        }.get(slip, w @ key)
        step = np.outer(key, erased + error) if slip == "transposed" else np.outer(erased + error, key)
        if slip == "no η in the erase":
            step = np.outer(erased / eta + error, key)
        old = start if slip == "all from the copy" else w
        w = {"α all": alpha * (w - eta * step), "1 - α": (1 - alpha) * w - eta * step}.get(
            slip, kept * old - eta * step
        )
    return w


_READ = {
    "plain target": "The target is v itself: v̂ is what the memory answers to v, v + W v.",
    "W v alone": "The skip is missing in the target: v̂ = M(v) = v + W v.",
    "target of k": "The memory is asked for its answer to v, not to k: v̂ = v + W v.",
    "all moving": "Targets and gradients are taken at the moving state: inside a chunk both come from the copy. "
    "(If you change W in place, the copy must be w.copy().)",
    "target moving": "The target is made by the moving state: v̂ = M(v) with the copy.",
    "error moving": "The error M(k) - v̂ is taken at the moving state: the gradient belongs to the copy.",
    "erase frozen": "The erase term reads the copy: W k kᵀ is no gradient, it acts on the moving state.",
    "no erase": "The erase term is missing: W (α I - η k kᵀ), not α W alone.",
    "erase with skip": "You erase M(k) with its skip, k + W k: the erase term is W k kᵀ, without it.",
    "erase decayed": "You decay before you erase: the erase term is W k kᵀ with W as it was.",
    "no η in the erase": "η multiplies the erase term, too: W (α I - η k kᵀ).",
    "no skip": "The skip is missing: M(z) = z + W z, for k and for v.",
    "no skip in the error": "The skip is missing in the error: M(k) = k + W k.",
    "no answer": "The error is M(k) - v̂; you add -v̂ alone.",
    "twice": "The factor 2 is not there: the loss has a ½, so its gradient is (M(k) - v̂) kᵀ.",
    "up": "You climb: the step goes against the gradient, -η (M(k) - v̂) kᵀ.",
    "no α": "There is no forgetting in it: α multiplies W.",
    "α all": "α multiplies the old W only; erase and gradient come in whole.",
    "1 - α": "α = 1 must keep everything: W is multiplied by α, not by 1 - α.",
    "transposed": "The outer product is turned round: what is erased and written stands in rows, kᵀ in columns.",
    "all from the copy": "Each write starts from the copy, so that only the last one is left: write into the moving W.",
}


def check_chunk(function: Any) -> None:
    """(w, k, v, eta, alpha) -> W after the chunk: compared with [P 88] and differences of the loss."""
    repeated = _chunk()
    repeated[1][1:3] = repeated[1][0]
    for what, given in (
        ("W", _chunk()),
        ("a chunk of one token: W", _chunk(1)),
        ("α = 0: W", _chunk(4, 0.0)),
        ("α = 1, one key three times: W", (*repeated[:4], 1.0)),
    ):
        with np.errstate(all="ignore"):
            got, names = ask_named(function, dict(zip(("w", "k", "v", "eta", "alpha"), given, strict=True)))
        likely = {hint: _loop(*given, slip=slip) for slip, hint in _READ.items()}
        must_equal(what, got, _literal(*given), likely)
        unchanged(
            names, "right values, but you changed {} in place; the caller still needs it. Make a new array."
        )


def _writes_in_place(w: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    frozen = w.copy()
    for key, value in zip(k, v, strict=True):
        error = key + frozen @ key - (value + frozen @ value)
        w[...] = alpha * w - eta * np.outer(w @ key + error, key)
    return w


def _copy_is_none(w: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    frozen = w
    for key, value in zip(k, v, strict=True):
        w[...] = alpha * w - eta * np.outer(w @ key + key + frozen @ key - value - frozen @ value, key)
    return w


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


def _derivatives(k: float, v: float, q: float, eta: float, alpha: float) -> Array:
    stop = alpha - 2 * eta * k**2
    return np.array([q * (stop + eta * v * k), q * stop])


def _other_derivatives(k: float, v: float, q: float, eta: float, alpha: float) -> dict[str, Array]:
    """Hint -> (flow, stop) of this mistake, from the differences."""
    flow, stop = _by_differences(k, v, q, eta, alpha)
    square, through = q * eta * k * k, q * eta * v * k
    pair = np.array([flow, stop])
    return {
        "The two are swapped: flow lets the derivative through the target.": pair[::-1],
        "Both are the same: with flow v̂ = v + w₀ v depends on w₀, too.": np.array([stop, stop]),
        "Both are the same: with stop v̂ is a number, and its derivative is 0.": np.array([flow, flow]),
        "The error M(k) - v̂ depends on w₀ as well: it erases a second time.": pair + square,
        "η k² is there twice, not three times: once from the erase and once from the error.": pair - square,
        "Both η k² are missing: the erase and the error M(k) depend on w₀.": pair + 2 * square,
        "Erase and error enter with a minus: α - 2ηk².": pair + 4 * square,
        "Through the target it grows: u = v̂ - M(k), so the sign is plus.": np.array([stop - through, stop]),
        "The target brings η v k: its derivative is v, not v̂ and not k.": np.array([stop + square, stop]),
        "The target brings η v k; you left k out.": np.array([stop + through / k, stop]),
        "The target brings η v k; you left η out.": np.array([stop + through / eta, stop]),
        "The loss has a ½: the gradient has no 2.": np.array([flow - square + through, stop - square]),
        "With flow the target comes on top of all other terms: stop + q η v k.": np.array([through, stop]),
        "α is missing: w₀ itself is kept with α.": pair - q * alpha,
        "α multiplies w₀, nothing else.": np.array(
            [q * alpha + alpha * (flow - q * alpha), q * alpha + alpha * (stop - q * alpha)]
        ),
        "The read multiplies by q.": pair / q,
        "q itself does not depend on w₀: o = q + w₁ q, and the derivative of its first term is 0.": pair + q,
    }


def check_derivatives(function: Any) -> None:
    """(k, v, q, eta, alpha) -> (flow, stop): compared with differences of the literal write."""
    for given in (
        (0.8, 1.5, 0.7, 0.5, 0.9),
        (1.2, -0.6, 1.1, 0.3, 1.0),
        (0.5, 0.4, -2.0, 1.3, 0.0),
        (0.0, 1.5, 0.7, 0.5, 0.9),
    ):
        got = ask(function, *given)
        if isinstance(got, int | float | np.number) or getattr(got, "shape", None) == ():
            raise WrongAnswer(
                "return two numbers, with flow and with stop; an array, a tuple or a list will do."
            )
        likely = {} if given[0] == 0 else _other_derivatives(*given)
        must_equal("(∂o/∂w₀ with flow, with stop)", got, _by_differences(*given), likely)


EXERCISES = (
    Exercise(
        "10.1",
        "let a linear memory read a chunk of its own targets",
        check_chunk,
        _read_chunk,
        (
            *((partial(_loop, slip=slip), hint) for slip, hint in _READ.items()),
            (_copy_is_none, "the copy must be w.copy()"),
            (_writes_in_place, "you changed w in place"),
            (lambda w, k, v, eta, alpha: k @ w, "it should be (3, 3)"),
            (lambda *given: _read_chunk(*given).astype(np.float32), "float32"),
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
        _derivatives,
        (
            *(
                (lambda *given, hint=hint: _other_derivatives(*given)[hint], hint)
                for hint in _other_derivatives(0.8, 1.5, 0.7, 0.5, 0.9)
            ),
            (lambda *given: _derivatives(*given)[0], "a tuple or a list will do"),
        ),
    ),
)
