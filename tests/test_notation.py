"""The notation table and the tutorial's numbered formulas."""

from __future__ import annotations

import re

import pytest

from hope_ref import notation, symbolic
from hope_ref.teaching.coverage import DEFINITIONS


def test_names_are_unique_and_usable_in_code() -> None:
    names = [s.name for s in notation.SYMBOLS]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)


@pytest.mark.parametrize("symbol", notation.SYMBOLS, ids=lambda s: s.name)
def test_each_symbol_is_complete(symbol: notation.Symbol) -> None:
    assert all(symbol)
    assert symbol.latex.count("{") == symbol.latex.count("}")
    assert re.fullmatch(r"S \d+|P (\d|Fig|Alg|Table).*|P20 \d+|Titans|D", symbol.source), symbol.source


def test_a_norm_keeps_its_double_bars_in_a_table() -> None:
    r"""Markdown takes one backslash away before a bar: what is left must be LaTeX's \|."""
    row = notation.table("frobenius").splitlines()[-1]
    assert row.startswith(r"| $\\|W\\|_F$ | `frobenius` |")
    assert row.replace(r"\|", "|").startswith(rf"| ${notation.symbol('frobenius').latex}$ |")


def test_no_two_symbols_look_alike_within_a_topic() -> None:
    seen = [(s.topic, s.latex) for s in notation.SYMBOLS]
    assert len(set(seen)) == len(seen)


def test_formulas_are_numbered_in_order() -> None:
    assert [f.number for f in notation.TUTORIAL_FORMULAS] == list(range(1, 38))
    for formula in notation.TUTORIAL_FORMULAS:
        assert formula.latex.count("{") == formula.latex.count("}")


def numbers_cited(source: str) -> set[int]:
    """The S numbers of a source such as ``S 18-21, P 57``."""
    cited: set[int] = set()
    for first, last in re.findall(r"S (\d+)(?:[-–](\d+))?", source):
        cited |= set(range(int(first), int(last or first) + 1))
    return cited


def test_sources_cite_formulas_that_exist() -> None:
    sources = [s.source for s in notation.SYMBOLS] + [i.source for i in symbolic.identities()]
    for source in sources:
        assert numbers_cited(source) <= set(range(1, 38)), source


def test_every_formula_of_a_finished_concept_is_proved_somewhere() -> None:
    """The concepts that are not on the symbolic floor yet are left out."""
    finished = {module.__name__.rsplit(".", 1)[1] for module in symbolic.CONCEPTS}
    cited = set().union(*(numbers_cited(i.source) for i in symbolic.identities()))
    for formula in notation.TUTORIAL_FORMULAS:
        if formula.concept in finished and f"S {formula.number}" not in DEFINITIONS:
            assert formula.number in cited, f"S{formula.number} is proved nowhere"


def test_table_shows_the_symbols_asked_for_in_order() -> None:
    rows = notation.table("eta", "k").splitlines()
    assert rows[0].startswith("| symbol |")
    assert [row.split("`")[1] for row in rows[2:]] == ["eta", "k"]


def test_unknown_symbol_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="no symbol named 'epsilonn'; known: t, "):
        notation.symbol("epsilonn")


def test_the_page_shows_everything() -> None:
    page = notation.markdown()
    for symbol in notation.SYMBOLS:
        assert f"| `{symbol.name}` |" in page
    for formula in notation.TUTORIAL_FORMULAS:
        assert f"$${formula.latex}$$" in page
