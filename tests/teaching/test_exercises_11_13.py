"""Exercises of notebooks 11 to 13: right answers in other forms pass; near misses are named; inputs tell mistakes apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import WrongAnswer, exercise
from hope_ref.teaching.exercises import e11, e12, e13

SOLUTIONS = Path(__file__).parents[2] / "notebooks" / "solutions"


# --- right answers in other forms -------------------------------------------------------------------------------------


def _array_by_array(width: int, heads: int, hidden: int, kernel: int) -> int:
    d, count = width // heads, 0
    for _ in range(heads):
        for _memory in range(5):
            count += 2 * (np.zeros((d, hidden)).size + np.zeros((hidden, d)).size)
    return count + sum(np.zeros((kernel - 1, width)).size for _ in range(3))


def _later_tokens_at_once(model: Any, tokens: Any, words: int) -> Any:
    before = model(tokens)
    for t in range(len(tokens) - 1):
        other = np.concatenate([tokens[: t + 1], (tokens[t + 1 :] + 1) % words])
        if np.abs(model(other) - before)[t].max() > 1e-6:
            return np.int64(t)
    return None


def _triangle(model: Any, tokens: Any, words: int) -> Any:
    length, given = len(tokens), list(tokens)
    heard = np.zeros((length, length))
    for s in range(length):
        tokens[s] = (tokens[s] + 3) % words
        heard[s] = np.linalg.norm(model(tokens) - model(np.array(given)), axis=1)
        tokens[s] = given[s]
    found = np.flatnonzero((np.tril(heard, -1) > 1e-9).any(axis=0))
    return float(found[0]) if found.size else None


def _as_exact(model: Any, tokens: Any, words: int) -> Any:
    return e11._first_leak(model, tokens, words, bound=0.0)


def _reads_the_last_one_too(read: Any, prompt: Any, count: int) -> Any:
    logits, state = read(prompt, None)
    made = []
    for _ in range(count):
        made.append(np.argmax(logits[-1]))
        logits, state = read([made[-1]], state)
    return made


def _token_by_token(read: Any, prompt: Any, count: int) -> Any:
    state, made = None, []
    for token in prompt:
        logits, state = read((int(token),), state)
    while True:
        made.append(int(logits.argmax()))
        if len(made) == count:
            return tuple(made)
        logits, state = read(np.array(made[-1:]), state)


def _later_symbols_drawn(predict: Any, windows: Any) -> Any:
    rng, found = np.random.default_rng(0), []
    for t in range(windows.shape[1] - 1):
        other = windows.copy()
        other[:, t + 1 :] = (other[:, t + 1 :] + rng.integers(1, 5, size=other[:, t + 1 :].shape)) % 5
        found.append(int(np.abs(predict(other)[:, t] - predict(windows)[:, t]).max() > 1e-9))
    return found


def _every_place_at_once(predict: Any, windows: Any) -> Any:
    """All changed windows in one batch."""
    places = windows.shape[1] - 1
    changed = np.repeat(windows[None], places, axis=0)
    for t in range(places):
        changed[t, :, t + 1 :] = (changed[t, :, t + 1 :] + 2) % 5
    scores = predict(changed.reshape(-1, places + 1)).reshape(places, len(windows), places, -1)
    before = predict(windows)
    return np.array([(scores[t, :, t] != before[:, t]).any() for t in range(places)])


def _by_a_clock(ours: Any, theirs: Any, our_seconds: Any, their_seconds: Any) -> Any:
    ratios = sorted(a / b for a, b in zip(our_seconds, their_seconds, strict=True))
    steps = int(len(ours) * ratios[len(ratios) // 2])
    return (float(theirs[len(ours) - 1] - ours[-1]), float(theirs[steps - 1] - ours[-1]))


def _by_the_other_ratio(ours: Any, theirs: Any, our_seconds: Any, their_seconds: Any) -> Any:
    steps = len(ours) // np.median(their_seconds / our_seconds)
    return [theirs[len(ours) - 1] - ours[-1], theirs[int(steps) - 1] - ours[-1]]


def _in_one_product(states: Any, read: Any, probes: Any) -> Any:
    answers = np.stack([read(state, probes.T) for state in states])
    return (answers[1:] != answers[:-1]).any(axis=(1, 2)).mean()


def _in_a_loop(states: Any, read: Any, probes: Any) -> Any:
    count = 0
    for before, now in pairwise(states):
        count += any((read(before, probe) != read(now, probe)).any() for probe in probes)
    return np.array(count / (len(states) - 1))


def _by_depth(frequency: Any, needs: Any) -> Any:
    def depth(name: str) -> int:
        same = [other for other in needs.get(name, ()) if frequency[other] == frequency[name]]
        return 1 + max(map(depth, same), default=0)

    order = sorted({(-frequency[name], depth(name)) for name in frequency})
    return [[name for name in frequency if (-frequency[name], depth(name)) == at] for at in order]


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("11.1", _array_by_array),
    ("11.1", lambda width, heads, hidden, kernel: 20.0 * width * hidden + 3 * (kernel - 1) * width),
    ("11.1", lambda *sizes: np.int64(e11._carried(*sizes) + 1)),
    ("11.2", _later_tokens_at_once),
    ("11.2", _triangle),
    ("11.3", _reads_the_last_one_too),
    ("11.3", _token_by_token),
    ("12.1", _later_symbols_drawn),
    ("12.1", _every_place_at_once),
    ("12.2", _by_a_clock),
    ("12.2", _by_the_other_ratio),
    ("12.3", lambda seeds, rows: np.float64(1) - (1 - 2 / 2**seeds) ** rows),
    ("12.3", e12._counted),
    ("13.2", _in_one_product),
    ("13.2", _in_a_loop),
    ("13.3", _by_depth),
    ("13.3", lambda f, needs: tuple(frozenset(level) for level in e13._levels(f, needs))),
    ("13.3", lambda f, needs: [tuple(sorted(level)) for level in e13._by_chains(f, needs)]),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=lambda x: getattr(x, "__name__", x))
def test_another_right_form_passes(
    name: str, answer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(name, answer)
    assert capsys.readouterr().out.startswith(f"ok  exercise {name}")


def test_a_table_may_hold_lists() -> None:
    attempt("13.1", {name: list(row) for name, row in e13.TABLE.items()})


@pytest.mark.parametrize("path", sorted(SOLUTIONS.glob("1[123]_*.ipynb")), ids=lambda path: path.name[:2])
def test_the_solutions_pass(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert [line[:17] for line in capsys.readouterr().out.splitlines()] == [
        f"ok  exercise {path.name[:2]}.{i}" for i in (1, 2, 3)
    ]


# --- wrong answers ----------------------------------------------------------------------------------------------------


def _position_once_in_a_while(width: int, heads: int, hidden: int, kernel: int) -> int:
    return e11._carried(width, heads, hidden, kernel) + (heads > 2)


def _by_argmax_and_token(model: Any, tokens: Any, words: int) -> Any:
    return e11._first_leak(model, tokens, words, words_only=True, index=lambda t, s: s)


def _by_allclose(model: Any, tokens: Any, words: int) -> Any:
    before = model(tokens)
    for t in range(len(tokens) - 1):
        other = tokens.copy()
        other[t + 1 :] = (other[t + 1 :] + 1) % words
        if not np.allclose(model(other)[t], before[t]):
            return t
    return None


def _prompt_twice(read: Any, prompt: Any, count: int) -> Any:
    read(prompt, None)
    return e11._generated(read, prompt, count)


def _waits_without_asking(frequency: Any, needs: Any) -> Any:
    while True:
        for _name, _speed in frequency.items():
            pass


WRONG: list[tuple[str, Any, str]] = [
    ("11.1", _position_once_in_a_while, "is 1168, expected 1169"),
    ("11.1", lambda *sizes: e11._carried(*sizes, copies=1) + 1, "is 709, expected 1308. Half of"),
    ("11.1", lambda *sizes: e11._carried(*sizes, copies=3) + 1, "W_0 is not carried along"),
    ("11.2", _by_argmax_and_token, "is None, expected 2. Change every token in turn, and compare the logits"),
    ("11.2", _by_allclose, "is None, expected 6. This leak is small"),
    ("11.2", lambda *_: [2], "it should be ()"),
    ("11.2", lambda *given: "2" if e11._first_leak(*given) is None else e11._first_leak(*given), "is '2'"),
    ("11.3", _prompt_twice, "21 tokens were read, expected at most 17"),
    ("11.3", lambda read, prompt, count: e11._generated(read, prompt[None], count), "got shape (1, 5)"),
    ("12.1", lambda predict, w: [True] * 11, "expected 0"),
    ("12.2", lambda *given: e12.EQUAL_TIME(*given)[0], "it should be (2,)"),
    ("13.1", e13.TABLE | {"MLP": (["B"], "tokens", "none")}, "a lane is one of"),
    ("13.1", e13.TABLE | {"MLP": ("B", ["tokens"], "none")}, "must be one of"),
    ("13.2", lambda *given: str(e13._frequency(*given)), "one number, updates per tick, got str"),
    ("13.2", lambda *_: 0.5, "moves at every tick is 0.5, expected 1."),
    ("13.3", lambda f, needs: [{"m"}, {"V"}, {"attention"}, {"W"}], "level 1 should be {attention}."),
    ("13.3", lambda f, needs: [*e13._levels(f, needs), {"x"}], "no component 'x'"),
    ("13.3", lambda f, needs: [{1}], "no name"),
    ("13.3", _waits_without_asking, "goes on and on"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_a_near_miss_does_not(name: str, answer: Any, hint: str) -> None:
    with pytest.raises(WrongAnswer) as caught:
        attempt(name, answer)
    assert hint in str(caught.value)


def test_a_level_for_each_is_named_in_any_order() -> None:
    def reversed_pairs(frequency: Any, needs: Any) -> Any:
        return [{name} for level in e13._levels(frequency, needs) for name in sorted(level, reverse=True)]

    with pytest.raises(WrongAnswer, match="share a level"):
        attempt("13.3", reversed_pairs)


def test_rounding_is_no_leak() -> None:
    tokens, innocent = np.arange(e11.TOKENS) % 7, e11.SUSPECTS[-1]
    noisy = innocent._replace(noise=1e-13).model()
    assert e11._first_leak(noisy, tokens, e11.WORDS) is None
    assert e11._first_leak(noisy, tokens, e11.WORDS, bound=0.0) == 0


def test_leaks_are_as_loud_as_they_say() -> None:
    """Beyond 1e-6 and below 1e-4 where a leak is small: a bound of 1e-6 still finds it."""
    tokens, small = np.arange(e11.TOKENS) % 7, e11.SUSPECTS[1].model()
    other = np.where(np.arange(e11.TOKENS) == 9, tokens + 1, tokens)
    assert 1e-6 < np.abs(small(other) - small(tokens))[6].max() < 1e-5
    assert e11._first_leak(small, tokens, e11.WORDS, bound=1e-6) == 6
    windows, loop = e12._windows(), next(loop for loop in e12.LOOPS if loop.size < 1)
    found = e12._leaks(loop.predict, windows, differs=lambda a, b: bool(np.abs(a - b).max() > 1e-6))
    assert np.array_equal(found, loop.leaks())


# --- inputs that tell mistakes apart ----------------------------------------------------------------------------------


def _runs() -> Iterator[tuple[str, list[Callable[..., Any]], Callable[..., Any], list[tuple[Any, ...]]]]:
    """Per exercise: mistakes, a right answer, the inputs in the order in which they are asked."""
    tokens = np.random.default_rng(1103).integers(0, e11.WORDS - 1, e11.TOKENS)
    sizes = [(12, 3, 5, 4), (8, 2, 7, 3), (6, 1, 4, 2)]
    counts: list[Callable[..., Any]] = list(e11.MISCOUNTS.values())
    yield "11.1", counts, e11._carried, sizes
    suspects = [(suspect.model(), tokens, e11.WORDS) for suspect in e11.SUSPECTS]
    yield "11.2", [*e11.OVERSIGHTS.values(), e11._minus_one], e11._first_leak, suspects
    slips = [partial(e11._generated, mistake=slip) for slip in e11.SLIPS.values()]
    yield "11.3", list(slips), e11._generated, [(e11.Reader(), e11.PROMPT, e11.COUNT)]
    loops = [(loop.predict, e12._windows()) for loop in e12.LOOPS]
    yield "12.1", list(e12.OVERSIGHTS.values()), e12._leaks, loops
    turns = [(*e12._curves(), *map(np.array, row)) for row in e12.TURNS.values()]
    yield "12.2", list(e12.MISTAKES.values()), e12.EQUAL_TIME, turns
    yield "12.3", list(e12.MISCHANCES.values()), e12._chance, [(3, 4)]
    memories = tuple(states for states, _ in e13.MEMORIES.values())

    def on_all(answer: Callable[..., float]) -> Callable[..., Any]:
        return lambda *given: [answer(states, e13._read, np.eye(4)) for states in given]

    yield "13.2", [on_all(m) for m in e13.MISCOUNTS.values()], on_all(e13._frequency), [memories]
    yield "13.3", list(e13.MISNAMED.values()), e13._levels, list(e13.MODELS.values())


def _told(value: Any) -> str:
    """A value as text, so that None, numbers, arrays and lists of sets compare alike."""
    if isinstance(value, list) and value and isinstance(value[0], set):
        return e13._said(value)
    return "None" if value is None else str(np.round(np.asarray(value, dtype=float), 7).tolist())


RUNS = list(_runs())


@pytest.mark.parametrize(("name", "mistakes", "right", "inputs"), RUNS, ids=[run[0] for run in RUNS])
def test_no_two_mistakes_look_alike(name: str, mistakes: Any, right: Any, inputs: Any) -> None:
    """At the first input at which a mistake shows, it differs from the right answer and from all others still unseen."""
    left = list(range(len(mistakes)))
    assert len(left) >= 8
    for given in inputs:
        wanted = _told(right(*given))
        values = {i: _told(mistakes[i](*given)) for i in left}
        wrong = [value for value in values.values() if value != wanted]
        assert len(set(wrong)) == len(wrong), (name, values)
        left = [i for i in left if values[i] == wanted]
    assert not left, (name, left)


@pytest.mark.parametrize("name", [f"{n}.{i}" for n in (11, 12, 13) for i in (1, 2, 3)])
def test_at_least_eight_mistakes_are_known(name: str) -> None:
    hints = [hint for _, hint in exercise(name).wrong_answers]
    assert len(set(hints)) >= 8


def test_an_exact_comparison_takes_rounding_for_a_leak() -> None:
    with pytest.raises(WrongAnswer, match=r"expected None: .* more than rounding"):
        exercise("11.2").check(_as_exact)
