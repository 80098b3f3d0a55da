"""Momentum, running mean, delta momentum and Adam against torch.optim, measured slopes, literal sums and least squares."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.reference.momentum import (
    AdamState,
    adam_regression,
    adam_step,
    delta_momentum_step,
    ema_step,
    gradients_to_hold,
    momentum_step,
)

STEPS = 50
START = np.array([[1.0, -2.0, 0.5], [3.0, 0.1, -1.0]])


def slope(w: Any) -> Any:
    """Gradient of Σ w⁴/4 + (Σ w)²/2, the same expression for arrays and tensors."""
    return w**3 + w.sum()


def torch_trajectory(make: Callable[[list[torch.Tensor]], torch.optim.Optimizer]) -> np.ndarray:
    """The weights after each of 50 steps of one of PyTorch's own optimisers."""
    w = torch.from_numpy(START.copy())
    optimiser, path = make([w]), []
    for _ in range(STEPS):
        w.grad = slope(w)
        optimiser.step()
        path.append(w.clone().numpy())
    return np.stack(path)


def measured_slope(objective: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    h, result = 1e-5, np.zeros_like(at)
    for index in np.ndindex(at.shape):
        nudge = np.zeros_like(at)
        nudge[index] = h
        result[index] = (objective(at + nudge) - objective(at - nudge)) / (2 * h)
    return result


def draw(*shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape)


# --- against PyTorch's own optimisers ---------------------------------------------------------------------------


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
def test_momentum_equals_torch_sgd(mu: float) -> None:
    """PyTorch keeps buf' = μ buf + g and subtracts η buf: for a constant η that is -m."""
    w, m, path = START, np.zeros_like(START), []
    for _ in range(STEPS):
        w, m = momentum_step(w, m, slope(w), 0.02, mu)
        path.append(w)
    want = torch_trajectory(lambda p: torch.optim.SGD(p, lr=0.02, momentum=mu))
    np.testing.assert_allclose(np.stack(path), want, rtol=0, atol=1e-12)


def test_the_running_mean_equals_torch_sgd_with_dampening() -> None:
    """PyTorch adds (1 - dampening) g, and starts its buffer at the first gradient, undampened; so do we, here."""
    beta, w, path = 0.8, START, []
    m = slope(w)
    for step in range(STEPS):
        m = m if step == 0 else ema_step(m, slope(w), beta)
        w = w - 0.05 * m
        path.append(w)
    want = torch_trajectory(lambda p: torch.optim.SGD(p, lr=0.05, momentum=beta, dampening=beta))
    np.testing.assert_allclose(np.stack(path), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.5), (0.0, 0.9)])
def test_adam_equals_torch_adam(betas: tuple[float, float]) -> None:
    w, state, path = START, None, []
    for _ in range(STEPS):
        w, state = adam_step(w, slope(w), state, 0.05, *betas)
        path.append(w)
    assert state is not None
    assert state.steps == STEPS
    want = torch_trajectory(lambda p: torch.optim.Adam(p, lr=0.05, betas=betas))
    np.testing.assert_allclose(np.stack(path), want, rtol=0, atol=1e-12)


# --- what each step is a step on --------------------------------------------------------------------------------


