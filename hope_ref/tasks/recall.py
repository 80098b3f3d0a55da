"""Multi-query associative recall: pairs of a key and a value go by, then the keys come again, without their values.

Source: Arora et al. 2023 (MQAR), in the small form of this project [D]: of S symbols the first half are keys, the second
half values. A sequence is k₁ v₁ … k_P v_P q₁ … q_P, 3 P tokens: the keys differ, the values are independent, the queries
are all the keys in a new order. The target at a query is its value; every other token is labelled -1.

Chance: 2 / S for who ignores the pairs (1/32 at 64 symbols); 1/P + (1 - 1/P) 2/S for who answers with *some* value of the
sequence. With few pairs the second is far above the first: 15 % at P = 8.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import positive_integer
from hope_ref.tasks.common import IGNORE, Integers, Seed, accuracy, generator, integer

SYMBOLS = 64


class Batch(NamedTuple):
    """tokens (B, 3 P); labels (B, 3 P): the value at a query, -1 elsewhere."""

    tokens: Integers
    labels: Integers


class Chance(NamedTuple):
    """The share of queries right by luck: any value at all, or any value of the sequence."""

    any_value: float
    any_value_seen: float


def _halves(pairs: Any, symbols: Any) -> tuple[int, int]:
    symbols = integer("symbols", symbols, 2)
    if symbols % 2:
        raise ValueError(f"symbols must be even, half keys and half values, got {symbols}")
    return integer("pairs", pairs, 1, symbols // 2), symbols // 2


def draw(batch: Any, pairs: Any, seed: Seed, symbols: Any = SYMBOLS) -> Batch:
    """Sequences with the same number of pairs.

    Args: batch B; pairs P, at most symbols / 2; seed, an integer or several, such as (seed, step); symbols S, even.
    Returns: Batch(tokens, labels), each (B, 3 P), int64.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    pairs, half = _halves(pairs, symbols)
    batch, rng = positive_integer("batch", batch), generator(seed)
    every_key = np.broadcast_to(np.arange(half), (batch, half))
    keys = rng.permuted(every_key, axis=1)[:, :pairs]  # (B, P), without repetition
    values = rng.integers(half, 2 * half, size=(batch, pairs))
    order = rng.permuted(np.broadcast_to(np.arange(pairs), (batch, pairs)), axis=1)
    shown = np.stack([keys, values], axis=2).reshape(batch, 2 * pairs)  # k₁ v₁ k₂ v₂ …
    tokens = np.concatenate([shown, np.take_along_axis(keys, order, axis=1)], axis=1)
    labels = np.full_like(tokens, IGNORE)
    labels[:, 2 * pairs :] = np.take_along_axis(values, order, axis=1)
    return Batch(tokens, labels)


def curriculum(step: Any, steps: Any, most: Any) -> int:
    """The greatest number of pairs at a step: from 1 to `most`, growing over the first half of the run.

    n(i) = min(P, ⌈2 (i + 1) P / steps⌉) for step i = 0, 1, …, steps - 1.
    """
    steps, most = positive_integer("steps", steps), positive_integer("most", most)
    step = integer("step", step, 0, steps - 1)
    return min(most, -(-2 * (step + 1) * most // steps))


def training_batch(step: Any, steps: Any, most: Any, batch: Any, seed: int, symbols: Any = SYMBOLS) -> Batch:
    """The batch of a training step: its number of pairs is uniform in 1..`curriculum(step, steps, most)`.

    Args: as `curriculum` and `draw`; the same (seed, step) gives the same batch.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    most, _ = _halves(most, symbols)
    limit = curriculum(step, steps, most)
    pairs = int(generator((seed, step, 0)).integers(1, limit + 1))
    return draw(batch, pairs, (seed, step, 1), symbols)


def chance(pairs: Any, symbols: Any = SYMBOLS) -> Chance:
    """2 / S, and 1/P + (1 - 1/P) 2/S: an answer from the sequence is the right pair, or another with an equal value."""
    pairs, half = _halves(pairs, symbols)
    return Chance(1 / half, 1 / pairs + (1 - 1 / pairs) / half)


__all__ = ["SYMBOLS", "Batch", "Chance", "accuracy", "chance", "curriculum", "draw", "training_batch"]
