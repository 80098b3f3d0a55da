"""The identities of Delta Gradient Descent beyond "it holds": sizes of the slips, and what the helpers rest on."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from hope_ref import symbolic
from hope_ref.symbolic import delta_gradient_descent, delta_gradient_descent_memory
from hope_ref.symbolic.algebra import matrix, positive, squared_norm, vector
from hope_ref.symbolic.identity import Sides, residual, slip
from hope_ref.symbolic.rational import inverse, minimiser, solve, with_norm

NAMES = {
    "stationarity", "sherman_morrison", "step", "inverse_rate", "appendix_sign", "beta_is_alpha", "conference_step",
    "dot_product_sign", "residual_shrinks", "woodbury", "woodbury_step_form", "optimizer_form", "fixed_points", "factors",
    "frozen_chunk", "skip_fixed_points", "delta_rule",
}  # fmt: skip
WRONG = ("stationarity", "step", "inverse_rate", "appendix_sign", "conference_step", "dot_product_sign")


def test_every_promised_identity_is_there() -> None:
    found = {entry.name.split(".")[1] for entry in delta_gradient_descent.IDENTITIES}
    assert found >= NAMES
    assert found - NAMES == {"appendix_chain", "explicit_step", "orthogonal", "shrinks_outputs"}


def test_what_is_printed_wrong_and_what_is_only_unsimplified() -> None:
    reprinted = {e.name.split(".")[1]: e for e in delta_gradient_descent.IDENTITIES if e.printed_proof}
    assert set(reprinted) == {*WRONG, "beta_is_alpha"}
    for name, entry in reprinted.items():
        assert (slip(entry.printed_proof()) < 1e-12) == (name == "beta_is_alpha")


def test_the_printed_rate_is_right_at_norm_one_only() -> None:
    derived, printed = symbolic.named("delta_gradient_descent.step").printed_proof()
    for numbers, right in (((3, 0, 4), True), ((3, 0, 5), False)):
        at = dict(zip(delta_gradient_descent.X, (sp.Rational(n, 5) for n in numbers), strict=True))
        assert bool(sp.simplify((derived - printed).subs(at)).is_zero_matrix) == right


def test_the_conference_form_wipes_out_a_unit_direction_and_diverges_beyond_two() -> None:
    _, printed = symbolic.named("delta_gradient_descent.conference_step").printed_proof()
    x = delta_gradient_descent.X
    without_gradient = printed.subs(dict.fromkeys(delta_gradient_descent.G, 0)) * x
    factor = 1 - squared_norm(x)
    assert residual(Sides(without_gradient, factor * delta_gradient_descent.W * x)).is_zero_matrix


def test_the_appendix_is_off_by_more_than_the_step_itself() -> None:
    """With λ = 1 the literal β is -1/(1+η): the gradient enters with the opposite sign."""
    derived, printed = symbolic.named("delta_gradient_descent.appendix_sign").printed_proof()
    eta = delta_gradient_descent.ETA
    point = dict(zip(delta_gradient_descent.X, (1, 0, 0), strict=True))
    write = delta_gradient_descent.G * sp.Matrix([[1, 0, 0]]) / (1 + eta)
    assert residual(Sides((printed - derived).subs(point), 2 * write)).is_zero_matrix


@pytest.mark.parametrize("objective", ["dot", "l2", "l2_without_half"])
def test_the_memory_statement_follows_its_loss(objective: str) -> None:
    said = delta_gradient_descent.memory_statement(objective)
    answer = delta_gradient_descent_memory.M * delta_gradient_descent_memory.K
    v = delta_gradient_descent_memory.V
    wanted = {"dot": v, "l2": v - answer, "l2_without_half": 2 * (v - answer)}[objective]
    eta, alpha = delta_gradient_descent_memory.ETA, delta_gradient_descent_memory.ALPHA
    moved = eta * (wanted - answer) * delta_gradient_descent_memory.K.T
    want = alpha * delta_gradient_descent_memory.M + moved
    assert residual(Sides(said.results["memory"], want)).is_zero_matrix


def test_solve_inverse_and_minimiser_do_what_they_say() -> None:
    unknown, target = matrix("W", 2, 2), matrix("A", 2, 2)
    scale = positive("eta")
    assert residual(Sides(solve(scale * unknown - target, unknown), target / scale)).is_zero_matrix
    assert residual(Sides(inverse(target) * target, sp.eye(2))).is_zero_matrix
    objective = squared_norm(unknown - target) + scale * squared_norm(unknown)
    assert residual(Sides(minimiser(objective, unknown), target / (1 + scale))).is_zero_matrix


def test_with_norm_is_exact_where_the_norm_is_lambda() -> None:
    x, lam = vector("x", 3), positive("lambda")
    entry = sp.Matrix([[(x[2] ** 4 + x[0]) / (1 + squared_norm(x)) ** 2]])
    reduced = with_norm(entry, x, lam)[0]
    rng = np.random.default_rng(0)
    for numbers in rng.normal(size=(5, 3)):
        point = dict(zip(x, numbers, strict=True)) | {lam: np.linalg.norm(numbers)}
        assert float(reduced.subs(point)) == pytest.approx(float(entry[0].subs(point)), rel=1e-12)
    assert not reduced.has(x[2])
