"""Exercises of notebook 00: shapes, a check that fails on purpose, and the first token that can read another."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.checks import CheckFailed, check
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, must_equal

SHAPES = ("memory", "association", "answer", "scores", "outputs")


def check_shapes(function: Any) -> None:
    """(T, d_k, d_v) -> a dictionary of shapes: compared with the shapes of arrays that NumPy really computes."""
    length, d_k, d_v = 7, 5, 3
    q, k, v = np.ones((length, d_k)), np.ones((length, d_k)), np.ones((length, d_v))
    memory = v.T @ k
    wanted = {
        "memory": memory.shape,
        "association": np.outer(v[0], k[0]).shape,
        "answer": (memory @ q[0]).shape,
        "scores": (q @ k.T).shape,
        "outputs": (q @ memory.T).shape,
    }
    got = ask(function, length, d_k, d_v)
    if not isinstance(got, dict):
        raise WrongAnswer(f"return a dictionary, name -> shape, got {type(got).__name__}.")
    for name in SHAPES:
        if name not in got:
            raise WrongAnswer(f"the shape of {name} is missing.")
        _shape_is(name, got[name], wanted[name])


def _shape_is(name: str, got: Any, want: tuple[int, ...]) -> None:
    try:
        found = tuple(int(size) for size in got)
    except (TypeError, ValueError) as error:
        raise WrongAnswer(
            f"a shape is a tuple of integers, like (5,), but {name} got {got!r}: a lone (5) is a number."
        ) from error
    if found == want:
        return
    where = f"for T = 7, d_k = 5, d_v = 3 you say that {name} has shape {found}."
    if len(want) == 2 and found == want[::-1]:
        raise WrongAnswer(f"{where} Turn it round: M acts as M @ k, so its columns must meet the key.")
    if found in ((*want, 1), (1, *want)):
        raise WrongAnswer(f"{where} A vector has one axis here, (d_v,) and not (d_v, 1).")
    if name == "scores":
        raise WrongAnswer(f"{where} In Q @ K.T the width d_k is summed over: one score per query and key.")
    raise WrongAnswer(f"{where} Build the arrays with np.ones and ask for .shape.")


def check_refusal(function: Any) -> None:
    """(right) -> the message with which `check` refuses the array with one entry off by 0.5."""
    right = np.random.default_rng(2).uniform(-1, 1, size=(4, 3))
    try:
        message = ask(function, right)
    except WrongAnswer as wrong:
        if isinstance(wrong.__cause__, CheckFailed):
            raise WrongAnswer(
                "check did its work and stopped your function. Catch it: try: … except CheckFailed as error: …"
            ) from wrong
        raise
    if message is None:
        raise WrongAnswer(
            "your function returns None: did check pass? `wrong = right` gives the same array a second name; take right.copy(). "
            "Or did you forget to return str(error)?"
        )
    if isinstance(message, CheckFailed):
        raise WrongAnswer("that is the exception itself; return its message, str(error).")
    if not isinstance(message, str):
        raise WrongAnswer(f"return the message, a string, got {type(message).__name__}.")
    if "shapes differ" in message:
        raise WrongAnswer(
            "check stopped at the shapes, before it looked at a value: keep the shape, change one entry."
        )
    found = re.search(r"max\|Δ\| = (\S+), allowed \S+, (\d+) of \d+ entries", message)
    if found is None:
        raise WrongAnswer(f"{message!r} is not what check says when it refuses; return str(error) as it is.")
    if found[1] != "0.5":
        raise WrongAnswer(f"read it: max|Δ| = {found[1]}. One entry off by 0.5 gives 0.5.")
    if found[2] != "1":
        raise WrongAnswer(f"read it: {found[2]} entries differ. Change one of them alone.")


def _refusal(change: Callable[[Array], Array]) -> Callable[[Array], str | None]:
    """An answer that lets `check` compare the changed array with the right one, and returns the refusal's message."""

    def answer(right: Array) -> str | None:
        message = None
        try:
            check("a claim that is wrong on purpose", change(right), right)
        except CheckFailed as error:
            message = str(error)
        return message

    return answer


