"""Exercises of notebook 01: carry one memory through a sequence, forget without a loop, count the pairs that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.checks import to_numpy
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, ask_shaped, must_equal

# --- how an answer was computed ---------------------------------------------------------------------------------------

CONTRACTS = {
    np.dot,
    np.vdot,
    np.inner,
    np.outer,
    np.einsum,
    np.tensordot,
    np.cumsum,
    np.sum,
    np.prod,
    np.cumprod,
}


class _Counted(np.ndarray):
    """An array that counts. Steps: operations, look-ups, rounds of a loop. Work: numbers that arithmetic reads and writes."""

    tally: dict[str, int]

    def __array_finalize__(self, source: Any) -> None:
        self.tally = getattr(source, "tally", {"steps": 0, "work": 0})

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = _plain(inputs)
        return self._noted(getattr(ufunc, method)(*plain, **_plain(options)), plain)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        plain = _plain(arguments)
        return self._noted(function(*plain, **_plain(options)), plain if function in CONTRACTS else ())

    def __getitem__(self, key: Any) -> Any:
        self.tally["steps"] += 1
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def dot(self, other: Any, out: Any = None) -> Any:
        return np.dot(self, other)

    def _noted(self, result: Any, read: tuple[Any, ...]) -> Any:
        self.tally["steps"] += 1
        if read:
            arrays = [part for part in (*read, result) if isinstance(part, np.ndarray)]
            self.tally["work"] += sum(part.size for part in arrays)
        return _counting(result, self.tally) if type(result) is np.ndarray else result


def _counting(array: Array, tally: dict[str, int]) -> _Counted:
    counted = array.view(_Counted)
    counted.tally = tally
    return counted


def _plain(value: Any) -> Any:
    """The same without counting arrays, also inside tuples, lists and dictionaries."""
    if isinstance(value, _Counted):
        return value.view(np.ndarray)
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value


def _tally(function: Any, *arrays: Array) -> dict[str, int]:
    """How many steps and how much work an answer takes; nothing if it turns the arrays into something else first."""
    tally = {"steps": 0, "work": 0}
    ask(lambda *plain: function(*(_counting(array, tally) for array in plain)), *arrays)
    return tally


def _tokens(length: int = 6, seed: int = 101) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(length, 3)), rng.normal(size=(length, 3)), rng.normal(size=(length, 2))


def _scores(q: Array, k: Array, weight: Array) -> Array:
    return weight * (q @ k.T)


# --- 01.1 -------------------------------------------------------------------------------------------------------------

SHAPES = "Here d_k = 3 and d_v = 2: the memory is (d_v, d_k), np.outer(v, k) with the value first, and y is (T, d_v)."


def check_read_all(function: Any) -> None:
    """(q, k, v) -> y: compared with the masked product, which shares no line with a recurrence; then its work is counted."""
    q, k, v = _tokens()
    ones = np.ones((6, 6))
    scores = _scores(q, k, np.tril(ones))
    softmax = np.tril(np.exp(q @ k.T))
    likely = {
        "You read before you wrote: token 0 must already answer its own key.": _scores(
            q, k, np.tril(ones, -1)
        )
        @ v,
        "The memory is overwritten, not added to: M_t = M_{t-1} + v_t k_tᵀ.": _scores(q, k, np.eye(6)) @ v,
        "Output 0 depends on token 5: read inside the loop, after each write.": _scores(q, k, ones) @ v,
        "The key is written and the query reads; you have exchanged them.": _scores(k, q, np.tril(ones)) @ v,
        "The step goes against the gradient, which is -v kᵀ: add v kᵀ.": -scores @ v,
        "That is normalised attention; divide by nothing.": scores / scores.sum(1, keepdims=True) @ v,
        "That is softmax attention; here the weights are the dot products themselves.": softmax
        / softmax.sum(1, keepdims=True)
        @ v,
        "Transformers scale by 1/√d_k; nothing is scaled here.": scores @ v / np.sqrt(3),
        "That is the average of the writes; the memory is their sum.": scores @ v / np.arange(1, 7)[:, None],
    }
    must_equal("y", ask_shaped(function, SHAPES, q=q, k=k, v=v), scores @ v, likely)
    for what, (q, k, v) in {
        "y of a single token": _tokens(1, 103),
        "y where token 0 is all zeros": tuple(x * (np.arange(5) > 0)[:, None] for x in _tokens(5, 104)),
    }.items():
        want = np.tril(q @ k.T) @ v
        must_equal(what, ask_shaped(function, SHAPES, q=q, k=k, v=v), want)
    short, long = (_tally(function, *_tokens(length))["work"] for length in (64, 128))
    if long > 3 * short:
        raise WrongAnswer(
            f"right values, but twice as many tokens cost {long / short:.1f} times the work: you go back to all earlier tokens. "
            "Carry one memory of d_v × d_k numbers from token to token, and read only that."
        )


def _read_all(q: Array, k: Array, v: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        memory = memory + np.outer(v[t], k[t])
        y[t] = memory @ q[t]
    return y


def _reads_first(q: Array, k: Array, v: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        y[t] = memory @ q[t]
        memory = memory + np.outer(v[t], k[t])
    return y


def _key_first(q: Array, k: Array, v: Array) -> Array:
    memory, y = np.zeros((k.shape[1], v.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        memory = memory + np.outer(k[t], v[t])
        y[t] = memory @ q[t]
    return y


def _normalised(q: Array, k: Array, v: Array) -> Array:
    scores = np.tril(q @ k.T)
    return scores / scores.sum(1, keepdims=True) @ v


def _softmax(q: Array, k: Array, v: Array) -> Array:
    weights = np.tril(np.exp(q @ k.T))
    return weights / weights.sum(1, keepdims=True) @ v


def _goes_back(q: Array, k: Array, v: Array) -> Array:
    return np.array([v[: t + 1].T @ (k[: t + 1] @ q[t]) for t in range(len(k))])


def _writes_into_k(q: Array, k: Array, v: Array) -> Array:
    y = _read_all(q, k, v)
    k *= 2
    return y


# --- 01.2 -------------------------------------------------------------------------------------------------------------

SHAPES_OF_WEIGHTS = (
    "The weights are (T, T), row t for the token that reads, column s for the one that wrote; alpha is (T,)."
)


def check_forgetting(function: Any) -> None:
    """(q, k, v, alpha) -> y: compared with the token loop, also where α is 0 or tiny; a loop over tokens is refused."""
    q, k, v = _tokens()
    alpha = np.random.default_rng(102).uniform(0.5, 1, size=6)
    must_equal(
        "y", _forgets(function, q, k, v, alpha), _token_by_token(q, k, v, alpha), _likely(q, k, v, alpha)
    )
    erased = np.array([0.9, 0.8, 1.0, 0.0, 0.7, 0.6])
    tiny = np.full(128, 1e-3)
    for what, tokens, values in (
        ("y with alpha[3] = 0", _tokens(), erased),
        ("y with alpha = 1e-3 and 128 tokens", _tokens(128), tiny),
        ("y with alpha = 1", _tokens(5, 104), np.ones(5)),
        ("y of a single token", _tokens(1, 103), np.array([0.5])),
        ("y with alpha = 0 everywhere", _tokens(4, 105), np.zeros(4)),
    ):
        got = _forgets(function, *tokens, values)
        if not np.isfinite(to_numpy(got)).all():
            raise WrongAnswer(
                f"{what} is not finite: you divide 0 by 0, or subtract two infinities. Build the products without dividing."
            )
        must_equal(what, got, _token_by_token(*tokens, values))
    with np.errstate(all="ignore"):
        short, long = (
            _tally(function, *_tokens(length), np.full(length, 0.9))["steps"] for length in (64, 128)
        )
    if long - short >= 32:
        raise WrongAnswer(
            "right values, but 64 more tokens take "
            f"{long - short} more steps: there is a loop over tokens. Compute all T × T weights at once."
        )


def _forgets(function: Any, q: Array, k: Array, v: Array, alpha: Array) -> Any:
    return ask_shaped(function, SHAPES_OF_WEIGHTS, q=q, k=k, v=v, alpha=alpha)


def _token_by_token(q: Array, k: Array, v: Array, alpha: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        memory = alpha[t] * memory + np.outer(v[t], k[t])
        y[t] = memory @ q[t]
    return y


def _likely(q: Array, k: Array, v: Array, alpha: Array) -> dict[str, Array]:
    """What the mistakes give for six tokens whose α is not small."""
    gamma = np.cumprod(alpha)
    before = gamma / alpha
    ratio = gamma[:, None] / gamma[None]
    age = np.subtract.outer(np.arange(6), np.arange(6))
    triangle = np.tril(np.ones((6, 6)))
    stacked = np.where(age > 0, alpha[:, None], 1.0)
    upper = "Token 0 cannot see token 3: keep the lower triangle."
    power = "Each token has its own α: a product of α_r for s < r ≤ t, not a power of one α."
    return {
        "A write is not decayed by its own α: the product starts after s.": _scores(
            q, k, np.tril(gamma[:, None] / before[None])
        )
        @ v,
        "There is no retention in it yet.": _scores(q, k, triangle) @ v,
        "The last factor is missing: the product includes α_t itself.": _scores(
            q, k, np.tril(before[:, None] / gamma[None], -1) + np.eye(6)
        )
        @ v,
        "Weights above 1: later over earlier, not earlier over later.": _scores(q, k, np.tril(ratio.T)) @ v,
        upper: _scores(q, k, ratio) @ v,
        f"{upper} ": _scores(q, k, np.tril(ratio) + np.triu(np.ones((6, 6)), 1)) @ v,
        power: _scores(q, k, np.where(age >= 0, alpha[:, None] ** np.abs(age), 0)) @ v,
        f"{power} ": _scores(q, k, np.where(age >= 0, alpha[None] ** np.abs(age), 0)) @ v,
        "A write does not lose what was forgotten before it: the product starts after s.": _scores(
            q, k, triangle * gamma[:, None]
        )
        @ v,
        "Multiply down the columns, axis=0: the time of the read runs downwards.": _scores(
            q, k, np.tril(np.cumprod(stacked, axis=1))
        )
        @ v,
        "You forget what comes in: α multiplies the old memory, not the new write.": _scores(
            q, k, triangle * alpha[None]
        )
        @ v,
        "Only the last α acts: the retentions of all the tokens between write and read multiply.": _scores(
            q, k, np.where(age > 0, alpha[:, None], np.eye(6))
        )
        @ v,
    }


def _forgetting(q: Array, k: Array, v: Array, alpha: Array) -> Array:
    below = np.tri(len(k), k=-1, dtype=bool)
    decay = np.tril(np.cumprod(np.where(below, alpha[:, None], 1.0), axis=0))
    return (decay * (q @ k.T)) @ v


def _by_ratio(q: Array, k: Array, v: Array, alpha: Array) -> Array:
    gamma = np.cumprod(alpha)
    return np.tril(gamma[:, None] / gamma[None] * (q @ k.T)) @ v


def _by_logarithms(q: Array, k: Array, v: Array, alpha: Array) -> Array:
    total = np.cumsum(np.log(alpha))
    return np.tril(np.exp(total[:, None] - total[None]) * (q @ k.T)) @ v


def _weighted(weights: Callable[[Array], Array]) -> Callable[..., Array]:
    """A wrong answer from its T × T weights."""
    return lambda q, k, v, alpha: (weights(alpha) * (q @ k.T)) @ v


def _own_too(alpha: Array) -> Array:
    gamma = np.cumprod(alpha)
    return np.tril(gamma[:, None] / (gamma / alpha)[None])


def _upside_down(alpha: Array) -> Array:
    gamma = np.cumprod(alpha)
    return np.tril(gamma[None] / gamma[:, None])


def _unmasked(alpha: Array) -> Array:
    stacked: Array = np.where(np.tri(len(alpha), k=-1, dtype=bool), alpha[:, None], 1.0)
    return stacked.cumprod(axis=0)


def _sideways(alpha: Array) -> Array:
    below = np.tri(len(alpha), k=-1, dtype=bool)
    return np.tril(np.cumprod(np.where(below, alpha[:, None], 1.0), axis=1))


def _powers(alpha: Array) -> Array:
    t, s = np.indices((len(alpha), len(alpha)))
    return np.where(s <= t, alpha[:, None] ** np.abs(t - s), 0)


def _forgets_late(q: Array, k: Array, v: Array, alpha: Array) -> Array:
    memory, y = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        y[t] = (memory + np.outer(v[t], k[t])) @ q[t]
        memory = alpha[t] * memory + np.outer(v[t], k[t])
    return y


def _writes_into_alpha(q: Array, k: Array, v: Array, alpha: Array) -> Array:
    y = _forgetting(q, k, v, alpha)
    alpha[0] = 1
    return y


# --- 01.3 -------------------------------------------------------------------------------------------------------------

SHAPES_OF_ANSWERS = "M is (d_v, d_k): read with M k, not Mᵀ k, so that all answers are k @ M.T."


def _pairs(count: int, d_k: int, d_v: int, seed: int) -> tuple[Array, Array]:
    """Keys of any length, unit values."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, d_v))
    return rng.normal(size=(count, d_k)), values / np.linalg.norm(values, axis=1, keepdims=True)


