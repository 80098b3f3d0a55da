"""What nbval does not see: a notebook that was never executed, or whose outputs were stripped, passes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

IGNORED = {"nbval-skip", "nbval-ignore-output", "raises-exception", "nbval-raises-exception"}
# Tags the cell of `hope_ref.teaching.badges`, which speaks only where hope_ref is missing.
INSTALLS = "install"
MEASURING = ("12", "A3")  # notebooks that train and time: a few of their outputs are the machine's own
MOST_UNCOMPARED = 3  # cells of theirs whose output nbval runs but does not compare
MOST_WORDS, MOST_LINES, MOST_LINES_IN_A_CELL = 2500, 300, 30
SHOWS = re.compile(r"^\s*(show|check|check_true|prove|symbols|attempt|what_you_checked|print)\(", re.MULTILINE)


def problems(path: Path) -> list[str]:
    """Everything that is wrong with a notebook, in words; empty if it is in order."""
    book = nbformat.read(path, as_version=4)
    cells = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
    found = []
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("not executed from top to bottom in one go")
    uncompared = 0
    for number, cell in enumerate(cells, start=1):
        tags = set(cell.metadata.get("tags", []))
        if path.stem.startswith(MEASURING) and tags & IGNORED == {"nbval-ignore-output"}:
            uncompared += 1
            allowed = uncompared <= MOST_UNCOMPARED
        else:
            allowed = False
        found += [f"cell {number}: {text}" for text in _cell_problems(cell, allowed)]
    words = sum(len(cell.source.split()) for cell in book.cells if cell.cell_type == "markdown")
    lines = [sum(1 for line in cell.source.splitlines() if line.strip()) for cell in cells]
    for count, most, what in (
        (words, MOST_WORDS, "words"),
        (sum(lines), MOST_LINES, "lines of code"),
        (max(lines, default=0), MOST_LINES_IN_A_CELL, "lines in one cell"),
    ):
        if count > most:
            found.append(f"{count} {what}, at most {most} are allowed")
    return found


def _cell_problems(cell: Any, may_be_uncompared: bool) -> Iterator[str]:
    tags = set(cell.metadata.get("tags", []))
    if (tags & IGNORED and not may_be_uncompared) or "NBVAL_" in cell.source:
        yield "is skipped or ignored by nbval"
    if SHOWS.search(cell.source) and not cell.outputs and INSTALLS not in tags:
        yield "shows something, but has no output"
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"stored output is an error, {output.ename}"
        if output.output_type == "stream" and output.name == "stderr":
            yield "stored output has a warning or something else on stderr"
        if output.output_type == "execute_result":
            yield "ends in a bare expression, whose repr may differ between versions"
        data = output.get("data", {})
        if "image/png" in data and not output.metadata.get("image/png", {}).get("alt"):
            yield "a picture without alternative text"
        text = output.get("text", "") + str(data.get("text/plain", ""))
        if re.search(r"\d\.\d{6,}", text):
            yield "prints a float with all its digits, which are the machine's"
