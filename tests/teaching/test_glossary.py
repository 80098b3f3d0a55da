"""The words of the course: explained where the glossary says so, and used in no notebook before that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hope_ref.teaching import glossary
from hope_ref.teaching.glossary import TERMS, Term

ROOT = Path(__file__).parents[2]
each = pytest.mark.parametrize("term", TERMS, ids=lambda term: term.word)


def problem(term: Term, notebooks: Path = glossary.NOTEBOOKS) -> str | None:
    """What is wrong with a row, in words; None if it is in order."""
    numbers = [path.stem.split("_")[0] for path in glossary.course(notebooks)]
    if term.notebook not in numbers:
        return f"there is no notebook {term.notebook}"
    home = glossary.course(notebooks)[numbers.index(term.notebook)]
    if not any(term.phrase in cell for cell in glossary.cells(home)):
        return f"notebook {term.notebook} does not say: {term.phrase}"
    first = glossary.first_use(term, notebooks)
    if first is None:
        return f"no notebook uses {term.word!r}"
    if numbers.index(first) < numbers.index(term.notebook):
        return f"{term.word!r} is used in notebook {first} and explained in {term.notebook}"
    return None


@each
def test_a_word_is_explained_before_it_is_used(term: Term) -> None:
    assert problem(term) is None


@each
def test_a_row_is_complete(term: Term) -> None:
    assert all(part and part == " ".join(part.split()) for part in term)
    assert term.meaning.endswith(".")
    assert len(term.meaning.split()) <= 35
    assert "|" not in term.word + term.meaning, "it would end a cell of the table"
    assert re.search(term.pattern, term.word, re.IGNORECASE), "the pattern does not find its own word"


def test_forty_to_sixty_words_each_once() -> None:
    words = [term.word for term in TERMS]
    assert len(set(words)) == len(words)
    assert len(words) >= 40
    assert len(words) <= 60


def test_the_course_is_read_in_order() -> None:
    numbers = [path.stem.split("_")[0] for path in glossary.course()]
    assert numbers[:3] == ["00", "01", "02"]
    assert numbers == sorted(numbers, key=lambda number: (not number.isdigit(), number))


def test_the_page_has_every_word_in_the_order_of_the_alphabet() -> None:
    rows = [line for line in glossary.markdown().splitlines() if line.startswith("| ")][1:]
    assert sorted(rows) == sorted(f"| {term.word} | {term.meaning} | {term.notebook} |" for term in TERMS)
    assert rows == sorted(rows, key=lambda row: row.split(" | ")[0].casefold())
    assert glossary.markdown() in (ROOT / "NOTATION.md").read_text(encoding="utf-8")


# The test can fail: copies of two notebooks, each spoilt in one way.

GATE = Term("gate", r"\bgates?\b", "How much is written.", "02", "a *gate* says how much is written")


def written(folder: Path, first: list[str], second: list[str]) -> Path:
    for number, texts in (("01", first), ("02", second)):
        book = {"cells": [{"cell_type": "markdown", "source": text.splitlines(True)} for text in texts]}
        (folder / f"{number}_some.ipynb").write_text(json.dumps(book), encoding="utf-8")
    return folder


def test_a_good_copy_passes(tmp_path: Path) -> None:
    assert (
        problem(GATE, written(tmp_path, ["No such word."], ["A memory: a *gate* says\nhow much is written."]))
        is None
    )


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (
            ["The gates are open."],
            ["a *gate* says how much is written"],
            "is used in notebook 01 and explained in 02",
        ),
        (["No such word."], ["a *gate* says what is written"], "does not say: a *gate*"),
        (["a *gate* says how much is written"], ["Gates."], "notebook 02 does not say"),
        (["No such word."], ["**Next**: a *gate* says how much is written"], "no notebook uses 'gate'"),
    ],
    ids=["used too early", "phrase gone", "phrase in another notebook", "used nowhere"],
)
def test_a_spoilt_copy_is_noticed(tmp_path: Path, first: list[str], second: list[str], says: str) -> None:
    assert says in str(problem(GATE, written(tmp_path, first, second)))


@pytest.mark.parametrize(
    "ahead",
    [
        "**You will do**: open a gate.",
        "**Next**: notebook 02 has gates.",
        "## 3 · The map\n\nNotebook 02 has gates.\n\n## 4 · The contract\n\nNone here.",
        "Look at `gate` and $\\text{gate}$, in [a picture](gate.png).",
    ],
    ids=["opening", "next", "map", "code, formulas, addresses"],
)
def test_what_only_looks_ahead_does_not_count(tmp_path: Path, ahead: str) -> None:
    assert problem(GATE, written(tmp_path, [ahead], ["a *gate* says how much is written"])) is None


def test_the_map_ends_where_the_next_section_begins(tmp_path: Path) -> None:
    text = "## 3 · The map\n\nNothing.\n\n## 4 · The contract\n\nGates are open."
    assert "used in notebook 01" in str(
        problem(GATE, written(tmp_path, [text], ["a *gate* says how much is written"]))
    )


def copied(folder: Path, number: str, change: Callable[[str], str]) -> Path:
    """The real course, one notebook's Markdown changed."""
    for path in glossary.course():
        text = path.read_text(encoding="utf-8")
        if path.stem.startswith(number):
            book = json.loads(text)
            for cell in book["cells"]:
                if cell["cell_type"] == "markdown":
                    cell["source"] = [change("".join(cell["source"]))]
            text = json.dumps(book)
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder


def test_a_word_moved_forward_in_the_real_course_is_noticed(tmp_path: Path) -> None:
    (momentum,) = (term for term in TERMS if term.word == "momentum")
    spoilt = copied(
        tmp_path, "02", lambda text: text.replace("look before you write", "look at the momentum")
    )
    assert problem(momentum, spoilt) == "'momentum' is used in notebook 02 and explained in 05"


def test_a_phrase_taken_out_of_the_real_course_is_noticed(tmp_path: Path) -> None:
    (retention,) = (term for term in TERMS if term.word == "retention")
    spoilt = copied(tmp_path, "01", lambda text: text.replace("*Retention*", "The factor"))
    assert "does not say" in str(problem(retention, spoilt))
