"""For which sizes each identity is proved, what is counted as one, and that a repeated proof is called an alias."""

from __future__ import annotations

import re
from functools import cache
from itertools import combinations

import pytest
import sympy as sp

from hope_ref import symbolic
from hope_ref.notation import TUTORIAL_FORMULAS
from hope_ref.symbolic.identity import BEYOND, Identity
from hope_ref.teaching.coverage import cited

IDENTITIES = symbolic.identities()
ALIASES = {entry.name: entry for entry in IDENTITIES if entry.alias_of is not None}
REASON = re.compile(r"every|any\b|induction|separa|entry by entry|linearity|rows? .* (own|apart)")


@cache
def sides(name: str) -> tuple[sp.ImmutableMatrix, ...]:
    """What the proof of that name pairs: derived, stated."""
    both = symbolic.named(name).proof()
    return tuple(
        sp.ImmutableMatrix(side if isinstance(side, sp.MatrixBase) else sp.Matrix([[side]])) for side in both
    )


def run(entry: Identity) -> str:
    return entry.sizes.split("; ")[0]


def beyond(entry: Identity) -> str:
    return entry.sizes.split("; ")[1]


@pytest.mark.parametrize("entry", IDENTITIES, ids=lambda e: e.name)
def test_every_identity_says_for_which_sizes(entry: Identity) -> None:
    assert re.fullmatch(r"[^;]+; [^;]+", entry.sizes), entry.sizes
    assert beyond(entry) in BEYOND
    if beyond(entry).startswith("every") and "symbol" not in run(entry):
        assert REASON.search(entry.proof.__doc__ or ""), "say why it holds beyond the sizes that were run"


def extents(entry: Identity) -> set[int]:
    """Every number that can be a size: of the sides, of the indices of their symbols, of the objects in them."""
    found: set[int] = set()
    for matrix in sides(entry.name):
        found |= set(matrix.shape)
        indices: dict[str, list[int]] = {}
        for symbol in matrix.free_symbols:
            match = re.fullmatch(r"(.*)_(\d{1,2})", str(symbol))
            if match:
                for place, digit in enumerate(match[2]):
                    indices.setdefault(f"{match[1]}/{place}", []).append(int(digit))
        found |= {max(of) for of in indices.values()}
    return found


# Sizes that no symbol shows: chunks, windows and steps that are counted, and numbers of the claim itself.
COUNTED = ("chunk", "window", "step", "token", "β", "gradient", "share")
HIDDEN = {"delta_gradient_descent.frozen_chunk": {3}}  # of the key only the length is left


@pytest.mark.parametrize("entry", IDENTITIES, ids=lambda e: e.name)
def test_a_width_is_one_that_the_proof_has(entry: Identity) -> None:
    widths = {
        int(number)
        for part in run(entry).split(", ")
        if not any(word in part for word in COUNTED)
        for number in re.findall(r"\d+", part)
    }
    assert widths <= extents(entry) | HIDDEN.get(entry.name, set()) | {1}, (entry.sizes, extents(entry))


@pytest.mark.parametrize("entry", ALIASES.values(), ids=lambda e: e.name)
def test_an_alias_repeats_the_proof_that_it_names(entry: Identity) -> None:
    assert entry.alias_of is not None
    original = symbolic.named(entry.alias_of)
    assert original.alias_of is None
    assert entry.proof is original.proof
    assert entry.sizes == original.sizes


def test_a_proof_that_is_counted_stands_once() -> None:
    """Neither the same function nor the same two sides."""
    counted = symbolic.distinct()
    assert len(counted) == len(IDENTITIES) - len(ALIASES)
    assert len({entry.proof for entry in counted}) == len(counted)
    names = [entry.name for entry in counted]
    assert [pair for pair in combinations(names, 2) if sides(pair[0]) == sides(pair[1])] == []


def test_a_decision_of_this_project_is_printed_nowhere() -> None:
    assert [entry.name for entry in IDENTITIES if entry.source == "D" and entry.printed is not None] == []


def test_what_is_proved_wrong_is_printed() -> None:
    assert [entry.name for entry in IDENTITIES if entry.printed_proof and entry.printed is None] == []


def plain(formula: str) -> str:
    """Without fonts, spaces and braces: what can be compared between a quotation and the source."""
    formula = re.sub(r"\\(mathbf|mathcal)\{(.)\}", r"\2", formula).replace(r"\tfrac", r"\frac")
    formula = re.sub(r"\\(left|right|quad|,)(?![a-z])", "", formula)
    return re.sub(r"[{}\s]", "", formula)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("linear_attention.one_step", 3),
        ("gradient_descent.self_referential", 9),
        ("gradient_descent.self_referential", 10),
        ("delta_gradient_descent.stationarity", 18),
        ("delta_gradient_descent.sherman_morrison", 20),
    ],
)
def test_a_print_is_a_quotation(name: str, number: int) -> None:
    entry, formula = symbolic.named(name), TUTORIAL_FORMULAS[number - 1].latex
    assert f"S {number}" in cited(entry.source)
    assert entry.printed is not None
    assert plain(formula) in plain(entry.printed)
