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
SHOWS = re.compile(
    r"^\s*(show|check|check_true|prove|symbols|attempt|what_you_checked|print)\(", re.MULTILINE
)


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


# --- notebooks that are written for learners --------------------------------------------------------------------------

FOR_LEARNERS = ("00", "A0", "01", "02", "03", "04", "05", "06")  # the others follow
LEARNERS_WORDS, FIRST_PICTURE, COLUMNS, LONGEST_ALT = 1600, 300, 88, 250
LEAST = {
    "cells that print numbers or draw": 4,
    "predictions": 2,
    "questions of a quiz": 3,
    "links to the field": 3,
}


def problems_for_learners(path: Path) -> list[str]:
    """What a learner misses in a notebook: things shown, guesses, questions, links, a page that is short and narrow."""
    book = nbformat.read(path, as_version=4)
    prose = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    found = []
    words = sum(len(text.split()) for text in prose)
    if words > LEARNERS_WORDS:
        found.append(f"{words} words, at most {LEARNERS_WORDS} are allowed")
    before = words_before_a_picture(book)
    if before is None or before > FIRST_PICTURE:
        found.append(f"{before} words before the first picture, at most {FIRST_PICTURE} are allowed")
    for number, cell in enumerate(code, start=1):
        wide = max((len(line) for line in cell.source.splitlines()), default=0)
        if wide > COLUMNS and INSTALLS not in cell.metadata.get("tags", []):
            found.append(f"cell {number}: a line of {wide} columns, at most {COLUMNS} are allowed")
        for output in cell.outputs:
            alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            if len(alt) > LONGEST_ALT:
                found.append(f"cell {number}: an alternative text of {len(alt)} characters")
    galleries = sum("hope_ref.teaching.gallery" in cell.source for cell in code)
    if galleries > 1:
        found.append(f"{galleries} figures whose experiment is imported, at most 1 is allowed")
    counts = {
        "cells that print numbers or draw": sum(map(_shows_itself, code)),
        "predictions": sum(text.count("**Predict") for text in prose),
        "questions of a quiz": sum(text.count("<details>") for text in prose),
        "links to the field": len({link for text in prose for link in re.findall(r"https?://[^\s)]+", text)}),
    }
    return found + [
        f"{counts[what]} {what}, at least {least} are needed"
        for what, least in LEAST.items()
        if counts[what] < least
    ]


def words_before_a_picture(book: Any) -> int | None:
    """Words of prose above the first picture; None if there is none."""
    words = 0
    for cell in book.cells:
        if cell.cell_type == "markdown":
            words += len(cell.source.split())
        elif any("image/png" in output.get("data", {}) for output in cell.outputs):
            return words
    return None


def _shows_itself(cell: Any) -> bool:
    """Whether a cell draws, or prints a number in a line that is no check and no exercise."""
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            return True
        lines = output.get("text", "").splitlines() if output.output_type == "stream" else []
        if any(
            re.search(r"\d", line)
            for line in lines
            if not re.match(r"ok  |exercise |  · |\d+ (of|claims)", line)
        ):
            return True
    return False
