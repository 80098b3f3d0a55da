"""What the questions of an exam are made of: exact numbers, small vectors, draws, and how they are written."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

Number = int | Fraction
Vector = list[Fraction]
Matrix = list[Vector]
T = TypeVar("T")
MOST_DIGITS, LARGEST_DENOMINATOR = 6, 9999


class Drawn(NamedTuple):
    """One question with its numbers; `given` and `result` are for whoever checks it."""

    title: str
    task: str  # Markdown
    working: str  # Markdown, two or three lines
    answer: str  # Markdown
    given: dict[str, Any]
    result: dict[str, Any]


Asker = Callable[[random.Random], Drawn]


def asking(questions: dict[str, Asker], name: str) -> Callable[[Asker], Asker]:
    """Enter a question under its name."""

    def enter(ask: Asker) -> Asker:
        questions[name] = ask
        return ask

    return enter


# --- how numbers are written ----------------------------------------------------------------------------------------


def number(x: Number) -> str:
    """A short decimal if there is one, a fraction with its value if not: ``0.48``, ``5/6 (≈ 0.8333)``."""
    x = Fraction(x)
    scaled = x * 10**MOST_DIGITS
    if scaled.denominator == 1:
        sign, digits = "-" if x < 0 else "", str(abs(scaled.numerator)).rjust(MOST_DIGITS + 1, "0")
        return sign + f"{digits[:-MOST_DIGITS]}.{digits[-MOST_DIGITS:]}".rstrip("0").rstrip(".")
    if x.denominator <= LARGEST_DENOMINATOR:
        return f"{x.numerator}/{x.denominator} (≈ {float(x):.4f})"
    return f"≈ {float(x):.6f}"


def short(x: Number) -> str:
    """`number` without the value in brackets, for arrays."""
    return number(x).split(" (")[0].removeprefix("≈ ")


def array(x: Sequence[Any]) -> str:
    """A vector or a matrix as in NumPy, without its name: ``[[1, 0.5], [0, -2]]``."""
    return "[" + ", ".join(short(y) if isinstance(y, int | Fraction) else array(y) for y in x) + "]"


def code(name: str, x: Number | Sequence[Any]) -> str:
    """``name = value`` in code style."""
    return f"`{name} = {short(x) if isinstance(x, int | Fraction) else array(x)}`"


# --- exact arithmetic -----------------------------------------------------------------------------------------------


def dot(a: Sequence[Number], b: Sequence[Number]) -> Fraction:
    """a · b."""
    return sum((Fraction(x) * y for x, y in zip(a, b, strict=True)), Fraction(0))


def times(m: Sequence[Sequence[Number]], x: Sequence[Number]) -> Vector:
    """M x."""
    return [dot(row, x) for row in m]


def plus(a: Sequence[Number], b: Sequence[Number], factor: Number = 1) -> Vector:
    """a + factor · b."""
    return [Fraction(x) + Fraction(factor) * y for x, y in zip(a, b, strict=True)]


def add_outer(
    m: Sequence[Sequence[Number]], v: Sequence[Number], k: Sequence[Number], factor: Number = 1
) -> Matrix:
    """M + factor · v kᵀ."""
    return [plus(row, k, Fraction(factor) * x) for row, x in zip(m, v, strict=True)]


# --- draws ----------------------------------------------------------------------------------------------------------


def until(draw: Callable[[], T], fit: Callable[[T], bool]) -> T:
    """Draw again until it is fit."""
    while not fit(drawn := draw()):
        pass
    return drawn


def one_of(rng: random.Random, choices: str) -> Fraction:
    """One of the numbers of a list in words: ``"0.5 0.8 2/3"``."""
    return Fraction(rng.choice(choices.split()))


def some(rng: random.Random, count: int, choices: str) -> Vector:
    """Different numbers of such a list."""
    return [Fraction(x) for x in rng.sample(choices.split(), count)]


def integers(rng: random.Random, count: int, largest: int = 3) -> Vector:
    """A vector of integers from -largest to largest that is not zero."""
    return until(lambda: [Fraction(rng.randint(-largest, largest)) for _ in range(count)], any)


def nonzero(rng: random.Random, count: int, largest: int = 9) -> Vector:
    """Integers from -largest to largest, none of them zero."""
    return until(lambda: integers(rng, count, largest), all)


def unit_key(rng: random.Random) -> Vector:
    """A vector of length 1 whose two entries are short decimals."""
    a, b = rng.choice([("0.6", "0.8"), ("0.8", "0.6"), ("0.28", "0.96"), ("0.96", "0.28")])
    return [Fraction(a), Fraction(b) * rng.choice([1, -1])]


def parallel(a: Sequence[Number], b: Sequence[Number]) -> bool:
    """Whether |a · b| is ‖a‖ ‖b‖."""
    return dot(a, b) ** 2 == dot(a, a) * dot(b, b)
