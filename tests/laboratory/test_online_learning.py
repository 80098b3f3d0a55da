"""Regret, recall after passes and the gap between two steps, beside least squares, pseudo-inverses and a solver."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from hope_ref.laboratory import online_learning
from hope_ref.reference.delta_gradient_descent import memory_step

RNG = np.random.default_rng(3)
K, V = RNG.normal(size=(40, 5)), RNG.normal(size=(40, 3))


@pytest.mark.parametrize("eta", [0.1, 1.0, 30.0, 1e6])
def test_the_regret_of_the_implicit_step_is_bounded_for_every_rate(eta: float) -> None:
    """Each step is an argmin by least squares; the memory to compare with is the best one in hindsight."""
    best = np.linalg.lstsq(K, V, rcond=None)[0].T
    got = online_learning.regret(K, V, eta, best)
    w = np.zeros((3, 5))
    for t, (k, v) in enumerate(zip(K, V, strict=True)):
        assert got.before[t] == pytest.approx(((w @ k - v) ** 2).sum() / 2)
        rows = np.vstack([k, np.eye(5) / np.sqrt(eta)])
        w = np.linalg.lstsq(rows, np.vstack([v, w.T / np.sqrt(eta)]), rcond=None)[0].T
        assert got.after[t] == pytest.approx(((w @ k - v) ** 2).sum() / 2, abs=1e-9)
    assert got.fixed.sum() == pytest.approx(((K @ best.T - V) ** 2).sum() / 2)
    assert got.bound == pytest.approx((best**2).sum() / (2 * eta))
    assert got.after.sum() - got.fixed.sum() <= got.bound


def test_the_explicit_step_has_no_such_bound() -> None:
    """Beyond 2/‖k‖² the losses grow without end; the implicit step stays within its bound on the same pairs."""
    k, v = np.repeat(K[:1], 200, axis=0), np.repeat(V[:1], 200, axis=0)
    answers = np.outer(V[0], K[0]) / (K[0] @ K[0])  # U k = v: pays nothing
    eta = 2.1 / float(K[0] @ K[0])
    explicit, implicit = (
        online_learning.regret(k, v, eta, answers, step) for step in ("explicit", "implicit")
    )
    assert explicit.after[-1] > 1e6 * explicit.after[0]
    assert implicit.after.sum() < implicit.bound
    within = online_learning.regret(k, v, 1.9 / float(K[0] @ K[0]), answers, "explicit")
    assert within.after[-1] < 1e-6 * within.after[0]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_independent_keys_are_stored_in_the_limit_and_at_the_proved_rate(count: int) -> None:
    """The limit is V K⁺; a pass multiplies the error by the product of the projections."""
    k, v = K[:count], V[:count]
    limit = v.T @ np.linalg.pinv(k.T)
    error, contraction = -limit, np.eye(5)
    for row in k:
        contraction = contraction @ (np.eye(5) - np.outer(row, row) / (row @ row))
    got = online_learning.recall_error(k, v, 300)
    for measured in got:
        error = error @ contraction
        assert measured == pytest.approx(np.linalg.norm(k @ error.T) / np.linalg.norm(v), abs=1e-12)
    spanned = np.linalg.qr(k.T).Q
    assert np.abs(np.linalg.eigvals(spanned.T @ contraction @ spanned)).max() < 1


def test_two_keys_contract_by_their_squared_cosine() -> None:
    k = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    got = online_learning.recall_error(k, V[:2], 6)
    np.testing.assert_allclose(got[1:] / got[:-1], 0.36, rtol=1e-9)


def test_orthogonal_keys_take_one_pass_and_more_pairs_than_directions_none() -> None:
    k = np.linalg.qr(RNG.normal(size=(5, 5))).Q * np.array([1.0, 2.0, 0.5, 3.0, 0.1])
    assert online_learning.recall_error(k.T, V[:5], 1)[0] < 1e-12
    left = np.linalg.norm(K[:9] @ np.linalg.lstsq(K[:9], V[:9], rcond=None)[0] - V[:9]) / np.linalg.norm(
        V[:9]
    )
    assert left > 0.3
    assert online_learning.recall_error(K[:9], V[:9], 200)[-1] > left


def test_the_curve_of_capacity_is_recall_of_random_keys() -> None:
    got = online_learning.capacity(4, (1, 4, 8), 200, seed=2)
    assert got.shape == (3, 200)
    assert got[0, 0] < 1e-12
    assert got[1, -1] < got[1, 0]
    assert got[2, -1] > 0.2
    k, v = np.random.default_rng((2, 4)).normal(size=(2, 4, 4))
    unit = k / np.linalg.norm(k, axis=1, keepdims=True)
    w = np.zeros((4, 4))
    for key, value in zip(unit, v, strict=True):
        w = value[:, None] * key + w - np.outer(w @ key, key)
    assert got[1, 0] == pytest.approx(np.linalg.norm(unit @ w.T - v) / np.linalg.norm(v))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_regression_in_delta_gradient_descent_rests_at_half_of_every_independent_pair(count: int) -> None:
    """Below the projection's half step, until the pseudo-inverse of the halves is reached."""
    w, keys = np.zeros((3, 5)), np.eye(5)[:count] + 0.2 * K[:count]
    for _ in range(300):
        for k, v in zip(keys, V[:count], strict=True):
            w = memory_step(w, k, v, 0.4 / (k @ k), objective="l2")
    np.testing.assert_allclose(w, V[:count].T / 2 @ np.linalg.pinv(keys.T), atol=1e-6)