def test_momentum_is_a_gradient_step_on_its_objective() -> None:
    w, m, g = draw(2, 3)
    eta, mu = 0.3, 0.8
    objective = measured_slope(lambda a: np.sum(a * g) + (1 - mu) / (2 * eta) * np.sum(a**2), m)
    got_w, got_m = momentum_step(w, m, g, eta, mu)
    np.testing.assert_allclose(got_m, m - eta * objective, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(got_w, w + got_m)


def test_the_printed_sign_climbs() -> None:
    """One step on -⟨m, g⟩ moves the weights along +g, and a loss with that gradient grows."""
    w, _, g = draw(4)
    _, m = momentum_step(w, np.zeros(4), g, 0.1, 1.0)
    assert m @ g < 0
    assert (-m) @ g > 0


def test_momentum_is_the_faded_sum_of_all_gradients() -> None:
    rng = np.random.default_rng(3)
    gradients, m, mu = rng.normal(size=(30, 4)), np.ones(4), 0.7
    for g in gradients:
        _, m = momentum_step(np.zeros(4), m, g, 0.2, mu)
    want = mu**30 * np.ones(4) - 0.2 * sum(mu ** (29 - i) * g for i, g in enumerate(gradients))
    np.testing.assert_allclose(m, want, rtol=0, atol=1e-13)


def test_the_running_mean_is_the_nearest_point() -> None:
    _, m, g = draw(5)
    beta = 0.7
    nearest = ema_step(m, g, beta)
    regret = measured_slope(
        lambda a: beta * np.sum((a - m) ** 2) + (1 - beta) * np.sum((a - g) ** 2), nearest
    )
    np.testing.assert_allclose(regret, 0, atol=1e-9)


# --- how many gradients hold a share ----------------------------------------------------------------------------


def test_seven_and_forty_four() -> None:
    assert gradients_to_hold(0.9, 0.5) == 7
    assert gradients_to_hold(0.9, 0.99) == 44


@pytest.mark.parametrize(
    "beta",
    [Fraction(1, 2), Fraction(9, 10), Fraction(99, 100), Fraction(5, 6), Fraction(2, 3), Fraction(1, 7)],
)
def test_exact_at_every_boundary_and_just_beyond(beta: Fraction) -> None:
    """The share that n gradients hold exactly, rounded to a float: n hold it, and a millionth more needs n + 1."""
    for n in range(1, 1000):
        left = beta**n
        if left < Fraction(1, 10**6):
            break
        assert gradients_to_hold(float(beta), float(1 - left)) == n
        assert gradients_to_hold(float(beta), float(1 - left * (1 - Fraction(1, 10**6)))) == n + 1


def test_against_exact_fractions_away_from_boundaries() -> None:
    rng = np.random.default_rng(0)
    for beta, share in rng.uniform(0.01, 0.98, size=(200, 2)):
        n = gradients_to_hold(beta, share)
        held = [1 - Fraction(float(beta)) ** count for count in (n - 1, n)]
        assert held[0] < Fraction(float(share)) <= held[1]


def test_long_memories_and_none() -> None:
    assert gradients_to_hold(0.0, 0.999) == 1
    assert gradients_to_hold(0.999999, 0.5) == 693147
    assert gradients_to_hold(0.9, 1e-9) == 1


# --- delta momentum ---------------------------------------------------------------------------------------------


def test_the_implicit_write_is_the_exact_minimiser() -> None:
    """½(m'·g + P)² + ‖m' - m‖²/2η by stacking it as least squares: shares no line with the closed form."""
    w, m, g = draw(5)
    eta, target = 0.7, 1.5
    rows = np.vstack([g[None], np.eye(5) / np.sqrt(eta)])
    want = np.linalg.lstsq(rows, np.concatenate([[-target], m / np.sqrt(eta)]), rcond=None)[0]
    got_w, got = delta_momentum_step(w, m, g, eta, 1.0, target, "implicit")
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(got_w, w + got)


def test_both_writes_agree_with_the_explicit_gradient_step_for_small_eta() -> None:
    w, m, g = draw(2, 3)
    target, mu, eta = np.array([[1.0, 0.2], [-0.3, 2.0]]), 0.9, 1e-5

    def objective(a: np.ndarray) -> float:
        return 0.5 * np.sum((a @ g.T + target) ** 2) + (1 - mu) / (2 * eta) * np.sum(a**2)

    want = m - eta * measured_slope(objective, m)
    for write in ("explicit", "implicit"):
        _, got = delta_momentum_step(w, m, g, eta, mu, target, write)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-8)


def test_a_matrix_written_out_entry_by_entry() -> None:
    w, m, g = draw(2, 3)
    target, mu, eta = np.array([[1.0, 0.2], [-0.3, 2.0]]), 0.9, 0.4
    step = eta / (1 + eta * sum(g[i, j] ** 2 for i in range(2) for j in range(3)))
    want = np.zeros((2, 3))
    for i in range(2):
        for j in range(3):
            erased = sum(m[i, a] * g[b, a] * g[b, j] for a in range(3) for b in range(2))
            want[i, j] = mu * m[i, j] - step * erased - eta * sum(target[i, b] * g[b, j] for b in range(2))
    np.testing.assert_allclose(delta_momentum_step(w, m, g, eta, mu, target)[1], want, rtol=0, atol=1e-14)


def test_a_vector_is_one_row_and_a_number_a_multiple_of_the_identity() -> None:
    w, m, g = draw(4)
    flat = delta_momentum_step(w, m, g, 0.4, 0.9, 2.0)
    row = delta_momentum_step(w[None], m[None], g[None], 0.4, 0.9, [[2.0]])
    np.testing.assert_array_equal(np.stack(flat), np.stack(row)[:, 0])
    w, m, g = draw(3, 4)
    np.testing.assert_allclose(
        delta_momentum_step(w, m, g, 0.4, 0.9, 2.0)[1],
        delta_momentum_step(w, m, g, 0.4, 0.9, 2 * np.eye(3))[1],
        rtol=0,
        atol=1e-15,
    )


