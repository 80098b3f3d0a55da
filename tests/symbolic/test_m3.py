"""What the identities of M3 say beyond a zero residual, and that they speak of the code that runs."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from hope_ref import reference, symbolic
from hope_ref.symbolic import m3
from hope_ref.symbolic.errata import ERRATA


def test_the_statement_is_what_the_reference_computes() -> None:
    said = m3.statement()
    point = said.random_point(np.random.default_rng(0))
    arrays = [point[name] for name in ("m1", "m2", "window", "o2", "second_moment")]
    state = reference.m3.M3State(*arrays, 1)
    rates = {name: point[name] for name in ("lr", "beta1", "beta2", "beta3", "slow_weight", "epsilon")}
    w, state = reference.m3.m3_step(point["w"], point["gradient"], state, slow_every=2, steps=1, **rates)
    got = state._asdict() | {"w": w}
    for name, want in said.evaluate(**point).items():
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-12)


def test_row_27_counts_the_sign_and_the_terms_and_not_the_choice_of_a_sum() -> None:
    """Mending one of the two still leaves a residual; nothing decays on either side."""
    assert next(e for e in ERRATA if e.row == 27).identity == "m3.slow_sum"
    derived = symbolic.named("m3.slow_sum").proof().derived
    g = [sp.Matrix(1, 2, sp.symbols(f"g{i}_11 g{i}_12", real=True)) for i in range(1, 5)]
    total = sum(g, sp.zeros(1, 2))
    assert (derived - m3.BETA3 * total).expand().is_zero_matrix
    for form in (-m3.BETA3 * total, m3.BETA3 * (total + g[1])):
        assert not (derived - form).expand().is_zero_matrix


def test_the_average_differs_from_the_print_in_three_ways() -> None:
    """Sign, terms and decay: mending any two of them still leaves a residual."""
    derived = symbolic.named("m3.printed").proof().derived
    g = [sp.Matrix(1, 2, sp.symbols(f"g{i}_11 g{i}_12", real=True)) for i in range(1, 5)]
    first, second, beta = g[0] + g[1], g[2] + g[3], m3.BETA3
    right = (1 - beta) * (beta * first + second)
    half_mended = {
        "sign": -right,
        "terms": (1 - beta) * (beta * first + second + g[1]),
        "decay": beta * (first + second),
    }
    assert (derived - right).expand().is_zero_matrix
    for what, form in half_mended.items():
        assert not (derived - form).expand().is_zero_matrix, what


def test_the_boundary_gradients_are_the_ones_counted_twice() -> None:
    assert symbolic.named("m3.window").proof().derived == sp.Symbol("g_3", real=True) + sp.Symbol(
        "g_6", real=True
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 4)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_newton_schulz_forgets_the_scale_at_other_sizes(size: tuple[int, int], scale: float) -> None:
    x = np.random.default_rng(0).normal(size=size)
    once, scaled = (reference.newton_schulz.newton_schulz(c * x) for c in (1.0, scale))
    np.testing.assert_allclose(once, scaled, rtol=0, atol=20 * 1e-7 / (min(1, scale) * np.linalg.norm(x)))
