"""Exercises of notebook 00: shapes, bits per token, and what reading a text again and again saves."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, ask_named, must_equal, unchanged

SHAPES = ("memory", "association", "answer", "scores", "outputs")


# --- 00.1 -------------------------------------------------------------------------------------------------------------


def check_shapes(function: Any) -> None:
    """(T, d_k, d_v) -> a dictionary of shapes: compared with the shapes of arrays that NumPy really computes."""
    for length, d_k, d_v in ((7, 5, 3), (2, 4, 6)):
        q, k, v = np.ones((length, d_k)), np.ones((length, d_k)), np.ones((length, d_v))
        memory = v.T @ k
        expected = {
            "memory": memory.shape,
            "association": np.outer(v[0], k[0]).shape,
            "answer": (memory @ q[0]).shape,
            "scores": (q @ k.T).shape,
            "outputs": (q @ memory.T).shape,
        }
        got = ask(function, length, d_k, d_v)
        if not isinstance(got, dict):
            raise WrongAnswer(f"return a dictionary, name -> shape, got {type(got).__name__}.")
        for name in SHAPES:
            if name not in got:
                raise WrongAnswer(f"the shape of {name} is missing.")
            _shape_is(name, got[name], expected[name], (length, d_k, d_v))


def _shape_is(name: str, got: Any, want: tuple[int, ...], sizes: tuple[int, int, int]) -> None:
    try:
        shape = tuple(operator.index(size) for size in got)
    except TypeError as error:
        raise WrongAnswer(
            f"a shape is a tuple of integers, like (5,), but {name} got {got!r}: a lone (5) is a number."
        ) from error
    if shape == want:
        return
    length, d_k, d_v = sizes
    hints = {
        ("memory", (d_k, d_v)): "M @ k must be a value: M is (d_v, d_k), so that its columns meet the key.",
        (
            "association",
            (d_k, d_v),
        ): "v kᵀ has one row per entry of the value, like the memory it is added to.",
        ("answer", (1, d_v)): "An answer is a vector: one axis, (d_v,).",
        ("answer", (d_v, 1)): "An answer is a vector: one axis, (d_v,).",
        ("answer", (d_k,)): "A query goes in, a value comes out.",
        ("scores", (d_k, d_k)): "Q Kᵀ has one number per pair of tokens: the width d_k is summed over.",
        ("outputs", (length, d_k)): "Outputs are values: one row of d_v numbers per token.",
        ("outputs", (d_v, length)): "Sequences stand in rows here: one row per token.",
    }
    hint = hints.get((name, shape), "Build the arrays with np.ones and look at .shape.")
    raise WrongAnswer(
        f"for T = {length}, d_k = {d_k}, d_v = {d_v} the shape of {name} is {shape}, expected {want}. {hint}"
    )


def _shapes(length: int, d_k: int, d_v: int) -> dict[str, tuple[int, ...]]:
    return {
        "memory": (d_v, d_k),
        "association": (d_v, d_k),
        "answer": (d_v,),
        "scores": (length, length),
        "outputs": (length, d_v),
    }


def _shapes_but(name: str, shape: Callable[[int, int, int], Any]) -> Any:
    """A wrong answer: all shapes right but one."""
    return lambda *sizes: _shapes(*sizes) | {name: shape(*sizes)}


# --- 00.2 -------------------------------------------------------------------------------------------------------------

SAFE = "Subtract each row's own largest logit before exp: exp(1000) overflows, and exp(-1000) is 0."


def check_bits(function: Any) -> None:
    """(logits, tokens) -> -log₂ p(token t + 1 after t): against a sum of exponentials that cannot overflow."""
    rng = np.random.default_rng(0)
    cases: tuple[tuple[str, Any, Any], ...] = (
        ("bits", rng.normal(size=(7, 5)), rng.integers(5, size=7)),
        ("bits where all 8 tokens are equally likely", np.zeros((3, 8)), np.array([1, 7, 2])),
        (
            "bits of logits around 1,000 and -1,000",
            300 * rng.normal(size=(4, 6)) + [[1000], [-1000], [1000], [0]],
            np.array([0, 5, 3, 1]),
        ),
        ("bits of a single token", np.zeros((1, 4)), np.array([2])),
    )
    for what, logits, tokens in cases:
        with np.errstate(all="ignore"):
            got, names = ask_named(function, {"logits": logits, "tokens": tokens})
            unchanged(names, "you changed {} in place: compute in a new array, the caller still needs it.")
            _bits_are(what, got, logits, tokens)


def _bits_are(what: str, got: Any, logits: Array, tokens: Array) -> None:
    expected = _bits(logits, tokens)
    length = len(tokens)
    shape = np.shape(got)
    if got is not None and shape == () and length != 2:
        raise WrongAnswer(
            f"{what} is a single {type(got).__name__}: return one number per predicted token, T - 1 of them, and no mean."
        )
    if shape == (length,):
        raise WrongAnswer(
            f"{what} has shape {shape}, expected {(length - 1,)}: nothing predicts token 0, and no token follows the last row."
        )
    if _unsafe(got):
        raise WrongAnswer(f"{what} has a number that is infinite or undefined. {SAFE}")
    p = np.exp(-expected * np.log(2))
    likely = {
        "That is nats: divide by ln 2.": expected * np.log(2),
        "The sign: a sure guess costs 0 bits, a wild one more.": -expected,
        "The sign, and nats: a cost is -log₂ p.": -expected * np.log(2),
        "Row t of the logits is about token t + 1: logits[0] speaks about token 1.": _looked_up(
            logits[:-1], tokens[:-1]
        ),
        "logits[0] speaks about token 1: drop the last row, not the first one.": _looked_up(
            logits[1:], tokens[1:]
        ),
        "That is log₁₀: bits count in powers of 2.": expected * np.log10(2),
        "That is the probability itself: its cost in bits is -log₂ p.": p,
        "Something small was added to p before the logarithm: a wild guess must cost all its bits.": -np.log2(
            p + 1e-12
        ),
        "The probabilities of one row sum to 1: normalise over the last axis.": _looked_up(
            logits[:-1], tokens[1:], axis=0
        ),
    }
    must_equal(what, got, expected, likely)


def _unsafe(got: Any) -> bool:
    try:
        return not np.isfinite(np.asarray(got, dtype=float)).all()
    except (TypeError, ValueError):
        return False


def _looked_up(logits: Array, tokens: Array, axis: int = -1) -> Array:
    """-log₂ of the softmax along an axis, at the tokens."""
    if not len(tokens):
        return np.zeros(0)
    shifted = logits - logits.max(axis=axis, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    picked: Array = -log_p[np.arange(len(tokens)), tokens] / np.log(2)
    return picked


def _bits(logits: Array, tokens: Array) -> Array:
    """The answer."""
    return _looked_up(logits[:-1], tokens[1:])


def _by_softmax(logits: Array, tokens: Array, less: Any = 0.0) -> Array:
    """Bits by way of exponentials of the logits as they are, or less something."""
    weights = np.exp(logits - less)
    p = weights / weights.sum(1, keepdims=True)
    found: Array = -np.log2(p[np.arange(len(tokens) - 1), tokens[1:]])
    return found


def _in_place(logits: Array, tokens: Array) -> Array:
    logits -= logits.max(1, keepdims=True)
    return _bits(logits, tokens)


# --- 00.3 -------------------------------------------------------------------------------------------------------------


class Reader:
    """A made-up reader: what every byte costs is drawn, and each reading saves a known share, more if it learns."""

    def __init__(self, text: bytes, times: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.whole, self.times, self.size = text * times, times, len(text)
        self.asked: list[tuple[bytes, bool]] = []
        saved = {False: rng.uniform(-0.2, 0.2, times), True: rng.uniform(0.2, 0.6, times)}  # in each reading
        wobble = rng.uniform(0.0, 0.5, (times, self.size))
        base = rng.uniform(3.0, 8.0, self.size)
        self.costs = {
            learn: (base + wobble - np.cumsum(saving)[:, None]).ravel() for learn, saving in saved.items()
        }

    def __call__(self, text: bytes, learn: bool) -> Array:
        if not isinstance(text, bytes):
            raise TypeError(f"read must get bytes, as text is, got {type(text).__name__}")
        self.asked.append((text, bool(learn)))
        costs = np.resize(self.costs[bool(learn)], len(text))
        return costs[1:].copy()

    def gain(self, learn: bool) -> float:
        """Bits per byte that the last reading saves against the first."""
        n, costs = self.size, self.costs[learn]
        first = [costs[i] for i in range(1, n)]
        last = [costs[i] for i in range((self.times - 1) * n, self.times * n) if i > 0]
        return float(sum(first) / len(first) - sum(last) / len(last))


def check_gains(function: Any) -> None:
    """(read, text, times) -> (held still, learning): what made-up readers of known costs save."""
    for seed, (text, times) in enumerate(((b"abcde", 3), (b"memories", 6), (b"no", 2), (b"once", 1))):
        reader = Reader(text, times, seed)
        got = ask(function, reader, text, times)
        repeated = {learn for whole, learn in reader.asked if whole == reader.whole}
        if got is not None and repeated != {False, True}:
            raise WrongAnswer(_not_read(reader, text, times, repeated))
        expected = np.array([reader.gain(learn) for learn in (False, True)])
        must_equal(
            f"what reading {text!r} {times} times saves", got, expected, _likely_gains(reader, expected)
        )


def _not_read(reader: Reader, text: bytes, times: int, repeated: set[bool]) -> str:
    if len(repeated) == 1:
        (learn,) = repeated
        return f"you read with learn={learn} only: two numbers are wanted, held still and learning."
    if not reader.asked:
        return "you never called read(text, learn)."
    lengths = sorted({len(whole) for whole, _ in reader.asked})
    return (
        f"you read {', '.join(map(str, lengths))} bytes, expected {len(text) * times}: repeat the text {times} times in one "
        "stream, text * times. Whatever read has learned is gone when it returns."
    )


def _likely_gains(reader: Reader, expected: Array) -> dict[str, Any]:
    if reader.times == 1:
        return {}
    n = reader.size
    bits = [reader.costs[learn][1:] for learn in (False, True)]

    def both(rule: Callable[[Array], Any]) -> Array:
        return np.array([rule(b) for b in bits])

    byte_0 = "Byte 0 has no prediction"
    return {
        "A saving is first minus last.": -expected,
        "The order is (held still, learning).": expected[::-1],
        f"{byte_0}: the first reading has {n - 1} numbers, not {n}.": both(
            lambda b: b[:n].mean() - b[-n:].mean()
        ),
        f"{byte_0}, but the last reading has one for each of its {n} bytes.": both(
            lambda b: b[: n - 1].mean() - b[1 - n :].mean()
        ),
        f"{byte_0}: the first reading has {n - 1} numbers, and the last one {n}.": both(
            lambda b: b[:n].mean() - b[1 - n :].mean()
        ),
        "Per byte: divide each reading by the count of its numbers.": both(
            lambda b: b[: n - 1].sum() - b[-n:].sum()
        ),
        "Compare whole readings, the first and the last, not halves.": both(
            lambda b: b[: len(b) // 2].mean() - b[len(b) // 2 :].mean()
        ),
        "That is the second reading: compare the first with the last.": both(
            lambda b: b[: n - 1].mean() - b[n - 1 : 2 * n - 1].mean()
        ),
        "Compare readings, not single bytes.": both(lambda b: b[0] - b[-1]),
        "A saving is a difference here, not a ratio.": both(lambda b: 1 - b[-n:].mean() / b[: n - 1].mean()),
        "Against the first reading alone, not against all.": both(lambda b: b.mean() - b[-n:].mean()),
    }


def _gains(read: Any, text: bytes, times: int) -> tuple[float, float]:
    """The answer."""
    return _compared(lambda bits, n: bits[: n - 1].mean() - bits[-n:].mean())(read, text, times)


def _compared(rule: Callable[[Array, int], Any]) -> Any:
    """An answer that reads the text `times` times in one stream, and compares by a rule of the bits and n."""
    return lambda read, text, times: tuple(
        rule(read(text * times, learn), len(text)) for learn in (False, True)
    )


def _one_at_a_time(read: Any, text: bytes, times: int) -> tuple[float, ...]:
    found = []
    for learn in (False, True):
        readings = [read(text, learn).mean() for _ in range(times)]
        found.append(readings[0] - readings[-1])
    return tuple(found)


EXERCISES = (
    Exercise(
        "00.1",
        "name the shapes",
        check_shapes,
        _shapes,
        (
            (_shapes_but("memory", lambda T, d_k, d_v: (d_k, d_v)), "columns meet the key"),
            (_shapes_but("association", lambda T, d_k, d_v: (d_k, d_v)), "one row per entry of the value"),
            (_shapes_but("answer", lambda T, d_k, d_v: (1, d_v)), "a vector"),
            (_shapes_but("answer", lambda T, d_k, d_v: (d_v, 1)), "a vector"),
            (_shapes_but("answer", lambda T, d_k, d_v: (d_k,)), "a value comes out"),
            (_shapes_but("answer", lambda T, d_k, d_v: d_v), "a lone (5) is a number"),
            (_shapes_but("scores", lambda T, d_k, d_v: (d_k, d_k)), "one number per pair of tokens"),
            (_shapes_but("outputs", lambda T, d_k, d_v: (T, d_k)), "Outputs are values"),
            (_shapes_but("outputs", lambda T, d_k, d_v: (d_v, T)), "one row per token"),
            (_shapes_but("outputs", lambda T, d_k, d_v: (7, 3)), "expected (2, 6)"),
            (lambda length, d_k, d_v: {"memory": (d_v, d_k)}, "association is missing"),
        ),
    ),
    Exercise(
        "00.2",
        "count the bits of every token",
        check_bits,
        _bits,
        (
            (lambda logits, tokens: _bits(logits, tokens) * np.log(2), "divide by ln 2"),
            (lambda logits, tokens: _looked_up(logits[:-1], tokens[:-1]), "logits[0] speaks about token 1"),
            (lambda logits, tokens: _looked_up(logits[1:], tokens[1:]), "logits[0] speaks about token 1"),
            (lambda logits, tokens: _bits(logits, tokens).mean(), "one number per predicted token"),
            (lambda logits, tokens: _looked_up(logits, tokens), "nothing predicts token 0"),
            (lambda logits, tokens: -_bits(logits, tokens), "a sure guess costs 0"),
            (lambda logits, tokens: _by_softmax(logits, tokens), "own largest logit before exp"),
            (
                lambda logits, tokens: _by_softmax(logits, tokens, logits.max()),
                "own largest logit before exp",
            ),
            (lambda logits, tokens: -np.log2(2.0 ** -_bits(logits, tokens) + 1e-12), "all its bits"),
            (lambda logits, tokens: 2.0 ** -_bits(logits, tokens), "the probability itself"),
            (lambda logits, tokens: _looked_up(logits[:-1], tokens[1:], axis=0), "over the last axis"),
            (_in_place, "you changed logits in place"),
        ),
    ),
    Exercise(
        "00.3",
        "measure what reading a text again and again saves",
        check_gains,
        _gains,
        (
            (_compared(lambda b, n: b[:n].mean() - b[-n:].mean()), "Byte 0 has no prediction"),
            (_compared(lambda b, n: b[: n - 1].mean() - b[1 - n :].mean()), "Byte 0 has no prediction"),
            (_compared(lambda b, n: b[: n - 1].sum() - b[-n:].sum()), "divide each reading"),
            (_compared(lambda b, n: b[-n:].mean() - b[: n - 1].mean()), "first minus last"),
            (_compared(lambda b, n: b[: len(b) // 2].mean() - b[len(b) // 2 :].mean()), "not halves"),
            (
                _compared(lambda b, n: b[: n - 1].mean() - b[n - 1 : 2 * n - 1].mean()),
                "the first with the last",
            ),
            (_compared(lambda b, n: 1 - b[-n:].mean() / b[: n - 1].mean()), "not a ratio"),
            (lambda read, text, times: _gains(read, text, times)[::-1], "(held still, learning)"),
            (_one_at_a_time, "in one stream"),
            (lambda read, text, times: (read(text * times, True)[0], 0.0), "learn=True only"),
        ),
    ),
)
