"""TEACHING.md names what exists, its minutes add up, and every question has an answer with a place to check it."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from hope_ref.teaching.exercise import exercise, exercises

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "TEACHING.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.stem.split("_")[0]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
NUMBERED = {number for number in NOTEBOOKS if number.isdigit() or number == "A0"}  # those with exercises
EXERCISE = re.compile(r"(?<![\d.])(?:\d\d|A0)\.\d(?!\d|\.\d)")
MENTION = re.compile(r"\[(\d\d|A\d)\]|§ (\d+)|`([a-z][a-z0-9]*(?:_[a-z0-9]+)*)`")


def section(title: str) -> str:
    """The text under a heading of the second level."""
    (found,) = re.findall(rf"^## {re.escape(title)}.*?\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    return str(found)


PATHS = {
    name: section(name) for name in ("Path 1: one lecture", "Path 2: three lectures", "Path 3: six lessons")
}


class Row(NamedTuple):
    minutes: int
    notebook: str | None
    live: str
    minutes_at_home: int
    at_home: str


class Lesson(NamedTuple):
    name: str
    minutes: int
    rows: list[Row]
    objectives: list[tuple[str, str]]  # what a learner can do, the exercise that shows it


def lessons(text: str) -> list[Lesson]:
    found = []
    for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        heading = re.match(r"(.+?) · (\d+) minutes · (.+)", part)
        assert heading is not None, part[:60]
        rows, objectives = [], []
        for line in part.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if re.match(r"\| \d+ \|", line):
                number = re.fullmatch(r"\[(\d\d|A\d)\]", cells[1])
                home = (int(cells[3]), cells[4]) if len(cells) == 5 else (0, cells[3])
                rows.append(Row(int(cells[0]), number[1] if number else None, cells[2], *home))
                assert number or cells[1] == "–", line
            elif len(cells) == 2 and EXERCISE.fullmatch(cells[1]):
                objectives.append((cells[0], cells[1]))
        found.append(Lesson(heading[1], int(heading[2]), rows, objectives))
    return found


ALL = [(path, lesson) for path, text in PATHS.items() for lesson in lessons(text)]
each_lesson = pytest.mark.parametrize("lesson", [lesson for _, lesson in ALL], ids=lambda lesson: lesson.name)


@cache
def headings_and_figures(number: str) -> tuple[set[str], set[str]]:
    cells = json.loads(NOTEBOOKS[number].read_text("utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) + "\n" for cell in cells)
    return set(re.findall(r"^## (\d+) · ", text, re.MULTILINE)), set(re.findall(r"show\((\w+)\(", text))


def dead_ends(text: str) -> list[str]:
    """Notebooks, sections and figures that a text names and that are not there; a § belongs to the notebook before it."""
    found = []
    for piece in re.split(r"\n\n|\n(?=\|)", text):
        notebook = None
        for number, heading, figure in MENTION.findall(piece):
            if number:
                notebook = number
                if number not in NOTEBOOKS:
                    found.append(f"[{number}]")
            elif notebook in NOTEBOOKS:
                headings, figures = headings_and_figures(notebook)
                if (heading and heading not in headings) or (figure and figure not in figures):
                    found.append(f"[{notebook}] {heading or figure}")
            elif notebook is None:
                found.append(heading or figure)
    return found


@pytest.mark.parametrize("title", [*PATHS, "Misconceptions", "Questions with answers"])
def test_what_is_named_exists(title: str) -> None:
    assert dead_ends(section(title)) == []


def test_a_dead_end_is_seen() -> None:
    assert dead_ends("| [00] § 2, `ladder`; [04] § 1 |") == []
    assert dead_ends("| [00] § 99, `overwrite`; [77] § 1 |") == ["[00] 99", "[00] overwrite", "[77]"]
    assert dead_ends("| § 3 |") == ["3"]


def test_every_exercise_is_named_and_nothing_else() -> None:
    named = set(EXERCISE.findall(GUIDE))
    assert set(exercises()) <= named
    assert named <= set(exercises())


def test_every_exercise_shows_one_objective_of_the_six_lessons() -> None:
    shown = Counter(name for lesson in lessons(PATHS["Path 3: six lessons"]) for _, name in lesson.objectives)
    assert set(shown.values()) == {1}
    assert set(exercises()) <= set(shown)
    for lesson in lessons(PATHS["Path 3: six lessons"]):
        assert {name[:2] for _, name in lesson.objectives} == {row.notebook for row in lesson.rows} - {None}


@each_lesson
def test_minutes_add_up_to_the_heading(lesson: Lesson) -> None:
    assert sum(row.minutes for row in lesson.rows) == lesson.minutes


@each_lesson
def test_exercises_stand_beside_their_notebook(lesson: Lesson) -> None:
    for row in lesson.rows:
        for name in EXERCISE.findall(f"{row.live} {row.at_home}"):
            assert row.notebook in (None, name[:2]), f"{lesson.name}: {name} beside {row.notebook}"


def test_there_are_one_three_and_six_lessons() -> None:
    assert [len(lessons(text)) for text in PATHS.values()] == [1, 3, 6]


@pytest.mark.parametrize("path", ["Path 2: three lectures", "Path 3: six lessons"])
def test_the_longer_paths_hold_the_whole_course_at_the_minutes_of_the_readme(path: str) -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    told = {n: int(m) for n, m in re.findall(r"^\| \[(\w\w)\].*?\| (\d+) \|", table, re.MULTILINE)}
    spent: Counter[str] = Counter()
    for lesson in lessons(PATHS[path]):
        for row in lesson.rows:
            if row.notebook is not None:
                spent[row.notebook] += row.minutes + row.minutes_at_home
    assert set(spent) == NUMBERED
    assert {n: spent[n] for n in NUMBERED} == {n: told[n] for n in NUMBERED}
    at_home = sum(row.minutes_at_home for lesson in lessons(PATHS[path]) for row in lesson.rows)
    assert f"{len(lessons(PATHS[path]))} × 90 minutes, and {at_home} minutes at home" in GUIDE


def test_links_lead_somewhere() -> None:
    defined = dict(re.findall(r"^\[(\w\w)\]: (\S+)$", GUIDE, re.MULTILINE))
    assert set(re.findall(r"\[(\d\d|A\d)\](?!:)", GUIDE)) == set(defined)
    for number, target in defined.items():
        assert (ROOT / target).exists(), target
        assert Path(target).stem.split("_")[0] == number
    headings = re.findall(r"^#+ (.+)$", GUIDE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
    for target in re.findall(r"\]\(([^)]+)\)", GUIDE):
        assert target[1:] in anchors if target.startswith("#") else (ROOT / target).exists(), target


def test_every_misconception_has_its_cure() -> None:
    rows = [
        line.strip("|").split("|") for line in section("Misconceptions").splitlines() if line[:2] == "| "
    ][1:]
    assert len(rows) >= 20
    for believed, so, cure in rows:
        assert len(believed.split()) > 2, believed
        assert len(so.split()) > 1, believed
        assert re.search(r"\[(\d\d|A\d)\] § \d", cure), believed


class Question(NamedTuple):
    name: str
    text: str
    answer: str
    place: str


def questions(text: str) -> list[Question]:
    found = []
    for part in re.split(r"^\*\*(?=Q\d+\.\*\*)", text, flags=re.MULTILINE)[1:]:
        name, rest = part.split(".**", 1)
        asked, _, folded = rest.partition("<details><summary>Answer</summary>")
        answer, _, after = folded.partition("</details>")
        body, _, place = answer.partition("Place: ")
        assert not re.sub(r"^### .*$", "", after, flags=re.MULTILINE).strip(), (
            f"{name}: text after the answer"
        )
        found.append(Question(name, asked.strip(), body.strip(), place.strip()))
    return found


LEVELS = dict(
    re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", section("Questions with answers"), re.MULTILINE | re.DOTALL)
)
QUESTIONS = [question for text in LEVELS.values() for question in questions(text)]


def test_three_levels_of_questions() -> None:
    assert list(LEVELS) == ["Recall", "Apply", "Transfer"]
    assert all(len(questions(text)) >= 6 for text in LEVELS.values())
    assert len(QUESTIONS) >= 20
    assert [question.name for question in QUESTIONS] == [f"Q{n}" for n in range(1, len(QUESTIONS) + 1)]
    assert {name for name in re.findall(r"\bQ\d+\b", GUIDE)} == {question.name for question in QUESTIONS}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_every_question_has_an_answer_and_a_place(question: Question) -> None:
    assert question.text.endswith("?")
    assert len(question.answer) > 5
    assert re.search(r"\[(\d\d|A\d)\] § \d", question.place) or EXERCISE.search(question.place)
    for file in re.findall(r"`(tests/\S+\.py)`", question.place):
        assert (ROOT / file).exists(), file


def test_a_question_without_an_answer_is_seen() -> None:
    (question,) = questions("**Q1.** Why?\n\n<details><summary>Answer</summary>\n</details>\n")
    assert not question.answer
    (question,) = questions("**Q1.** Why?\n")
    assert not question.answer


def solved(name: str, *arguments: object) -> float:
    return float(np.ravel(exercise(name).solution(*arguments))[0])


def test_numbers_of_the_answers_are_those_of_the_exercises() -> None:
    answer = {question.name: question.answer for question in QUESTIONS}
    assert np.sqrt((17 - 1) / 64) == 0.5
    assert "= 0.5" in answer["Q9"]
    assert 1 / (1 + 0.5 * 2**2) == 1 / 3
    assert "= 1/3" in answer["Q11"]
    inputs = np.random.default_rng(0).normal(size=(65, 32))
    assert solved("03.1", inputs, 4) == 4
    assert answer["Q13"].startswith("4:")
    assert solved("05.1", np.ones((3, 1)), 0.9) == pytest.approx(1)
    assert f"1 − 0.9³ = {1 - 0.9**3:.3f}" in answer["Q14"]
    assert pytest.approx(1 / 1.1) == 0.2 / (0.2 + (1 - 0.95) * (1 - 0.6))
    assert "≈ 0.91 v" in answer["Q15"]
    assert (8 * (19 // 8), 8 * (19 // 8 + 1)) == (16, 24)
    assert "16; token 24" in answer["Q16"]
    assert solved("08.2", 7, (4, 10, 25)) == 8
    assert "Output 8" in answer["Q17"]
    assert [103 // size for size in (4, 10, 25)] == [25, 10, 4]
    assert [103 % size for size in (4, 10, 25)] == [3, 3, 3]
    assert [solved("09.2", step, 10) for step in (35, 30)] == [30, 20]
    assert answer["Q18"].startswith("30; in step 30 it is 20")
    same_token = np.repeat(np.sqrt(64 / 4) * np.eye(64)[:4].sum(0, keepdims=True), 16, axis=0)
    assert solved("08.3", same_token) == pytest.approx(2 / (16 * 64))  # s = C d η < 2
    assert "6.4 > 2" in answer["Q19"]
    eta = 1 / 3.0**2  # for ‖x‖ = 3
    assert eta * 3.0**2 / (1 + eta * 3.0**2) == 0.5
    assert "1/‖x‖²" in answer["Q21"]
