"""What the identities of momentum and Newton–Schulz say beyond a zero residual."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from hope_ref import reference, symbolic
from hope_ref.symbolic import momentum, newton_schulz
from hope_ref.symbolic.identity import slip


@pytest.mark.parametrize(
    "name",
    [
        "momentum.step",
        "momentum.gradients_to_hold",
        "momentum.delta_momentum",
        "momentum.adam_sign",
        "newton_schulz.gradient",
    ],
)
def test_the_print_is_wrong(name: str) -> None:
    identity = symbolic.named(name)
    assert identity.holds()
    assert identity.printed_proof is not None
    assert slip(identity.printed_proof()) > 0.01
    assert identity.printed != identity.correct


def test_what_is_left_over_vanishes_only_for_equal_betas() -> None:
    left = symbolic.named("momentum.adam_two_betas").proof().derived
    one, two = sp.symbols("beta_1 beta_2", positive=True)
    assert sp.solve(left, one) == [two]


def test_seven_and_forty_four_were_counted() -> None:
    assert symbolic.named("momentum.gradients_to_hold").proof().derived == sp.Matrix([[7, 44]])


@pytest.mark.parametrize("shape", [(4, 2), (3, 3), (2, 5)])
@pytest.mark.parametrize("coefficients", ["quintic", "cubic"])
def test_the_symbolic_step_maps_singular_values_at_other_sizes(
    shape: tuple[int, int], coefficients: str
) -> None:
    numbers = np.random.default_rng(0).normal(size=shape) / 3
    a, b, c = (float(text) for text in newton_schulz.COEFFICIENTS[coefficients])
    got = np.array(newton_schulz.polynomial_step(sp.Matrix(numbers), a, b, c), dtype=float)
    left, s, right = np.linalg.svd(numbers, full_matrices=False)
    np.testing.assert_allclose(got, left @ np.diag(a * s + b * s**3 + c * s**5) @ right, rtol=0, atol=1e-12)


def test_the_statement_has_the_names_of_the_reference() -> None:
    for statement in (momentum.statement(), momentum.delta_statement("implicit")):
        assert list(statement.results) == ["w", "m"]


@pytest.mark.parametrize("write", ["explicit", "implicit"])
def test_the_delta_statement_is_what_the_reference_computes(write: str) -> None:
    said = momentum.delta_statement(write)
    point = said.random_point(np.random.default_rng(0))
    w, m = reference.momentum.delta_momentum_step(**point, write=write)
    for got, want in zip((w, m), said.evaluate(**point).values(), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)
