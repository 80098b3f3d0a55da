"""Expressive optimisers against solvers, differences, optimisers written out, and each other; bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.reference import delta_gradient_descent, gradient_descent, momentum
from hope_ref.reference import expressive_optimisers as expressive

RNG = np.random.default_rng
eye = np.eye


def slope(function: Any, at: Any) -> Any:
    """The gradient of a scalar function, by central differences."""
    result, step = np.zeros_like(at), 1e-6
    for index in np.ndindex(at.shape):
        moved = np.zeros_like(at)
        moved[index] = step
        result[index] = (function(at + moved) - function(at - moved)) / (2 * step)
    return result


# --- preconditioning -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (4, 1), (1, 7)])
def test_a_preconditioner_goes_down_its_regression(rows: int, columns: int) -> None:
    rng = RNG(rows)
    p, asked, told = rng.normal(size=(rows, columns)), rng.normal(size=columns), rng.normal(size=rows)
    want = p - 0.3 * slope(lambda q: float(((q @ asked - told) ** 2).sum() / 2), p)
    np.testing.assert_allclose(expressive.preconditioner_step(p, asked, told, 0.3), want, atol=1e-8)


def test_one_shot_writes_of_moves_find_the_curvature() -> None:
    """Fed moves and changes of the gradient of a quadratic, P becomes its curvature, and P⁻¹ g leads to the minimum."""
    rng = RNG(0)
    root = rng.normal(size=(5, 5))
    curvature, minimum = root @ root.T + eye(5), rng.normal(size=5)
    p = eye(5)
    for move in np.linalg.qr(rng.normal(size=(5, 5)))[0]:
        p = expressive.preconditioner_step(p, 3 * move, curvature @ (3 * move), 1 / 9)
    np.testing.assert_allclose(p, curvature, atol=1e-12)
    w = rng.normal(size=5)
    np.testing.assert_allclose(w - np.linalg.solve(p, curvature @ (w - minimum)), minimum, atol=1e-11)


# --- momenta ---------------------------------------------------------------------------------------------------------


def test_without_feature_output_and_preconditioner_it_is_momentum() -> None:
    w, m, g = RNG(1).normal(size=(3, 3, 5))
    got = expressive.feature_momentum_step(w, m, g, 0.3, 0.9)
    for one, other in zip(got, momentum.momentum_step(w, m, g, 0.3, 0.9), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("feature", "phi"), [("cube", lambda g: g * g * g), ("tanh", np.tanh)])
def test_a_feature_momentum_goes_down_its_objective(feature: str, phi: Any) -> None:
    rng = RNG(2)
    w, m, g = rng.normal(size=(3, 3, 5))
    target = rng.normal(size=(3, 3))
    want = 0.9 * m - 0.3 * slope(lambda n: float(np.trace(n @ phi(g).T @ target.T)), m)
    got = expressive.feature_momentum_step(w, m, g, 0.3, 0.9, target, feature)
    np.testing.assert_allclose(got[1], want, atol=1e-8)
    np.testing.assert_allclose(got[0], w + got[1], atol=0)


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 3), (4, 4)])
def test_newton_schulz_as_output_makes_every_singular_value_one(rows: int, columns: int) -> None:
    """Muon: W moves by the momentum's polar factor, whatever the rate."""
    w, m, g = RNG(3).normal(size=(3, rows, columns))
    left, _, right = np.linalg.svd(-g, full_matrices=False)
    for eta in (1e-3, 10.0):
        got, _ = expressive.feature_momentum_step(
            w, 0 * m, g, eta, 0.9, output="newton_schulz", scale=0.1, steps=60, coefficients="cubic"
        )
        np.testing.assert_allclose(got - w, 0.1 * left @ right, atol=1e-9)


def silu(z: Any) -> Any:
    return z / (1 + np.exp(-z))


