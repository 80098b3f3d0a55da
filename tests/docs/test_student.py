"""The student's notebooks: valid, without solutions, with metadata that nbgrader takes."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import nbformat
import pytest
from hope_docs import student as maker

from hope_ref.teaching.exercise import WrongAnswer, exercise, exercises

ROOT = Path(__file__).parents[2]
COURSE = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", COURSE, ids=lambda p: p.stem)


def graded(book: Any) -> list[Any]:
    return [cell for cell in book.cells if cell.metadata.get("nbgrader", {}).get("grade")]


@each
def test_nothing_is_shown_and_nothing_is_given_away(path: Path) -> None:
    book, solutions = maker.student(path), path.parent / "solutions" / path.name
    text = "\n".join(cell.source for cell in book.cells)
    assert "solutions/" not in text
    for cell in book.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
        else:
            assert not re.search(r"\]\((?![a-z]+:|#)", re.sub(r"`[^`]*`|\$[^$]*\$", "", cell.source)), (
                cell.source
            )
    solved = nbformat.read(solutions, as_version=4).cells if solutions.exists() else []
    for cell in solved:
        if "solution" in cell.metadata.get("tags", []):
            body = cell.source.split("attempt(")[0].split("\n", 1)[-1].strip()
            assert body not in text, "a solution's body"


@each
def test_each_exercise_has_an_answer_and_a_graded_cell(path: Path) -> None:
    book = maker.student(path)
    number = path.stem.split("_")[0]
    names = [name for name in exercises() if name.split(".")[0] == number]
    assert [cell.id for cell in graded(book)] == [f"check-{name.replace('.', '-')}" for name in names]
    answers = [cell for cell in book.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    assert len(answers) == len(names)
    assert names or path.stem[0] == "A"


# nbgrader's schema, version 3: what its validator asks of a cell.
TYPES: dict[str, type] = {
    "grade_id": str, "grade": bool, "solution": bool, "locked": bool, "task": bool, "schema_version": int
}  # fmt: skip


def nbgrader_problems(book: Any) -> list[str]:
    found, seen = [], set()
    for cell in book.cells:
        told = cell.metadata.get("nbgrader")
        if told is None:
            continue
        name = told.get("grade_id", "?")
        found += [f"{name}: {key}" for key, kind in TYPES.items() if type(told.get(key)) is not kind]
        if set(told) - set(TYPES) - {"points", "cell_type", "checksum"}:
            found.append(f"{name}: unknown entries")
        if told["schema_version"] != 3 or not re.fullmatch(r"[a-zA-Z0-9_\-]+", name) or name in seen:
            found.append(f"{name}: version or name")
        seen.add(name)
        if told["grade"] and not (isinstance(told.get("points"), int | float) and told["points"] >= 0):
            found.append(f"{name}: points")
        if told["grade"] and not told["solution"] and not told["locked"]:
            found.append(f"{name}: a test that is not locked")
    return found


def test_a_link_becomes_its_words_and_a_tag_keeps_its_brackets(tmp_path: Path) -> None:
    text = "See [A1](A1_tour.ipynb), [[S 3]](../NOTATION.md#s-3), [[P 9–10]](../NOTATION.md#p-9) [D], [x](https://a.b)."
    one = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    nbformat.write(one, tmp_path / "00_linked.ipynb")
    (cell,) = maker.student(tmp_path / "00_linked.ipynb").cells
    assert cell.source == "See A1, [S 3], [P 9–10] [D], [x](https://a.b)."


def test_a_picture_from_a_file_comes_along_and_a_lost_one_is_an_error(tmp_path: Path) -> None:
    drawn = tmp_path / "hope.svg"
    drawn.write_bytes((ROOT / "figures" / "hope.svg").read_bytes())
    one = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("See ![a block](hope.svg) here.")])
    nbformat.write(one, tmp_path / "00_drawn.ipynb")
    (cell,) = maker.student(tmp_path / "00_drawn.ipynb").cells
    assert cell.source == "See ![a block](attachment:hope.svg) here."
    assert base64.b64decode(cell.attachments["hope.svg"]["image/svg+xml"]) == drawn.read_bytes()
    lost = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("![alt](../figures/none.svg)")])
    nbformat.write(lost, tmp_path / "00_lost.ipynb")
    with pytest.raises(maker.Unfit, match="no picture at"):
        maker.student(tmp_path / "00_lost.ipynb")


@each
def test_metadata_is_nbgraders(path: Path) -> None:
    assert nbgrader_problems(maker.student(path)) == []


@each
def test_nbgrader_itself_takes_it(path: Path) -> None:
    validator = pytest.importorskip(
        "nbgrader.nbgraderformat", reason="nbgrader is not installed"
    ).MetadataValidatorV3
    validator().validate_nb(maker.student(path))


def run(source: str, **names: Any) -> None:
    exec(compile(source, "graded", "exec"), names)


def own(answer: Any) -> Any:
    """The same answer from somebody who wrote it."""
    if not isinstance(answer, FunctionType):
        return copy.deepcopy(answer)
    code = answer.__code__.replace(co_name="mine")
    written = FunctionType(code, answer.__globals__, "mine", answer.__defaults__, answer.__closure__)
    written.__kwdefaults__ = answer.__kwdefaults__
    return written


@pytest.mark.slow
@each
def test_a_graded_cell_fails_on_the_stub_and_on_wrong_answers_and_passes_on_the_solution(path: Path) -> None:
    book = maker.student(path)
    for cell in graded(book):
        name = re.search(r'graded\("([^"]+)"', cell.source)[1]  # type: ignore[index]
        answer = re.search(r", (\w+)\)$", cell.source)[1]  # type: ignore[index]
        solution = exercise(name).solution
        run(cell.source, **{answer: own(solution)})
        for taken in (
            (solution, lambda *a, solution=solution: solution(*a), partial(solution))
            if callable(solution)
            else (solution,)
        ):
            with pytest.raises(WrongAnswer, match="ships with the course"):
                run(cell.source, **{answer: taken})
        for wrong in (lambda *a, **k: ..., ..., exercise(name).wrong_answers[0][0]):
            with pytest.raises((NotImplementedError, AssertionError)):
                run(cell.source, **{answer: wrong})


def test_hints_stay_or_go(tmp_path: Path) -> None:
    def text(**options: Any) -> str:
        return "\n".join(cell.source for path in COURSE for cell in maker.student(path, **options).cells)

    assert "<details>" in text()
    assert "<details>" not in text(keep_hints=False)


def tampered(path: Path, change: Callable[[Any], None]) -> Path:
    book = nbformat.read(COURSE[2], as_version=4)
    change(next(cell for cell in book.cells if "exercise" in cell.metadata.get("tags", [])))
    nbformat.write(book, path)
    return path


def without_attempt(cell: Any) -> None:
    cell.source = "def gated(): ..."


def with_solution(cell: Any) -> None:
    cell.metadata.tags = ["solution"]


def with_link(cell: Any) -> None:
    cell.source += "  # see solutions/02"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_attempt, "no attempt"),
        (with_solution, "holds a solution"),
        (with_link, "leads to the solutions"),
    ],
)
def test_a_notebook_that_does_not_fit_is_named(
    change: Callable[[Any], None], words: str, tmp_path: Path
) -> None:
    with pytest.raises(maker.Unfit, match=rf"02\.ipynb: .*{words}"):
        maker.student(tampered(tmp_path / "02.ipynb", change))


def test_the_folder_is_as_nbgrader_wants_it(tmp_path: Path) -> None:
    assert maker.make(tmp_path / "student") == 0
    for path in COURSE:
        assert (tmp_path / "student" / "source" / path.stem / path.name).exists()
    compile(
        (tmp_path / "student" / "nbgrader_config.py").read_text(encoding="utf-8"),
        "nbgrader_config.py",
        "exec",
    )