# --- two layers ------------------------------------------------------------------------------------------------------


def layers() -> tuple[Any, ...]:
    rng = np.random.default_rng(5)
    return tuple(rng.normal(size=size) for size in ((2, 4), (4, 3), (3,), (2,)))


def objective(one: Any, two: Any, start: tuple[Any, ...], eta: float) -> float:
    w1, w2, k, v = start
    z = two @ k
    error = one @ (z / (1 + np.exp(-z))) - v
    return float((error**2).sum() / 2 + (((one - w1) ** 2).sum() + ((two - w2) ** 2).sum()) / (2 * eta))


def test_the_joint_step_is_the_argmin_by_newton() -> None:
    """Slopes and curvatures by differences of the objective, which knows no gradient."""
    start, eta, h = layers(), 0.02, 1e-4
    w1, w2, *_ = start
    flat, cut = np.concatenate([w1.ravel(), w2.ravel()]), w1.size

    def at(point: Any) -> float:
        return objective(point[:cut].reshape(w1.shape), point[cut:].reshape(w2.shape), start, eta)

    def slope(point: Any) -> Any:
        return np.array([(at(point + h * e) - at(point - h * e)) / (2 * h) for e in np.eye(point.size)])

    for _ in range(6):
        curvature = np.array(
            [(slope(flat + h * e) - slope(flat - h * e)) / (2 * h) for e in np.eye(flat.size)]
        )
        flat = flat - np.linalg.solve(curvature, slope(flat))
    got = online_learning.joint_gap(*start, eta)
    np.testing.assert_allclose(np.concatenate([w.ravel() for w in got.joint]), flat, atol=1e-7)
    assert objective(*got.joint, start, eta) < objective(*got.apart, start, eta)


def test_apart_each_weight_is_the_argmin_of_its_own_linear_regression() -> None:
    """For W_1 of the loss itself; for W_2 toward the output that a plain step of its pre-activation wants."""
    w1, w2, k, v = layers()
    eta = 0.3
    z = w2 @ k
    gate = 1 / (1 + np.exp(-z))
    a, slope = z * gate, gate + z * gate * (1 - gate)
    got = online_learning.joint_gap(0.1 * w1, w2, k, v, eta)
    wanted = z - slope * (0.1 * w1.T @ (0.1 * w1 @ a - v))
    for moved, start, x, u in ((got.apart[0], 0.1 * w1, a, v), (got.apart[1], w2, k, wanted)):
        rows = np.vstack([x, np.eye(x.size) / np.sqrt(eta)])
        solved = np.linalg.lstsq(rows, np.vstack([u, start.T / np.sqrt(eta)]), rcond=None)[0].T
        np.testing.assert_allclose(moved, solved, atol=1e-10)


def test_the_gap_is_of_second_order() -> None:
    sizes = [online_learning.joint_gap(*layers(), eta).size for eta in (2e-4, 1e-4)]
    assert sizes[0] / sizes[1] == pytest.approx(4, rel=0.02)
    assert sizes[1] > 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: online_learning.regret(K, V, 0, np.zeros((3, 5))), "eta must be"),
        (lambda: online_learning.regret(K, V, 1, np.zeros((5, 3))), "fixed must have shape"),
        (lambda: online_learning.recall_error(0 * K, V, 1), "k must have no row of zeros, got one at 0"),
        (lambda: online_learning.recall_error(K, V, 0), "passes must be"),
        (lambda: online_learning.joint_gap(*layers(), 50.0), "eta must be small enough"),
        (lambda: online_learning.joint_gap(layers()[0], np.ones((3, 3)), *layers()[2:], 0.1), "w2 must have"),
    ],
)
def test_bad_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
