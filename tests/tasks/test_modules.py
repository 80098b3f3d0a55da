"""Modules: what is read of them, which passages are taught and which asked, and that no word is in both."""

from __future__ import annotations

import csv
import hashlib
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest

from hope_ref.tasks import modules as task
from hope_ref.tasks.modules import FIRST_LABEL, LABELS, QUESTION, WORDS, Task

SIZES = (300, 400, 215, 1000, 250, 600)
# Words that say which module they are of, and at which place they stand.
WHERE = tuple(10_000 * module + np.arange(size) for module, size in enumerate(SIZES))


def parts(made: tuple[Task, ...]) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Every passage without its question mark, its label, and whether it is asked."""
    found = []
    for one in made:
        for tokens, labels, asked in ((one.passages, one.named, False), (one.questions, one.answers, True)):
            assert (tokens[:, -1] == QUESTION).all()
            found += [(line[:-1], label, asked) for line, label in zip(tokens, labels, strict=True)]
    return found


def test_the_modules_are_there_and_long_enough_and_in_one_list_only() -> None:
    assert (len(task.CLASSES), len(set(task.CLASSES))) == (LABELS, LABELS)
    assert len(set(task.OTHERS)) == len(task.OTHERS) == 132
    assert not set(task.CLASSES) & set(task.OTHERS)
    for words in task.library(task.CLASSES).words:
        assert len(task.split(task.split(words)[0])[1]) > 10 * WORDS  # where rates are chosen
    for words in task.library(task.OTHERS).words:
        assert len(task.split(words)[1]) > 3 * WORDS


def test_a_library_is_the_source_and_its_checksum() -> None:
    raw = [Path(str(module.__file__)).read_bytes() for module in (textwrap, csv)]
    found = task.library(("textwrap", "csv"))
    assert found.sha256 == hashlib.sha256(raw[0] + raw[1]).hexdigest()
    for words, source in zip(found.words, raw, strict=True):
        run, numbers = "", []
        for letter in source.decode() + ".":
            if letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ":
                run += letter
                continue
            if len(run) > 2:
                numbers.append(zlib.crc32(run.encode("ascii")) % 235)
            run = ""
        assert words.tolist() == numbers
    with pytest.raises(ValueError, match="names must be modules with source in Python, got 'no_such_module'"):
        task.library(("csv", "no_such_module"))
    with pytest.raises(ValueError, match="got 'sys'"):
        task.library(("sys",))


def test_symbols_are_apart() -> None:
    assert FIRST_LABEL + LABELS == QUESTION == task.VOCABULARY - 1
    assert max(int(words.max()) for words in task.library(task.CLASSES).words) < FIRST_LABEL


@pytest.mark.parametrize("kind", ["stream", "episode"])
def test_passages_are_words_in_a_row_of_the_part_they_belong_to(kind: str) -> None:
    made = task.stream(WHERE, 5, 7, 4) if kind == "stream" else task.episode(WHERE, 5, 3, 7, 4)
    owners: dict[int, set[int]] = {}
    places: dict[bool, set[int]] = {False: set(), True: set()}
    for line, label, asked in parts(made):
        module, first = divmod(int(line[0]), 10_000)
        assert line.tolist() == list(range(line[0], line[0] + WORDS))
        cut = int(0.7 * SIZES[module])
        assert (first >= cut) if asked else (first + WORDS <= cut)
        owners.setdefault(int(label), set()).add(module)
        places[asked] |= set(line.tolist())
    assert not places[False] & places[True]
    assert all(len(modules) == 1 for modules in owners.values())
    assert sorted(next(iter(modules)) for modules in owners.values()) == list(range(6))
    if kind == "stream":
        assert all(modules == {label} for label, modules in owners.items())


def test_a_task_has_two_modules_with_equally_many_passages() -> None:
    made = task.stream(WHERE, (1, 2), 7, 4)
    assert sorted(label for one in made for label in one.labels) == list(range(6))
    for one in made:
        assert len(one.labels) == 2
        for labels, count in ((one.named, 7), (one.answers, 4)):
            assert [(labels == label).sum() for label in one.labels] == [count, count]
    assert any((np.diff(one.named) != 0).sum() > 1 for one in made), "passages are mixed"


def test_labels_of_episodes_are_drawn_from_all() -> None:
    seen = [label for n in range(60) for one in task.episode(WHERE, n, 2, 1, 1) for label in one.labels]
    assert set(seen) == set(range(LABELS))
    assert all(len({x for one in task.episode(WHERE, n, 3, 1, 1) for x in one.labels}) == 6 for n in range(9))


def test_everything_follows_from_the_seed() -> None:
    for draw in (
        lambda seed: task.stream(WHERE, seed, 2, 2),
        lambda seed: task.episode(WHERE, seed, 2, 2, 2),
    ):
        one, again, other = draw((3, 1)), draw((3, 1)), draw((3, 2))
        for first, second in zip(one, again, strict=True):
            assert first.labels == second.labels
            assert all(np.array_equal(a, b) for a, b in zip(first[1:], second[1:], strict=True))
        assert any(not np.array_equal(a.passages, b.passages) for a, b in zip(one, other, strict=True))
    assert len({tuple(one.labels for one in task.stream(WHERE, n, 1, 1)) for n in range(9)}) > 5


def test_every_place_may_begin_a_passage() -> None:
    words = np.arange(WORDS + 2)
    drawn = task.passages(words, 50, np.random.default_rng(0))
    assert drawn.shape == (50, task.LENGTH)
    assert set(drawn[:, 0]) == {0, 1, 2}
    with pytest.raises(ValueError, match="words must be at least 64, got 63"):
        task.passages(words[:63], 1, np.random.default_rng(0))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="words must be of an even number of modules, at most 20, got 5"):
        task.stream(WHERE[:5], 0, 1, 1)
    with pytest.raises(ValueError, match="at most 20, got 24"):
        task.stream(WHERE * 4, 0, 1, 1)
    with pytest.raises(ValueError, match="shown must be an integer >= 1, got 0"):
        task.stream(WHERE, 0, 0, 1)
    with pytest.raises(ValueError, match=r"asked must be an integer >= 1, got 1\.5"):
        task.episode(WHERE, 0, 1, 1, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tasks must be an integer from 1 to 10, got 11"):
        task.episode(WHERE, 0, 11, 1, 1)
    with pytest.raises(ValueError, match="words must be of at least 8 modules, got 6"):
        task.episode(WHERE, 0, 4, 1, 1)
