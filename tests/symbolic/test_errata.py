"""Every row of the errata: none missing, none twice, and each proved as its kind asks."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from selection import some_slow

from hope_ref import symbolic
from hope_ref.symbolic.errata import ERRATA, KINDS, Erratum, markdown
from hope_ref.teaching.coverage import anchor, cited, places

ROWS = 61  # all rows, so that none is lost


def test_no_row_is_missing_and_none_stands_twice() -> None:
    assert [erratum.row for erratum in ERRATA] == list(range(1, ROWS + 1))


def test_the_averages_that_are_proved_wrong_are_those_printed() -> None:
    identity = symbolic.named("tables.averages")
    assert identity.printed_proof is not None
    quoted = [f"{float(number):.2f}" for number in identity.printed_proof().stated]
    assert quoted == re.findall(r"\d+\.\d+", identity.printed)
    row = next(erratum.printed for erratum in ERRATA if erratum.identity == identity.name)
    assert all(number in row for number in quoted)


def test_no_kind_is_without_a_row_and_no_title_stands_twice() -> None:
    assert {erratum.kind for erratum in ERRATA} == set(KINDS)
    for field in ("title", "reading"):
        assert len({getattr(erratum, field) for erratum in ERRATA}) == ROWS


def test_a_lesson_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="lesson must be the number of one notebook, got '77' in row 4"):
        replace(ERRATA[3], lesson="77").notebook()


@pytest.mark.parametrize("erratum", ERRATA, ids=lambda e: f"row{e.row}-{e.kind}")
def test_each_kind_is_proved_as_it_asks(erratum: Erratum) -> None:
    assert erratum.kind in KINDS
    assert erratum.place
    assert erratum.printed
    assert len(erratum.reading) > 15
    for sentence in (erratum.title, erratum.why):
        assert sentence[0] == sentence[0].upper()
        assert len(sentence.split()) > 3
    assert "$" not in erratum.title
    assert not erratum.title.endswith(".")
    assert erratum.why.endswith(".")
    assert erratum.notebook().is_file()
    identity = erratum.proof()
    if erratum.kind in ("wrong", "unsimplified"):
        assert identity is not None
        assert identity.printed_proof is not None
        assert identity.holds()
    if erratum.kind == "wrong":
        size = erratum.size()
        assert size is not None
        assert size > 1e-2, "the printed form is not wrong"
    elif erratum.kind == "unsimplified":
        assert identity is not None
        assert identity.printed_residual().is_zero_matrix is True
        assert erratum.size() is None
    else:
        assert erratum.size() is None


WRONG = {f"row{e.row}": e for e in ERRATA if e.kind == "wrong"}
# What is left of rows 3, 5 and 6 takes SymPy seconds to write down; their sizes above say that it is not zero.
LONG = {"row3", "row5", "row6"}


@pytest.mark.parametrize("erratum", some_slow(WRONG, WRONG.keys() - LONG))
def test_a_wrong_print_leaves_a_residual(erratum: Erratum) -> None:
    identity = erratum.proof()
    assert identity is not None
    assert identity.printed_residual().is_zero_matrix is not True


def test_every_wrong_print_among_the_identities_is_in_the_errata() -> None:
    named = {erratum.identity for erratum in ERRATA}
    for identity in symbolic.identities():
        if identity.printed_proof is not None and identity.name not in named | ALSO_IN_A_ROW:
            assert identity.printed_residual().is_zero_matrix is True, identity.name


# More of what a row says: the consequence of row 2, the sign in row 23, and row 27 with the average that this project takes.
ALSO_IN_A_ROW = {"delta_gradient_descent.inverse_rate", "momentum.delta_momentum_sign", "m3.printed"}


NO_SYMBOLS = {12, 28, 33}  # numbers and counts: nothing is drawn


def test_the_page_shows_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """With made-up sizes: those of the true page, which another test holds against this code, take seconds."""
    monkeypatch.setattr(Erratum, "size", lambda self: 0.25 if self.kind == "wrong" else None)
    monkeypatch.setattr(Erratum, "drawn", lambda self: self.kind == "wrong" and self.row not in NO_SYMBOLS)
    page = markdown()
    sections = page.split("\n## ")[1:]
    assert len(sections) == ROWS
    for erratum, section in zip(ERRATA, sections, strict=True):
        assert section.startswith(f"{erratum.row} · {erratum.title}\n")
        assert f" · *{erratum.kind}*\n" in section
        for said in (
            re.sub(r"\[P.*", "", erratum.printed),
            erratum.why,
            f"(notebooks/{erratum.notebook().name})",
        ):
            assert said in section
        sized = erratum.kind == "wrong" and erratum.row not in NO_SYMBOLS
        assert ("**Size of the slip**: 25%" in section) == sized
    for kind in KINDS:
        assert f"| *{kind}* | {sum(e.kind == kind for e in ERRATA)} |" in page


def test_equations_on_the_page_lead_to_their_rows_in_notation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Erratum, "drawn", lambda self: False)
    page = markdown()
    links = re.findall(r"\[\[([^\]]*)\]\]\(NOTATION\.md#([^)]*)\)", page)
    there = {anchor(place.equation) for place in places()}
    for tag, target in links:
        assert target in {anchor(equation) for equation in cited(tag)}, tag
    assert {target for _, target in links} <= there
    wanted = [tag for e in ERRATA for tag in re.findall(r"\b[SP] \d+(?:–\d+)?(?!\d|\.\d)", e.place)]
    assert {tag for tag, _ in links} >= set(wanted)
    assert not re.search(r"(?<!\[)\[[SP] \d+(–\d+)?\](?!\])", page), "a tag that leads nowhere"


@pytest.mark.parametrize("erratum", WRONG.values(), ids=WRONG)
def test_a_size_is_told_where_symbols_are_drawn(erratum: Erratum) -> None:
    assert erratum.drawn() == (erratum.row not in NO_SYMBOLS)
