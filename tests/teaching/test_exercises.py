"""Every exercise: its solution passes, every wrong answer is rejected with the right hint, a stub is friendly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, exercise, exercises, must_equal

ALL = exercises()
WRONG = [(task, answer, hint) for task in ALL.values() for answer, hint in task.wrong_answers]
each = pytest.mark.parametrize("task", ALL.values(), ids=lambda task: task.name)


def test_three_exercises_per_notebook() -> None:
    for name in ALL:
        assert [n for n in ALL if n[:2] == name[:2]] == [f"{name[:2]}.{i}" for i in (1, 2, 3)]


@each
def test_solution_passes(task: Exercise, capsys: pytest.CaptureFixture[str]) -> None:
    attempt(task.name, task.solution)
    assert capsys.readouterr().out == f"ok  exercise {task.name}: {task.title}\n"


@each
def test_at_least_two_wrong_answers(task: Exercise) -> None:
    assert len(task.wrong_answers) >= 2


@pytest.mark.parametrize(
    ("task", "answer", "hint"),
    [pytest.param(*row, id=f"{row[0].name}-{row[2][:24]}") for row in WRONG],
)
def test_wrong_answer_gets_the_right_hint(task: Exercise, answer: Any, hint: str) -> None:
    assert hint
    with pytest.raises(WrongAnswer) as caught:
        attempt(task.name, answer)
    assert hint in str(caught.value)


@each
def test_stub_is_friendly(task: Exercise, capsys: pytest.CaptureFixture[str]) -> None:
    attempt(task.name, ...)
    if callable(task.solution):
        attempt(task.name, lambda *_, **__: ...)
    assert set(capsys.readouterr().out.splitlines()) == {
        f"exercise {task.name} is waiting for you: {task.title}"
    }


@each
def test_accidents_are_hints(task: Exercise) -> None:
    def stops(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("division by zero")

    if callable(task.solution):
        for accident in (stops, lambda *_, **__: None, lambda *_, **__: "text", lambda *_, **__: np.nan):
            with pytest.raises(WrongAnswer):
                attempt(task.name, accident)
    with pytest.raises(WrongAnswer):
        attempt(task.name, "text")


def test_unknown_exercise_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"no exercise named '99\.1'; known: A0\.1, .*, 00\.1, .*, 13\.3"):
        exercise("99.1")


def test_wrong_answers_show_without_a_stack_of_frames() -> None:
    assert WrongAnswer("look again")._render_traceback_() == ["not yet: look again"]


def test_ask_hands_out_copies() -> None:
    given = np.zeros(2)

    def spoil(array: np.ndarray) -> np.ndarray:
        array += 1
        return array

    assert ask(spoil, given).sum() == 2
    assert given.sum() == 0


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (None, "y is None: does your function return it"),
        ("text", "y must be numbers, got str"),
        (np.zeros((3, 2)), r"y has shape \(3, 2\), it should be \(2, 3\). It has the transposed shape"),
        (np.zeros(6), r"y has shape \(6,\), it should be \(2, 3\)\.$"),
        (
            2 * np.ones((2, 3)),
            r"y\[0, 0\] is 2, expected 1 \(the first difference; all entries differ\)\. Twice too large",
        ),
        (
            [[1, 1, np.nan], [1, 1, 0]],
            r"y\[0, 2\] is nan, expected 1 \(the first difference; 2 of 6 entries differ\)\.$",
        ),
        (np.zeros((2, 3)), r"y\[0, 0\] is 0, expected 1"),
        (np.full((2, 3), 1 + 1e-6), r"y\[0, 0\] is 1\.000001, expected 1 .* do you compute in float32\?"),
    ],
)
def test_shape_then_value_then_likely_mistake(got: Any, message: str) -> None:
    want = np.ones((2, 3))
    with pytest.raises(WrongAnswer, match=message):
        must_equal("y", got, want, {"Twice too large.": 2 * want})


def test_a_number_is_shown_beside_the_one_expected() -> None:
    with pytest.raises(WrongAnswer, match=r"^eta is 0\.0729, expected 0\.081\. Times 0\.9$"):
        must_equal("eta", 0.0729, 0.081, {"Times 0.9": 0.0729})


def test_an_error_keeps_the_lines_of_the_learner() -> None:
    def inner(v: np.ndarray) -> Any:
        return v[100]  # this line stops

    def answer(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Any:
        return inner(v)

    with pytest.raises(
        WrongAnswer, match="your function stopped with IndexError: index 100 is out"
    ) as caught:
        attempt("01.1", answer)
    assert isinstance(caught.value.__cause__, IndexError)
    first, *lines = caught.value._render_traceback_()
    assert first.startswith("not yet: your function stopped")
    assert [line.split(", in ")[1] for line in lines] == [
        "answer:  return inner(v)",
        "inner:  return v[100]  # this line stops",
    ]