@pytest.mark.parametrize(("d", "h"), [(5, 3), (2, 7), (1, 1)])
@pytest.mark.parametrize("own", [False, True])
def test_a_deep_momentum_goes_down_its_loss_in_both_layers(d: int, h: int, own: bool) -> None:
    rng = RNG(d)
    w, u, given = rng.normal(size=(3, d))
    w1, w2 = rng.normal(size=(d, h)), rng.normal(size=(h, d))
    target = given if own else u
    first = 0.9 * w1 - 0.2 * slope(lambda v: float(v @ silu(w2 @ u) @ target), w1)
    second = 0.9 * w2 - 0.2 * slope(lambda v: float(w1 @ silu(v @ u) @ target), w2)
    got = expressive.deep_momentum_step(w, w1, w2, u, 0.2, 0.9, given if own else None)
    np.testing.assert_allclose(got[1], first, atol=1e-7)
    np.testing.assert_allclose(got[2], second, atol=1e-7)
    np.testing.assert_allclose(got[0], w + got[1] @ silu(got[2] @ u), atol=1e-12)


def test_from_an_empty_layer_a_deep_momentum_descends_and_ones_need_not() -> None:
    rng = RNG(4)
    w, w1, w2 = np.zeros(5), np.zeros((5, 4)), rng.normal(size=(4, 5))
    u = -np.abs(rng.normal(size=5))  # its entries have a negative sum
    down, _, _ = expressive.deep_momentum_step(w, w1, w2, u, 0.2, 0.9)
    np.testing.assert_allclose(down / np.linalg.norm(down), -u / np.linalg.norm(u), atol=1e-12)
    up, _, _ = expressive.deep_momentum_step(w, w1, w2, u, 0.2, 0.9, np.ones(5))
    assert up @ u > 0 > down @ u


# --- outer products --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "rows"), [(7, 5, 3), (2, 5, 1), (1, 1, 2)])
def test_the_outer_product_memory_is_a_least_squares_solution(n: int, d: int, rows: int) -> None:
    rng = RNG(n)
    gradients, target = rng.normal(size=(n, d)), rng.normal(size=rows)
    stacked = np.vstack([gradients, np.sqrt(0.3) * eye(d)])
    wanted = np.vstack([np.tile(target, (n, 1)), np.zeros((d, rows))])
    want = np.linalg.lstsq(stacked, wanted, rcond=None)[0].T
    np.testing.assert_allclose(expressive.outer_product_memory(gradients, target, 0.3), want, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 2), (4, 1)])
@pytest.mark.parametrize("sides", expressive.SIDES)
def test_shampoo_steps_by_powers_of_summed_outer_products(rows: int, columns: int, sides: str) -> None:
    """The loop keeps every gradient; roots by another method, times the change, give g back."""
    rng = RNG(rows)
    w, state, seen = rng.normal(size=(rows, columns)), None, []
    for _ in range(4):
        g = rng.normal(size=(rows, columns))
        seen.append(g)
        new, state = expressive.shampoo_step(w, g, state, 0.5, 0.01, sides)
        left = sum(np.einsum("ij,kj->ik", s, s) for s in seen) + 0.01 * eye(rows)
        right = sum(np.einsum("ji,jk->ik", s, s) for s in seen) + 0.01 * eye(columns)
        change = (w - new) / 0.5
        root = principal_root(left)
        if sides == "left":
            np.testing.assert_allclose(root @ change, g, atol=1e-9)
        else:
            fourths = principal_root(root), principal_root(principal_root(right))
            np.testing.assert_allclose(fourths[0] @ change @ fourths[1], g, atol=1e-9)
        w = new


def principal_root(h: Any) -> Any:
    """By Denman and Beavers' iteration: no eigenvalues."""
    y, z = h, eye(len(h))
    for _ in range(40):
        y, z = (y + np.linalg.inv(z)) / 2, (z + np.linalg.inv(y)) / 2
    return y


