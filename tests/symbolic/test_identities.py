"""Every identity: its proof runs and holds, and what is printed differently is proved different."""

from __future__ import annotations

import pytest
import sympy as sp
from selection import some_slow

from hope_ref import symbolic
from hope_ref.symbolic.algebra import matrix, minimiser, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides, residual, slip

IDENTITIES = symbolic.identities()
REPRINTED = {entry.name: entry for entry in IDENTITIES if entry.printed_proof is not None}
# What is left of these takes SymPy seconds to write down; that it is not zero is shown elsewhere by one point of each.
LONG = {
    f"delta_gradient_descent.{name}" for name in ("step", "inverse_rate", "appendix_sign", "conference_step")
}


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda i: i.name)
def test_holds(identity: Identity) -> None:
    assert identity.residual().is_zero_matrix is True


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda i: i.name)
def test_says_where_it_stands_and_why_it_is_general(identity: Identity) -> None:
    assert identity.source
    assert identity.claim.endswith(".")
    assert identity.printed != ""
    assert identity.correct
    assert identity.proof.__doc__, "say why it holds at every size"


@pytest.mark.parametrize("identity", some_slow(REPRINTED, REPRINTED.keys() - LONG))
def test_residual_and_slip_tell_the_same(identity: Identity) -> None:
    assert identity.printed_proof is not None
    size = slip(identity.printed_proof())
    assert (size < 1e-12) == (identity.printed_residual().is_zero_matrix is True)


def test_names_are_unique_and_begin_with_their_concept() -> None:
    names = [identity.name for identity in IDENTITIES]
    assert len(set(names)) == len(names)
    for module in symbolic.CONCEPTS:
        for identity in module.IDENTITIES:
            assert identity.concept == module.__name__.rsplit(".", 1)[1]


def test_a_false_identity_is_seen() -> None:
    k = vector("k", 2)
    false = Identity("x.y", "D", "Wrong.", "", "", lambda: Sides(k * k.T, 2 * k * k.T))
    assert not false.holds()
    assert slip(false.proof()) == pytest.approx(1.0)


def test_a_correct_print_has_no_other_form() -> None:
    with pytest.raises(ValueError, match=r"linear_attention\.one_step has no other print"):
        symbolic.named("linear_attention.one_step").printed_residual()


def test_sides_must_have_one_shape() -> None:
    with pytest.raises(ValueError, match=r"stated must have shape \(1, 1\), got \(2, 1\)"):
        residual(Sides(sp.Integer(1), vector("k", 2)))


def test_unknown_identity_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"no identity named 'nothing'; known: linear_attention\.gradient"):
        symbolic.named("nothing")


def test_minimiser_is_where_the_gradient_vanishes() -> None:
    unknown, start = matrix("W", 2, 2), matrix("A", 2, 2)
    assert minimiser(squared_norm(unknown - start) + squared_norm(unknown), unknown) == start / 2