def check_named(function: Any) -> None:
    """(k, v) -> share of pairs that are named right: by a count that leaves ties open, on keys of any length."""
    k, v = _pairs(40, 8, 8, 103)
    share = float(np.mean(_named(k, v)))
    must_equal(
        "the share of 40 pairs", ask_shaped(function, SHAPES_OF_ANSWERS, k=k, v=v), share, _misnamed(k, v)
    )
    by_hand = np.array([[1.0, 0.0], [0.0, 2.0], [0.6, 0.8]]), np.eye(3)
    for what, (k, v) in {
        "the share of three pairs, of which the third is drowned by the long key of the second": by_hand,
        "the share of one pair": _pairs(1, 3, 2, 108),
        "the share of 30 pairs with d_k = 6 and d_v = 4": _pairs(30, 6, 4, 109),
    }.items():
        must_equal(what, ask_shaped(function, SHAPES_OF_ANSWERS, k=k, v=v), _named(k, v))
    k, v = _pairs(12, 5, 4, 110)
    v[1], v[7] = v[0], v[6]  # two values stand twice: either of them may be named
    memory = v.T @ k
    scores = k @ memory.T @ v.T
    margin = np.diag(scores) - np.where(np.eye(12) > 0, -np.inf, scores).max(axis=1)
    least, most = np.mean(margin > 1e-9), np.mean(margin > -1e-9)
    got = float(to_numpy(ask_shaped(function, SHAPES_OF_ANSWERS, k=k, v=v)))
    if not least - 1e-9 <= got <= most + 1e-9:
        raise WrongAnswer(
            f"where two values are equal, the share is {got:.3g}, expected {least:.3g} to {most:.3g}."
        )