def test_on_single_rows_and_columns_shampoo_is_a_scalar_rule() -> None:
    """A 1 × 1 weight: W - η g/√(Σ g² + ε), AdaGrad."""
    w, state, total = np.array([[2.0]]), None, 0.0
    for g in (0.7, -0.2, 0.4):
        total += g * g
        for sides in expressive.SIDES:
            new, after = expressive.shampoo_step(w, [[g]], state, 0.1, 1e-3, sides)
            assert new[0, 0] == pytest.approx(w[0, 0] - 0.1 * g / np.sqrt(total + 1e-3), rel=1e-14)
        w, state = new, after


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 3), (4, 4)])
def test_shampoos_first_step_is_muons(rows: int, columns: int) -> None:
    g = RNG(10).normal(size=(rows, columns))
    shampoo, _ = expressive.shampoo_step(0 * g, g, None, 0.1, 1e-12)
    muon, _ = expressive.feature_momentum_step(
        0 * g, 0 * g, g, 1, 0.9, output="newton_schulz", scale=0.1, steps=60, coefficients="cubic"
    )
    np.testing.assert_allclose(shampoo, muon, atol=1e-7)


# --- the general form ------------------------------------------------------------------------------------------------


def layer(seed: int) -> tuple[Any, ...]:
    rng = RNG(seed)
    return rng.normal(size=(3, 5)), rng.normal(size=5), rng.normal(size=3)


def test_gradient_descent_and_its_delta_form_are_cases() -> None:
    w, x, grad_y = layer(5)
    anchor = [(1 / 0.4, w)]
    np.testing.assert_allclose(
        expressive.general_step("dot", anchor, x, -grad_y),
        gradient_descent.gradient_descent_step(w, x, grad_y, 0.4),
        atol=1e-13,
    )
    np.testing.assert_allclose(
        expressive.general_step("l2", anchor, x, -grad_y),
        delta_gradient_descent.delta_gradient_descent_step(w, x, grad_y, 0.4),
        atol=1e-13,
    )


def test_the_implicit_step_is_a_case() -> None:
    """W' = W - η ∇½‖W' x - v‖², by iterating the equation, with a rate at which that settles."""
    w, x, v = layer(6)
    eta = 0.5 / (x @ x)
    new = w
    for _ in range(200):
        new = w - eta * np.outer(new @ x - v, x)
    np.testing.assert_allclose(expressive.general_step("l2", [(1 / eta, w)], x, v), new, atol=1e-12)


def test_momentum_and_its_memory_are_cases() -> None:
    rng, eta, mu = RNG(7), 0.3, 0.8
    w, m = rng.normal(size=(2, 3, 5))
    before = w - m
    for _ in range(3):
        x, grad_y = rng.normal(size=5), rng.normal(size=3)
        want_w, want_m = momentum.momentum_step(w, m, np.outer(grad_y, x), eta, mu)
        heavy = [((1 + mu) / eta, w), (-mu / eta, before)]
        memory = [(mu / eta, m), ((1 - mu) / eta, 0 * m)]
        np.testing.assert_allclose(expressive.general_step("dot", heavy, x, -grad_y), want_w, atol=1e-12)
        np.testing.assert_allclose(expressive.general_step("dot", memory, x, -grad_y), want_m, atol=1e-12)
        before, w, m = w, want_w, want_m


@pytest.mark.parametrize("loss", expressive.LOSSES)
def test_the_general_step_is_stationary(loss: str) -> None:
    rng = RNG(8)
    x, u, anchors, rates = (
        rng.normal(size=7),
        rng.normal(size=2),
        rng.normal(size=(3, 2, 7)),
        (0.7, -0.2, 1.1),
    )
    new = expressive.general_step(loss, list(zip(rates, anchors, strict=True)), x, u)

    def objective(w: Any) -> float:
        answer = w @ x
        value = -answer @ u if loss == "dot" else ((answer - u) ** 2).sum() / 2
        return float(value + sum(r / 2 * ((w - a) ** 2).sum() for r, a in zip(rates, anchors, strict=True)))

    np.testing.assert_allclose(slope(objective, new), 0 * new, atol=1e-8)


