"""Gradient descent as a memory: against finite differences, PyTorch's autograd and optimiser, and plain minimisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.reference.delta_rule import delta_rule
from hope_ref.reference.gradient_descent import (
    gradient_descent_step,
    mlp,
    mlp_surprises,
    proximal_objective,
    train_linear,
)

SIZES = [(1, 1, 1), (2, 3, 1), (3, 2, 5), (4, 7, 12)]  # d_out, d_in, N


def draw(d_out: int, d_in: int, count: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=(d_out, d_in)),
        "x": rng.normal(size=(count, d_in)),
        "grad_y": rng.normal(size=(count, d_out)),
        "eta": rng.uniform(0, 0.3, size=count),
    }


def log_sum_exp(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A loss that is no quadratic: Σ_n log Σ_i exp(y_ni), y = x Wᵀ."""
    return torch.logsumexp(x @ w.T, -1).sum()


def slopes(function: Callable[[np.ndarray], float], at: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """Central differences, one entry at a time."""
    found = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        nudge = np.zeros_like(at)
        nudge[index] = h
        found[index] = (function(at + nudge) - function(at - nudge)) / (2 * h)
    return found


# --- one step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d_out", "d_in", "count"), SIZES)
def test_step_is_torch_sgd_on_a_loss_that_is_no_quadratic(d_out: int, d_in: int, count: int) -> None:
    drawn = draw(d_out, d_in, count)
    w, x = torch.from_numpy(drawn["w"].copy()).requires_grad_(), torch.from_numpy(drawn["x"])
    optimiser = torch.optim.SGD([w], lr=0.2)
    y = x @ w.detach().T
    grad_y = torch.softmax(y, -1).numpy()  # the gradient of log Σ exp
    log_sum_exp(w, x).backward()
    optimiser.step()
    got = gradient_descent_step(drawn["w"], drawn["x"], grad_y, 0.2)
    np.testing.assert_allclose(got, w.detach().numpy(), rtol=0, atol=1e-13)


def test_step_follows_the_measured_slope() -> None:
    drawn = draw(2, 3, 4)
    x, target = drawn["x"], drawn["grad_y"]

    def loss(w: np.ndarray) -> float:
        return float(0.5 * np.sum((x @ w.T - target) ** 2))

    w = drawn["w"]
    got = gradient_descent_step(w, x, x @ w.T - target, 0.1)
    np.testing.assert_allclose(got, w - 0.1 * slopes(loss, w), rtol=0, atol=1e-8)


def test_one_input_equals_a_batch_of_one_and_batches_add_up() -> None:
    w, x, grad_y, eta = draw(3, 4, 6).values()
    np.testing.assert_array_equal(
        gradient_descent_step(w, x[0], grad_y[0], eta[0]),
        gradient_descent_step(w, x[:1], grad_y[:1], eta[:1]),
    )
    singles = sum(gradient_descent_step(w, x[n], grad_y[n], eta[n]) - w for n in range(6))
    np.testing.assert_allclose(gradient_descent_step(w, x, grad_y, eta) - w, singles, rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        gradient_descent_step(w, x, grad_y, 0.1),
        w - 0.1 * np.einsum("ni,nj->ij", grad_y, x),
        rtol=0,
        atol=1e-14,
    )


def test_an_empty_batch_and_eta_zero_change_nothing() -> None:
    w, x, grad_y, _ = draw(3, 4, 6).values()
    np.testing.assert_array_equal(gradient_descent_step(w, x[:0], grad_y[:0], 0.5), w)
    np.testing.assert_array_equal(gradient_descent_step(w, x, grad_y, 0), w)


def test_arguments_are_not_changed() -> None:
    w, x, grad_y, eta = draw(3, 4, 6).values()
    kept = w.copy()
    gradient_descent_step(w, x, grad_y, eta)
    train_linear(w, x, grad_y, eta)
    np.testing.assert_array_equal(w, kept)


# --- the proximal problem -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.01, 0.3, 5.0])
def test_the_step_beats_every_other_weight(eta: float) -> None:
    w, x, grad_y, _ = draw(3, 4, 1).values()
    best = gradient_descent_step(w, x[0], grad_y[0], eta)
    least = proximal_objective(best, w, x[0], grad_y[0], eta)
    rng = np.random.default_rng(1)
    for _ in range(200):
        away = rng.normal(size=w.shape) * 10 ** rng.uniform(-3, 1)
        more = proximal_objective(best + away, w, x[0], grad_y[0], eta) - least
        # a quadratic around its minimum: exactly ‖away‖² / (2 η) higher
        np.testing.assert_allclose(more, np.sum(away**2) / (2 * eta), rtol=1e-6, atol=1e-9)


def test_minimising_the_objective_numerically_ends_at_the_step() -> None:
    w, x, grad_y, _ = draw(3, 4, 1).values()
    eta, found = 0.7, np.zeros_like(w)
    for _ in range(
        60
    ):  # plain descent along measured slopes; the curvature is 1 / η, so each pass halves the error
        found = found - 0.5 * eta * slopes(
            lambda at: proximal_objective(at, w, x[0], grad_y[0], eta), found, h=1e-3
        )
    np.testing.assert_allclose(found, gradient_descent_step(w, x[0], grad_y[0], eta), rtol=0, atol=1e-9)


def test_the_printed_sign_is_minimised_uphill() -> None:
    """With u = -∇_y L in the place of ∇_y L, [S 16], the minimiser raises the loss that it is to lower."""
    w, x, _, _ = draw(3, 4, 1).values()
    target = np.array([1.0, -1.0, 0.5])
    u = target - w @ x[0]  # minus the gradient
    uphill = w - 0.01 * np.outer(u, x[0])
    assert proximal_objective(uphill, w, x[0], u, 0.01) < proximal_objective(w, w, x[0], u, 0.01)

    def loss(at: np.ndarray) -> float:
        return float(0.5 * np.sum((at @ x[0] - target) ** 2))

    assert loss(uphill) > loss(w) > loss(gradient_descent_step(w, x[0], -u, 0.01))


# --- training as writing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d_out", "d_in", "count"), SIZES)
def test_training_is_torch_autograd_token_by_token(d_out: int, d_in: int, count: int) -> None:
    w, inputs, targets, eta = draw(d_out, d_in, count).values()
    weight = torch.from_numpy(w.copy())
    wanted = []
    for t in range(count):
        weight.requires_grad_()
        y = weight @ torch.from_numpy(inputs[t])
        y.retain_grad()
        (0.5 * (y - torch.from_numpy(targets[t])).pow(2).sum()).backward()
        assert y.grad is not None
        assert weight.grad is not None
        wanted.append(-y.grad.numpy())
        weight = (weight - eta[t] * weight.grad).detach()
    final, surprises = train_linear(w, inputs, targets, eta)
    np.testing.assert_allclose(final, weight.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(surprises, wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(final - w, (eta[:, None] * surprises).T @ inputs, rtol=0, atol=1e-12)


def test_all_surprises_solve_one_triangular_system() -> None:
    """v_t + Σ_{s<t} η_s (x_sᵀ x_t) v_s = target_t - W_0 x_t, unrolled by hand and solved by LAPACK."""
    w, inputs, targets, eta = draw(3, 5, 9).values()
    system = np.eye(9) + np.tril(inputs @ inputs.T, -1) * eta
    wanted = np.linalg.solve(system, targets - inputs @ w.T)
    np.testing.assert_allclose(train_linear(w, inputs, targets, eta)[1], wanted, rtol=0, atol=1e-12)


def test_training_is_the_delta_rule() -> None:
    w, inputs, targets, eta = draw(3, 5, 9).values()
    _, memory = delta_rule(inputs, inputs, targets, eta, w)
    np.testing.assert_allclose(train_linear(w, inputs, targets, eta)[0], memory, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", range(9))
def test_rank_of_the_update(count: int) -> None:
    """Each sample adds one direction until one side of the matrix is full."""
    w, inputs, targets, _ = draw(4, 6, count).values()
    final, _ = train_linear(w, inputs, targets, 0.1)
    assert np.linalg.matrix_rank(final - w, tol=1e-9) == min(count, 4, 6)


def test_a_repeated_input_adds_no_rank() -> None:
    w, inputs, targets, _ = draw(4, 6, 2).values()
    final, _ = train_linear(w, np.repeat(inputs, 5, 0), np.repeat(targets, 5, 0), 0.1)
    assert np.linalg.matrix_rank(final - w, tol=1e-9) == 2


def test_the_first_input_changes_later_values() -> None:
    w, inputs, targets, _ = draw(3, 5, 6).values()
    changed = inputs.copy()
    changed[0] += 1.0
    before, after = (train_linear(w, x, targets, 0.1)[1] for x in (inputs, changed))
    assert np.linalg.norm(after - before, axis=1).min() > 1e-3
    # with inputs orthogonal to each other nobody reads what was written: then the values are given, as in attention
    basis = np.eye(5)
    before, after = (train_linear(w, x, targets[:5], 0.1)[1] for x in (basis, np.diag([2.0, 1, 1, 1, 1])))
    np.testing.assert_allclose(after[1:], before[1:], rtol=0, atol=1e-15)


# --- two layers -----------------------------------------------------------------------------------------------------

SHAPES = [(1, 1, 1), (2, 3, 4), (5, 4, 2)]  # d_out, h, d_in


def network(d_out: int, hidden: int, d_in: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(d_out)
    return (
        rng.normal(size=(d_out, hidden)),
        rng.normal(size=(hidden, d_in)),
        rng.normal(size=(7, d_in)),
        rng.normal(size=(7, d_out)),
    )


@pytest.mark.parametrize(("d_out", "hidden", "d_in"), SHAPES)
def test_surprises_are_autograds_gradients(d_out: int, hidden: int, d_in: int) -> None:
    w1, w2, x, target = network(d_out, hidden, d_in)
    layers = [torch.from_numpy(w).requires_grad_() for w in (w1, w2)]
    y = torch.nn.functional.silu(torch.from_numpy(x) @ layers[1].T) @ layers[0].T
    np.testing.assert_allclose(mlp(w1, w2, x), y.detach().numpy(), rtol=0, atol=1e-13)
    (0.5 * (y - torch.from_numpy(target)).pow(2).sum()).backward()
    told = mlp_surprises(w1, w2, x, mlp(w1, w2, x) - target)
    for layer, surprise, given in (
        (layers[0], told.w1_surprise, told.w1_input),
        (layers[1], told.w2_surprise, told.w2_input),
    ):
        assert layer.grad is not None
        np.testing.assert_allclose(-surprise.T @ given, layer.grad.numpy(), rtol=0, atol=1e-12)


def test_surprises_are_the_measured_slopes_for_one_input() -> None:
    w1, w2, x, grad_y = (a[0] if i > 1 else a for i, a in enumerate(network(2, 3, 4)))
    told = mlp_surprises(w1, w2, x, grad_y)
    slope_1 = slopes(lambda w: float(grad_y @ mlp(w, w2, x)), w1)
    slope_2 = slopes(lambda w: float(grad_y @ mlp(w1, w, x)), w2)
    np.testing.assert_allclose(-np.outer(told.w1_surprise, told.w1_input), slope_1, rtol=0, atol=1e-8)
    np.testing.assert_allclose(-np.outer(told.w2_surprise, told.w2_input), slope_2, rtol=0, atol=1e-8)


def test_a_row_of_a_batch_is_told_what_it_is_told_alone() -> None:
    w1, w2, x, grad_y = network(2, 3, 4)
    batch = mlp_surprises(w1, w2, x, grad_y)
    for n in range(len(x)):
        np.testing.assert_allclose(mlp(w1, w2, x)[n], mlp(w1, w2, x[n]), rtol=0, atol=1e-14)
        for together, alone in zip(batch, mlp_surprises(w1, w2, x[n], grad_y[n]), strict=True):
            np.testing.assert_allclose(together[n], alone, rtol=0, atol=1e-14)


# --- bad input ------------------------------------------------------------------------------------------------------

W, X, G = np.ones((2, 3)), np.ones((4, 3)), np.ones((4, 2))
W1, W2 = np.ones((2, 5)), np.ones((5, 3))


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (gradient_descent_step, (W[0], X, G, 0.1), r"w must have shape \(d_out, d_in\), got \(3,\)"),
        (gradient_descent_step, (W, X.T, G, 0.1), r"x must have shape \(N, 3\), got \(3, 4\)"),
        (gradient_descent_step, (W, np.ones(2), G[0], 0.1), r"x must have shape \(3,\), got \(2,\)"),
        (gradient_descent_step, (W, np.float64(1), G, 0.1), r"x must have shape \(N, 3\), got \(\)"),
        (gradient_descent_step, (W, X, G[:3], 0.1), r"grad_y must have shape \(4, 2\), got \(3, 2\)"),
        (gradient_descent_step, (W, X[0], G, 0.1), r"grad_y must have shape \(2,\), got \(4, 2\)"),
        (gradient_descent_step, (W, X, G, -0.3), "eta must be >= 0, got min -0.3"),
        (gradient_descent_step, (W, X[0], G[0], -0.3), "eta must be >= 0, got min -0.3"),
        (gradient_descent_step, (W, X, G, np.ones(3)), r"eta must have shape \(4,\), got \(3,\)"),
        (gradient_descent_step, (W, X[0], G[0], np.ones(1)), r"eta must have shape \(\), got \(1,\)"),
        (gradient_descent_step, (W, X, G, np.nan), "eta must be finite, got 1 NaN"),
        (gradient_descent_step, (W.astype(np.float32), X, G, 0.1), "w must be float64 .* got dtype float32"),
        (gradient_descent_step, (W, X * np.nan, G, 0.1), "x must be finite, got 12 NaN"),
        (proximal_objective, (W, W.T, X[0], G[0], 0.1), r"w_start must have shape \(2, 3\), got \(3, 2\)"),
        (proximal_objective, (W, W, X, G[0], 0.1), r"x must have shape \(3,\), got \(4, 3\)"),
        (proximal_objective, (W, W, X[0], X[0], 0.1), r"grad_y must have shape \(2,\), got \(3,\)"),
        (proximal_objective, (W, W, X[0], G[0], 0), "eta must be > 0, got 0"),
        (proximal_objective, (W, W, X[0], G[0], -1), "eta must be >= 0, got min -1"),
        (train_linear, (W, X[0], G, 0.1), r"inputs must have shape \(T, 3\), got \(3,\)"),
        (train_linear, (W, X, G.T, 0.1), r"targets must have shape \(4, 2\), got \(2, 4\)"),
        (train_linear, (W, X, G, [-1, 0, 0, 0]), "eta must be >= 0, got min -1"),
        (train_linear, (W, X, G.astype(complex), 0.1), "targets must be float64 .* got dtype complex128"),
        (mlp, (W1.T, W2, X), r"w1 must have shape \(d_out, 5\), got \(5, 2\)"),
        (mlp, (W1, W2[0], X), r"w2 must have shape \(h, d_in\), got \(3,\)"),
        (mlp, (W1, W2, X.T), r"x must have shape \(N, 3\), got \(3, 4\)"),
        (mlp_surprises, (W1, W2, X, G[0]), r"grad_y must have shape \(4, 2\), got \(2,\)"),
        (mlp_surprises, (W1, W2, X, G * np.inf), "grad_y must be finite, got 8 NaN or infinite"),
    ],
)
def test_bad_input(function: Callable[..., Any], arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(*arguments)