def _off_by_a_half(right: Array) -> Array:
    wrong = right.copy()
    wrong[0, 0] += 0.5
    return wrong


def _changed_in_place(right: Array) -> Array:
    right[0, 0] += 0.5
    return right


def check_first_readable(function: Any) -> None:
    """(s, chunk_size) -> the first t whose boundary state has seen token s: found by trying t = 0, 1, 2, …"""
    cases = [(0, 4), (1, 4), (3, 4), (4, 4), (5, 1), (6, 3), (20, 8)]
    wanted = [next(t for t in range(100) if chunk * (t // chunk) > s) for s, chunk in cases]
    s, chunk = np.array(cases).T
    must_equal(
        "the first readable position of tokens 0, 1, 3, 4 (chunks of 4), 5 (1), 6 (3), 20 (8)",
        np.array([_number(ask(function, int(a), int(b))) for a, b in cases]),
        np.array(wanted),
        {
            "That is the start of the token's own chunk, a state from before it.": chunk * (s // chunk),
            "That is true of a memory read after each write; here it is read at the chunk's start.": s + 1,
            "C⌈s/C⌉ fails when s is the first token of a chunk, s = 0 for one: that state has not seen it.": chunk
            * -(-s // chunk),
            "A whole chunk too late: the next chunk reads it already.": chunk * (s // chunk + 2),
            "That is the number of the chunk; asked for is the position of its first token.": s // chunk + 1,
        },
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise WrongAnswer(f"return one integer, got {type(value).__name__}.") from error


def _shapes(length: int, d_k: int, d_v: int) -> dict[str, tuple[int, ...]]:
    return {
        "memory": (d_v, d_k),
        "association": (d_v, d_k),
        "answer": (d_v,),
        "scores": (length, length),
        "outputs": (length, d_v),
    }


def _shapes_but(**wrong: Any) -> Any:
    """A wrong answer: all shapes right for T = 7, d_k = 5, d_v = 3, but these."""
    return lambda length, d_k, d_v: _shapes(length, d_k, d_v) | wrong


EXERCISES = (
    Exercise(
        "00.1",
        "name the shapes",
        check_shapes,
        _shapes,
        (
            (_shapes_but(memory=(5, 3)), "columns must meet the key"),
            (_shapes_but(answer=(3, 1)), "one axis"),
            (_shapes_but(answer=3), "a lone (5) is a number"),
            (_shapes_but(scores=(5, 5)), "summed over"),
            (_shapes_but(outputs=(7, 5)), "ask for .shape"),
            (lambda length, d_k, d_v: {"memory": (d_v, d_k)}, "association is missing"),
        ),
    ),
    Exercise(
        "00.2",
        "break a check on purpose and return its message",
        check_refusal,
        _refusal(_off_by_a_half),
        (
            (lambda right: check("off by a half", _off_by_a_half(right), right), "Catch it"),
            (_refusal(_changed_in_place), "right.copy()"),
            (_refusal(lambda right: right[1:]), "keep the shape"),
            (_refusal(lambda right: right + 1), "max|Δ| = 1."),
            (lambda right: "it failed", "not what check says"),
            (lambda right: CheckFailed("as it is"), "str(error)"),
            (lambda right: 0.5, "a string"),
        ),
    ),
    Exercise(
        "00.3",
        "find the first position that can read a token, in chunks",
        check_first_readable,
        lambda s, chunk_size: chunk_size * (s // chunk_size + 1),
        (
            (lambda s, chunk_size: chunk_size * (s // chunk_size), "own chunk"),
            (lambda s, chunk_size: s + 1, "read after each write"),
            (lambda s, chunk_size: chunk_size * -(-s // chunk_size), "C⌈s/C⌉ fails"),
            (lambda s, chunk_size: chunk_size * (s // chunk_size + 2), "too late"),
            (lambda s, chunk_size: s // chunk_size + 1, "number of the chunk"),
        ),
    ),
)