# --- orthogonal tasks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("erases", [False, True])
def test_a_switch_to_an_orthogonal_task_moves_the_old_one(erases: bool) -> None:
    """Two inputs of B in five dimensions, gradients on them for six steps: what W moves across them, and what m holds there."""
    rng, mu = RNG(9), 0.9
    directions = rng.normal(size=(2, 5))
    w, m = np.zeros((3, 5)), rng.normal(size=(3, 5))
    held, moved = expressive.stale_motion(m, directions, mu, 6)
    for _ in range(6):
        gradient = rng.normal(size=(3, 2)) @ directions
        step = momentum.delta_momentum_step if erases else momentum.momentum_step
        w, m = step(w, m, gradient, 0.3, mu)
    across = eye(5) - np.linalg.pinv(directions) @ directions
    np.testing.assert_allclose(held, m @ across, atol=1e-12)
    np.testing.assert_allclose(moved, w @ across, atol=1e-12)


ONE = np.ones((2, 3))


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("preconditioner_step", (ONE, ONE[0], ONE[0], 0.1), r"gradient must have shape \(2,\), got \(3,\)"),
        ("preconditioner_step", (ONE, ONE[0], ONE[:, 0], -1), "zeta must be >= 0, got min -1"),
        ("feature_momentum_step", (ONE, ONE[:1], ONE, 0.1, 0.9), r"m must have shape \(2, 3\), got \(1, 3\)"),
        ("feature_momentum_step", (ONE, ONE, ONE, 0.1, 1.5), "mu must be <= 1, got max 1.5"),
        ("feature_momentum_step", (ONE, ONE, ONE, 0.1, 0.9, ONE), r"target must have shape \(2, 2\), got \(2, 3\)"),
        ("feature_momentum_step", (ONE, ONE, ONE, 0.1, 0.9, 1, "square"), "feature must be one of 'identity', 'cube', 'tanh', got 'square'"),
        ("feature_momentum_step", (ONE, ONE, ONE, 0.1, 0.9, 1, "cube", "sign"), "output must be one of 'identity', 'newton_schulz', got 'sign'"),
        ("deep_momentum_step", (ONE[0], ONE.T, ONE.T, ONE[0], 0.1, 0.9), r"w2 must have shape \(2, 3\), got \(3, 2\)"),
        ("deep_momentum_step", (ONE[0], ONE.T, ONE, ONE[0], 0.1, 0.9, ONE), r"target must have shape \(3,\), got \(2, 3\)"),
        ("outer_product_memory", (ONE, ONE[0], 0), "lam must be > 0 and n >= 1, got lam 0 and n 2"),
        ("shampoo_step", (ONE, ONE, None, 0.1, 0), "epsilon must be > 0, got 0"),
        ("shampoo_step", (ONE, ONE, None, 0.1, 0.1, "right"), "sides must be one of 'both', 'left', got 'right'"),
        ("shampoo_step", (ONE, ONE, (eye(3), eye(3))), r"state.left must have shape \(2, 2\), got \(3, 3\)"),
        ("general_step", ("l1", [(1, ONE)], ONE[0], ONE[:, 0]), "loss must be one of 'dot', 'l2', got 'l1'"),
        ("general_step", ("l2", [(1, ONE), (-1, ONE)], ONE[0], ONE[:, 0]), "retention must have rates that add up to more than 0, got 0"),
        ("general_step", ("l2", [(1, ONE.T)], ONE[0], ONE[:, 0]), r"retention\[0\]\[1\] must have shape \(2, 3\), got \(3, 2\)"),
        ("stale_motion", (ONE, ONE[:, :2], 0.9, 3), r"directions must have shape \(n, 3\), got \(2, 2\)"),
        ("stale_motion", (ONE, ONE, 0.9, 0), "steps must be an integer >= 1, got 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(function: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(expressive, function)(*arguments)
