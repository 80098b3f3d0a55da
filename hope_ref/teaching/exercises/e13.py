"""Exercises of notebook 13: the table of three answers, a frequency measured from what reads see, and the levels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise, permutations
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.checks import apart, to_numpy
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask

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

    if not isinstance(lane, str) or lane not in RIDDLE:
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
    if not isinstance(got, str) or got not in allowed:
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

States = list[dict[str, Array]]
Reader = Callable[[dict[str, Array], Array], Array]


def _read(state: dict[str, Array], probe: Array) -> Array:
    return np.asarray(state["weights"] @ probe)


def _chunked(every: int, ticks: int, seed: int) -> States:
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


def _writing(value: list[float], key: list[float], every: int, ticks: int = 12) -> States:
    """A memory that writes one pair, at once, at every tick that `every` divides."""
    weights = np.array([[1.0, 2.0, 4.0, 8.0], [16.0, 32.0, 64.0, 128.0]])  # sums of these are exact
    moves = [tick // every for tick in range(ticks + 1)]
    return [{"weights": weights + n * np.outer(value, key), "sum": np.zeros(1)} for n in moves]


def _turning(every: int, ticks: int = 12) -> States:
    """A memory that turns its sign at every tick that `every` divides."""
    weights = np.array([[1.0, 2.0, 4.0, 8.0], [16.0, 32.0, 64.0, 128.0]])
    return [{"weights": weights * (-1.0) ** (tick // every), "sum": np.zeros(1)} for tick in range(ticks + 1)]


MEMORIES: dict[str, tuple[States, float]] = {  # what it does, and the schedule by which it was built
    "moves at every tick": (_chunked(1, 12, 0), 1.0),
    "moves in one tick of 4": (_chunked(4, 12, 1), 1 / 4),
    "never moves": (_chunked(99, 12, 2), 0.0),
    "writes along the third key at every other tick": (_writing([1.0, 0.5], [0, 0, 1.0, 0], 2), 1 / 2),
    "writes a value whose entries add up to 0, in one tick of 3": (
        _writing([1.0, -1.0], [1.0, 1.0, 1.0, 1.0], 3),
        1 / 3,
    ),
    "writes a key whose entries add up to 0, in one tick of 6": (
        _writing([1.0, 0.5], [1.0, -1.0, 0, 0], 6),
        1 / 6,
    ),
    "turns its sign in one tick of 3": (_turning(3), 1 / 3),
    "moves by a millionth at every tick": (_writing([1e-6, 0], [1.0, 1.0, 1.0, 1.0], 1), 1.0),
}


def check_frequency(function: Any) -> None:
    """(states, read, probes) -> updates per tick: compared with the schedule by which the memories were built."""
    probes = np.eye(4)
    got = np.array([_number(ask(function, states, _read, probes)) for states, _ in MEMORIES.values()])
    wanted = np.array([frequency for _, frequency in MEMORIES.values()])
    off = ~np.isclose(got, wanted, rtol=0, atol=1e-9)
    if not off.any():
        return
    at = int(np.argmax(off))
    one, other = apart(float(got[at]), float(wanted[at]))
    said = f"the frequency of a memory that {list(MEMORIES)[at]} is {one}, expected {other}."
    for hint, mistake in MISCOUNTS.items():
        if np.allclose(got, [mistake(states, _read, probes) for states, _ in MEMORIES.values()]):
            raise WrongAnswer(f"{said} {hint}")
    raise WrongAnswer(said)


def _number(value: Any) -> float:
    if value is None:
        raise WrongAnswer("the frequency is None: does your function return it?")
    try:
        found = np.zeros(0) if isinstance(value, str | bytes) else to_numpy(value)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape:
        what = f"an array of shape {found.shape}" if found.size else type(value).__name__
        raise WrongAnswer(f"return one number, updates per tick, got {what}.")
    return float(found)


def _share(changes: Iterable[bool], ticks: int) -> float:
    return sum(map(bool, changes)) / ticks


def _answers(states: Any, read: Reader, probes: Array) -> list[Array]:
    return [np.stack([read(state, probe) for probe in probes]) for state in states]


def _seen_by(look: Callable[[Array], Any] = np.asarray) -> Callable[..., float]:
    """The frequency of what is seen of the answers, (n, d_v)."""

    def measured(states: Any, read: Reader, probes: Array) -> float:
        seen = [look(said) for said in _answers(states, read, probes)]
        return _share((not np.array_equal(a, b) for a, b in pairwise(seen)), len(states) - 1)

    return measured


_frequency = _seen_by()


def _of_the_inside(states: Any, read: Reader, probes: Array) -> float:
    flat = [np.concatenate([array.ravel() for array in state.values()]) for state in states]
    return _share((not np.array_equal(a, b) for a, b in pairwise(flat)), len(states) - 1)


def _from_the_start(states: Any, read: Reader, probes: Array) -> float:
    first, *later = _answers(states, read, probes)
    return _share((not np.array_equal(first, now) for now in later), len(later))


def _different_answers(states: Any, read: Reader, probes: Array) -> float:
    return (len({said.tobytes() for said in _answers(states, read, probes)}) - 1) / (len(states) - 1)


def _with_the_start(states: Any, read: Reader, probes: Array) -> float:
    return _frequency(states, read, probes) * (len(states) - 1) / len(states)


def _one_tick_fewer(states: Any, read: Reader, probes: Array) -> float:
    return _frequency(states, read, probes) * (len(states) - 1) / (len(states) - 2)


def _counted(states: Any, read: Reader, probes: Array) -> float:
    return _frequency(states, read, probes) * (len(states) - 1)


def _period(states: Any, read: Reader, probes: Array) -> float:
    frequency = _frequency(states, read, probes)
    return 1 / frequency if frequency else math.inf


def _still(states: Any, read: Reader, probes: Array) -> float:
    return 1 - _frequency(states, read, probes)


def _one_probe(states: Any, read: Reader, probes: Array) -> float:
    return _frequency(states, read, probes[:1])


def _of_each_probe(states: Any, read: Reader, probes: Array) -> float:
    return float(np.mean([_frequency(states, read, probe[None]) for probe in probes]))


def _all_at_once(states: Any, read: Reader, probes: Array) -> float:
    return _frequency(states, read, probes.sum(axis=0, keepdims=True))


def _by_a_bound(states: Any, read: Reader, probes: Array) -> float:
    pairs = pairwise(_answers(states, read, probes))
    return _share((not np.allclose(a, b) for a, b in pairs), len(states) - 1)


MISCOUNTS: dict[str, Callable[..., float]] = {
    "You compare states: an open sum moves at every tick, but no read sees it.": _of_the_inside,
    "You compare with the first state; a frequency counts changes from one tick to the next.": _from_the_start,
    "You count answers that differ; a memory that comes back to an earlier answer has moved all the same.": _different_answers,
    "The first state is from before the first tick: there are len(states) - 1 ticks.": _with_the_start,
    "From len(states) states there are len(states) - 1 ticks, not one fewer.": _one_tick_fewer,
    "That is the number of changes; a frequency is per tick.": _counted,
    "Those are ticks per update; asked are updates per tick.": _period,
    "That is the share of ticks at which nothing changes.": _still,
    "One probe misses what was written along other keys: ask all of them.": _one_probe,
    "A tick counts if any probe notices it; you take the mean over the probes.": _of_each_probe,
    "The sum of all entries can stay while the answers change: compare entry by entry.": _seen_by(np.sum),
    "The sum of an answer's entries can stay while the answer changes: compare entry by entry.": _seen_by(
        lambda said: said.sum(axis=1)
    ),
    "The sum over the probes can stay while the answers change: compare the answer to each probe.": _seen_by(
        lambda said: said.sum(axis=0)
    ),
    "The length of an answer can stay while the answer changes: compare entry by entry.": _seen_by(
        lambda said: np.square(said).sum(axis=1)
    ),
    "A small change is a change: compare with np.array_equal, not with a bound.": _by_a_bound,
}


# --- 13.3: levels -----------------------------------------------------------------------------------------------------

Needs = dict[str, tuple[str, ...]]
Levels = list[set[str]]
MODELS: dict[str, tuple[dict[str, float], Needs]] = {
    "attention and its Adam": ({"V": 1, "W": 1, "attention": math.inf, "m": 1}, {"W": ("m", "V")}),
    "momentum": ({"W": 1, "m": 1}, {"W": ("m",)}),
    "a chain": ({"a": 0.5, "b": 1, "c": 1, "d": 1, "e": 0.5}, {"b": ("c",), "c": ("d",), "e": ("a", "b")}),
    "needs at two speeds": ({"a": 1, "b": 1, "s": 0.5}, {"b": ("s", "a")}),
    "a Transformer": ({"MLP": 0, "attention": math.inf, "projections": 0}, {"attention": ("projections",)}),
}


def _above(one: str, other: str, frequency: dict[str, float], needs: Needs) -> bool:
    """[P Def. 2]: one is faster, or equally fast and needed by the other."""
    if frequency[one] != frequency[other]:
        return frequency[one] > frequency[other]
    return one in needs.get(other, ())


def _by_chains(frequency: dict[str, float], needs: Needs) -> Levels:
    """The level of a component is the length of the longest chain that ends in it: by trying all chains."""
    depth = dict.fromkeys(frequency, 0)
    for length in range(1, len(frequency) + 1):
        for chain in permutations(frequency, length):
            if all(_above(a, b, frequency, needs) for a, b in pairwise(chain)):
                depth[chain[-1]] = max(depth[chain[-1]], length)
    return [
        {name for name in frequency if depth[name] == level} for level in range(1, max(depth.values()) + 1)
    ]


def _levels(frequency: dict[str, float], needs: Needs, late: bool = False) -> Levels:
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


def _by_frequency(frequency: dict[str, float], needs: Needs) -> Levels:
    speeds = sorted(set(frequency.values()), reverse=True)
    return [{name for name in frequency if frequency[name] == speed} for speed in speeds]


def _slow_first(frequency: dict[str, float], needs: Needs) -> Levels:
    """Slow before fast; within one frequency the needed ones come first, as they should."""
    return _levels({name: -speed for name, speed in frequency.items()}, needs)


def _by_needs(frequency: dict[str, float], needs: Needs) -> Levels:
    return _levels(dict.fromkeys(frequency, 1.0), needs)


def _needs_first(frequency: dict[str, float], needs: Needs) -> Levels:
    """Of those that need nothing of what is left, at whatever speed, the fastest come first."""
    found, left = [], set(frequency)
    while left:
        ready = {name for name in left if not left & set(needs.get(name, ()))}
        fastest = max(frequency[name] for name in ready)
        found.append({name for name in ready if frequency[name] == fastest})
        left = left - found[-1]
    return found


def _one_round(frequency: dict[str, float], needs: Needs) -> Levels:
    """Within one frequency two levels at most: those that need nobody of it, and all others."""
    found = []
    for same in _by_frequency(frequency, needs):
        waiting = {name for name in same if same & set(needs.get(name, ()))}
        found += [level for level in (same - waiting, waiting) if level]
    return found


def _first_need(frequency: dict[str, float], needs: Needs) -> Levels:
    return _levels(frequency, {name: wanted[:1] for name, wanted in needs.items()})


def _one_each(frequency: dict[str, float], needs: Needs) -> Levels:
    return [{name} for level in _levels(frequency, needs) for name in sorted(level)]


def _waits_for_slower(frequency: dict[str, float], needs: Needs) -> Levels:
    """Speed by speed, and nobody is ready while anybody that it needs is left, however slow: this never ends."""
    found, left = [], set(frequency)
    for speed in sorted(set(frequency.values()), reverse=True):
        while same := {name for name in left if frequency[name] == speed}:
            ready = {name for name in same if not left & set(needs.get(name, ()))}
            found += [ready] if ready else []
            left = left - ready
    return found


MISNAMED: dict[str, Callable[..., Levels]] = {
    "Frequency alone is not enough: equally fast, but W waits for m in the same step, so m stands above W.": _by_frequency,
    "The fastest level comes first; your list is turned round.": lambda f, n: _levels(f, n)[::-1],
    "The fastest come first, not the slowest.": _slow_first,
    "Turned round: whoever is needed stands above whoever needs it.": lambda f, n: _levels(f, n, late=True),
    "Two that are equally fast and do not need each other share a level, as Adam's m and V do.": _one_each,
    "Needs alone are not enough: of two speeds the faster stands above.": _by_needs,
    "Whoever waits for one that waits stands lower still: go on until nobody is left.": _one_round,
    "Look at all needs of a component, not only at the first.": _first_need,
    "Needs count among the equally fast; across frequencies the faster stands above, whatever it needs.": _needs_first,
}
ENDLESS = (
    "your loop goes on and on: it waits for one that is slower. "
    "Needs count among the equally fast; across frequencies the faster stands above."
)


class _Endless(Exception):
    """An answer that goes on although nothing changes any more."""


class _Counted(dict[str, Any]):
    """A dictionary that counts how often it is asked, so that an endless loop ends."""

    asked = 0

    def _count(self) -> None:
        self.asked += 1
        if self.asked > 20_000:
            raise _Endless

    def __getitem__(self, key: str) -> Any:
        self._count()
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._count()
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._count()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._count()
        return super().__iter__()

    def items(self) -> Any:
        self._count()
        return super().items()


def check_levels(function: Any) -> None:
    """(frequency, needs) -> list of sets: compared with the longest chains under the definition, by trying all."""
    left = dict(MISNAMED)  # those that have been right so far
    for model, (frequency, needs) in MODELS.items():
        try:
            got = _sets(ask(function, _Counted(frequency), _Counted(needs)))
        except WrongAnswer as stopped:
            if isinstance(stopped.__cause__, _Endless):
                raise WrongAnswer(f"{model}: {ENDLESS}") from None
            raise
        wanted = _by_chains(frequency, needs)
        likely = {hint: mistake(frequency, needs) for hint, mistake in left.items()}
        if got != wanted:
            _compare(model, got, wanted, set(frequency))
            at = next(
                (i for i, pair in enumerate(zip(got, wanted, strict=False)) if pair[0] != pair[1]),
                len(wanted),
            )
            expected = f"level {at + 1} should be {_said(wanted[at : at + 1])}"
            hint = next((hint for hint, value in likely.items() if _alike(got, value, wanted)), "")
            raise WrongAnswer(f"{model}: you have {_said(got)}; {expected}. {hint}".strip())
        left = {hint: left[hint] for hint, value in likely.items() if value == wanted}


def _compare(model: str, got: Levels, wanted: Levels, names: set[str]) -> None:
    """What is wrong with a list of levels before its order is looked at."""
    listed = [name for level in got for name in level]
    if missing := names - set(listed):
        raise WrongAnswer(f"{model}: {', '.join(sorted(missing))} is in no level; you have {_said(got)}.")
    if unknown := set(listed) - names:
        raise WrongAnswer(f"{model}: there is no component {sorted(map(str, unknown))[0]!r}.")
    if len(listed) > len(names):
        twice = next(name for name in sorted(names) if listed.count(name) > 1)
        raise WrongAnswer(f"{model}: {twice} is in two levels; you have {_said(got)}.")
    if not all(got):
        raise WrongAnswer(f"{model}: a level is empty; you have {_said(got)}.")


def _alike(got: Levels, mistake: Levels, wanted: Levels) -> bool:
    """Equal; or both a level for each, in any order of those that should stand together."""

    def one_each(found: Levels) -> bool:
        rest = iter(found)
        together = [set().union(*(next(rest, set()) for _ in level)) for level in wanted]
        return together == wanted and all(len(level) == 1 for level in found)

    return got == mistake or (one_each(got) and one_each(mistake))


def _sets(value: Any) -> Levels:
    kinds = (set, frozenset, list, tuple)
    if not isinstance(value, list | tuple) or not all(isinstance(level, kinds) for level in value):
        raise WrongAnswer(
            f"return a list of sets of names, the fastest level first, got {type(value).__name__}."
        )
    if not all(isinstance(name, str) for level in value for name in level):
        raise WrongAnswer("return a list of sets of names: a level holds something that is no name.")
    return [set(level) for level in value]


def _said(found: Levels) -> str:
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
            *((mistake, hint) for hint, mistake in MISCOUNTS.items()),
            (_all_at_once, "The sum over the probes"),
            (lambda *given: [_frequency(*given)], "got an array of shape (1,)"),
        ),
    ),
    Exercise(
        "13.3",
        "name the levels",
        check_levels,
        _levels,
        (
            *((mistake, hint) for hint, mistake in MISNAMED.items()),
            (_waits_for_slower, "goes on and on"),
            (
                lambda frequency, needs: _levels({n: f for n, f in frequency.items() if n != "W"}, {}),
                "in no level",
            ),
            (lambda f, needs: [*_by_frequency(f, needs), {"W"}], "W is in two levels"),
            (lambda f, needs: [*_levels(f, needs), set()], "a level is empty"),
            (lambda f, needs: [",".join(level) for level in _levels(f, needs)], "list of sets"),
        ),
    ),
)
