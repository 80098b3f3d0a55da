"""The languages against recognisers written here: every string up to a length, every word drawn, every level."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from hope_ref.tasks import formal_languages as formal
from hope_ref.tasks.formal_languages import LANGUAGES, SPLITS


def balanced(word: str, brackets: str) -> bool:
    kept = "".join(symbol for symbol in word if symbol in brackets)
    while brackets in kept:
        kept = kept.replace(brackets, "")
    return not kept


def counted(word: str, symbols: str) -> bool:
    n = word.count("a")
    return n > 0 and word == "".join(symbol * n for symbol in symbols)


MEMBER = {
    "parity": lambda word: re.fullmatch("0*(10*10*)*", word) is not None,
    "(aa)*": lambda word: re.fullmatch("(aa)*", word) is not None,
    "(abab)*": lambda word: re.fullmatch("(abab)*", word) is not None,
    "a^n b^n": lambda word: counted(word, "ab"),
    "a^n b^n c^n": lambda word: counted(word, "abc"),
    "shuffle-2": lambda word: balanced(word, "()") and balanced(word, "[]"),
}
LONGEST = {"parity": 8, "(aa)*": 14, "(abab)*": 12, "a^n b^n": 12, "a^n b^n c^n": 10, "shuffle-2": 8}


@cache
def words_of(name: str) -> list[str]:
    """Every word up to LONGEST, by trying every string."""
    symbols = LANGUAGES[name].symbols
    lengths = range(1, LONGEST[name] + 1)
    strings = ("".join(letters) for n in lengths for letters in product(symbols, repeat=n))
    return [string for string in strings if MEMBER[name](string)]


def spelt(name: str, tokens: np.ndarray) -> str:
    return "".join(LANGUAGES[name].symbols[token] for token in tokens)


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_short_prefix_has_the_legal_set_that_a_search_finds(name: str) -> None:
    symbols, words = LANGUAGES[name].symbols, words_of(name)
    follows: dict[str, set[str]] = {}
    for word in words:
        for cut in range(1, len(word)):
            follows.setdefault(word[:cut], set()).add(word[cut])
    counting = "n" in name  # every a asks for a b: with few of them every continuation is among the words
    most = LONGEST[name] // len(symbols) - 1 if counting else LONGEST[name]
    half = 7 if counting else LONGEST[name] // 2 - 1
    seen = 0
    for length in range(1, half + 1):
        for letters in product(range(len(symbols)), repeat=length):
            prefix = spelt(name, np.array(letters))
            if prefix.count("a") > most:
                continue
            if prefix not in follows and not MEMBER[name](prefix):
                with pytest.raises(ValueError, match="tokens must begin a word of "):
                    formal.labels(name, letters)
                continue
            legal = follows.get(prefix, set()) | ({"$"} if MEMBER[name](prefix) else set())
            label = formal.labels(name, letters)[-1]
            assert set(LANGUAGES[name].legal[label]) == legal, prefix
            seen += 1
    assert seen >= half
    assert not formal.labels(name, np.zeros(0, int)).size


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("split", SPLITS)
def test_what_is_drawn_belongs_to_the_language(name: str, split: str) -> None:
    batch, (low, high) = formal.draw(name, 30, split, 5), SPLITS[split]
    assert batch.tokens.shape == batch.labels.shape
    table = formal.legal_sets(name)
    for tokens, labels in zip(*batch, strict=True):
        size = int((labels >= 0).sum())
        assert (labels[size:] == -1).all()
        assert (tokens[size:] == 0).all()
        assert low <= size <= high or (name == "a^n b^n c^n" and (high, size) in ((128, 126), (256, 255)))
        np.testing.assert_array_equal(labels[:size], formal.labels(name, tokens[:size]))
        word = spelt(name, tokens[:size])
        prefixes = [word[: t + 1] for t in range(size)]
        ends = [MEMBER[name](p) for p in (prefixes if size <= 80 else prefixes[-1:])]
        np.testing.assert_array_equal(table[labels[:size], -1][-len(ends) :], ends)
        assert ends[-1] or name == "parity"


def test_the_running_parity_is_the_label() -> None:
    tokens, labels = formal.draw("parity", 50, (17, 17), 0)
    running = 0
    for t in range(17):
        running = running ^ tokens[:, t]
        np.testing.assert_array_equal(labels[:, t], running)


def test_the_tables_of_legal_sets() -> None:
    np.testing.assert_array_equal(formal.legal_sets("(abab)*"), [[1, 0, 1], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(formal.legal_sets("parity"), [[1, 1, 1], [1, 1, 0]])
    for name, language in LANGUAGES.items():
        rows = formal.legal_sets(name)
        assert rows.shape == (len(language.legal), len(language.symbols) + 1)
        assert len({tuple(row) for row in rows.tolist()}) == len(rows)


def test_lengths_are_uniform() -> None:
    assert formal.possible_lengths("a^n b^n c^n", (1, 12)) == [3, 6, 9, 12]
    assert formal.possible_lengths("(abab)*", "bin1") == list(range(44, 81, 4))
    assert formal.possible_lengths("a^n b^n c^n", "256") == [255]
    assert formal.possible_lengths("shuffle-2", [5, 5]) == [4]
    sizes = (formal.draw("a^n b^n", 8000, "bin0", 2).labels >= 0).sum(axis=1)
    counts = np.bincount(sizes)[2::2]
    assert len(counts) == 20
    assert (abs(counts - 400) < 5 * 20).all()


def test_shuffle_2_is_uniform_among_all_its_words() -> None:
    words = Counter(word for word in words_of("shuffle-2") if len(word) == 6)
    assert len(words) == 5 * 14  # C_3 C_4
    drawn = Counter(spelt("shuffle-2", row) for row in formal.draw("shuffle-2", 2800, (6, 6), 1).tokens)
    assert set(drawn) == set(words)
    assert max(abs(count - 40) for count in drawn.values()) < 5 * 40**0.5
    chi_square = sum((count - 40) ** 2 / 40 for count in drawn.values())
    assert abs(chi_square - 69) < 5 * (2 * 69) ** 0.5


def test_parity_bits_are_fair() -> None:
    tokens, labels = formal.draw("parity", 2000, (50, 50), 3)
    assert abs(tokens.mean() - 0.5) < 5 * 0.5 / 100_000**0.5
    assert abs(labels.mean() - 0.5) < 5 * 0.5 / 100_000**0.5


@pytest.mark.parametrize("n", [1, 2, 5, 12])
@pytest.mark.parametrize(
    ("name", "step", "constant", "last"),
    [
        ("(aa)*", 2, lambda n: 1 / 2, lambda n: 1 / 2),
        ("(abab)*", 4, lambda n: 1 / 2, lambda n: 3 / 4),
        ("a^n b^n", 2, lambda n: 1 / 2, lambda n: 1 - 1 / (2 * n)),
        ("a^n b^n c^n", 3, lambda n: 1 / 3, lambda n: 1 - 2 / (3 * n)),
    ],
)
def test_levels_of_chance_are_the_derived_ones(
    name: str, step: int, constant: Any, last: Any, n: int
) -> None:
    got = formal.guessers(name, formal.draw(name, 3, (step * n, step * n), 0))
    if n > 1 or name not in ("a^n b^n", "a^n b^n c^n"):  # at n = 1 every b is a last one
        assert got.last_symbol.tokens == pytest.approx(last(n))
        assert got.last_symbol.sequences == 0
    assert got.constant.tokens == pytest.approx(constant(n))
    assert got.constant.sequences == 0


@pytest.mark.parametrize(
    ("name", "step", "wrong", "want"),
    [("a^n b^n", 2, 1, (0.952, 0.984)), ("a^n b^n c^n", 3, 2, (0.905, 0.967))],
)
def test_levels_over_a_bin_are_those_of_the_docstring(
    name: str, step: int, wrong: int, want: tuple[float, float]
) -> None:
    for split, level in zip(("bin0", "bin1"), want, strict=True):
        sizes = formal.possible_lengths(name, split)
        assert 1 - wrong * len(sizes) / sum(sizes) == pytest.approx(level, abs=5e-4)
        assert sizes[0] >= step
        got = formal.guessers(name, formal.draw(name, 4000, split, 0)).last_symbol.tokens
        assert got == pytest.approx(level, abs=0.005)


def test_levels_of_shuffle_2_against_all_words() -> None:
    words = [word for word in words_of("shuffle-2") if len(word) == 8]
    assert len(words) == 14 * 42
    labels = Counter(
        (word[: t + 1].count("(") > word[: t + 1].count(")"))
        + 2 * (word[: t + 1].count("[") > word[: t + 1].count("]"))
        for word in words
        for t in range(8)
    )
    exact = max(labels.values()) / labels.total()
    got = formal.guessers("shuffle-2", formal.draw("shuffle-2", 4000, (8, 8), 0)).constant.tokens
    assert got == pytest.approx(exact, abs=0.01)
    for split, level in (("bin0", 0.63), ("bin1", 0.82), ("256", 0.95)):
        measured = formal.guessers("shuffle-2", formal.draw("shuffle-2", 400, split, 0)).constant.tokens
        assert measured == pytest.approx(level, abs=0.01)


def test_a_coin_gets_half_of_the_parities_and_2_to_the_minus_t_of_the_words() -> None:
    batch = formal.draw("parity", 40_000, (4, 4), 8)
    coin = np.random.default_rng(0).integers(0, 2, batch.labels.shape)
    got = formal.accuracy(coin, batch.labels)
    assert got.tokens == pytest.approx(1 / 2, abs=5 * 0.5 / 160_000**0.5)
    assert got.sequences == pytest.approx(1 / 16, abs=5 * 0.25 / 40_000**0.5)
    fixed = formal.guessers("parity", batch).constant
    assert fixed.tokens == pytest.approx(1 / 2, abs=0.01)
    assert fixed.sequences == pytest.approx(1 / 16, abs=0.01)


def test_draws_are_the_same_everywhere() -> None:
    digest = hashlib.sha256()
    for name in LANGUAGES:
        batch = formal.draw(name, 8, "bin0", (1, 2))
        again = formal.draw(name, 8, "bin0", (1, 2))
        np.testing.assert_array_equal(batch.tokens, again.tokens)
        digest.update(batch.tokens.astype("<i8").tobytes() + batch.labels.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "1a1f3e08c2ed3dd9"
    assert not np.array_equal(*(formal.draw("parity", 8, (9, 9), seed).tokens for seed in (1, 2)))


TABLE = formal.draw("a^n b^n", 2, (4, 4), 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: formal.draw("dyck", 2, (1, 4), 0), "language must be one of 'parity'.*got 'dyck'"),
        (lambda: formal.draw("parity", 0, (1, 4), 0), "batch must be an integer >= 1, got 0"),
        (lambda: formal.draw("parity", 2, (1, 4), -3), "seed must be an integer >= 0, got -3"),
        (lambda: formal.draw("parity", 2, "bin2", 0), "lengths must be one of 'bin0'.*got 'bin2'"),
        (lambda: formal.draw("parity", 2, (4, 1), 0), r"lengths must reach 4.*got \(4, 1\)"),
        (lambda: formal.draw("(abab)*", 2, (1, 3), 0), r"lengths must reach 4.*got \(1, 3\)"),
        (lambda: formal.draw("parity", 2, (0, 3), 0), "lengths must be an integer >= 1, got 0"),
        (lambda: formal.draw("parity", 2, 7, 0), "lengths must be .shortest, longest. or a split, got 7"),
        (lambda: formal.draw("parity", 2, (1, 2, 3), 0), "lengths must be .shortest"),
        (lambda: formal.labels("a^n b^n", [0, 1, 0]), "must begin a word of a.n b.n, got 'aba'"),
        (lambda: formal.labels("a^n b^n", [1]), "got 'b'"),
        (lambda: formal.labels("parity", [2]), "tokens must be <= 1, got max 2"),
        (lambda: formal.labels("parity", [-1]), "tokens must be >= 0, got min -1"),
        (lambda: formal.labels("parity", [[1]]), r"tokens must have shape \(T,\)"),
        (lambda: formal.labels("parity", [0.5]), "tokens must hold integers, got dtype float64"),
        (lambda: formal.guessers("parity", TABLE), "batch.labels must be <= 1, got max 2"),
        (
            lambda: formal.guessers("a^n b^n", TABLE._replace(tokens=TABLE.tokens[:1])),
            r"batch.tokens must have shape \(2, 4\), got \(1, 4\)",
        ),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
