"""Six formal languages, labelled token by token: which symbols may come next, and may the word end here?

Source: the languages of the paper's Table 5 (the construction of Irie et al. 2023, after Bhattamishra et al. 2020).
There, parity, (aa)* and (abab)* ask whether each prefix belongs to the language, the other three which symbols may come
next; here one label says both, for all six [D]. A **label** is the number of a legal set, `LANGUAGES[name].legal`, in
which `END` ("$") says that the prefix is itself a word; for parity the label is the running parity.

| language | legal sets, by label | words of length T |
|---|---|---|
| parity | 0: 01$ · 1: 01 | any bits, fair and independent [D] |
| (aa)* | 0: a$ · 1: a | T even, one word |
| (abab)* | 0: a$ · 1: b · 2: a | T a multiple of 4, one word |
| aⁿbⁿ | 0: ab · 1: b · 2: $ | T even, one word |
| aⁿbⁿcⁿ | 0: ab · 1: b · 2: c · 3: $ | T a multiple of 3, one word |
| shuffle-2 | 0: ([$ · 1: ([) · 2: ([] · 3: ([)] | T even, uniform among all C_{T/2} C_{T/2+1} words |

Lengths are uniform among the possible ones of a range. **Chance**: a fixed label is right on 1/2 of the tokens of
parity, (aa)*, (abab)* and aⁿbⁿ, and on 1/3 of aⁿbⁿcⁿ. Who looks at the last symbol alone, and counts nothing, reaches
3/4 on (abab)*, 1 - 1/(2n) on aⁿbⁿ and 1 - 2/(3n) on aⁿbⁿcⁿ: over all tokens of bin 0 that is 95.2 % and 90.5 %, of bin 1
98.4 % and 96.7 %, and not one whole word. In shuffle-2 both kinds of brackets are open most of the time: always saying
so is right on 63 % of the tokens of bin 0, 82 % of bin 1 and 95 % at length 256 (measured, 400 words). So on counter
languages read the share of *sequences*; `guessers` measures both levels on the batch at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import comb
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import one_of, positive_integer
from hope_ref.tasks.common import IGNORE, Accuracy, Integers, Seed, accuracy, generator, integers

END = "$"
SPLITS = {"bin0": (1, 40), "bin1": (41, 80), "128": (128, 128), "256": (256, 256)}  # shortest, longest


class Batch(NamedTuple):
    """Words side by side: tokens (B, T), 0 behind a word's end; labels (B, T), -1 there."""

    tokens: Integers
    labels: Integers


class Guessers(NamedTuple):
    """What the best fixed label scores on a batch, and the best label for each last symbol."""

    constant: Accuracy
    last_symbol: Accuracy


class Language(NamedTuple):
    """Symbols (token i is the i-th), first symbols, legal sets by label, and lengths: the multiples of `step`."""

    symbols: str
    first: str
    legal: tuple[str, ...]
    step: int
    label: Callable[[Integers], Integers]  # (T,) tokens of a legal prefix -> (T,) labels
    draw: Callable[[int, np.random.Generator], Integers]  # a word (T,) of that length


def _places(tokens: Integers) -> Integers:
    return np.arange(1, len(tokens) + 1)


def _count_label(tokens: Integers) -> Integers:
    """aⁿbⁿ: how many b are still owed, once the first b has come."""
    owed = np.cumsum(tokens == 0) - np.cumsum(tokens == 1)
    return np.where(tokens == 0, 0, np.where(owed > 0, 1, 2))


def _count_twice_label(tokens: Integers) -> Integers:
    """aⁿbⁿcⁿ: how many b, then how many c are still owed."""
    a, b, c = (np.cumsum(tokens == symbol) for symbol in range(3))
    after_b = np.where(a > b, 1, 2)
    return np.where(tokens == 0, 0, np.where(tokens == 1, after_b, np.where(a > c, 2, 3)))


def _shuffle_label(tokens: Integers) -> Integers:
    """Shuffle-2: whether a round bracket is open, and whether a square one is."""
    round_, square = (np.cumsum(tokens == i) - np.cumsum(tokens == i + 1) for i in (0, 2))
    return (round_ > 0) + 2 * (square > 0)


def _dyck(pairs: int, rng: np.random.Generator) -> Integers:
    """A uniform word of balanced brackets, 0 opens, 1 closes, by the cycle lemma.

    Of all rotations of pairs + 1 openings and pairs closings exactly one never returns to zero: it begins behind the
    last minimum. Without its first bracket it is a balanced word, and every word comes from equally many shuffles.
    """
    steps = rng.permutation(np.repeat([1, -1], [pairs + 1, pairs]))
    depth = np.cumsum(steps)
    last_minimum = np.flatnonzero(depth == depth.min())[-1]
    return (np.roll(steps, -last_minimum - 1)[1:] < 0).astype(np.int64)


