"""What the identities of Titans say beyond a zero residual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from hope_ref import symbolic
from hope_ref.reference import titans as reference
from hope_ref.symbolic import titans


@pytest.mark.parametrize(
    ("statement", "names", "chunk_size"),
    [
        (titans.statement, ["memory"], 1),
        (titans.statement, ["memory"], 2),
        (titans.perceptron_statement, ["w1", "w2"], 2),  # with 1, σ stands in σ: slow to write out
    ],
)
def test_the_statements_are_the_reference(statement: Any, names: list[str], chunk_size: int) -> None:
    said = statement(chunk_size)
    point = said.random_point(np.random.default_rng(0))
    want = list(said.evaluate(**point).values())
    first = reference.start(*(point.pop(name) for name in names))
    y, state = reference.titans(**point, state=first, chunk_size=chunk_size)
    for got, expected in zip((y, *state.weights, *state.momentum), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


def test_a_chunk_of_two_differs_from_two_chunks_of_one() -> None:
    one, two = titans.statement(1), titans.statement(2)
    assert sp.simplify(one.results["memory"] - two.results["memory"]) != sp.zeros(1, 2)


@pytest.mark.parametrize("layer", ["w1", "w2"])
def test_no_exponential_is_left_in_the_proofs_of_the_perceptron(layer: str) -> None:
    """Both sides are then rational, and equal only if their cancelled forms are one."""
    sides = symbolic.named(f"titans.mlp_gradient_{layer}").proof()
    for side in sides:
        assert not side.atoms(sp.exp)
        assert {str(s) for s in side.free_symbols} >= {"E_1", "E_2"}
    assert sides.derived == sides.stated


def test_the_slope_of_silu_is_its_derivative() -> None:
    z = sp.Symbol("z", real=True)
    assert sp.simplify(sp.diff(titans._silu(z), z) - titans._silu_derivative(z)) == 0


def test_the_names_do_clash() -> None:
    """Reading Titans' α, η, θ and the missing ½ as ours gives another rule: each of the four renamings is needed."""
    derived, stated = symbolic.named("titans.alpha_clash").proof()
    a, h, theta = (sp.Symbol(f"{name}_1", positive=True) for name in ("a", "h", "theta"))
    assert derived.free_symbols >= {a, sp.Symbol("h_2", positive=True), theta}
    assert h not in derived.free_symbols  # the first decay meets an empty momentum
    for symbol, wrong in ((a, 1 - a), (theta, theta / 2)):
        assert sp.simplify(derived - stated.subs(symbol, wrong)) != sp.zeros(2, 2)
