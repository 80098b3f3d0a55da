"""Lessons in languages: a dictionary of 16 words at a time, then every word is asked. The toy form of [P Fig. 8, 9.2]; [D].

A pupil is taught one language after the other. A lesson of a language shows each of its words once, a foreign word and
then its answer, and ends with a closing symbol. Afterwards every word is asked on its own: no question hears another one,
and no answer is shown. Who guesses blindly is right once in 16 times.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hope_ref.common.validation import positive_integer
from hope_ref.tasks.common import Integers, Seed, generator

WORDS = 16  # of a language, and answers that there are
CHANCE = 1 / WORDS


class Episode(NamedTuple):
    """What some pupils are taught and asked, each with dictionaries of its own."""

    lessons: tuple[
        Integers, ...
    ]  # one (batch, 2 WORDS + 1) per language; contradicting: (batch, 3 WORDS + 1)
    questions: Integers  # (batch, languages · WORDS, 1); contradicting: 2, the language, then the word
    answers: Integers  # (batch, languages · WORDS), in [0, WORDS)


def vocabulary(languages: int, contradicting: bool = False) -> int:
    """How many symbols there are: answers, foreign words, signs of the languages if they share their words, the closing one."""
    languages = positive_integer("languages", languages)
    return WORDS + (WORDS + languages if contradicting else WORDS * languages) + 1


def draw(
    languages: int,
    batch: int,
    seed: Seed,
    *,
    contradicting: bool = False,
) -> Episode:
    """Dictionaries, lessons and questions of some pupils.

    A dictionary is a random bijection of 16 foreign words to 16 answers; a lesson has its words in a random order.

    Args:
        languages, batch: integers >= 1.
        seed: of the generator; tuples are seeds, too.
        contradicting: all languages have the same foreign words, and a sign says whose one is; else each has its own.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    size, batch = vocabulary(languages, contradicting), positive_integer("batch", batch)
    rng = generator(seed)
    lessons, questions, answers = [], [], []
    for language in range(languages):
        own = rng.permuted(np.tile(np.arange(WORDS), (batch, 1)), axis=1)  # the answer to each word
        shown = rng.permuted(np.tile(np.arange(WORDS), (batch, 1)), axis=1)  # the words as they come
        first = WORDS if contradicting else WORDS * (1 + language)
        parts = [first + shown, np.take_along_axis(own, shown, 1)]
        asked = [np.broadcast_to(first + np.arange(WORDS), (batch, WORDS))]
        if contradicting:
            sign = np.full((batch, WORDS), 2 * WORDS + language)
            parts, asked = [sign, *parts], [sign, *asked]
        closing = np.full((batch, 1), size - 1)
        lessons.append(np.concatenate([np.stack(parts, -1).reshape(batch, -1), closing], 1))
        questions.append(np.stack(asked, -1))
        answers.append(own)
    return Episode(tuple(lessons), np.concatenate(questions, 1), np.concatenate(answers, 1))