@cache
def _round_pairs(pairs: int) -> tuple[float, ...]:
    """The share of the words of shuffle-2 with k round pairs among n: C(2n, 2k) C_k C_{n-k} of C_n C_{n+1}."""
    catalan = [comb(2 * k, k) // (k + 1) for k in range(pairs + 2)]
    words = [comb(2 * pairs, 2 * k) * catalan[k] * catalan[pairs - k] for k in range(pairs + 1)]
    return tuple(count / (catalan[pairs] * catalan[pairs + 1]) for count in words)


def _shuffle_word(length: int, rng: np.random.Generator) -> Integers:
    """A uniform word of shuffle-2: how many pairs are round, which places are theirs, a word for each kind."""
    pairs = length // 2
    round_pairs = int(rng.choice(pairs + 1, p=_round_pairs(pairs)))
    places = rng.permutation(length)
    word = np.empty(length, np.int64)
    word[np.sort(places[: 2 * round_pairs])] = _dyck(round_pairs, rng)
    word[np.sort(places[2 * round_pairs :])] = _dyck(pairs - round_pairs, rng) + 2
    return word


LANGUAGES = {
    "parity": Language(
        "01",
        "01",
        ("01$", "01"),
        1,
        lambda tokens: np.cumsum(tokens) % 2,
        lambda length, rng: rng.integers(0, 2, size=length),
    ),
    "(aa)*": Language(
        "a",
        "a",
        ("a$", "a"),
        2,
        lambda tokens: _places(tokens) % 2,
        lambda length, rng: np.zeros(length, np.int64),
    ),
    "(abab)*": Language(
        "ab",
        "a",
        ("a$", "b", "a"),
        4,
        lambda tokens: np.array([0, 1, 2, 1])[_places(tokens) % 4],
        lambda length, rng: np.arange(length) % 2,
    ),
    "a^n b^n": Language(
        "ab",
        "a",
        ("ab", "b", "$"),
        2,
        _count_label,
        lambda length, rng: np.repeat([0, 1], length // 2),
    ),
    "a^n b^n c^n": Language(
        "abc",
        "a",
        ("ab", "b", "c", "$"),
        3,
        _count_twice_label,
        lambda length, rng: np.repeat([0, 1, 2], length // 3),
    ),
    "shuffle-2": Language("()[]", "([", ("([$", "([)", "([]", "([)]"), 2, _shuffle_label, _shuffle_word),
}


def _language(name: Any) -> Language:
    one_of("language", name, tuple(LANGUAGES))
    return LANGUAGES[name]


def legal_sets(language: str) -> Integers:
    """The legal sets as a table of 0 and 1, (labels, symbols + 1), the last column `END`.

    `legal_sets(name)[labels]` is the multi-hot target of the literature; its last column alone asks for membership.
    """
    lang = _language(language)
    return np.array([[int(s in legal) for s in lang.symbols + END] for legal in lang.legal])


def labels(language: str, tokens: Any) -> Integers:
    """The label of every prefix of one word.

    Args: language, a key of `LANGUAGES`; tokens, (T,), a word or the beginning of one.
    Returns: (T,): number t is the legal set after tokens 0..t.
    Raises: ValueError, naming the argument, what it got and what it wants, if no word begins like this.
    """
    lang = _language(language)
    tokens = integers("tokens", tokens, ("T",), low=0, high=len(lang.symbols) - 1)
    found = lang.label(tokens)
    allowed = (
        legal_sets(language)[found[:-1], tokens[1:]] == 1
    )  # (T-1,): labels are right up to the first mistake
    first = np.isin(tokens[:1], [lang.symbols.index(symbol) for symbol in lang.first])
    mistakes = np.flatnonzero(~np.concatenate([first, allowed]))
    if len(mistakes):
        word = "".join(lang.symbols[token] for token in tokens[: mistakes[0] + 1])
        raise ValueError(f"tokens must begin a word of {language}, got {word!r}")
    return found.astype(np.int64)


def possible_lengths(language: str, lengths: Any) -> list[int]:
    """The lengths that words have within a range; if none, the longest possible one below it (256 -> 255 for aⁿbⁿcⁿ).

    Args: language, a key of `LANGUAGES`; lengths, a key of `SPLITS`, or the pair (shortest, longest).
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    step = _language(language).step
    if isinstance(lengths, str):
        one_of("lengths", lengths, tuple(SPLITS))
        lengths = SPLITS[lengths]
    if not isinstance(lengths, tuple | list) or len(lengths) != 2:
        raise ValueError(f"lengths must be (shortest, longest) or a split, got {lengths!r}")
    low, high = (positive_integer("lengths", bound) for bound in lengths)
    if high < max(low, step):
        raise ValueError(
            f"lengths must reach {max(low, step)}, the shortest wanted or possible, got {lengths}"
        )
    return [length for length in range(low, high + 1) if length % step == 0] or [high - high % step]


def draw(language: str, batch: Any, lengths: Any, seed: Seed) -> Batch:
    """Words of one language, of lengths uniform among the possible ones, side by side.

    Args:
        language: a key of `LANGUAGES`.
        batch: B, how many words.
        lengths: a key of `SPLITS`, or (shortest, longest): a curriculum lets the second grow.
        seed: an integer, or several, such as (seed, step).
    Returns:
        Batch(tokens, labels), each (B, T) with T the longest word drawn.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    lang, rng = _language(language), generator(seed)
    sizes = rng.choice(possible_lengths(language, lengths), size=positive_integer("batch", batch))  # (B,)
    tokens = np.zeros((len(sizes), sizes.max()), np.int64)
    wanted = np.full_like(tokens, IGNORE)
    for row, size in enumerate(sizes):
        tokens[row, :size] = lang.draw(int(size), rng)
        wanted[row, :size] = lang.label(tokens[row, :size])
    return Batch(tokens, wanted)


def guessers(language: str, batch: Batch) -> Guessers:
    """The levels to beat, measured on this batch: the best fixed label, and the best label for each last symbol.

    Both are chosen on the batch itself by the number of right tokens, so no guesser of their kind does better on it.
    """
    count, symbols = len(_language(language).legal), len(_language(language).symbols)
    wanted = integers("batch.labels", batch.labels, ("B", "T"), high=count - 1)
    tokens = integers("batch.tokens", batch.tokens, wanted.shape, low=0, high=symbols - 1)
    scored = wanted != IGNORE
    table = np.zeros((symbols, count), np.int64)
    np.add.at(table, (tokens[scored], wanted[scored]), 1)
    fixed = np.full_like(wanted, table.sum(axis=0).argmax())
    return Guessers(accuracy(fixed, wanted), accuracy(table.argmax(axis=1)[tokens], wanted))
