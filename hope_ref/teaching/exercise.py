"""Exercises as data: a checker that names what is wrong, a solution, and wrong answers that it must reject.

A checker takes the learner's function (or value) and compares it with an independent computation, in the order
shape, value, likely mistake. Each exercise carries typical wrong answers, each with the hint that it must get:
the tests prove that none of them passes and that each one gets the right hint.
"""

from __future__ import annotations

import linecache
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from hope_ref.teaching import checks
from hope_ref.teaching.checks import apart, first_place, to_numpy

PACKAGE = str(Path(__file__).parents[1])


class WrongAnswer(AssertionError):
    """The answer is not right yet; the message says what to look at. Shown without a stack of library frames."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this instead of a traceback
        return [f"not yet: {self}", *own_lines(self.__cause__)]


def own_lines(error: BaseException | None) -> list[str]:
    """Where the learner's own code stopped: its lines of the traceback, the last one being where it happened."""
    lines = []
    for frame in traceback.extract_tb(error.__traceback__ if error else None):
        if not frame.filename.startswith(PACKAGE):
            code = frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()
            lines.append(f"  line {frame.lineno}, in {frame.name}:  {code}".rstrip())
    return lines


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        name: ``NN.n``, notebook and number.
        title: what to do, as a command.
        check: takes the learner's answer; raises WrongAnswer with a hint, or returns.
        solution: an answer that passes; None in the library for students.
        wrong_answers: (answer, a piece of the hint that it must get), at least two.
    """

    name: str
    title: str
    check: Callable[[Any], None]
    solution: Any
    wrong_answers: tuple[tuple[Any, str], ...]


def attempt(name: str, answer: Any) -> None:
    """Check an answer: print ``ok``, or that the stub is still empty; raise WrongAnswer with a hint otherwise.

    A stub (``...``, or a function that returns ``...`` or raises NotImplementedError) is not wrong, only
    unfinished: the notebook runs on.
    """
    task = exercise(name)
    try:
        if answer is ...:
            raise NotImplementedError
        task.check(answer)
    except NotImplementedError:
        checks.tried(name, False)
        print(f"exercise {name} is waiting for you: {task.title}")
    except WrongAnswer:
        checks.tried(name, False)
        raise
    else:
        checks.tried(name, True)
        print(f"ok  exercise {name}: {task.title}")


def graded(name: str, answer: Any) -> None:
    """What a graded cell calls: raises until the answer is right, and if it is the solution that ships with the course.

    Where solutions are installed, an answer that calls the solution is refused, too. `make student` builds a library
    without them.
    Raises: NotImplementedError for a stub; WrongAnswer, which says what to look at.
    """
    task = exercise(name)
    if answer is ...:
        raise NotImplementedError
    inner = answer
    while isinstance(inner, partial):
        inner = inner.func
    if task.solution is not None and inner is task.solution:
        raise WrongAnswer(TAKEN)
    code, called = getattr(task.solution, "__code__", None), []

    def watch(frame: FrameType, event: str, _: Any) -> None:
        caller = frame.f_back
        if event == "call" and frame.f_code is code and caller is not None:  # a checker may call it, too
            called.append(not caller.f_code.co_filename.startswith(PACKAGE))

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        task.check(answer)
    finally:
        sys.setprofile(before)
    if any(called):
        raise WrongAnswer(TAKEN)


TAKEN = "this is the solution that ships with the course: write your own."


def exercise(name: str) -> Exercise:
    """The exercise of that name; KeyError with the known names if there is none."""
    known = exercises()
    if name not in known:
        raise KeyError(f"no exercise named {name!r}; known: {', '.join(known)}")
    return known[name]


def exercises() -> dict[str, Exercise]:
    """Every exercise of the course by name, from the modules of `hope_ref.teaching.exercises`."""
    import hope_ref.teaching.exercises as package

    found = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        for entry in import_module(f"{package.__name__}.{module}").EXERCISES:
            found[entry.name] = entry
    return found


def ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the learner's function on copies of the arguments; turn its accidents into hints."""
    if not callable(function):
        raise WrongAnswer(f"the answer must be a function, got {type(function).__name__}")
    kept = [np.array(a) if isinstance(a, np.ndarray) else a for a in arguments]
    try:
        got = function(*kept)
    except NotImplementedError:
        raise
    except Exception as error:
        raise WrongAnswer(f"your function stopped with {type(error).__name__}: {error}") from error
    if got is ...:
        raise NotImplementedError
    return got


