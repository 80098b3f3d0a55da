"""Exercises of notebook 04: the implicit step without a d × d matrix, one step for a whole chunk, and where a memory rests."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.checks import apart
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, ask_named, must_equal

WIDE = 500  # inputs with which the size of every intermediate array is noted
STACKED = 1e-6  # how far np.linalg.lstsq may be from the minimiser at η = 10⁶, relative


def _call(function: Any, arguments: dict[str, Any]) -> Any:
    """What the learner's function returns on copies of the arguments; an answer that changes them is refused."""
    with np.errstate(all="ignore"):
        got, changed = ask_named(function, arguments)
    if changed:
        raise WrongAnswer(
            f"you changed {' and '.join(changed)} in place: return something new; the caller still needs "
            "what it gave you."
        )
    return got


def _single(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same in float32."""
    return {name: np.float32(a) if isinstance(a, np.ndarray) else a for name, a in arguments.items()}


class _Sized(np.ndarray):
    """An array that notes the largest array that is made from it."""

    largest = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return _sized(getattr(ufunc, method)(*_plain(inputs), **_plain(options)))

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        return _sized(function(*_plain(arguments), **_plain(options)))


def _sized(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_sized(part) for part in value) if type(value) in (tuple, list) else value
    if isinstance(value, np.ndarray):
        _Sized.largest = max(_Sized.largest, value.size)
        return value.view(_Sized)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_plain(part) for part in value) if type(value) in (tuple, list) else value
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value.view(np.ndarray) if isinstance(value, _Sized) else value


def _builds_no_square(function: Any, arguments: dict[str, Any], instead: str) -> None:
    """Refuse an answer that makes an array of d_in × d_in numbers; d_in is much larger than all other sizes."""
    _Sized.largest = 0
    _call(lambda *a: function(*(_sized(part) for part in a)), arguments)
    if _Sized.largest >= WIDE * WIDE:
        raise WrongAnswer(
            f"the result is right, but with {WIDE} inputs you built an array of {_Sized.largest:,} numbers: {instead}"
        )


# --- 04.1: one step ---------------------------------------------------------------------------------------------------


def _case(norm: float, eta: float, width: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(401)
    w, x, u = rng.normal(size=(3, width)), rng.normal(size=width), rng.normal(size=3)
    return {"W": w, "x": norm * x / np.linalg.norm(x), "u": u, "eta": eta}


def _literal(W: Array, x: Array, u: Array, eta: float) -> Array:
    """Slope = 0, solved as a system by Gaussian elimination: (x xᵀ + I/η) Wᵀ = x uᵀ + Wᵀ/η, times η."""
    system, right = eta * np.outer(x, x) + np.eye(len(x)), eta * np.outer(u, x) + W
    return np.asarray(np.linalg.solve(system, right.T).T, dtype=np.float64)


def _with_step(W: Array, x: Array, u: Array, erase: float, write: float | None = None) -> Array:
    new: Array = W - erase * np.outer(W @ x, x) + (erase if write is None else write) * np.outer(u, x)
    return new


def _step_mistakes(W: Array, x: Array, u: Array, eta: float) -> dict[str, Array]:
    square, length = float(x @ x), float(np.linalg.norm(x))
    taken = eta / (1 + eta * square)
    unit = x / length
    return {
        f"η/(1 + η) is right for ‖x‖ = 1 only; here ‖x‖ = {length:.0f}.": _with_step(
            W, x, u, eta / (1 + eta)
        ),
        "Square the length: 1 + η ‖x‖², not 1 + η ‖x‖.": _with_step(W, x, u, eta / (1 + eta * length)),
        "The error is W x - u: the target enters with a minus.": _with_step(W, x, -u, taken),
        "You went uphill: a step goes against the error W x - u.": 2 * W - _with_step(W, x, u, taken),
        "Erase and write share η̃; yours writes with η.": _with_step(W, x, u, taken, eta),
        "Erase and write share η̃; yours erases with η.": _with_step(W, x, u, eta, taken),
        "That is the explicit step: divide η by 1 + η ‖x‖².": _with_step(W, x, u, eta),
        "The η above the fraction is missing: η̃ = η/(1 + η ‖x‖²).": _with_step(
            W, x, u, 1 / (1 + eta * square)
        ),
        "The 1 is missing: η/(η ‖x‖²) moves all the way, whatever η is.": _with_step(W, x, u, 1 / square),
        "Erasing is missing: the old answer W x is taken away, too.": W + taken * np.outer(u, x),
        "Writing is missing: the step adds η̃ u xᵀ.": _with_step(W, x, 0 * u, taken),
        f"Use x as it comes; you made it a unit vector, and here ‖x‖ = {length:.0f}.": _with_step(
            W, unit, u, eta / (1 + eta)
        ),
    }


def check_step(function: Any) -> None:
    """(W, x, u, eta) -> W: lengths 3 and ½, η = 10⁶, a zero input, one output, float32; then the sizes of its arrays."""
    case = _case(3.0, 0.5)
    try:
        got = _call(function, case)
    except WrongAnswer as stopped:
        if "(3,4) (4,3)" in str(stopped) or "(4,3) (3,4)" in str(stopped):
            raise WrongAnswer(
                f"{stopped} Your outer product has shape (d_in, d_out); W is (d_out, d_in): the error comes first."
            ) from stopped.__cause__
        raise
    must_equal("the new W", got, _literal(**case), _step_mistakes(**case))
    for what, other in (
        ("for ‖x‖ = 0.5", _case(0.5, 2.0)),
        ("with η = 10⁶", _case(3.0, 1e6)),
        ("with η = 0", _case(3.0, 0.0)),
        ("for one output", {**case, "W": case["W"][:1], "u": case["u"][:1]}),
        ("for one input", _case(2.0, 1.0, width=1)),
    ):
        must_equal(f"{what} the new W", _call(function, other), _literal(**other))
    zero = {**case, "x": np.zeros(4)}
    got = _call(function, zero)
    if np.shape(got) == (3, 4) and np.isnan(np.asarray(got)).any():
        raise WrongAnswer(
            "for an input of zeros the new W is nan. 1 + η ‖x‖² is never 0, so do not divide by ‖x‖: where x is 0, W stays."
        )
    must_equal("for an input of zeros the new W", got, case["W"])
    must_equal("with float32 arrays the new W", _call(function, _single(case)), _literal(**case), bound=1e-5)
    wide = _case(2.0, 0.5, width=WIDE)
    _builds_no_square(
        function,
        wide,
        "that is x xᵀ. Multiply W x first, a vector of d_out numbers, and take one outer product.",
    )


def _step(W: Array, x: Array, u: Array, eta: float) -> Array:
    new: Array = W - eta / (1 + eta * x @ x) * np.outer(W @ x - u, x)
    return new


def _wrong_step(hint: str) -> tuple[Any, str]:
    """An answer that makes the mistake with this hint."""

    def answer(W: Array, x: Array, u: Array, eta: float) -> Array:
        return next(value for text, value in _step_mistakes(W, x, u, eta).items() if hint in text)

    return answer, hint


def _by_unit_input(W: Array, x: Array, u: Array, eta: float) -> Array:
    """Right but for x = 0: along the unit vector, by the length."""
    length = np.linalg.norm(x)
    unit, square = x / length, length**2
    new: Array = W - eta * length / (1 + eta * square) * np.outer(W @ unit * length - u, unit)
    return new


def _step_in_place(W: Array, x: Array, u: Array, eta: float) -> Array:
    W -= eta / (1 + eta * x @ x) * np.outer(W @ x - u, x)
    return W


def _step_by_matrix(W: Array, x: Array, u: Array, eta: float) -> Array:
    taken = eta / (1 + eta * x @ x)
    new: Array = W @ (np.eye(len(x)) - taken * np.outer(x, x)) + taken * np.outer(u, x)
    return new


# --- 04.2: one step for a chunk ---------------------------------------------------------------------------------------


def _chunk(count: int = 3, width: int = 6, eta: float = 0.8) -> dict[str, Any]:
    rng = np.random.default_rng(402)
    x, u = rng.normal(size=(count, width)), rng.normal(size=(count, 2))
    return {"W": rng.normal(size=(2, width)), "X": x, "U": u, "eta": eta}


def _minimiser(W: Array, X: Array, U: Array, eta: float) -> Array:
    """The least-squares solution of [√η X; I] Wᵀ = [√η U; W_tᵀ], by singular values: no formula of Woodbury's."""
    root = math.sqrt(eta)
    stack, right = np.vstack([root * X, np.eye(X.shape[1])]), np.vstack([root * U, W.T])
    return np.asarray(np.linalg.lstsq(stack, right, rcond=None)[0].T, dtype=np.float64)


def _woodbury(
    W: Array, X: Array, U: Array, eta: float, inside: float | None = None, identity: float = 1.0
) -> Array:
    system = identity * np.eye(len(X)) + (eta if inside is None else inside) * X @ X.T  # (C, C)
    new: Array = W + eta * np.linalg.solve(system, U - X @ W.T).T @ X
    return new


def _one_by_one(W: Array, X: Array, U: Array, eta: float) -> Array:
    for x, u in zip(X, U, strict=True):
        W = _step(W, x, u, eta)
    return W


def _chunk_mistakes(W: Array, X: Array, U: Array, eta: float) -> dict[str, Array]:
    single = [_step(W, x, u, eta) - W for x, u in zip(X, U, strict=True)]
    shared = eta / (1 + eta * float((X**2).sum()))
    right = _woodbury(W, X, U, eta)
    return {
        "Those are single steps, one after the other. They differ from one step for all once inputs overlap.": (
            _one_by_one(W, X, U, eta)
        ),
        "Those are single steps from the same W, added up: where inputs overlap, the error is mended twice.": W
        + np.sum(single, axis=0),
        "That divides every error by the same number, 1 + η Σ‖x‖²: the C × C matrix knows which inputs overlap.": W
        + shared * (U - X @ W.T).T @ X,
        "The η in front is missing; without it you are right for η = 1 only.": W + (right - W) / eta,
        "The η inside the bracket is missing: I + η X Xᵀ.": _woodbury(W, X, U, eta, 1.0),
        "The bracket is I + η X Xᵀ; with I/η in it you divide by η again.": _woodbury(
            W, X, U, eta, 1.0, 1 / eta
        ),
        "The system's right side is U - X Wᵀ, what is not known yet; yours is U alone.": _woodbury(
            0 * W, X, U, eta
        )
        + W,
        "The old weight is missing: the correction is added to W.": right - W,
        "You went uphill: the errors point from U to X Wᵀ, so add U - X Wᵀ.": 2 * W - right,
        "That is the sum of outer products; solve with I + η X Xᵀ first.": _woodbury(W, X, U, eta, 0.0),
    }


def check_chunk(function: Any) -> None:
    """(W, X, U, eta) -> W: three inputs, then other shapes, repeated and zero rows, η = 10⁶; then the sizes of its arrays."""
    case = _chunk()
    try:
        got = _call(function, case)
    except WrongAnswer as stopped:
        if isinstance(stopped.__cause__, ValueError):
            raise WrongAnswer(
                f"{stopped} Inputs and targets come in rows: here X is (3, 6), U is (3, 2), W is (2, 6), so that all "
                "answers are X @ W.T, (3, 2)."
            ) from stopped.__cause__
        raise
    must_equal("the new W", got, _minimiser(**case), _chunk_mistakes(**case))
    repeated = _chunk(4)
    repeated["X"][2], repeated["U"][2] = repeated["X"][0], repeated["U"][0]
    zero = _chunk(4)
    zero["X"][1] = 0.0
    for what, other in (
        ("for one input", _chunk(1)),
        ("for 7 inputs of width 3", _chunk(7, 3)),
        ("for a repeated row", repeated),
        ("for a row of zeros", zero),
        ("from W = 0", {**case, "W": 0 * case["W"]}),
        ("with η = 0", {**case, "eta": 0.0}),
    ):
        must_equal(f"{what} the new W", _call(function, other), _minimiser(**other), _likely_chunk(other))
    for what, other in (("", {**case, "eta": 1e6}), (" and a repeated row", {**repeated, "eta": 1e6})):
        must_equal(
            f"with η = 10⁶{what} the new W", _call(function, other), _minimiser(**other), bound=STACKED
        )
    must_equal(
        "with float32 arrays the new W", _call(function, _single(case)), _minimiser(**case), bound=1e-5
    )
    _builds_no_square(
        function,
        _chunk(3, WIDE),
        "that is a d × d system. Three inputs need only the 3 × 3 matrix I + η X Xᵀ.",
    )


def _likely_chunk(case: dict[str, Any]) -> dict[str, Array]:
    """The mistakes that only some cases show; none where η is 0."""
    return _chunk_mistakes(**case) if case["eta"] else {}


def _wrong_chunk(hint: str) -> tuple[Any, str]:
    def answer(W: Array, X: Array, U: Array, eta: float) -> Array:
        if not eta:
            return W
        return next(value for text, value in _chunk_mistakes(W, X, U, eta).items() if hint in text)

    return answer, hint


def _large_system(W: Array, X: Array, U: Array, eta: float) -> Array:
    new = np.linalg.solve(eta * X.T @ X + np.eye(X.shape[1]), eta * X.T @ U + W.T).T
    return np.asarray(new)


def _chunk_in_place(W: Array, X: Array, U: Array, eta: float) -> Array:
    W += _woodbury(W, X, U, eta) - W
    return W


# --- 04.3: where one repeated pair rests ------------------------------------------------------------------------------

Rest = Callable[[float, float, str, str], float | None]


def _taken(eta: float, step: str) -> float:
    return eta / (1 + eta) if step == "implicit" else eta


def _rest(eta: float, alpha: float, step: str, loss: str) -> float | None:
    taken = _taken(eta, step)
    factor = alpha - taken * (2 if loss == "l2" else 1)  # on the distance from the resting point
    return taken / (1 - factor) if abs(factor) < 1 else None


def _iterate(eta: float, alpha: float, step: str, loss: str) -> float | None:
    """Measured: two steps from 0. Each is linear, so they tell the factor on a difference, and where all of them end."""
    taken, path = _taken(eta, step), [0.0]
    for _ in range(2):
        m = path[-1]
        u = 1 - m if loss == "l2" else 1.0
        path.append(alpha * m - taken * m + taken * u)
    first, second = np.diff(path)
    factor = second / first
    return float(path[1] + second / (1 - factor)) if abs(factor) < 1 - 1e-12 else None


REST_CASES = (
    (0.3, 1.0, "implicit", "l2"),
    (0.3, 0.8, "explicit", "dot"),
    (0.3, 0.8, "implicit", "dot"),
    (0.3, 1.0, "explicit", "l2"),
    (1.0, 1.0, "implicit", "dot"),
    (1.0, 0.9, "implicit", "l2"),
    (10.0, 0.9, "implicit", "l2"),
    (10.0, 0.9, "implicit", "dot"),
    (1e6, 1.0, "implicit", "l2"),  # slowly
    (1e6, 0.9, "implicit", "l2"),  # nowhere
    (1e6, 0.9, "implicit", "dot"),
    (1.0, 1.0, "explicit", "l2"),  # at exactly -1
    (1.0, 0.0, "implicit", "l2"),  # at exactly -1
    (2.0, 1.0, "explicit", "dot"),  # at exactly -1
    (3.0, 1.0, "explicit", "dot"),
    (1.5, 0.9, "explicit", "l2"),
    (0.5, 0.0, "implicit", "l2"),
    (4.0, 0.0, "implicit", "dot"),
)


def _rest_mistakes(eta: float, alpha: float, step: str, loss: str) -> dict[str, float | None]:
    """Hint -> what that mistake returns; NaN, which equals nothing, where the hint does not apply."""
    taken, twice = _taken(eta, step), 2 if loss == "l2" else 1
    factor = alpha - twice * taken
    anyway, settles, l2 = taken / (1 - factor), abs(factor) < 1, loss == "l2"
    other = "explicit" if step == "implicit" else "implicit"
    use = "use η̃ = η/(1 + η)" if step == "implicit" else "use η as it is"
    return {
        "At exactly -1 it never settles: the answer jumps between two values for ever.": (
            anyway if factor == -1 else math.nan
        ),
        f"There the answer runs away: the factor on the distance is {factor:.3g}. Return None.": (
            anyway if abs(factor) > 1 else math.nan
        ),
        "It does settle, only slowly: the factor on the distance is between -1 and 1.": (
            None if settles and abs(factor) > 0.99 else math.nan
        ),
        f"That is the other step; for step = '{step}' {use}.": _rest(eta, alpha, other, loss),
        f"It does settle: the factor on the distance is {factor:.2g}. Does your function return something?": (
            None if settles else math.nan
        ),
        "That is right for α = 1 only: what α loses has to be written again at every token.": _rest(
            eta, 1.0, step, loss
        ),
        "The loss erases, and the step erases again: with u = v - M k it does not reach v.": (
            1.0 if l2 else math.nan
        ),
        "Half is for ½‖M k - v‖² only: with u = v nothing is erased twice.": math.nan if l2 else 0.5,
        "You took the other loss.": _rest(eta, alpha, step, "dot" if l2 else "l2"),
        "α multiplies the old memory, not what the step erases.": taken / (1 - alpha * (1 - twice * taken)),
        "α multiplies the old memory only, not the write.": alpha * taken / (1 - alpha * (1 - twice * taken)),
    }


def _same(got: float | None, want: float | None) -> bool:
    if got is None or want is None:
        return got is want
    return math.isclose(got, want, rel_tol=1e-6, abs_tol=1e-9)


def check_rest(function: Any) -> None:
    """(eta, alpha, step, loss) -> a number or None: compared with two literal steps, in settings that tell mistakes apart."""
    for setting in REST_CASES:
        eta, alpha, step, loss = setting
        got, want = ask(function, *setting), _iterate(*setting)
        where = f"rest({eta:g}, {alpha:g}, '{step}', '{loss}')"
        if got is not None:
            try:
                got = float(got)
            except (TypeError, ValueError) as error:
                kind = type(got).__name__
                raise WrongAnswer(f"{where} must be a number or None, got {kind}") from error
        if _same(got, want):
            continue
        shown = [f"{value:.4g}" if value is not None else "None" for value in (got, want)]
        if got is not None and want is not None:
            shown = list(apart(got, want))
        text = f"{where} is {shown[0]}, expected {shown[1]}."
        for hint, mistake in _rest_mistakes(*setting).items():
            if _same(got, mistake):
                raise WrongAnswer(f"{text} {hint}")
        if eta == 1e6 and got is not None and want is not None and 0 <= got <= 1:
            text += " Did you run some number of steps? It has not settled yet: find where it stays."
        raise WrongAnswer(text)


def _after(steps: int) -> Rest:
    def answer(eta: float, alpha: float, step: str, loss: str) -> float | None:
        taken, m = _taken(eta, step), 0.0
        for _ in range(steps):
            m = alpha * m - taken * m + taken * ((1 - m) if loss == "l2" else 1.0)
        return m if abs(m) < 1e6 else None

    return answer


def _gives_up(eta: float, alpha: float, step: str, loss: str) -> float | None:
    """Simulated until two answers agree, with the patience of 1,000 steps."""
    taken, m = _taken(eta, step), 0.0
    for _ in range(1000):
        new = alpha * m - taken * m + taken * ((1 - m) if loss == "l2" else 1.0)
        if abs(new - m) < 1e-13:
            return new
        m = new
    return None


def _without(check: str) -> Rest:
    """The right formula with another condition."""

    def answer(eta: float, alpha: float, step: str, loss: str) -> float | None:
        factor = alpha - _taken(eta, step) * (2 if loss == "l2" else 1)
        settles = True if check == "none" else abs(factor) <= 1
        return _taken(eta, step) / (1 - factor) if settles else None

    return answer


EXERCISES = (
    Exercise(
        "04.1",
        "take one implicit step without a d × d matrix",
        check_step,
        _step,
        (
            *map(
                _wrong_step,
                (
                    "right for ‖x‖ = 1 only",
                    "Square the length",
                    "the target enters with a minus",
                    "You went uphill",
                    "yours writes with η",
                    "yours erases with η",
                    "That is the explicit step",
                    "The η above the fraction is missing",
                    "The 1 is missing",
                    "Erasing is missing",
                    "Writing is missing",
                    "Use x as it comes",
                ),
            ),
            (_by_unit_input, "1 + η ‖x‖² is never 0"),
            (
                lambda W, x, u, eta: W - eta / (1 + eta * x @ x) * np.outer(x, W @ x - u),
                "the error comes first",
            ),
            (lambda W, x, u, eta: _step(W, x, u, eta).T, "transposed shape"),
            (_step_in_place, "you changed W in place"),
            (_step_by_matrix, "you built an array of 250,000 numbers"),
            (_literal, "you built an array of 250,000 numbers"),
        ),
    ),
    Exercise(
        "04.2",
        "take one implicit step for a whole chunk",
        check_chunk,
        _woodbury,
        (
            *map(
                _wrong_chunk,
                (
                    "one after the other",
                    "the error is mended twice",
                    "the same number, 1 + η Σ‖x‖²",
                    "right for η = 1 only",
                    "The η inside the bracket is missing",
                    "with I/η in it",
                    "yours is U alone",
                    "The old weight is missing",
                    "You went uphill",
                    "solve with I + η X Xᵀ first",
                ),
            ),
            (lambda W, X, U, eta: _woodbury(W, X, U, eta).T, "transposed shape"),
            (lambda W, X, U, eta: _woodbury(W, X.T, U.T, eta), "come in rows"),
            (_chunk_in_place, "you changed W in place"),
            (_large_system, "that is a d × d system"),
            (_minimiser, "that is a d × d system"),
        ),
    ),
    Exercise(
        "04.3",
        "find where one repeated pair comes to rest, or that it does not",
        check_rest,
        _rest,
        (
            (_after(200), "It has not settled yet"),
            (_after(10_001), "It has not settled yet"),
            (_gives_up, "It does settle, only slowly"),
            (
                lambda eta, alpha, step, loss: 1.0 if loss == "l2" else _rest(eta, alpha, step, loss),
                "erases again",
            ),
            (lambda eta, alpha, step, loss: 0.5, "Half is for"),
            (_without("equal"), "At exactly -1 it never settles"),
            (_without("none"), "the factor on the distance is -1.1. Return None"),
            (lambda eta, alpha, step, loss: _rest(eta, 1.0, step, loss), "right for α = 1 only"),
            (lambda eta, alpha, step, loss: _rest(eta, alpha, "explicit", loss), "use η̃ = η/(1 + η)"),
            (lambda eta, alpha, step, loss: _rest(eta, alpha, "implicit", loss), "use η as it is"),
            (lambda eta, alpha, step, loss: _rest(eta, alpha, step, "l2"), "You took the other loss"),
            (lambda eta, alpha, step, loss: "half", "must be a number or None, got str"),
        ),
    ),
)
