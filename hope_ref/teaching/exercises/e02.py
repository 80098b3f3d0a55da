"""Exercises of notebook 02: one gated write, all writes by one triangular solve, and the best rate for one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, ask_named, must_equal

MANY = 64  # tokens with which array operations are counted


def _unchanged(changed: list[str]) -> None:
    if changed:
        raise WrongAnswer(
            f"the result is right, but you changed {' and '.join(changed)} in place: return something new; "
            "the caller still needs what it gave you."
        )


def _single(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same in float32."""
    return {name: np.float32(a) if isinstance(a, np.ndarray) else a for name, a in arguments.items()}


# --- 02.1 -------------------------------------------------------------------------------------------------------------


def _write_case() -> dict[str, Any]:
    rng = np.random.default_rng(201)
    k = rng.normal(size=3)
    k = 2 * k / np.linalg.norm(k)  # of length 2
    return {"M": rng.normal(size=(2, 3)), "k": k, "v": rng.normal(size=2), "eta": 0.3, "alpha": 0.8}


def _written(M: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    """α M (I - η k kᵀ) + η v kᵀ."""
    new: Array = alpha * M @ (np.eye(len(k)) - eta * np.outer(k, k)) + eta * np.outer(v, k)
    return new


def _write_mistakes(M: Array, k: Array, v: Array, eta: float, alpha: float) -> dict[str, Array]:
    old, length = alpha * M, float(np.linalg.norm(k))
    error = old @ k - v
    uphill = old + eta * np.outer(error, k)
    before, after = np.linalg.norm(error), np.linalg.norm(uphill @ k - v)
    shared = "Erase and write share η: it multiplies the whole error."
    as_it_comes = f"‖k‖ = {length:.0f} here, and it matters: use k as it comes."
    return {
        f"The error grew from {before:.2f} to {after:.2f}: a write goes against the error, with a minus.": uphill,
        "η is missing: write η times the error.": old - np.outer(error, k),
        shared: old - np.outer(old @ k, k) + eta * np.outer(v, k),
        f"{shared} The erased part has it, the new value has not.": old
        - eta * np.outer(old @ k, k)
        + np.outer(v, k),
        as_it_comes: old - eta * np.outer(old @ k / length - v, k / length),
        f"{as_it_comes} Do not divide by ‖k‖².": old - eta * np.outer(error, k) / length**2,
        "There is no error correction in it: read what the memory answers to k first.": old
        + eta * np.outer(v, k),
        "There is no retention in it: α multiplies the old memory.": M - eta * np.outer(M @ k - v, k),
        "You measured the error before the decay: decay first, then read.": old
        - eta * np.outer(M @ k - v, k),
        "The new write is decayed too; α multiplies the old memory only.": alpha
        * (M - eta * np.outer(M @ k - v, k)),
        "Twice too much is written: the ½ of the loss takes the 2.": old - 2 * eta * np.outer(error, k),
        "1 - α is what is lost: α multiplies the old memory.": _written(M, k, v, eta, 1 - alpha),
    }


def check_write(function: Any) -> None:
    """(M, k, v, eta, alpha) -> M: a key of length 2, then η = 0, α = 0, a key of zeros, float32."""
    case = _write_case()
    try:
        got, changed = ask_named(function, case)
    except WrongAnswer as stopped:
        if "(2,3) (3,2)" in str(stopped) or "(3,2) (2,3)" in str(stopped):
            raise WrongAnswer(
                f"{stopped} Your outer product has shape (d_k, d_v); the memory is (d_v, d_k): the error comes first."
            ) from stopped.__cause__
        raise
    must_equal("the new M", got, _written(**case), _write_mistakes(**case))
    _unchanged(changed)
    for what, other in (
        ("with η = 0", {**case, "eta": 0.0}),
        ("with α = 0", {**case, "alpha": 0.0}),
        ("with a key of zeros", {**case, "k": np.zeros(3)}),
    ):
        got, changed = ask_named(function, other)
        must_equal(f"{what} the new M", got, _written(**other))
        _unchanged(changed)
    must_equal(
        "with float32 arrays the new M", ask_named(function, _single(case))[0], _written(**case), bound=1e-5
    )


def _write(M: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    old: Array = alpha * M
    return old - eta * np.outer(old @ k - v, k)


def _write_in_place(M: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
    M *= alpha
    M -= eta * np.outer(M @ k - v, k)
    return M


def _wrong_write(hint: str) -> tuple[Any, str]:
    """An answer that makes the mistake whose hint begins so."""

    def answer(M: Array, k: Array, v: Array, eta: float, alpha: float) -> Array:
        mistakes = _write_mistakes(M, k, v, eta, alpha)
        return next(value for text, value in mistakes.items() if hint in text)

    return answer, hint


# --- 02.2 -------------------------------------------------------------------------------------------------------------


def _tokens(length: int) -> dict[str, Any]:
    rng = np.random.default_rng(202)
    k, v = 0.6 * rng.normal(size=(length, 4)), rng.normal(size=(length, 3))
    return {"M": rng.normal(size=(3, 4)), "k": k, "v": v, "eta": rng.uniform(0.2, 1.0, size=length)}


def _loop(M: Array, k: Array, v: Array, eta: Array) -> Array:
    for key, value, rate in zip(k, v, eta, strict=True):
        M = M - rate * np.outer(M @ key - value, key)
    return M


def _solved(M: Array, k: Array, rows: Array, right: Array) -> Array:
    """The memory after writes w with (I + rows) w = right."""
    new: Array = M + np.linalg.solve(np.eye(len(k)) + rows, right).T @ k
    return new


def _write_all(M: Array, k: Array, v: Array, eta: Array) -> Array:
    rate = eta[:, None]  # (C, 1)
    return _solved(M, k, rate * np.tril(k @ k.T, -1), rate * (v - k @ M.T))


def _write_all_mistakes(M: Array, k: Array, v: Array, eta: Array) -> dict[str, Array]:
    rate, overlaps, missing = eta[:, None], k @ k.T, v - k @ M.T
    rows, empty = rate * np.tril(overlaps, -1), np.zeros_like(M)
    whole = "η_t multiplies the whole row t:"
    return {
        "A token does not see its own write: below the diagonal only.": _solved(
            M, k, rate * np.tril(overlaps), rate * missing
        ),
        "Token 0 has nothing before it: the sum runs over earlier tokens, the lower triangle.": _solved(
            M, k, rate * np.triu(overlaps, 1), rate * missing
        ),
        "Your tokens see later writes as well: keep the overlaps below the diagonal only.": _solved(
            M, k, rate * overlaps, rate * missing
        ),
        f"{whole} the overlaps as well as the error.": _solved(M, k, np.tril(overlaps, -1), rate * missing),
        f"{whole} the error as well as the overlaps.": _solved(M, k, rows, missing),
        "That is right for M = 0 only: what M answers already is not missing.": _solved(M, k, rows, rate * v),
        "That is right for M = 0 only: the writes are added to M.": _solved(empty, k, rows, rate * missing),
        "That is right for M = 0 only: M is missing on the right side and in the result.": _solved(
            empty, k, rows, rate * v
        ),
        "η belongs to the token that writes, to the row: make it a column, eta[:, None].": _solved(
            M, k, eta * np.tril(overlaps, -1), rate * missing
        ),
        "What earlier tokens wrote stands on the left with a plus.": _solved(M, k, -rows, rate * missing),
        "All tokens read M as it was at the start; token t has to see the t writes before it.": _solved(
            M, k, 0 * rows, rate * missing
        ),
    }


class _Counted(np.ndarray):
    """An array that counts the operations it takes part in."""

    operations = 0

    def __array_ufunc__(self, ufunc: Any, method: Any, *inputs: Any, **options: Any) -> Any:
        _Counted.operations += 1
        return _counted(getattr(ufunc, method)(*_plain(inputs), **_plain(options)))

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        _Counted.operations += 1
        return _counted(function(*_plain(arguments), **_plain(options)))


def _counted(value: Any) -> Any:
    if type(value) in (tuple, list):
        return type(value)(_counted(part) for part in value)
    return value.view(_Counted) if isinstance(value, np.ndarray) else value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_plain(part) for part in value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value.view(np.ndarray) if isinstance(value, _Counted) else value


def check_write_all(function: Any) -> None:
    """(M, k, v, eta) -> M after all writes: five tokens, one token, a rate and a key of 0, float32; without a loop."""
    case = _tokens(5)
    got, changed = ask_named(function, case)
    if np.shape(got) == case["v"].shape:
        raise WrongAnswer(
            "you returned one row per token: those are the writes w_t. The memory is M + Σ w_t k_tᵀ."
        )
    must_equal("the last M", got, _loop(**case), _write_all_mistakes(**case))
    _unchanged(changed)
    idle = _tokens(6)
    idle["eta"][2], idle["k"][4] = 0.0, 0.0
    for what, other in (
        ("of a single token", _tokens(1)),
        ("with η_2 = 0 and k_4 = 0", idle),
        ("from M = 0", {**case, "M": 0 * case["M"]}),
    ):
        must_equal(f"{what} the last M", ask_named(function, other)[0], _loop(**other))
    must_equal(
        "with float32 arrays the last M", ask_named(function, _single(case))[0], _loop(**case), bound=1e-5
    )
    many = {name: _counted(value) for name, value in _tokens(MANY).items()}
    _Counted.operations = 0
    ask(lambda: function(*many.values()))
    if _Counted.operations >= MANY:
        raise WrongAnswer(
            f"the result is right, but {MANY} tokens took {_Counted.operations} array operations: that is a loop over "
            "tokens. Build the whole system, and let one np.linalg.solve find all writes."
        )


def _wrong_write_all(hint: str) -> tuple[Any, str]:
    def answer(M: Array, k: Array, v: Array, eta: Array) -> Array:
        mistakes = _write_all_mistakes(M, k, v, eta)
        return next(value for text, value in mistakes.items() if hint in text)

    return answer, hint


def _forward(M: Array, k: Array, v: Array, eta: Array) -> Array:
    """Forward substitution, token by token."""
    writes = np.zeros_like(v)
    for t in range(len(k)):
        writes[t] = eta[t] * (v[t] - M @ k[t] - writes[:t].T @ (k[:t] @ k[t]))
    new: Array = M + writes.T @ k
    return new


def _write_all_in_place(M: Array, k: Array, v: Array, eta: Array) -> Array:
    M += _write_all(M, k, v, eta) - M
    return M


# --- 02.3 -------------------------------------------------------------------------------------------------------------


def _pairs() -> dict[str, Any]:
    """Ten pairs with keys of different lengths, for which each mistake leads to another rate."""
    rng = np.random.default_rng(63)
    k, v = rng.normal(size=(10, 6)) / 6**0.5, rng.normal(size=(10, 4))
    return {"k": k, "v": v, "rates": np.arange(1, 41) / 20}


def _pass(k: Array, v: Array, rate: float, M: Any = None) -> Array:
    start = np.zeros((v.shape[1], k.shape[1])) if M is None else M
    return _loop(start, k, v, np.full(len(k), rate))


def _error(M: Array, k: Array, v: Array) -> float:
    return float(np.sqrt(((k @ M.T - v) ** 2).sum(axis=1).mean()))


def _while_reading(k: Array, v: Array, rate: float, after: bool) -> float:
    """The error of each pair at the time of its own write."""
    M, total = np.zeros((v.shape[1], k.shape[1])), 0.0
    for key, value in zip(k, v, strict=True):
        new = M - rate * np.outer(M @ key - value, key)
        total += float((((new if after else M) @ key - value) ** 2).sum())
        M = new
    return total


def _carried(k: Array, v: Array, rates: Array) -> list[float]:
    M, errors = None, []
    for rate in rates:
        M = _pass(k, v, rate, M)
        errors.append(_error(M, k, v))
    return errors


def _named(M: Array, v: Array, k: Array) -> float:
    return float(np.mean(np.argmax(k @ M.T @ v.T, axis=1) == np.arange(len(k))))


def _best_rate(k: Array, v: Array, rates: Any) -> float:
    errors = [_error(_pass(k, v, rate), k, v) for rate in rates]
    return float(min(rate for rate, error in zip(rates, errors, strict=True) if error == min(errors)))


def _rate_mistakes(k: Array, v: Array, rates: Array) -> dict[str, float]:
    memories = [_pass(k, v, rate) for rate in rates]
    errors = [_error(M, k, v) for M in memories]
    unit = k / np.linalg.norm(k, axis=1, keepdims=True)

    def best(values: list[float]) -> float:
        return float(rates[int(np.argmin(values))])

    return {
        "You measured each pair before its own write: measure all pairs after the last one.": best(
            [_while_reading(k, v, rate, False) for rate in rates]
        ),
        "You measured each pair just after its own write: measure all pairs after the last one.": best(
            [_while_reading(k, v, rate, True) for rate in rates]
        ),
        "That is the best rate for the last pair only: the mean runs over all pairs.": best(
            [_error(M, k[-1:], v[-1:]) for M in memories]
        ),
        "That names most values; the root mean square error is asked.": best(
            [-_named(M, v, k) for M in memories]
        ),
        "Start each rate from an empty memory: yours carries M over.": best(_carried(k, v, rates)),
        "One pass, in the order given: token 0 writes first.": best(
            [_error(_pass(k[::-1], v[::-1], rate), k, v) for rate in rates]
        ),
        "Use the keys as they come; you made them unit vectors.": best(
            [_error(_pass(unit, v, rate), unit, v) for rate in rates]
        ),
        "That is the smallest error; return the rate that leads to it.": min(errors),
        "That is the place of the rate in the list; return the rate itself.": float(np.argmin(errors)),
        "That is the rate with the largest error.": best([-error for error in errors]),
    }


def check_best_rate(function: Any) -> None:
    """(k, v, rates) -> the rate: ten pairs; then orthogonal keys, one key with two values, two equally good rates."""
    case = _pairs()
    got, changed = ask_named(function, case)
    must_equal("the best rate", got, _best_rate(**case), _rate_mistakes(**case))
    _unchanged(changed)
    rates = np.array([1.5, 1.0, 0.5, 0.25])
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    key = np.eye(1, 3)
    for what, k, v, some, want, hints in (
        ("for orthogonal keys of length 1", np.eye(3), np.arange(6.0).reshape(3, 2), rates, 1.0, {}),
        (
            "for one key that gets two values",
            np.vstack([key, key]),
            np.vstack([zero, one]),
            rates,
            0.5,
            {"Both pairs count, the overwritten one too.": 1.0},
        ),
        (
            "for two equally good rates",
            key,
            one,
            rates[[0, 2]],
            0.5,
            {"Of equally good rates return the smallest.": 1.5},
        ),
    ):
        got, changed = ask_named(function, {"k": k, "v": v, "rates": some})
        must_equal(f"{what} the best rate", got, want, hints)
        _unchanged(changed)


def _wrong_rate(hint: str) -> tuple[Any, str]:
    def answer(k: Array, v: Array, rates: Array) -> float:
        return next(value for text, value in _rate_mistakes(k, v, rates).items() if hint in text)

    return answer, hint


def _first_of_equals(k: Array, v: Array, rates: Array) -> float:
    return float(rates[int(np.argmin([_error(_pass(k, v, rate), k, v) for rate in rates]))])


def _last_value_of_each_key(k: Array, v: Array, rates: Array) -> float:
    last = [i for i in range(len(k)) if not any((k[i] == other).all() for other in k[i + 1 :])]
    errors = [_error(_pass(k, v, rate), k[last], v[last]) for rate in rates]
    return float(rates[int(np.argmin(errors))])


EXERCISES = (
    Exercise(
        "02.1",
        "correct one pair with the gated delta rule",
        check_write,
        _write,
        (
            *map(
                _wrong_write,
                (
                    "a write goes against the error",
                    "η is missing",
                    "Erase and write share η",
                    "The erased part has it",
                    "‖k‖ = 2 here, and it matters",
                    "Do not divide by ‖k‖²",
                    "no error correction",
                    "no retention",
                    "before the decay",
                    "α multiplies the old memory only",
                    "takes the 2",
                    "what is lost",
                ),
            ),
            (
                lambda M, k, v, eta, alpha: alpha * M - eta * np.outer(k, alpha * M @ k - v),
                "the error comes first",
            ),
            (
                lambda M, k, v, eta, alpha: _write(M, k, v, eta, alpha).T,
                "has shape (3, 2), it should be (2, 3). It has the transposed shape",
            ),
            (_write_in_place, "you changed M in place"),
        ),
    ),
    Exercise(
        "02.2",
        "write many pairs by one triangular solve",
        check_write_all,
        _write_all,
        (
            *map(
                _wrong_write_all,
                (
                    "does not see its own write",
                    "Token 0 has nothing before it",
                    "see later writes as well",
                    "the overlaps as well as the error",
                    "the error as well as the overlaps",
                    "what M answers already is not missing",
                    "the writes are added to M",
                    "on the right side and in the result",
                    "make it a column",
                    "with a plus",
                    "as it was at the start",
                ),
            ),
            (_loop, "that is a loop over tokens"),
            (_forward, "that is a loop over tokens"),
            (_write_all_in_place, "you changed M in place"),
            (
                lambda M, k, v, eta: np.linalg.solve(
                    np.eye(len(k)) + eta[:, None] * np.tril(k @ k.T, -1), eta[:, None] * (v - k @ M.T)
                ),
                "those are the writes",
            ),
        ),
    ),
    Exercise(
        "02.3",
        "find the rate that leaves the smallest error after one pass",
        check_best_rate,
        _best_rate,
        (
            *map(
                _wrong_rate,
                (
                    "before its own write",
                    "just after its own write",
                    "the last pair only",
                    "names most values",
                    "carries M over",
                    "in the order given",
                    "as they come",
                    "return the rate that leads to it",
                    "return the rate itself",
                    "the largest error",
                ),
            ),
            (_first_of_equals, "return the smallest"),
            (_last_value_of_each_key, "the overwritten one too"),
        ),
    ),
)