def _named(k: Array, v: Array) -> float:
    memory = v.T @ k
    return float(np.mean(np.argmax(k @ memory.T @ v.T, axis=1) == np.arange(len(k))))


def _misnamed(k: Array, v: Array) -> dict[str, Any]:
    """What the mistakes give for square pairs whose keys have any length."""
    share, answers, at = _named(k, v), k @ (v.T @ k).T, np.arange(len(k))
    scores = answers @ v.T
    keys = "An answer is a value: compare M k with the values, not with the keys."
    score = "That is a mean of scores; count the right ones, a share between 0 and 1."
    return {
        "For each answer, over all values: arg max along axis 1 of answers @ values.T.": np.mean(
            scores.argmax(0) == at
        ),
        "Read with M k, not Mᵀ k: the answers are k @ M.T.": np.mean((k @ (v.T @ k) @ v.T).argmax(1) == at),
        keys: np.mean((answers @ k.T).argmax(1) == at),
        f"{keys} ": np.mean((k @ k.T).argmax(1) == at),
        "Use the keys as they come; the long ones are heard louder, and that counts.": _named(
            k / np.linalg.norm(k, axis=1, keepdims=True), v
        ),
        score: np.mean(np.diag(scores)),
        f"{score} ": np.mean(scores.max(1)),
        "That is how many are right; divide by their number, for a share between 0 and 1.": len(k) * share,
        "That is a percentage; return a share between 0 and 1.": 100 * share,
        "That is the share of wrong ones.": 1 - share,
        "An answer near -v is far from v: the largest score, without the absolute value.": np.mean(
            np.abs(scores).argmax(1) == at
        ),
        "Every pair was asked alone: store all pairs first, then ask for each.": 1.0,
    }


