"""Exercises of notebook 12: find a leak by perturbing what comes later, compare at equal time, count what luck finds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, ask, must_equal

LENGTH, SIZE = 11, 4  # places of a window that are scored, tokens of a chunk


# --- 12.1: leaks ----------------------------------------------------------------------------------------------------


def _reader(reads: Callable[[int], list[int]]) -> Callable[[Any], Array]:
    """A loop under test: the score of place t is made from the tokens of the window at ``reads(t)`` alone."""

    def predict(windows: Any) -> Array:
        windows = np.asarray(windows, dtype=float)
        scores = np.zeros((*windows[:, 1:].shape, 3))
        for t in range(scores.shape[1]):
            for token in reads(t):
                scores[:, t] += np.sin((token + 1) * windows[:, [token]] + np.arange(3))
        return scores

    return predict


def _upto(last: Callable[[int], int]) -> Callable[[int], list[int]]:
    return lambda t: list(range(min(last(t), LENGTH) + 1))


# What the loop does, and what it reads for place t: tokens 0 … t are allowed, token t + 1 is its target. First one where mistakes differ.
LOOPS: dict[str, Callable[[int], list[int]]] = {
    "a memory read at the end of its chunk": lambda t: list(
        range(min(SIZE * (t // SIZE) + SIZE, LENGTH))
    ),  # the last target is no input
    "an honest loop": _upto(lambda t: t),
    "inputs and targets not shifted": _upto(lambda t: t + 1),
    "a statistic of the whole window": lambda t: list(range(LENGTH)),
    "a convolution that looks three tokens ahead": lambda t: [t, min(t + 3, LENGTH - 1)],
}


def _leaks(predict: Callable[[Any], Array], windows: Any, change: Callable[[int], Any]) -> Any:
    """Where scores change if the tokens ``change(t)`` do."""
    before, found = predict(windows), []
    for t in range(windows.shape[1] - 1):
        other = np.array(windows)
        other[:, change(t)] = (other[:, change(t)] + 1) % 5
        found.append(not np.array_equal(predict(other)[:, t], before[:, t]))
    return np.array(found)


def _by_perturbing(predict: Callable[[Any], Array], windows: Any) -> Any:
    return _leaks(predict, windows, lambda t: slice(t + 1, None))


def _all_places(predict: Callable[[Any], Array], windows: Any) -> Any:
    found = []
    for t in range(windows.shape[1] - 1):
        other = np.array(windows)
        other[:, t + 1 :] = (other[:, t + 1 :] + 1) % 5
        found.append(not np.array_equal(predict(other), predict(windows)))
    return np.array(found)


CHANGES: dict[str, Callable[[int], Any]] = {
    "An honest model reads token t: change only what comes after it.": lambda t: slice(t, None),
    "The last token is no input of an honest model, and few leaks reach that far: change everything after t.": lambda t: (
        slice(-1, None)
    ),
    "A leak may reach over the next token: change everything after t.": lambda t: slice(t + 1, t + 2),
    "The target of place t, token t + 1, is to be changed too.": lambda t: slice(t + 2, None),
}


@lru_cache(maxsize=len(LOOPS))
def _likely(name: str) -> dict[str, Any]:
    """Hint: what the mistake behind it finds in a loop."""
    windows, predict = _windows(), _reader(LOOPS[name])
    likely = {hint: _leaks(predict, windows, change).astype(float) for hint, change in CHANGES.items()}
    later = "Compare place t alone: later places have seen the change, and may answer it."
    return likely | {later: _all_places(predict, windows).astype(float)}


def _windows() -> Any:
    return np.random.default_rng(1201).integers(0, 5, size=(3, LENGTH + 1))


def check_leaks(function: Any) -> None:
    """(predict, windows) -> (T,) of True and False: compared with what each loop was built to read."""
    windows = _windows()
    for name, reads in LOOPS.items():
        wanted = np.array([any(token > t for token in reads(t)) for t in range(LENGTH)])
        predict = _reader(reads)
        turned = {"Turned over: True is where it leaks.": (~wanted).astype(float)}
        likely = _likely(name) | turned
        must_equal(f"what you say of {name}", ask(function, predict, windows), wanted, likely)


# --- 12.2: equal time -----------------------------------------------------------------------------------------------


def _curves() -> tuple[Any, Any]:
    """Loss after every step: ours falls faster by the step, theirs is let run longer."""
    ours, theirs = np.arange(1, 41), np.arange(1, 161)
    return 0.2 + 0.8 * 0.93**ours, 0.2 + 0.8 * 0.96**theirs


OURS_SECONDS = np.array(
    [0.9, 0.93, 2.9, 0.88, 3.3]
)  # of a step, in turns: the third and the fifth were disturbed
THEIRS_SECONDS = np.array([0.31, 0.3, 0.95, 1.04, 0.33])  # and here the third and the fourth


def _two(seconds: Callable[[Array, Array], float], rounded: Callable[[float], float] = np.floor) -> Any:
    def answer(ours: Array, theirs: Array, our_seconds: Array, their_seconds: Array) -> Array:
        steps = int(rounded(len(ours) * seconds(our_seconds, their_seconds)))
        return np.array([theirs[len(ours) - 1] - ours[-1], theirs[max(steps, 1) - 1] - ours[-1]])

    return answer


def _turn_by_turn(ours: Array, theirs: Array) -> float:
    return float(np.median(ours / theirs))


EQUAL_TIME = _two(_turn_by_turn)
OTHER_RATIOS: dict[str, Any] = {
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
    "A step that does not end in time is not taken: round down.": _two(_turn_by_turn, np.ceil),
    "Your second number is that of equal steps.": _two(lambda a, b: 1.0),
}


def _one_late(ours: Array, theirs: Array, our_seconds: Array, their_seconds: Array) -> Array:
    steps = int(len(ours) * _turn_by_turn(our_seconds, their_seconds))
    return np.array([theirs[len(ours)] - ours[-1], theirs[steps] - ours[-1]])


def check_equal_time(function: Any) -> None:
    """(ours, theirs, our_seconds, their_seconds) -> (2,): compared with a clock that counts their steps one by one."""
    ours, theirs = _curves()
    given = (ours, theirs, OURS_SECONDS, THEIRS_SECONDS)
    ratio = sorted(a / b for a, b in zip(OURS_SECONDS, THEIRS_SECONDS, strict=True))[len(OURS_SECONDS) // 2]
    taken, clock = 0, 1 / ratio  # in our steps: when their next one would end
    while clock <= len(ours):
        taken, clock = taken + 1, clock + 1 / ratio
    wanted = np.array([theirs[len(ours) - 1] - ours[-1], theirs[taken - 1] - ours[-1]])
    likely: dict[str, Any] = {hint: answer(*given) for hint, answer in OTHER_RATIOS.items()}
    likely["After n steps the loss is entry n - 1."] = _one_late(*given)
    likely["Theirs minus ours: then a number below 0 says that theirs is better."] = -wanted
    must_equal("your pair", ask(function, *given), wanted, likely)


# --- 12.3: luck -----------------------------------------------------------------------------------------------------


def _chance(seeds: int, rows: int) -> float:
    return float(1 - (1 - 2.0 ** (1 - seeds)) ** rows)


def _counted(seeds: int, rows: int) -> float:
    """All patterns of signs of all rows, counted one by one."""
    patterns = list(itertools.product((-1, 1), repeat=seeds))
    lucky = [abs(sum(pattern)) == seeds for pattern in patterns]
    hits = sum(any(table) for table in itertools.product(lucky, repeat=rows))
    return float(hits / len(patterns) ** rows)


def check_luck(function: Any) -> None:
    """(seeds, rows) -> probability: compared with counting all patterns of signs."""
    for seeds, count in ((2, 1), (3, 1), (3, 4), (4, 3), (5, 2)):
        one = 2.0 ** (1 - seeds)
        must_equal(
            f"the chance with {seeds} seeds and {count} row{'s' if count > 1 else ''}",
            ask(function, seeds, count),
            _counted(seeds, count),
            {
                "Both sides count: all seeds above 0 would have been a finding, all below too.": 1
                - (1 - one / 2) ** count,
                "That is the chance for one row: at least one of `rows` is asked for.": one,
                "Chances of several rows do not add up: that is how many rows to expect, not the chance of any.": count
                * one,
                "That is the chance that no row is lucky.": (1 - one) ** count,
                "That is the chance that all rows are lucky.": one**count,
            },
        )


EXERCISES = (
    Exercise(
        "12.1",
        "find where a training loop leaks",
        check_leaks,
        _by_perturbing,
        (
            (lambda predict, w: _leaks(predict, w, lambda t: slice(t, None)), "reads token t"),
            (lambda predict, w: _leaks(predict, w, lambda t: slice(-1, None)), "change everything after t"),
            (
                lambda predict, w: _leaks(predict, w, lambda t: slice(t + 1, t + 2)),
                "reach over the next token",
            ),
            (lambda predict, w: _leaks(predict, w, lambda t: slice(t + 2, None)), "The target of place t"),
            (_all_places, "Compare place t alone"),
            (lambda predict, w: ~_by_perturbing(predict, w), "Turned over"),
            (lambda predict, w: bool(_by_perturbing(predict, w).any()), "it should be (11,)"),
        ),
    ),
    Exercise(
        "12.2",
        "compare two trainings at equal steps and at equal time",
        check_equal_time,
        EQUAL_TIME,
        (
            (_two(lambda a, b: float(np.mean(a / b))), "A mean follows"),
            (_two(lambda a, b: float(a.sum() / b.sum())), "The sums follow"),
            (_two(lambda a, b: float(np.median(a) / np.median(b))), "of different turns"),
            (_two(lambda a, b: float(np.median(b / a))), "turned over"),
            (_two(_turn_by_turn, np.ceil), "round down"),
            (_one_late, "entry n - 1"),
            (_two(lambda a, b: 1.0), "that of equal steps"),
            (lambda *given: -EQUAL_TIME(*given), "Theirs minus ours"),
        ),
    ),
    Exercise(
        "12.3",
        "say how often luck alone finds something",
        check_luck,
        _chance,
        (
            (lambda seeds, rows: 1 - (1 - 0.5**seeds) ** rows, "Both sides count"),
            (lambda seeds, rows: 2.0 ** (1 - seeds), "at least one of"),
            (lambda seeds, rows: rows * 2.0 ** (1 - seeds), "do not add up"),
            (lambda seeds, rows: (1 - 2.0 ** (1 - seeds)) ** rows, "no row is lucky"),
            (lambda seeds, rows: 2.0 ** ((1 - seeds) * rows), "all rows are lucky"),
        ),
    ),
)
