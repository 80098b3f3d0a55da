"""Exercises of notebook 13: the table of three answers, a frequency measured from what reads see, and the levels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise, permutations
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, must_equal

CONTEXTS = ("tokens", "tokens, targets of its own", "gradients", "the pre-training data")
RULES = (
    "none",
    "running mean",
    "gradient step",
    "gradient step with momentum",
    "Delta Gradient Descent",
    "the outer optimiser",
)
TABLE = {  # component: lane in the riddle, context, rule
    "attention": ("E", "tokens", "none"),
    "Titans' memory": ("C", "tokens", "gradient step with momentum"),
    "HOPE's M_k": ("D", "tokens, targets of its own", "Delta Gradient Descent"),
    "level 1": ("F", "tokens", "gradient step"),
    "level 2": ("A", "tokens", "gradient step"),
    "MLP": ("B", "the pre-training data", "the outer optimiser"),
    "Adam's mean": ("H", "gradients", "running mean"),
    "M3's slow momentum": ("G", "gradients", "running mean"),
}
LANES = {  # component, the lane taken for it: what to say
    (
        "HOPE's M_k",
        "C",
    ): "Its weights move at every token, but what a token reads of it is the state at its chunk's start.",
    ("level 1", "A"): "Levels are listed fast to slow: level 1 has the smaller chunk.",
    ("Adam's mean", "C"): "Its clock is not the token: it takes in one gradient per optimiser step.",
    (
        "M3's slow momentum",
        "F",
    ): "Its clock is not the token: it takes in one window of gradients in f optimiser steps.",
    (
        "M3's slow momentum",
        "H",
    ): "The slow one acts only when its window is full; the fast one is as fast as Adam's mean.",
    (
        "attention",
        "B",
    ): "Attention keeps tokens and learns nothing from them, but what answers is made anew at every read.",
    (
        "attention",
        "C",
    ): "It has no state that learns: what answers is made anew at every read, even between two tokens.",
    ("MLP", "E"): "An MLP is not made anew; after pre-training it does not move at all.",
}
CHOICES = {  # component, a wrong context or rule: what to say
    (
        "HOPE's M_k",
        "tokens",
    ): "Tokens are what it is given; the values that it is trained on it makes itself.",
    (
        "MLP",
        "tokens",
    ): "While it is used, tokens pass through it and leave nothing: what it has compressed is older.",
    ("Adam's mean", "tokens"): "An optimiser never sees a token: what it takes in comes out of backward().",
    (
        "M3's slow momentum",
        "tokens",
    ): "An optimiser never sees a token: what it takes in comes out of backward().",
    (
        "attention",
        "gradient step",
    ): "Attention solves a regression exactly, anew for each query; no step, nothing is kept of it.",
    ("Titans' memory", "gradient step"): "Titans carries its last steps along: B ← μ B − η ∇, M ← α M + B.",
    (
        "level 1",
        "Delta Gradient Descent",
    ): "That is the option rule='dgd'; by default a level takes a plain step a chunk.",
}


def check_table(answer: Any) -> None:
    """Component -> (lane, context, rule): lanes against the run behind the riddle, words against the definitions."""
    if not isinstance(answer, dict):
        raise WrongAnswer(
            f"the table is a dictionary, component -> (lane, context, rule), got {type(answer).__name__}."
        )
    for name in TABLE:
        if name not in answer:
            raise WrongAnswer(f"{name} is missing.")
        row = answer[name]
        if not isinstance(row, tuple | list) or len(row) != 3:
            raise WrongAnswer(f"{name} needs three entries, (lane, context, rule), got {row!r}.")
        if any(entry is ... for entry in row):
            raise NotImplementedError
    for name in TABLE:
        _lane_is(name, answer[name][0])
    for column, (what, allowed) in enumerate((("context", CONTEXTS), ("rule", RULES)), start=1):
        for name, wanted in TABLE.items():
            _word_is(name, what, answer[name][column], wanted[column], allowed)


def _lane_is(name: str, lane: Any) -> None:
    """What the component showed while it ran must be what the lane shows; equal pictures on other clocks are not."""
    from hope_ref.teaching.gallery.levels import RIDDLE, clocks_data

    if lane not in RIDDLE:
        raise WrongAnswer(f"{name}: a lane is one of {', '.join(RIDDLE)}, got {lane!r}.")
    rows = clocks_data()
    own, shown = rows[name.removeprefix("HOPE's ")], rows[RIDDLE[lane]]
    if (own.clock, own.anew) == (shown.clock, shown.anew) and np.array_equal(own.seen, shown.seen):
        return
    hint = LANES.get(
        (name, lane), "Ask of it: how often does what the next read sees change, and on which clock?"
    )
    raise WrongAnswer(f"{name} is not lane {lane}. {hint}")


def _word_is(name: str, what: str, got: Any, wanted: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise WrongAnswer(f"{name}: its {what} must be one of {', '.join(map(repr, allowed))}, got {got!r}.")
    if got != wanted:
        raise WrongAnswer(f"{name}: {got!r} is not its {what}. {CHOICES.get((name, got), '')}".strip())


def _but(**rows: tuple[Any, ...]) -> dict[str, Any]:
    """The right table with other rows for the components whose names begin so."""
    named = {
        next(name for name in TABLE if name.replace("'", "").startswith(key)): row
        for key, row in rows.items()
    }
    return TABLE | named


# --- 13.2: a frequency is measured by reading -------------------------------------------------------------------------


def _read(state: dict[str, Array], probe: Array) -> Array:
    return np.asarray(state["weights"] @ probe)


def _chunked(every: int, ticks: int, seed: int) -> list[dict[str, Array]]:
    """A memory that adds up what it is told and moves once in `every` ticks: its states, the first one before any tick."""
    rng = np.random.default_rng(seed)
    weights, asked = rng.normal(size=(2, 4)), np.zeros((2, 4))
    states = [{"weights": weights, "sum": asked}]
    for tick in range(1, ticks + 1):
        asked = asked + np.outer(rng.normal(size=2), rng.normal(size=4))
        if tick % every == 0:
            weights, asked = weights + asked, np.zeros((2, 4))
        states.append({"weights": weights, "sum": asked})
    return states


def _along(ticks: int) -> list[dict[str, Array]]:
    """A memory that writes along the third key at every other tick, and nothing at the others."""
    weights, states = np.ones((2, 4)), []
    for tick in range(ticks + 1):
        if tick % 2:
            weights = weights + np.outer([1.0, -1.0], [0, 0, 1.0, 0])
        states.append({"weights": weights, "sum": np.zeros(1)})
    return states


def check_frequency(function: Any) -> None:
    """(states, read, probes) -> updates per tick: compared with the schedule by which the memories were built."""
    probes = np.eye(4)
    cases = [
        (_chunked(1, 12, 0), 1.0),
        (_chunked(4, 12, 1), 0.25),
        (_chunked(99, 12, 2), 0.0),
        (_along(12), 0.5),
    ]
    got: list[float] = []
    likely: list[list[float]] = [[] for _ in MISCOUNTS]
    for states, _ in cases:
        got.append(_number(ask(function, states, _read, probes)))
        for row, miscount in zip(likely, MISCOUNTS.values(), strict=True):
            row.append(miscount(states, _read, probes))
    must_equal(
        "the frequency of a memory that moves at every tick, in one of 4, never, and at every other",
        np.array(got),
        np.array([wanted for _, wanted in cases]),
        {hint: np.array(row) for hint, row in zip(MISCOUNTS, likely, strict=True)},
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise WrongAnswer(f"return one number, updates per tick, got {type(value).__name__}.") from error


Reader = Callable[[dict[str, Array], Array], Array]


def _differ(pairs: Iterable[tuple[Any, Any]]) -> int:
    return sum(not np.array_equal(one, other) for one, other in pairs)


def _answers(states: Any, read: Reader, probes: Array) -> list[Array]:
    return [np.stack([read(state, probe) for probe in probes]) for state in states]


def _frequency(states: Any, read: Reader, probes: Array) -> float:
    said = _answers(states, read, probes)
    return _differ(pairwise(said)) / (len(states) - 1)


def _of_the_inside(states: Any, read: Reader, probes: Array) -> float:
    flat = [np.concatenate([array.ravel() for array in state.values()]) for state in states]
    return _differ(pairwise(flat)) / (len(states) - 1)


def _from_the_start(states: Any, read: Reader, probes: Array) -> float:
    said = _answers(states, read, probes)
    return _differ((said[0], now) for now in said[1:]) / (len(states) - 1)


def _with_the_start(states: Any, read: Reader, probes: Array) -> float:
    return _frequency(states, read, probes) * (len(states) - 1) / len(states)


def _counted(states: Any, read: Reader, probes: Array) -> float:
    return _frequency(states, read, probes) * (len(states) - 1)


def _one_probe(states: Any, read: Reader, probes: Array) -> float:
    return _frequency(states, read, probes[:1])


MISCOUNTS: dict[str, Callable[..., float]] = {
    "You compare states: an open sum moves at every tick, but no read sees it.": _of_the_inside,
    "You compare with the first state; a frequency counts changes from one tick to the next.": _from_the_start,
    "The first state is from before the first tick: there are len(states) - 1 ticks.": _with_the_start,
    "That is the number of changes; a frequency is per tick.": _counted,
    "One probe misses what was written along other keys: ask all of them.": _one_probe,
}


# --- 13.3: levels -----------------------------------------------------------------------------------------------------

Needs = dict[str, tuple[str, ...]]
MODELS: dict[str, tuple[dict[str, float], Needs]] = {
    "attention and its Adam": ({"V": 1, "W": 1, "attention": math.inf, "m": 1}, {"W": ("m", "V")}),
    "momentum": ({"W": 1, "m": 1}, {"W": ("m",)}),
    "a Transformer": ({"MLP": 0, "attention": math.inf, "projections": 0}, {"attention": ("projections",)}),
    "a chain": ({"a": 0.5, "b": 1, "c": 1, "d": 1, "e": 0.5}, {"b": ("c",), "c": ("d",), "e": ("a", "b")}),
}


def _above(one: str, other: str, frequency: dict[str, float], needs: Needs) -> bool:
    """[P Def. 2]: one is faster, or equally fast and needed by the other."""
    if frequency[one] != frequency[other]:
        return frequency[one] > frequency[other]
    return one in needs.get(other, ())


def _by_chains(frequency: dict[str, float], needs: Needs) -> list[set[str]]:
    """The level of a component is the length of the longest chain that ends in it: by trying all chains."""
    depth = dict.fromkeys(frequency, 0)
    for length in range(1, len(frequency) + 1):
        for chain in permutations(frequency, length):
            if all(_above(a, b, frequency, needs) for a, b in pairwise(chain)):
                depth[chain[-1]] = max(depth[chain[-1]], length)
    return [
        {name for name in frequency if depth[name] == level} for level in range(1, max(depth.values()) + 1)
    ]


def _levels(frequency: dict[str, float], needs: Needs, late: bool = False) -> list[set[str]]:
    """Fastest first; within one frequency whoever needs nothing of what is left comes first."""
    found = []
    for speed in sorted(set(frequency.values()), reverse=True):
        left = {name for name in frequency if frequency[name] == speed}
        while left:
            asked = {need for name in left for need in needs.get(name, ())} if late else set()
            ready = {n for n in left if not left & set(needs.get(n, ()))} if not late else left - asked
            found.append(ready)
            left = left - ready
    return found


def _by_frequency(frequency: dict[str, float], needs: Needs) -> list[set[str]]:
    speeds = sorted(set(frequency.values()), reverse=True)
    return [{name for name in frequency if frequency[name] == speed} for speed in speeds]


def _one_each(frequency: dict[str, float], needs: Needs) -> list[set[str]]:
    return [{name} for level in _levels(frequency, needs) for name in sorted(level)]


MISNAMED: dict[str, Callable[..., list[set[str]]]] = {
    "Frequency alone is not enough: equally fast, but W waits for m in the same step, so m stands above W.": _by_frequency,
    "The fastest level comes first.": lambda frequency, needs: _levels(frequency, needs)[::-1],
    "Turned round: whoever is needed stands above whoever needs it.": lambda f, n: _levels(f, n, late=True),
    "Two that are equally fast and do not need each other share a level, as Adam's m and V do.": _one_each,
}


def check_levels(function: Any) -> None:
    """(frequency, needs) -> list of sets: compared with the longest chains under the definition, by trying all."""
    for model, (frequency, needs) in MODELS.items():
        got = _sets(ask(function, dict(frequency), dict(needs)))
        wanted = _by_chains(frequency, needs)
        if got == wanted:
            continue
        missing = set(frequency) - set().union(*got) if got else set(frequency)
        if missing:
            raise WrongAnswer(f"{model}: {', '.join(sorted(missing))} is in no level.")
        for hint, mistake in MISNAMED.items():
            if got == mistake(frequency, needs):
                raise WrongAnswer(f"{model}: you have {_said(got)}. {hint}")
        raise WrongAnswer(f"{model}: you have {_said(got)}, which is not the order of the definition.")


def _sets(value: Any) -> list[set[str]]:
    if not isinstance(value, list | tuple) or not all(isinstance(level, set | frozenset) for level in value):
        raise WrongAnswer(
            f"return a list of sets of names, the fastest level first, got {type(value).__name__}."
        )
    return [set(level) for level in value]


def _said(found: list[set[str]]) -> str:
    return " > ".join("{" + ", ".join(sorted(level)) + "}" for level in found)


EXERCISES = (
    Exercise(
        "13.1",
        "fill in the table: lane, context and rule of eight components",
        check_table,
        TABLE,
        (
            (_but(HOPE=("C", *TABLE["HOPE's M_k"][1:])), "state at its chunk's start"),
            (_but(Adam=("C", *TABLE["Adam's mean"][1:])), "clock is not the token"),
            (_but(attention=("C", "tokens", "none")), "even between two tokens"),
            (_but(level=("A", "tokens", "gradient step")), "level 1 has the smaller chunk"),
            (_but(HOPE=("D", "tokens", "Delta Gradient Descent")), "it makes itself"),
            (_but(Adam=("H", "tokens", "running mean")), "backward()"),
            (_but(Titans=("C", "tokens", "gradient step")), "carries its last steps"),
            (_but(MLP=("B", "tokens", "the outer optimiser")), "leave nothing"),
            ({name: row[:2] for name, row in TABLE.items()}, "three entries"),
            (_but(MLP=("Z", "tokens", "none")), "a lane is one of"),
        ),
    ),
    Exercise(
        "13.2",
        "measure a frequency",
        check_frequency,
        _frequency,
        (
            (_of_the_inside, "no read sees it"),
            (_from_the_start, "from one tick to the next"),
            (_with_the_start, "len(states) - 1"),
            (_counted, "per tick"),
            (_one_probe, "ask all of them"),
        ),
    ),
    Exercise(
        "13.3",
        "name the levels",
        check_levels,
        _levels,
        (
            (_by_frequency, "m stands above W"),
            (lambda frequency, needs: _levels(frequency, needs)[::-1], "fastest level comes first"),
            (lambda frequency, needs: _levels(frequency, needs, late=True), "Turned round"),
            (_one_each, "share a level"),
            (
                lambda frequency, needs: _levels({n: f for n, f in frequency.items() if n != "W"}, {}),
                "in no level",
            ),
        ),
    ),
)