def ask_named(function: Any, arguments: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """`ask` with arguments by name: what it returned, and the names of the arrays that the function changed in place."""
    if not callable(function):
        ask(function)
    copies = {name: np.array(a) if isinstance(a, np.ndarray) else a for name, a in arguments.items()}
    got = ask(lambda: function(*copies.values()))
    return got, changed(arguments, copies)


def ask_shaped(function: Any, hint: str, **arguments: Any) -> Any:
    """`ask_named`, with a hint where shapes do not fit; an answer that changes its arguments is refused."""
    try:
        with np.errstate(all="ignore"):
            got, names = ask_named(function, arguments)
    except WrongAnswer as wrong:
        if isinstance(wrong.__cause__, ValueError):
            raise WrongAnswer(f"{wrong} {hint}") from wrong.__cause__
        raise
    unchanged(names)
    return got


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of the arrays that are not what they were; a tuple counts as its arrays."""

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, tuple):
            return all(map(same, one, other))
        return not isinstance(one, np.ndarray) or np.array_equal(
            one, np.asarray(other), equal_nan=one.dtype.kind == "f"
        )

    return [name for name, value in before.items() if not same(value, after[name])]


def unchanged(
    names: Sequence[str], said: str = "you changed {} in place; the caller still needs it. Make a new array."
) -> None:
    """Refuse an answer that has changed what it was given; the first of the names takes the place of each {}."""
    if names:
        raise WrongAnswer(said.replace("{}", names[0]))


def must_equal(
    what: str, got: Any, want: Any, likely: dict[str, Any] | None = None, bound: float = 1e-9
) -> None:
    """Raise WrongAnswer unless got equals want: shape first, then value, then the likely mistake by its name.

    Args:
        what: the quantity, e.g. ``"y"``.
        likely: hint -> the value that this mistake gives; the first that fits is named.
    """
    if got is None:
        raise WrongAnswer(f"{what} is None: does your function return it?")
    try:
        found = to_numpy(got)
    except (TypeError, ValueError) as error:
        raise WrongAnswer(f"{what} must be numbers, got {type(got).__name__}") from error
    wanted = to_numpy(want)
    if found.shape != wanted.shape:
        hint = " It has the transposed shape." if found.shape == wanted.shape[::-1] and found.ndim > 1 else ""
        raise WrongAnswer(f"{what} has shape {found.shape}, it should be {wanted.shape}.{hint}")
    scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
    off = ~(np.abs(found - wanted) <= bound * scale)  # written so that NaN is off
    if not off.any():
        return
    for hint, mistake in (likely or {}).items():
        if found.shape == np.shape(mistake) and np.allclose(found, mistake, rtol=1e-7, atol=1e-9):
            raise WrongAnswer(f"{difference(what, found, wanted, off)} {hint}")
    if np.abs(found - wanted).max() <= 1e-5 * scale:
        raise WrongAnswer(f"{difference(what, found, wanted, off)} So near: do you compute in float32?")
    raise WrongAnswer(difference(what, found, wanted, off))


def difference(what: str, found: np.ndarray, wanted: np.ndarray, off: np.ndarray) -> str:
    """Got and expected where they first differ: "y[2, 0] is 0.0729, expected 0.081 (3 of 12 entries differ)."."""
    at = first_place(off)
    got, expected = apart(float(found[at]), float(wanted[at]))
    if not at:
        return f"{what} is {got}, expected {expected}."
    place = ", ".join(map(str, at))
    count = "all entries differ" if off.all() else f"{off.sum()} of {off.size} entries differ"
    return f"{what}[{place}] is {got}, expected {expected} (the first difference; {count})."
