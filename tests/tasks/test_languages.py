"""Lessons in languages: what they hold, what they do not give away, and who is right by luck."""

from __future__ import annotations

import numpy as np
import pytest

from hope_ref.tasks import languages
from hope_ref.tasks.languages import CHANCE, WORDS


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("contradicting", [False, True])
def test_every_word_is_taught_once_and_asked_once(count: int, contradicting: bool) -> None:
    drawn = languages.draw(count, 3, (1, 2), contradicting=contradicting)
    size = languages.vocabulary(count, contradicting)
    step = 3 if contradicting else 2
    assert len(drawn.lessons) == count
    assert drawn.questions.shape == (3, count * WORDS, step - 1)
    assert drawn.answers.shape == (3, count * WORDS)
    for pupil in range(3):
        known = {}
        for lesson in drawn.lessons:
            line = lesson[pupil]
            assert line[-1] == size - 1
            pairs = line[:-1].reshape(WORDS, step)
            assert sorted(pairs[:, -1]) == list(range(WORDS))  # each answer to one word
            assert len({tuple(pair[:-1]) for pair in pairs}) == WORDS
            known |= {tuple(pair[:-1]): pair[-1] for pair in pairs}
        asked = [tuple(question) for question in drawn.questions[pupil]]
        assert len(asked) == len(set(asked)) == len(known)
        assert [known[question] for question in asked] == list(drawn.answers[pupil])


def test_symbols_are_apart() -> None:
    """Answers, words of each language, signs and the closing symbol never meet."""
    own = languages.draw(3, 1, 0)
    words = [set(lesson[0, :-1:2]) for lesson in own.lessons]
    assert words == [set(range(WORDS * (1 + n), WORDS * (2 + n))) for n in range(3)]
    shared = languages.draw(3, 1, 0, contradicting=True)
    for language, lesson in enumerate(shared.lessons):
        pairs = lesson[0, :-1].reshape(WORDS, 3)
        assert set(pairs[:, 0]) == {2 * WORDS + language}
        assert set(pairs[:, 1]) == set(range(WORDS, 2 * WORDS))
    assert languages.vocabulary(3) == 4 * WORDS + 1
    assert languages.vocabulary(3, contradicting=True) == 2 * WORDS + 3 + 1


def test_languages_that_share_words_contradict_each_other() -> None:
    drawn = languages.draw(2, 200, 5, contradicting=True)
    first, second = drawn.answers[:, :WORDS], drawn.answers[:, WORDS:]
    assert (first == second).mean() == pytest.approx(CHANCE, abs=0.015)


def test_dictionaries_are_drawn_by_the_seed_and_differ_between_pupils() -> None:
    one, again, other = (languages.draw(2, 4, seed) for seed in ((3, 1), (3, 1), (3, 2)))
    assert all(np.array_equal(a, b) for a, b in zip(one.lessons, again.lessons, strict=True))
    assert not np.array_equal(one.answers, other.answers)
    assert len({tuple(row) for row in one.answers}) == 4
    assert len({tuple(lesson[0, :-1:2]) for lesson in one.lessons}) == 2


def test_neither_place_nor_order_tells_the_answer() -> None:
    """Over many dictionaries every answer is as likely for every word, at every place, and for words that are close."""
    drawn = languages.draw(1, 4000, 7)
    assert CHANCE == 1 / 16
    counts = np.stack([np.bincount(column, minlength=WORDS) for column in drawn.answers.T])
    assert abs(counts / 4000 - CHANCE).max() < 0.02
    places = np.stack([np.bincount(column, minlength=WORDS) for column in drawn.lessons[0][:, 1:-1:2].T])
    assert abs(places / 4000 - CHANCE).max() < 0.02
    order = np.stack(
        [np.bincount(column - WORDS, minlength=WORDS) for column in drawn.lessons[0][:, :-1:2].T]
    )
    assert abs(order / 4000 - CHANCE).max() < 0.02


@pytest.mark.parametrize(
    ("count", "batch", "message"),
    [
        (0, 1, "languages must be an integer >= 1, got 0"),
        (2, 0, "batch must be an integer >= 1, got 0"),
        (1.5, 1, "languages must be an integer >= 1, got 1.5"),
    ],
)
def test_bad_input(count: int, batch: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        languages.draw(count, batch, 0)
