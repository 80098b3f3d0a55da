"""One language, then another, then the first again: what does a learner still know of A after B?

Source: [D]. Two kinds of languages over one alphabet, so that B contradicts A instead of merely adding to it:

* **Markov**: every symbol has a few successors with fixed probabilities; the least loss, `entropy_rate`, is exact, and
  chance is log₂ S bits per symbol for S symbols.
* **permuted text**: the same text with its bytes renamed: exactly as hard as the original, and what was learnt about a
  symbol no longer holds.

The loss on A after B minus the loss on A before B is the `forgetting`; 0 is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, positive_integer
from hope_ref.tasks.common import Integers, Seed, generator, integer, integers


class Stream(NamedTuple):
    """tokens (…, T); phase (T,), 0, 1, 2, …; language (T,), the letter of each token's language."""

    tokens: Integers
    phase: Integers
    language: np.ndarray


def markov(symbols: Any, branches: Any, seed: Seed) -> Array:
    """The transition probabilities of a random language: P[a, b] is the chance that b follows a.

    Every symbol has `branches` different successors with weights drawn from 1..8. One of them leads along a random
    cycle through all symbols, so that every symbol can be reached from every other.

    Args: symbols S >= 2; branches, 1 to S - 1; seed, an integer or several.
    Returns: (S, S), rows sum to 1, no symbol follows itself.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    symbols = integer("symbols", symbols, 2)
    branches, rng = integer("branches", branches, 1, symbols - 1), generator(seed)
    cycle = rng.permutation(symbols)
    weights = np.zeros((symbols, symbols), np.int64)
    for here, following in zip(cycle, np.roll(cycle, -1), strict=True):
        others = [symbol for symbol in range(symbols) if symbol not in (here, following)]
        chosen = [following, *rng.permutation(others)[: branches - 1]]
        weights[here, np.array(chosen, np.int64)] = rng.integers(1, 9, size=branches)
    return weights / weights.sum(axis=1, keepdims=True)


def _transitions(value: Any) -> Array:
    transitions = float64("transitions", value, ("S", "S"))
    shape = transitions.shape
    square = shape[0] == shape[1] > 0
    if not square or transitions.min() < 0 or abs(transitions.sum(axis=1) - 1).max() > 1e-12:
        raise ValueError(f"transitions must be square with rows >= 0 that sum to 1, got shape {shape}")
    return transitions


def entropy_rate(transitions: Any) -> float:
    """Σ_a π_a Σ_b -P[a, b] log₂ P[a, b] with π = π P: the least bits per symbol that any predictor can reach.

    Args: transitions, (S, S), of a language in which every symbol can be reached from every other, as of `markov`.
    """
    chances = _transitions(transitions)
    size = len(chances)
    equations = np.vstack([chances.T - np.eye(size), np.ones(size)])  # π P = π and Σ π = 1
    stationary = np.linalg.lstsq(equations, np.eye(size + 1)[-1], rcond=None)[0]
    logarithms = np.log2(np.where(chances > 0, chances, 1))
    return float(-(stationary[:, None] * chances * logarithms).sum())


def sample(transitions: Any, length: Any, seed: Seed, lanes: Any = 1) -> Integers:
    """Independent streams of a Markov language, each from a uniform first symbol.

    Args: transitions, (S, S); length T; seed, an integer or several; lanes L.
    Returns: tokens, (L, T), int64.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    chances, rng = _transitions(transitions), generator(seed)
    length, lanes = positive_integer("length", length), positive_integer("lanes", lanes)
    ladder = np.cumsum(chances, axis=1)
    last = np.array(
        [np.flatnonzero(row)[-1] for row in chances]
    )  # rounding must not lead to a symbol of chance 0
    tokens = np.empty((lanes, length), np.int64)
    tokens[:, 0] = rng.integers(0, len(chances), size=lanes)
    for t, luck in enumerate(rng.random((length - 1, lanes)), start=1):
        before = tokens[:, t - 1]
        tokens[:, t] = np.minimum((ladder[before] <= luck[:, None]).sum(axis=1), last[before])
    return tokens


def permuted(text: Any, seed: Seed) -> Integers:
    """The text in another alphabet: the symbols that occur in it change places along one random cycle.

    Only those that occur: a byte that the text never uses would be a new symbol, and who learns new symbols forgets
    nothing. A cycle, so that no symbol keeps its place.

    Args: text, (n,) integers >= 0, such as bytes, at least two of them different; seed, an integer or several.
    Returns: (n,), int64, with the same counts under other names.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    tokens = integers("text", text, ("n",), low=0)
    alphabet, places = np.unique(tokens, return_inverse=True)
    if len(alphabet) < 2:
        raise ValueError(f"text must have at least 2 different symbols, got {len(alphabet)}")
    cycle = generator(seed).permutation(len(alphabet))
    renamed = np.empty_like(alphabet)
    renamed[cycle] = alphabet[np.roll(cycle, -1)]
    return renamed[places]


def stream(sources: Mapping[str, Any], order: str, length: Any) -> Stream:
    """Phases of equal length, one language each: `stream({"A": a, "B": b}, "ABA", 1000)`.

    A language that returns goes on where it stopped, so that what helps in the last phase is knowing the language,
    not remembering the passage.

    Args:
        sources: letter -> tokens (…, n), all with the same leading axes; n at least length times its phases.
        order: the letter of each phase.
        length: tokens per phase.
    Returns:
        Stream(tokens, phase, language).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    length = positive_integer("length", length)
    if not order or set(order) - set(sources):
        raise ValueError(f"order must be letters among {''.join(sources)}, got {order!r}")
    arrays = {letter: np.asarray(value) for letter, value in sources.items()}
    lead = arrays[order[0]].shape[:-1]
    used = dict.fromkeys(order, 0)
    pieces = []
    for letter in order:
        tokens = integers(f"sources[{letter!r}]", arrays[letter], (*lead, "n"), low=0)
        piece = tokens[..., used[letter] : used[letter] + length]
        if piece.shape[-1] < length:
            want = order.count(letter) * length
            raise ValueError(f"sources[{letter!r}] must have at least {want} tokens, got {tokens.shape[-1]}")
        pieces.append(piece)
        used[letter] += length
    phase = np.repeat(np.arange(len(order)), length)
    return Stream(np.concatenate(pieces, axis=-1), phase, np.array(list(order))[phase])


def phase_means(losses: Any, phase: Any) -> Array:
    """The mean loss of each phase.

    Args: losses, (…, T), one per token; phase, (T,), as of `stream`, every number from 0 to the last occurring.
    Returns: (phases,).
    """
    losses = float64("losses", losses)
    phase = integers("phase", phase, losses.shape[-1:], low=0)
    counts = np.bincount(phase)
    if not counts.size or not counts.all():
        raise ValueError(f"phase must number the phases 0, 1, … without a gap, got counts {counts.tolist()}")
    per_token = losses.reshape(-1, len(phase)).mean(axis=0)
    return np.bincount(phase, weights=per_token) / counts


def forgetting(before: Any, after: Any) -> float:
    """Mean loss on A after B minus mean loss on A before B, on the same held-out text of A; > 0: something is lost.

    Args: before, after, losses of any one shape, or two numbers.
    """
    first = float64("before", before)
    second = float64("after", after, first.shape)
    if not first.size:
        raise ValueError("before must have at least one loss, got none")
    return float(second.mean() - first.mean())
