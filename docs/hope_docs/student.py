"""Notebooks to hand out: the course without its solutions, each exercise with nbgrader's metadata.

What is left out, and why

- the folder of solutions, and the sentence that leads to it;
- every stored output: what a cell shows, the student's own run is to show (``keep_hints=False`` leaves out the folded
  hints, too; without it they stay, for they point at the idea and not at the answer);
- links into the repository, which lead nowhere from a student's folder: their words stay. A picture comes along, as an
  attachment of its cell.

What is added: after each exercise a locked cell that nbgrader grades. In the course `attempt` is patient with an empty
stub; the graded cell calls `graded`, which raises until the answer is right. Both cells are made
from the call ``attempt("NN.n", answer)``, so an exercise without one is an error.

Beside them lies a wheel, `hope_docs.checkers`: the library with checkers that hold no solutions, to be installed where students
work and where their answers are graded. Where the whole library is installed, a graded cell refuses an answer that is, or
calls, the solution. For an exam, whose questions nobody has seen, see `hope_docs.exams`.

The folder is one that nbgrader understands: ``source/NN_name/NN_name.ipynb`` and ``nbgrader_config.py``. The notebooks can be
handed out as they are, or through ``nbgrader generate_assignment`` and ``nbgrader autograde``.
"""

from __future__ import annotations

import ast
import base64
import mimetypes
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat

from hope_docs import checkers, notebooks

ROOT = Path(__file__).resolve().parents[2]
TO_SOLUTIONS = re.compile(r"[ \n]*Solutions are in\s+\[[^]]*\]\([^)]*\)\.?")
RELATIVE_LINK = re.compile(r"(?<!!)\[(\[[^]]+\]|[^]]+)\]\((?![a-z]+:|#)[^)\s]+\)")  # [[S 3]](…) becomes [S 3]
CONFIG = '''"""For `nbgrader generate_assignment NAME` in this folder."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "hope_ref"
# Not in this list: ClearSolutions. There are none, and it would replace our stubs, with their signatures, by its own.
c.GenerateAssignment.preprocessors = [
    f"nbgrader.preprocessors.{name}"
    for name in ("LockCells", "ComputeChecksums", "SaveCells", "CheckCellMetadata")
]
'''


class Unfit(ValueError):
    """A notebook from which no student version can be made; the message names it."""


def nbgrader(identifier: str, **told: Any) -> dict[str, Any]:
    """nbgrader's metadata of a cell, in version 3 of its schema."""
    return {
        "schema_version": 3,
        "grade_id": identifier,
        "grade": False,
        "solution": False,
        "locked": False,
        "task": False,
    } | told


def attempts(source: str) -> list[tuple[str, str]]:
    """Exercise and answer of each call ``attempt("NN.n", answer)`` in a cell, as they are written."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        (str(ast.literal_eval(call.args[0])), ast.unparse(call.args[1]))
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "attempt" and len(call.args) == 2
    ]


def student(path: Path, keep_hints: bool = True) -> Any:
    """The student's version of one notebook of the course.

    Raises:
        Unfit: if an exercise has no `attempt`, or something would still lead to the solutions.
    """
    book = notebooks.read(path)
    cells = []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = RELATIVE_LINK.sub(r"\1", TO_SOLUTIONS.sub("", cell.source))
            _attach(cell, path)
            if not keep_hints:
                cell.source = notebooks.FOLDED.sub("", cell.source).strip()
            cells.append(cell)
            continue
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
        tags = cell.metadata.get("tags", [])
        if "solution" in tags:
            raise Unfit(f"{path.name}: a cell holds a solution")
        if "exercise" in tags:
            found = attempts(cell.source)
            if not found:
                raise Unfit(f'{path.name}: no attempt("NN.n", answer) in the exercise\n{cell.source}')
            names = "-".join(name.replace(".", "-") for name, _ in found)
            cell.metadata["nbgrader"] = nbgrader(f"answer-{names}", solution=True)
            cells += [_graded(name, answer) for name, answer in found]
    book.cells = cells
    if "solutions/" in "".join(cell.source for cell in cells):
        raise Unfit(f"{path.name}: it still leads to the solutions")
    nbformat.validate(book)
    return book


def _attach(cell: Any, path: Path) -> None:
    """Put the pictures that a cell shows from files into the cell. Raises: Unfit if one is not there."""

    def attached(found: re.Match[str]) -> str:
        file = path.parent / found[2]
        if not file.is_file():
            raise Unfit(f"{path.name}: no picture at {found[2]}")
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        data = base64.b64encode(file.read_bytes()).decode()
        cell.attachments = {**cell.get("attachments", {}), file.name: {kind: data}}
        return f"![{found[1]}](attachment:{file.name})"

    cell.source = notebooks.PICTURE.sub(attached, cell.source)


def _graded(name: str, answer: str) -> Any:
    number = name.replace(".", "-")
    source = (
        f"# Graded: raises until {name} is right.\n"
        "from hope_ref.teaching.exercise import graded\n\n"
        f'graded("{name}", {answer})'
    )
    metadata = {
        "nbgrader": nbgrader(f"check-{number}", grade=True, locked=True, points=1),
        "tags": ["raises-exception"],
    }
    return nbformat.v4.new_code_cell(source, id=f"check-{number}", metadata=metadata)


def make(out: Path, root: Path = ROOT, keep_hints: bool = True) -> int:
    """Write every notebook of the course for students, in the folders that nbgrader wants, and the library for them."""
    if out.exists():
        shutil.rmtree(out)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        folder = out / "source" / path.stem
        folder.mkdir(parents=True)
        nbformat.write(student(path, keep_hints), folder / path.name)
    (out / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    checkers.wheel(out, root)
    return 0