def _with_scores(share: Callable[[Array], Any]) -> Callable[[Array, Array], Any]:
    """An answer from the table of scores ⟨M k_i, v_j⟩."""
    return lambda k, v: share(k @ (v.T @ k).T @ v.T)


def _right(best: Array) -> Any:
    return np.mean(best == np.arange(len(best)))


EXERCISES = (
    Exercise(
        "01.1",
        "carry one memory through the sequence",
        check_read_all,
        _read_all,
        (
            (_reads_first, "read before you wrote"),
            (lambda q, k, v: np.array([np.outer(v[t], k[t]) @ q[t] for t in range(len(k))]), "overwritten"),
            (lambda q, k, v: q @ (v.T @ k).T, "depends on token 5"),
            (lambda q, k, v: _read_all(k, q, v), "exchanged"),
            (_key_first, "(d_v, d_k), np.outer(v, k)"),
            (_normalised, "divide by nothing"),
            (_softmax, "softmax attention"),
            (lambda q, k, v: -_read_all(q, k, v), "against the gradient"),
            (lambda q, k, v: _read_all(q, k, v) / np.sqrt(k.shape[1]), "nothing is scaled"),
            (lambda q, k, v: _read_all(q, k, v).T, "transposed shape"),
            (lambda q, k, v: np.tril(q @ k.T) @ v, "times the work"),
            (_goes_back, "times the work"),
            (_writes_into_k, "changed k in place"),
            (lambda q, k, v: _read_all(q, k, v).astype(np.float32), "float32"),
        ),
    ),
    Exercise(
        "01.2",
        "forget without a loop over tokens",
        check_forgetting,
        _forgetting,
        (
            (_by_ratio, "without dividing"),
            (_by_logarithms, "without dividing"),
            (_weighted(_own_too), "not decayed by its own"),
            (_weighted(_upside_down), "later over earlier"),
            (_weighted(_powers), "its own α"),
            (_weighted(_unmasked), "cannot see token 3"),
            (_weighted(_sideways), "axis=0"),
            (_weighted(lambda alpha: np.tril(np.cumprod(alpha)[:, None] + 0 * alpha)), "forgotten before it"),
            (_weighted(lambda alpha: np.tril(alpha + 0 * alpha[:, None])), "not the new write"),
            (lambda q, k, v, alpha: np.tril(q @ k.T) @ v, "no retention"),
            (_forgets_late, "last factor is missing"),
            (_token_by_token, "there is a loop over tokens"),
            (_writes_into_alpha, "changed alpha in place"),
        ),
    ),
    Exercise(
        "01.3",
        "measure how many pairs are named right",
        check_named,
        _named,
        (
            (_with_scores(lambda scores: _right(scores.argmax(0))), "along axis 1"),
            (lambda k, v: _right((k @ (v.T @ k) @ v.T).argmax(1)), "not Mᵀ k"),
            (lambda k, v: _right((k @ k.T).argmax(1)), "An answer is a value"),
            (lambda k, v: _named(k / np.linalg.norm(k, axis=1, keepdims=True), v), "as they come"),
            (_with_scores(lambda scores: np.mean(np.diag(scores))), "mean of scores"),
            (_with_scores(lambda scores: np.mean(scores.max(1))), "mean of scores"),
            (lambda k, v: len(k) * _named(k, v), "how many are right"),
            (lambda k, v: 100 * _named(k, v), "percentage"),
            (lambda k, v: 1 - _named(k, v), "share of wrong ones"),
            (_with_scores(lambda scores: _right(np.abs(scores).argmax(1))), "absolute value"),
            (_with_scores(lambda scores: scores.argmax(1) == np.arange(len(scores))), "has shape (40,)"),
        ),
    ),
)
