"""What every task needs: a generator from a seed, whole numbers at the door, the share of right answers."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from hope_ref.common.validation import shape_is

Integers: TypeAlias = npt.NDArray[np.int64]
Seed: TypeAlias = int | tuple[int, ...]
IGNORE = -1  # the label of a token that is not scored


class Accuracy(NamedTuple):
    """The share of scored tokens that are right, and of sequences with every scored token right."""

    tokens: float
    sequences: float


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int within [low, high], or raise a ValueError that names it."""
    wanted = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    whole = hasattr(value, "__index__") and not isinstance(value, bool | np.ndarray)
    if not whole or value.__index__() < low or (high is not None and value.__index__() > high):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return int(value.__index__())


def integers(
    name: str, value: Any, shape: tuple[int | str, ...], low: int = IGNORE, high: int | None = None
) -> Integers:
    """Return ``value`` as an int64 array of the shape, entries within [low, high], or raise a ValueError."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integers, got dtype {array.dtype}")
    shape_is(name, array.shape, shape)
    array = array.astype(np.int64)
    if array.size and array.min() < low:
        raise ValueError(f"{name} must be >= {low}, got min {array.min()}")
    if array.size and high is not None and array.max() > high:
        raise ValueError(f"{name} must be <= {high}, got max {array.max()}")
    return array


def generator(seed: Seed) -> np.random.Generator:
    """The random numbers of a seed: an integer >= 0, or several, such as (seed, step).

    Several integers give every batch of a run its own numbers, so that step 900 can be drawn again without the
    899 before it. They enter as NumPy's ``spawn_key``: otherwise (7,) and (7, 0) would be the same seed.
    """
    parts = seed if isinstance(seed, tuple) else (seed,)
    if not parts:
        raise ValueError("seed must be an integer >= 0 or a tuple of them, got ()")
    first, *others = (integer("seed", part, 0) for part in parts)
    return np.random.default_rng(np.random.SeedSequence(first, spawn_key=tuple(others)))


def accuracy(predicted: Any, labels: Any) -> Accuracy:
    """The share of right tokens, and of sequences without a mistake; tokens labelled -1 are not scored.

    Args:
        predicted: the labels guessed, (B, T), integers.
        labels: the right ones, (B, T), -1 where nothing is scored. A sequence without any scored token is left out.
    Returns:
        Accuracy(tokens, sequences), both from 0 to 1.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    labels = integers("labels", labels, ("B", "T"))
    predicted = integers("predicted", predicted, labels.shape, low=np.iinfo(np.int64).min)
    scored = labels != IGNORE
    if not scored.any():
        raise ValueError("labels must have a token that is scored, got -1 everywhere")
    right = predicted == labels
    counted = scored.any(axis=1)  # (B,)
    whole = (right | ~scored).all(axis=1)[counted]
    return Accuracy(float(right[scored].mean()), float(whole.mean()))