@pytest.mark.parametrize(("write", "factor"), [("explicit", 1 + 0.3 * 14), ("implicit", 1.0)])
def test_where_it_settles_under_one_repeated_gradient(write: str, factor: float) -> None:
    g, m = np.array([1.0, 2.0, 3.0]), np.zeros(3)  # ‖g‖² = 14
    for _ in range(500):
        _, m = delta_momentum_step(np.zeros(3), m, g, 0.3, 1.0, 1.0, write)
    assert m @ g == pytest.approx(-factor, rel=1e-12)


@pytest.mark.parametrize("eta", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("length", [1e-2, 1.0, 1e3])
def test_the_implicit_erase_is_stable_at_every_rate(eta: float, length: float) -> None:
    """What is in the memory along g shrinks at every step, whatever η; P = 0 leaves only the erase."""
    g, m = length * np.array([0.6, 0.8]), np.array([5.0, -1.0])
    for _ in range(20):
        before = abs(m @ g)
        _, m = delta_momentum_step(np.zeros(2), m, g, eta, 1.0, 0.0)
        assert abs(m @ g) <= before


def test_the_printed_erase_diverges_on_a_steep_gradient_and_ours_does_not() -> None:
    """[P 49] erases with gᵀg, no step size: along g it multiplies by α - ‖g‖², here 0.9 - 4 = -3.1."""
    g, printed, ours = np.array([2.0, 0.0]), np.ones(2), np.ones(2)
    for _ in range(20):
        printed = printed * 0.9 - (printed @ g) * g - 0.1 * g
        _, ours = delta_momentum_step(np.zeros(2), ours, g, 0.1, 0.9)
    assert abs(printed[0]) > 1e8
    assert abs(ours[0]) < 1


# --- Adam as a regression ---------------------------------------------------------------------------------------


def test_the_regression_equals_least_squares() -> None:
    rng = np.random.default_rng(0)
    gradients, weights, target = rng.normal(size=(7, 3)), rng.uniform(size=7), rng.normal(size=3)
    got = adam_regression(gradients, weights, target, 0.2)
    for j in range(3):
        rows = np.append(np.sqrt(weights) * gradients[:, j], np.sqrt(0.2))[:, None]
        wanted = np.append(np.sqrt(weights) * target[j], 0.0)
        assert got[j] == pytest.approx(np.linalg.lstsq(rows, wanted, rcond=None)[0][0], rel=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_torch_adam_with_one_beta_is_a_regression(steps: int) -> None:
    beta, rng = 0.9, np.random.default_rng(steps)
    gradients = rng.normal(size=(steps, 5))
    w = torch.zeros(5, dtype=torch.float64)
    optimiser = torch.optim.Adam([w], lr=1.0, betas=(beta, beta), eps=0.0)
    for g in gradients:
        before = w.clone()
        w.grad = torch.from_numpy(g)
        optimiser.step()
    weights = beta ** np.arange(steps)[::-1]
    weights = weights / weights.sum()
    m = adam_regression(gradients, weights, np.sqrt(weights @ gradients**2))
    np.testing.assert_allclose((w - before).numpy(), -m, rtol=0, atol=1e-12)


def test_two_betas_are_no_such_regression_and_one_is() -> None:
    """Fit the weights of two gradients to Adam's directions at many points: a residual stays unless the betas agree."""
    angles = np.linspace(0.1, 3.0, 40)
    pairs = np.stack([np.cos(angles), np.sin(angles)])  # (2, 40): first and second gradient

    def least_residual(beta1: float, beta2: float) -> float:
        state = None
        for g in pairs:
            w, state = adam_step(np.zeros(40), g, state, 1.0, beta1, beta2, 0.0)
        ratios, best = np.geomspace(1e-3, 1, 2000), np.inf
        for ratio in [*ratios, beta2]:
            weights = np.array([ratio, 1.0])
            m = adam_regression(pairs, weights, np.sqrt(weights @ pairs**2))
            scale = (m @ -w) / (m @ m)  # the free common factor of the weights
            best = min(best, float(np.abs(scale * m + w).max()))
        return best

    assert least_residual(0.9, 0.9) < 1e-12
    assert least_residual(0.5, 0.9) > 0.02


# --- bad input --------------------------------------------------------------------------------------------------

ONE, STATE = np.ones(3), AdamState(np.ones(3), np.ones(3), 1)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (momentum_step, (ONE, ONE[:2], ONE, 0.1, 0.9), r"m must have shape \(3,\), got \(2,\)"),
        (momentum_step, (ONE, ONE, ONE[:2], 0.1, 0.9), r"gradient must have shape \(3,\), got \(2,\)"),
        (momentum_step, (ONE, ONE, ONE, -0.3, 0.9), "eta must be >= 0, got min -0.3"),
        (momentum_step, (ONE, ONE, ONE, 0.1, 1.5), "mu must be <= 1, got max 1.5"),
        (momentum_step, (ONE, ONE, ONE * np.nan, 0.1, 0.9), "gradient must be finite, got 3 NaN"),
        (momentum_step, (ONE.astype(np.float32), ONE, ONE, 0.1, 0.9), r"w must be float64.*got dtype float32"),
        (momentum_step, (ONE, ONE, ONE, ONE, 0.9), r"eta must have shape \(\), got \(3,\)"),
        (ema_step, (ONE, ONE[:2], 0.9), r"gradient must have shape \(3,\), got \(2,\)"),
        (ema_step, (ONE, ONE, 1.1), "beta must be <= 1, got max 1.1"),
        (ema_step, (ONE, ONE, -0.1), "beta must be >= 0, got min -0.1"),
        (gradients_to_hold, (1.0, 0.5), "beta must be < 1, got 1"),
        (gradients_to_hold, (-0.1, 0.5), "beta must be >= 0, got min -0.1"),
        (gradients_to_hold, (0.9, 1), "share must be < 1, got 1"),
        (gradients_to_hold, (0.9, 0), "share must be > 0, got 0"),
        (delta_momentum_step, (1.0, 1.0, 1.0, 0.1, 0.9), r"w must have shape \(columns,\) or \(rows, columns\), got \(\)"),
        (delta_momentum_step, (ONE, ONE, ONE[:2], 0.1, 0.9), r"gradient must have shape \(3,\), got \(2,\)"),
        (delta_momentum_step, (ONE, ONE, ONE, -1, 0.9), "eta must be >= 0, got min -1"),
        (delta_momentum_step, (ONE, ONE, ONE, 0.1, 0.9, np.eye(3)), r"target must have shape \(1, 1\), got \(3, 3\)"),
        (delta_momentum_step, (ONE, ONE, ONE, 0.1, 0.9, np.inf), "target must be finite"),
        (delta_momentum_step, (ONE, ONE, ONE, 0.1, 0.9, 1.0, "both"), "write must be one of 'explicit', 'implicit', got 'both'"),
        (adam_step, (ONE, ONE[:2]), r"gradient must have shape \(3,\), got \(2,\)"),
        (adam_step, (ONE, ONE, STATE._replace(m=ONE[:2])), r"state.m must have shape \(3,\), got \(2,\)"),
        (adam_step, (ONE, ONE, STATE._replace(second_moment=ONE[:2])), r"state.second_moment must have shape \(3,\)"),
        (adam_step, (ONE, ONE, None, 0.1, 1.0), "beta1 must be < 1, got 1"),
        (adam_step, (ONE, ONE, None, 0.1, 0.9, 1.0), "beta2 must be < 1, got 1"),
        (adam_step, (ONE, 0 * ONE, None, 0.1, 0.9, 0.9, 0), "epsilon must be > 0 where every gradient so far was 0, got 0"),
        (adam_regression, (np.ones((0, 3)), [], ONE, 0), r"gradients must have shape \(n, \.\.\.\) with n >= 1, got \(0, 3\)"),
        (adam_regression, (np.ones((2, 3)), ONE, ONE, 0), r"weights must have shape \(2,\), got \(3,\)"),
        (adam_regression, (np.ones((2, 3)), [1, -1], ONE, 0), "weights must be >= 0, got min -1"),
        (adam_regression, (np.ones((2, 3)), [1, 1], ONE[:2], 0), r"target must have shape \(3,\), got \(2,\)"),
        (adam_regression, (np.ones((2, 3)), [1, 1], ONE, -1), "lam must be >= 0, got min -1"),
        (adam_regression, (np.zeros((2, 3)), [1, 1], ONE, 0), "lam must be > 0 where every weighted gradient is 0, got 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(function: Callable[..., Any], arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(*arguments)
