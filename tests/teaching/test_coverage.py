"""Where each equation stands: every formula of the tutorial is proved or a definition, stated, shown; citations are read right."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from hope_ref.teaching import coverage
from hope_ref.teaching.coverage import DEFINITIONS, Place, cited, in_text

NOT_STATED = {
    "S 1",  # the best memory of all: what a memory is, and what no floor computes
    "S 16",  # printed with the wrong sign (ERRATA.md, row 1), which is proved; what is meant is stated as [S 8]
}
PROVED_ALL_THE_SAME = {"S 28"}  # the MLP memory is defined there, and its gradients are proved


@cache
def tutorial() -> dict[str, Place]:
    return {place.equation: place for place in coverage.places() if place.equation.startswith("S ")}


each = pytest.mark.parametrize("equation", [f"S {number}" for number in coverage.TUTORIAL])


@each
def test_every_formula_is_proved_or_a_definition(equation: str) -> None:
    assert tutorial()[equation].proved or equation in DEFINITIONS


def test_no_definition_is_proved_but_one() -> None:
    """Otherwise the list of definitions would hide that something has lost its proof."""
    proved = {equation for equation in DEFINITIONS if tutorial()[equation].proved}
    assert proved == PROVED_ALL_THE_SAME


@each
def test_every_formula_is_stated(equation: str) -> None:
    stated = bool(tutorial()[equation].stated)
    assert stated is (equation not in NOT_STATED), f"{equation}: stated is {stated}"


@each
def test_every_formula_is_shown(equation: str) -> None:
    shown = tutorial()[equation].shown
    assert shown, f"{equation} is shown in no notebook"


TRICKY = {
    "S 18-21, P 57, 59": {"S 18", "S 19", "S 20", "S 21", "P 57", "P 59"},
    "P 8.2": set(),  # a section
    "P 8.2, 9": set(),  # two sections: the 9 does not belong to equations
    "S 5, P 8.2, 9": {"S 5"},
    "S 5, P Table 6, 9": {"S 5"},
    "P Alg. 1": set(),
    "P Table 2, P20 Table 1": set(),
    "P App. C": set(),
    "P Fig. 5": set(),
    "P Def. 2": set(),
    "P20 28-29": set(),  # the short version counts for itself
    "P20 28, 29": set(),
    "P20": set(),  # the short version, not equation 20
    "P 20": {"P 20"},
    "P20 28-29, P 57": {"P 57"},
    "P 114–121": {f"P {number}" for number in range(114, 122)},
    "S 30–33, P 90": {"S 30", "S 31", "S 32", "S 33", "P 90"},
    "S 9–10; P 58": {"S 9", "S 10", "P 58"},
    "S 18 and 19": {"S 18", "S 19"},
    "P App. C, 5": set(),
    "S 15, P 71, D": {"S 15", "P 71"},
    "Titans, S 23–24": {"S 23", "S 24"},
    "below S 21": set(),  # what stands between the formulas
    "S 2\n": {"S 2"},
    "S": set(),
    "57": set(),
    "": set(),
}


@pytest.mark.parametrize(("source", "equations"), TRICKY.items(), ids=[repr(source) for source in TRICKY])
def test_a_source_is_read_right(source: str, equations: set[str]) -> None:
    assert cited(source) == equations


def test_only_square_brackets_cite() -> None:
    text = "equation S 3 of [S 1], [P 6; D] and [P\n57], but x[3], [0, 1], [](S 9) and P 5 are none"
    assert in_text(text) == {"S 1", "P 6", "P 57"}
    assert in_text("") == set()


def test_a_notebook_shows_what_its_prose_code_and_outputs_cite(tmp_path: Path) -> None:
    code = {
        "cell_type": "code",
        "source": ["x = 1  # [S 4]"],
        "outputs": [{"text": ["[S 5]"]}, {"data": {"text/markdown": ["[S 6]"], "image/png": "[S 7]"}}],
    }
    book = {"cells": [{"cell_type": "markdown", "source": ["[S 2–", "3]"]}, code]}
    (tmp_path / "42_answer.ipynb").write_text(json.dumps(book), encoding="utf-8")
    shown = {place.equation for place in coverage.places(tmp_path) if place.shown == ("42",)}
    assert shown == {"S 2", "S 3", "S 4", "S 5", "S 6"}
    assert all(place.shown in ((), ("42",)) for place in coverage.places(tmp_path))


def test_definitions_are_formulas_of_the_tutorial() -> None:
    assert set(tutorial()) >= DEFINITIONS


def test_the_table_has_a_row_for_every_formula() -> None:
    rows = [line for line in coverage.markdown().splitlines() if line.startswith("| S ")]
    assert [row.split(" | ")[0] for row in rows] == [f"| S {number}" for number in coverage.TUTORIAL]
    assert "| S 1 | a definition |" in rows[0]
    assert "`linear_attention.gradient`" in rows[1]
    assert rows[15].split(" | ")[2:4] == ["–", "–"]
