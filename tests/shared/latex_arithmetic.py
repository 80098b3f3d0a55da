r"""The arithmetic of printed formulas: shapes that must fit, an identity without a size, derivatives and minima by numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Value = Any  # a float, a 2-D array, an Eye or a function


class LatexError(ValueError):
    """The formula has something in it that cannot be read, or that does not fit."""


@dataclass(frozen=True)
class Eye:
    """A multiple of the identity whose size comes from what it is added to."""

    factor: float = 1.0


def plain(value: Value) -> Value:
    """A number as a float, also where it came out as a 1 × 1 matrix."""
    return float(np.reshape(value, ())) if not isinstance(value, Eye) and np.size(value) == 1 else value


def _array(value: Value) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 2


def matched(a: Value, b: Value) -> tuple[Value, Value]:
    """Two terms of one shape: an identity takes the other's size, the number 0 stands for zeros."""
    if isinstance(a, Eye) and isinstance(b, Eye):
        return a.factor, b.factor
    if isinstance(b, Eye):
        if not _array(a) or a.shape[0] != a.shape[1]:
            raise LatexError(f"the identity is added to {np.shape(a)}, which is not square")
        return a, b.factor * np.eye(len(a))
    if isinstance(a, Eye):
        return matched(b, a)[::-1]
    if np.shape(a) != np.shape(b) and not (np.ndim(a) == 0 and a == 0) and not (np.ndim(b) == 0 and b == 0):
        raise LatexError(f"terms of shapes {np.shape(a)} and {np.shape(b)}")
    return a, b


def add(a: Value, b: Value) -> Value:
    one, two = matched(a, b)
    return Eye(one + two) if isinstance(a, Eye) and isinstance(b, Eye) else plain(np.add(one, two))


def multiply(a: Value, b: Value) -> Value:
    if isinstance(a, Eye) or isinstance(b, Eye):
        factor, other = (a.factor, b) if isinstance(a, Eye) else (b.factor, a)
        scaled = factor * (other.factor if isinstance(other, Eye) else other)
        return Eye(scaled) if isinstance(other, Eye) or np.ndim(other) == 0 else scaled
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return plain(np.multiply(a, b))
    if a.shape[1] != b.shape[0]:
        raise LatexError(f"a product of shapes {a.shape} and {b.shape}")
    return plain(a @ b)


def elementwise(a: Value, b: Value) -> Value:
    """⊙: of one shape, or a column that scales rows."""
    if np.shape(a) != np.shape(b) and not (
        np.ndim(a) == np.ndim(b) == 2 and len(a) == len(b) and 1 in (a.shape[1], b.shape[1])
    ):
        raise LatexError(f"an elementwise product of shapes {np.shape(a)} and {np.shape(b)}")
    return plain(np.multiply(a, b))


def outer(a: Value, b: Value) -> Value:
    return multiply(a, transposed(b))


def divide(a: Value, b: Value) -> Value:
    if isinstance(b, Eye) or (np.ndim(b) and np.shape(a) != np.shape(b)):
        raise LatexError(f"{np.shape(a)} divided by {np.shape(b)}")
    return Eye(a.factor / b) if isinstance(a, Eye) else plain(np.divide(a, b))


def power(base: Value, exponent: Value) -> Value:
    """A matrix power if the base is square, else entry by entry; of other arrays there is no inverse."""
    if isinstance(base, Eye):
        return Eye(base.factor**exponent)
    if _array(base) and base.shape[0] == base.shape[1]:
        if float(exponent) != int(exponent):
            raise LatexError(f"the matrix power {exponent}")
        return np.linalg.matrix_power(base, int(exponent))
    if _array(base) and exponent < 0:
        raise LatexError(f"the inverse of shape {base.shape}")
    return plain(np.power(base, exponent))


def transposed(value: Value) -> Value:
    return value.T if isinstance(value, np.ndarray) else value


def blocks(rows: list[list[Value]]) -> Value:
    """A matrix of blocks; 0 is a block of zeros, and blocks on the diagonal are square."""
    count = len(rows)
    sizes: list[int | None] = [None] * count
    for i, row in enumerate(rows):
        if len(row) != count:
            raise LatexError("a matrix of blocks that is not square")
        for j, block in enumerate(row):
            if _array(block):
                sizes[i], sizes[j] = block.shape
    if None in sizes:
        raise LatexError("a row of blocks without a size")
    return np.block(
        [
            [b if _array(b) else np.full((sizes[i], sizes[j]), b) for j, b in enumerate(row)]
            for i, row in enumerate(rows)
        ]
    )


def gradient(function: Callable[[Any], float], at: Value, step: float = 1e-3) -> Value:
    """Central differences on four points: exact but for rounding up to degree four."""
    x = np.asarray(at, dtype=np.float64)
    slope = np.empty_like(x)
    for index in np.ndindex(x.shape):
        values = []
        for shift in (-2, -1, 1, 2):
            moved = x.copy()
            moved[index] += shift * step
            values.append(function(moved if moved.ndim else float(moved)))
        slope[index] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    return slope if slope.ndim else float(slope)


def minimiser(function: Callable[[Any], float], at: Value) -> Value:
    """Where a strictly convex quadratic is least: one Newton step with unit differences, and a second one to check it."""
    start = np.asarray(at, dtype=np.float64)

    def flat(x: Any) -> float:
        value = function(np.reshape(x, start.shape) if start.ndim else float(x[0]))
        if np.ndim(value):
            raise LatexError("the objective is not a number")
        return value

    x, directions = start.ravel(), np.eye(start.size)

    def slope(x: Any) -> Any:
        return np.array([(flat(x + d) - flat(x - d)) / 2 for d in directions])

    curvature = np.array([slope(x + d) - slope(x) for d in directions])
    if np.linalg.eigvalsh((curvature + curvature.T) / 2).min() <= 1e-9:
        raise LatexError("the objective has no minimum")
    x = x - np.linalg.solve(curvature, slope(x))
    last = np.linalg.solve(curvature, slope(x))
    if np.abs(last).max() > 1e-7 * (1 + np.abs(x).max()):
        raise LatexError("the objective is not quadratic")
    x = x - last
    return np.reshape(x, start.shape) if start.ndim else float(x[0])
