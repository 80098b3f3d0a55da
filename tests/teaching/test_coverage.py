"""Where each equation stands: every formula of the tutorial is proved or a definition, stated, shown; citations are read right."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

from hope_ref import symbolic
from hope_ref.teaching import coverage
from hope_ref.teaching.coverage import DEFINITIONS, Place, cited, in_text

ROOT = Path(__file__).parents[2]
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
    assert in_text("as in [[S 2–3]](../NOTATION.md#s-2)") == {"S 2", "S 3"}
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
    rows = [line for line in coverage.markdown().splitlines() if line.startswith('| <a id="s-')]
    assert [row.split(" | ")[0] for row in rows] == [
        f'| <a id="s-{number}"></a>S {number}' for number in coverage.TUTORIAL
    ]
    assert "S 1 | a definition |" in rows[0]
    assert "`linear_attention.pairs`" in rows[1]
    assert rows[15].split(" | ")[3:5] == ["–", "–"]


def test_the_table_says_for_which_sizes() -> None:
    proved = coverage.proved_by()
    rows = [line.strip("| ").split(" | ") for line in coverage.markdown().splitlines() if "<a id=" in line]
    assert len(rows) > 37
    assert "Of the tutorial's 37 formulas 28 are proved, 9 are definitions." in coverage.markdown()
    for first, link, sizes, *_ in rows:
        equation = re.sub(r"<a id=.*</a>", "", first)
        if equation in proved:
            assert f"[`{proved[equation].name}`]" in link
            assert sizes == proved[equation].sizes != "", equation
        else:
            assert (link, sizes) in {("a definition", "–"), ("–", "–")}, equation


LINK = re.compile(r"\[`?([^`\]]+)`?\]\(([^)#]+)(?:#L(\d+))?\)")


@cache
def linked() -> dict[str, list[list[tuple[str, str, str]]]]:
    """By equation: the links of each of the four floors, as (name, path, line)."""
    rows = [
        line.strip("| ").split(" | ") for line in coverage.markdown().splitlines() if line.startswith("| ")
    ]
    return {
        re.sub(r"<a id=.*</a>", "", row[0]): [LINK.findall(cell) for cell in (row[1], *row[3:])]
        for row in rows[1:]
    }


def test_a_link_leads_to_the_line_where_its_function_begins_and_that_cites_the_equation() -> None:
    """Read in the files' own lines: a `def` or `class` of that name, or the head of the file."""
    for equation, floors in linked().items():
        for name, path, number in floors[1] + floors[2]:
            lines, first = (ROOT / path).read_text("utf-8").splitlines(), int(number) - 1
            own = name.rsplit(".", 1)[-1]
            if first == 0:
                assert (own, lines[0][:3]) == (Path(path).stem, '"""'), (equation, path)
                continue
            assert re.match(rf" *(def|class) {own}\b", lines[first]), (equation, path, number)
            indent = len(lines[first]) - len(lines[first].lstrip())
            inner = (" " * (indent + 1), " " * indent + ")")  # the body, or the end of the signature
            later = range(first + 1, len(lines))
            end = next((n for n in later if lines[n].strip() and not lines[n].startswith(inner)), None)
            body = "\n".join(lines[first:end])
            head = "\n".join(lines).split('"""')[1]
            assert equation in in_text(body) or (own == Path(path).stem and equation in in_text(head)), (
                equation,
                path,
            )


def test_a_proof_is_linked_where_its_function_begins() -> None:
    for equation, floors in linked().items():
        for name, path, number in floors[0]:
            identity = symbolic.named(name)
            assert equation in cited(identity.source), name
            line = (ROOT / path).read_text("utf-8").splitlines()[int(number) - 1]
            assert re.match(r"def _\w+\(", line), (name, path, line)


def test_each_row_has_a_place_of_its_own() -> None:
    names = re.findall(r'<a id="([^"]+)"></a>(\S+ \d+) \|', coverage.markdown())
    assert [equation for _, equation in names] == [place.equation for place in coverage.places()]
    assert [name for name, _ in names] == [coverage.anchor(equation) for _, equation in names]
    assert len(set(names)) == len(names)
    assert coverage.anchor("P 57") == "p-57"


def test_every_floor_that_has_an_equation_has_one_link() -> None:
    for place in coverage.places():
        proved, stated, computed, shown = linked()[place.equation]
        for links, names in ((proved, place.proved), (stated, place.stated), (computed, place.computed)):
            assert len(links) == bool(names), place.equation
        assert tuple(name for name, _, _ in shown) == place.shown
        assert all((ROOT / path).exists() for _, path, _ in shown)


@pytest.mark.parametrize(
    ("floor", "equation", "name"),
    [
        ("reference", "P 88", "write"),  # alone, before [P 84-88] of `write_all`
        ("reference", "S 4", "delta_rule"),  # by the head of the file
        ("reference", "S 25", "self_modifying_titans"),
        ("reference", "S 6", "gradient_descent"),  # the file itself: no function has its name
        ("parallel", "S 3", "linear_attention"),  # not the layer beside it
        ("parallel", "S 15", "after"),
    ],
)
def test_the_place_is_the_one_that_is_closest(floor: str, equation: str, name: str) -> None:
    assert coverage.cited_at(floor)[equation].name == name
