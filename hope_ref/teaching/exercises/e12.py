"""Exercises of notebook 12: find a leak by perturbing what comes later, compare at equal time, count what luck finds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, ask, must_equal

LENGTH, SIZE = 11, 4  # places of a window that are scored, tokens of a chunk


# --- 12.1: leaks ----------------------------------------------------------------------------------------------------


class Loop(NamedTuple):
    """A loop under test: the score of place t is made from the tokens of the window at ``reads(t)`` alone."""

    name: str
    reads: Callable[[int], list[int]]
    size: float = 1.0  # how much tokens after t weigh in it

    def predict(self, windows: Any) -> Array:
        windows = np.asarray(windows, dtype=float)
        scores = np.zeros((*windows[:, 1:].shape, 3))
        for t in range(scores.shape[1]):
            for token in self.reads(t):
                weight = self.size if token > t else 1.0
                scores[:, t] += weight * np.sin((token + 1) * windows[:, [token]] + np.arange(3))
        return scores

    def leaks(self) -> Array:
        return np.array([any(token > t for token in self.reads(t)) for t in range(LENGTH)])


def _upto(last: Callable[[int], int]) -> Callable[[int], list[int]]:
    return lambda t: list(range(min(last(t), LENGTH) + 1))


HERE_AND_THERE = {
    0: [0, 11],
    2: [3],
    3: [2, 4],
    4: [1],
    5: [5, 8],
    6: [7],
    8: [8, 10],
}  # place: what it reads
# What a loop reads for place t: tokens 0 … t are allowed, token t + 1 is its target. First one where mistakes differ.
LOOPS = (
    Loop("a loop that leaks here and there", lambda t: HERE_AND_THERE.get(t, [t])),
    Loop(
        "a memory read at the end of its chunk", lambda t: list(range(min(SIZE * (t // SIZE) + SIZE, LENGTH)))
    ),  # the last target is no input
    Loop(
        "a loop that hears one token ahead by a hundred-thousandth",
        lambda t: [t, min(t + 1, LENGTH - 1)],
        1e-5,
    ),
    Loop("an honest loop", _upto(lambda t: t)),
    Loop("inputs and targets not shifted", _upto(lambda t: t + 1)),
    Loop("a statistic of the whole window", lambda t: list(range(LENGTH))),
    Loop("a convolution that looks three tokens ahead", lambda t: [t, min(t + 3, LENGTH - 1)]),
)
Predict = Callable[[Any], Array]


def _differs(before: Array, after: Array) -> bool:
    return not np.array_equal(before, after)


def _leaks(
    predict: Predict,
    windows: Any,
    change: Callable[[int], Any] = lambda t: slice(t + 1, None),
    *,
    look: Callable[[int], Any] = lambda t: t,
    differs: Callable[[Array, Array], bool] = _differs,
    afresh: bool = True,
) -> Any:
    """Where the scores ``look(t)`` change if the tokens ``change(t)`` do, in a fresh copy for each place or in one for all."""
    before, found = predict(windows), []
    other = np.array(windows)
    for t in range(windows.shape[1] - 1):
        other = np.array(windows) if afresh else other
        other[:, change(t)] = (other[:, change(t)] + 1) % 5
        found.append(differs(before[:, look(t)], predict(other)[:, look(t)]))
    return np.array(found)


def _in_place(predict: Predict, windows: Any) -> Any:
    before, found = predict(windows), []
    for t in range(windows.shape[1] - 1):
        windows[:, t + 1 :] = (windows[:, t + 1 :] + 1) % 5
        found.append(_differs(before[:, t], predict(windows)[:, t]))
    return np.array(found)


def _another_class(before: Array, after: Array) -> bool:
    return bool((before.argmax(-1) != after.argmax(-1)).any())


OVERSIGHTS: dict[str, Callable[..., Any]] = {
    "An honest model reads token t: change only what comes after it.": partial(
        _leaks, change=lambda t: slice(t, None)
    ),
    "The last token is no input of an honest model, and few leaks reach that far: change everything after t.": partial(
        _leaks, change=lambda t: slice(-1, None)
    ),
    "A leak may reach over the next token: change everything after t.": partial(
        _leaks, change=lambda t: slice(t + 1, t + 2)
    ),
    "The target of place t, token t + 1, is to be changed too.": partial(
        _leaks, change=lambda t: slice(t + 2, None)
    ),
    "Change what comes after place t, not what comes before it.": partial(
        _leaks, change=lambda t: slice(None, t)
    ),
    "Compare place t alone: later places have seen the change, and may answer it.": partial(
        _leaks, look=lambda t: slice(None)
    ),
    "Place t is entry t of the scores: you look at the next one.": partial(
        _leaks, look=lambda t: min(t + 1, LENGTH - 1)
    ),
    "Place t is entry t of the scores: you look at the one before.": partial(_leaks, look=lambda t: t - 1),
    "Each place needs a fresh copy of the windows: yours still holds the changes made for earlier places.": partial(
        _leaks, afresh=False
    ),
    "Compare the scores: a leak moves them long before another symbol gets the highest.": partial(
        _leaks, differs=_another_class
    ),
    "This leak is small, and a bound such as 1e-2 overlooks it: compare with np.array_equal.": partial(
        _leaks, differs=lambda before, after: not np.allclose(before, after, atol=1e-2)
    ),
    "Turned over: True is where it leaks.": lambda predict, windows: ~_leaks(predict, windows),
}


@lru_cache(maxsize=len(LOOPS))
def _likely(loop: Loop) -> dict[str, Any]:
    """Hint: what the mistake behind it finds in a loop."""
    return {hint: mistake(loop.predict, _windows()).astype(float) for hint, mistake in OVERSIGHTS.items()}


def _windows() -> Any:
    return np.random.default_rng(1201).integers(0, 5, size=(3, LENGTH + 1))


def check_leaks(function: Any) -> None:
    """(predict, windows) -> (T,) of True and False: compared with what each loop was built to read."""
    windows, left = _windows(), set(OVERSIGHTS)  # those that have been right so far

    def watched(predict: Predict, given: Any) -> Any:
        got = function(predict, given)
        if not np.array_equal(given, windows):
            raise ValueError("you changed `windows` in place: work on a copy")
        return got

    if not callable(function):
        ask(function)
    for loop in LOOPS:
        wanted, likely = loop.leaks(), _likely(loop)
        got = ask(watched, loop.predict, windows)
        must_equal(
            f"what you say of {loop.name}", got, wanted, {h: v for h, v in likely.items() if h in left}
        )
        left = {hint for hint in left if np.array_equal(likely[hint], wanted)}


# --- 12.2: equal time -----------------------------------------------------------------------------------------------


def _curves() -> tuple[Any, Any]:
    """Loss after every step, uneven as losses are: ours falls faster by the step, theirs is let run longer."""
    ours, theirs = np.arange(1, 41), np.arange(1, 161)
    return (
        0.2 + 0.8 * 0.93**ours + 0.02 * np.sin(2.5 * ours),
        0.2 + 0.8 * 0.96**theirs + 0.02 * np.sin(1.7 * theirs),
    )


TURNS = {  # what fits: seconds of a step of ours and of theirs, in turns, some of them disturbed
    "exactly 80 steps": ([1.0, 0.98, 3.1, 0.96, 3.5], [0.5, 0.5, 0.96, 1.13, 0.52]),
    "122.1 steps": ([0.9, 0.93, 2.9, 0.88, 3.3], [0.31, 0.3, 0.95, 1.04, 0.33]),
    "122.7 steps": ([0.92, 0.95, 2.9, 0.88, 3.3], [0.3, 0.3, 0.95, 1.04, 0.33]),
}
Answer = Callable[[Array, Array, Array, Array], Array]


def _turn_by_turn(ours: Array, theirs: Array) -> float:
    return float(np.median(ours / theirs))


def _two(
    seconds: Callable[[Array, Array], float] = _turn_by_turn,
    rounded: Callable[[float], float] = np.floor,
    late: tuple[int, int] = (0, 0),
) -> Answer:
    """The pair by a ratio of times, a way to round, and by how many entries each of the two losses is read too late."""

    def answer(ours: Array, theirs: Array, our_seconds: Array, their_seconds: Array) -> Array:
        steps = max(int(rounded(len(ours) * seconds(our_seconds, their_seconds))), 1)
        return (
            np.array([theirs[n - 1 + by] for n, by in zip((len(ours), steps), late, strict=True)]) - ours[-1]
        )

    return answer


EQUAL_TIME = _two()


def _best(ours: Array, theirs: Array, our_seconds: Array, their_seconds: Array) -> Array:
    steps = int(len(ours) * _turn_by_turn(our_seconds, their_seconds))
    return np.array([theirs[: len(ours)].min(), theirs[:steps].min()]) - ours.min()


def _to_the_end(ours: Array, theirs: Array, our_seconds: Array, their_seconds: Array) -> Array:
    return np.array([theirs[len(ours) - 1], theirs[-1]]) - ours[-1]


def _losses(ours: Array, theirs: Array, our_seconds: Array, their_seconds: Array) -> Array:
    return EQUAL_TIME(ours, theirs, our_seconds, their_seconds) + ours[-1]


MISTAKES: dict[str, Answer] = {
    "A mean follows the turns that were disturbed: take the median.": _two(
        lambda a, b: float(np.mean(a / b))
    ),
    "The sums follow the turns that were disturbed: take each turn's ratio, then the median.": _two(
        lambda a, b: float(a.sum() / b.sum())
    ),
    "Those two medians are of different turns: take each turn's ratio first, then the median.": _two(
        lambda a, b: float(np.median(a) / np.median(b))
    ),
    "The ratio is turned over: theirs is the quicker step.": _two(lambda a, b: float(np.median(b / a))),
    "A step that does not end in time is not taken: round down, do not round up.": _two(rounded=np.ceil),
    "A step that does not end in time is not taken: round down, not to the nearest.": _two(rounded=np.round),
    "Your second number is that of equal steps.": _two(lambda a, b: 1.0),
    "Your second number is from the end of their training, which ran longer than yours: count the steps that fit.": _to_the_end,
    "After n steps the loss is entry n - 1.": _two(late=(1, 1)),
    "After n steps the loss is entry n - 1: your second number is one step late.": _two(late=(0, 1)),
    "After n steps the loss is entry n - 1: your first number is one step late.": _two(late=(1, 0)),
    "Theirs minus ours: then a number below 0 says that theirs is better.": lambda *given: (
        -EQUAL_TIME(*given)
    ),
    "The other order: equal steps first, then equal time.": lambda *given: EQUAL_TIME(*given)[::-1],
    "Those are the smallest losses on the way; asked are the losses after so many steps.": _best,
    "Those are their losses; asked is theirs minus ours.": _losses,
}


def check_equal_time(function: Any) -> None:
    """(ours, theirs, our_seconds, their_seconds) -> (2,): compared with a clock that counts their steps one by one."""
    ours, theirs = _curves()
    left = dict(MISTAKES)  # those that have been right so far
    for fits, turns in TURNS.items():
        given = (ours, theirs, *map(np.array, turns))
        ratio = sorted(a / b for a, b in zip(*turns, strict=True))[len(turns[0]) // 2]
        taken = 0
        while (taken + 1) / ratio <= len(ours):  # when their next step ends, in steps of ours
            taken += 1
        wanted = np.array([theirs[len(ours) - 1] - ours[-1], theirs[taken - 1] - ours[-1]])
        likely = {hint: mistake(*given) for hint, mistake in left.items()}
        must_equal(f"your pair where {fits} of theirs fit", ask(function, *given), wanted, likely)
        left = {hint: left[hint] for hint, value in likely.items() if np.allclose(value, wanted)}


# --- 12.3: luck -----------------------------------------------------------------------------------------------------


def _chance(seeds: int, rows: int) -> float:
    return float(1 - (1 - 2.0 ** (1 - seeds)) ** rows)


def _counted(seeds: int, rows: int) -> float:
    """All patterns of signs of all rows, counted one by one."""
    patterns = list(itertools.product((-1, 1), repeat=seeds))
    lucky = [abs(sum(pattern)) == seeds for pattern in patterns]
    hits = sum(any(table) for table in itertools.product(lucky, repeat=rows))
    return float(hits / len(patterns) ** rows)


def _exactly_one(seeds: int, rows: int) -> float:
    one = 2.0 ** (1 - seeds)
    return rows * one * (1 - one) ** (rows - 1)


MISCHANCES: dict[str, Callable[[int, int], float]] = {
    "Both sides count: all seeds above 0 would have been a finding, all below too.": lambda seeds, rows: (
        1 - (1 - 2.0**-seeds) ** rows
    ),
    "Counted twice: 2^(1 - n) is for both sides already.": lambda seeds, rows: (
        1 - (1 - 2.0 ** (2 - seeds)) ** rows
    ),
    "That is the chance for one row: at least one of `rows` is asked for.": lambda seeds, rows: (
        2.0 ** (1 - seeds)
    ),
    "Chances of several rows do not add up: that is how many rows to expect, not the chance of any.": lambda seeds, rows: (
        rows * 2.0 ** (1 - seeds)
    ),
    "That is the chance that no row is lucky.": lambda seeds, rows: 1 - _counted(seeds, rows),
    "That is the chance that all rows are lucky.": lambda seeds, rows: 2.0 ** ((1 - seeds) * rows),
    "That is the chance that all rows are lucky, taken from 1: it says that some row is not.": lambda seeds, rows: (
        1 - 2.0 ** ((1 - seeds) * rows)
    ),
    "That is the chance of exactly one lucky row; two are a finding as well.": _exactly_one,
    "`seeds` and `rows` are exchanged.": lambda seeds, rows: _counted(rows, seeds),
    "A chance lies between 0 and 1; that is in percent.": lambda seeds, rows: 100 * _counted(seeds, rows),
}


def check_luck(function: Any) -> None:
    """(seeds, rows) -> probability: compared with counting all patterns of signs."""
    left = dict(MISCHANCES)  # those that have been right so far; the first table tells all of them apart
    for seeds, count in ((3, 4), (2, 1), (3, 1), (4, 3), (5, 2)):
        wanted = _counted(seeds, count)
        likely = {hint: mistake(seeds, count) for hint, mistake in left.items()}
        what = f"the chance with {seeds} seeds and {count} row{'s' if count > 1 else ''}"
        must_equal(what, ask(function, seeds, count), wanted, likely)
        left = {hint: left[hint] for hint, value in likely.items() if np.isclose(value, wanted)}


EXERCISES = (
    Exercise(
        "12.1",
        "find where a training loop leaks",
        check_leaks,
        _leaks,
        (
            *((mistake, hint) for hint, mistake in OVERSIGHTS.items()),
            (_in_place, "in place"),
            (lambda predict, w: bool(_leaks(predict, w).any()), "it should be (11,)"),
            (lambda predict, w: np.flatnonzero(_leaks(predict, w)), "it should be (11,)"),
        ),
    ),
    Exercise(
        "12.2",
        "compare two trainings at equal steps and at equal time",
        check_equal_time,
        EQUAL_TIME,
        (
            *((mistake, hint) for hint, mistake in MISTAKES.items()),
            (lambda *given: EQUAL_TIME(*given)[1], "it should be (2,)"),
        ),
    ),
    Exercise(
        "12.3",
        "say how often luck alone finds something",
        check_luck,
        _chance,
        (
            *((mistake, hint) for hint, mistake in MISCHANCES.items()),
            (lambda seeds, rows: [_chance(seeds, rows)] * rows, "it should be ()"),
        ),
    ),
)
