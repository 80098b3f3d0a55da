"""The optimiser for linear layers: against a literal formula per layer, its limits, and what it trains to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hope_ref.parallel.delta_gradient_descent import DeltaGradientDescent, delta_gradient_descent_step


@pytest.fixture(autouse=True)
def double_precision() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(seed: int = 0, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6, bias=bias), nn.Tanh(), nn.Linear(6, 2, bias=bias))


def batch(size: int = 7, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 4, generator=generator), torch.randn(size, 2, generator=generator)


def loss_of(model: nn.Module, x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    each = 0.5 * ((model(x) - target) ** 2).sum(-1)
    return each.mean() if reduction == "mean" else each.sum()


def literal(
    linear: nn.Linear, rows: Tensor, grad_rows: Tensor, lr: float, share: float
) -> tuple[Tensor, Tensor | None]:
    """argmin (s/2) Σ‖W x_n + b - u_n‖² + (‖W - W_t‖² + ‖b - b_t‖²)/(2 lr) from inputs and output gradients, by inversion.

    ``grad_rows`` are the loss's gradients at the layer's outputs, s times those of each sample: u_n = -grad_rows / s.
    """
    start = linear.weight.detach()
    if linear.bias is not None:
        rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
        start = torch.cat([start, linear.bias.detach()[:, None]], 1)
    wanted = -grad_rows / share
    right = share * wanted.T @ rows + start / lr
    moved = right @ torch.linalg.inv(share * rows.T @ rows + torch.eye(rows.shape[1]) / lr)
    return (moved[:, :-1], moved[:, -1]) if linear.bias is not None else (moved, None)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("lr", [1e-3, 0.5, 100.0])
def test_equals_a_literal_formula_in_every_layer(reduction: str, bias: bool, lr: float) -> None:
    model, (x, target) = network(bias=bias), batch()
    inputs, outputs = {}, {}

    def look(index: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            inputs[index], outputs[index] = args[0].detach(), output
            output.retain_grad()

        return hook

    for index in (0, 2):  # the test's own eyes: inputs and output gradients of both layers
        model[index].register_forward_hook(look(index))
    optimizer = DeltaGradientDescent(model, lr, reduction)
    loss_of(model, x, target, reduction).backward()
    share = 1.0 if reduction == "sum" else 1 / len(x)
    want = {i: literal(model[i], inputs[i], outputs[i].grad, lr, share) for i in (0, 2)}
    optimizer.step()
    for index, (weight, shift) in want.items():
        torch.testing.assert_close(model[index].weight.detach(), weight, rtol=0, atol=1e-12)
        if shift is not None:
            torch.testing.assert_close(model[index].bias.detach(), shift, rtol=0, atol=1e-12)


def test_one_sample_is_the_rank_one_step() -> None:
    linear = nn.Linear(4, 2, bias=False)
    x, target = torch.randn(4), torch.randn(2)
    start = linear.weight.detach().clone()
    optimizer = DeltaGradientDescent(linear, 0.7)
    (0.5 * ((linear(x) - target) ** 2).sum()).backward()
    optimizer.step()
    want = delta_gradient_descent_step(start, x, start @ x - target, 0.7)
    torch.testing.assert_close(linear.weight.detach(), want, rtol=0, atol=1e-13)


def test_small_rates_are_gradient_descent_with_a_decay_of_the_outputs() -> None:
    """Equal up to O(lr²) to SGD on loss + (s/2) Σ‖W x_n‖², and different from plain SGD in first order already."""
    x, target = batch()
    distances, plain = [], []
    for lr in (1e-3, 1e-4, 1e-5):
        models = [nn.Linear(4, 2) for _ in range(3)]
        for model in models[1:]:
            model.load_state_dict(models[0].state_dict())
        optimizers = [
            DeltaGradientDescent(models[0], lr),
            *(torch.optim.SGD(m.parameters(), lr) for m in models[1:]),
        ]
        penalty = 0.5 * (models[1](x) ** 2).sum(-1).mean()
        for model, extra in zip(models, (0.0, penalty, 0.0), strict=True):
            (loss_of(model, x, target) + extra).backward()
        for optimizer in optimizers:
            optimizer.step()
        distances.append(float((models[0].weight - models[1].weight).detach().abs().max()) / lr**2)
        plain.append(float((models[0].weight - models[2].weight).detach().abs().max()) / lr)
    assert max(distances) < 20
    assert min(plain) > 0.01


def test_no_rate_moves_nothing_at_all() -> None:
    model, (x, target) = network(), batch()
    before = copy.deepcopy(model.state_dict())
    optimizer = DeltaGradientDescent(model, 0.0)
    loss_of(model, x, target).backward()
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def train(
    lr: float, count: int, make: Callable[[nn.Module, float], torch.optim.Optimizer]
) -> tuple[nn.Module, list[float]]:
    """A small regression: two layers, 64 inputs, a target that they can learn."""
    x, _ = batch(64)
    target = torch.tanh(x @ torch.tensor([[1.0, -1.0], [0.5, 1.0], [-1.0, 0.3], [0.2, 0.8]]))
    model, losses = network(), []
    optimizer = make(model, lr)
    for _ in range(count):
        optimizer.zero_grad()
        loss = loss_of(model, x, target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return model, losses


def sgd(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr)


@pytest.mark.parametrize("lr", [0.1, 1.0])
def test_trains_a_network(lr: float) -> None:
    _, losses = train(lr, 150, DeltaGradientDescent)
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("lr", [100.0, 1e6, 1e9])
def test_huge_rates_do_not_overflow_where_sgd_does(lr: float) -> None:
    """Finite, not useful: the targets move with W, so that a network needs a moderate rate all the same."""
    model, losses = train(lr, 150, DeltaGradientDescent)
    assert bool(torch.isfinite(torch.tensor(losses)).all())
    assert all(float(p.detach().abs().max()) < 1e3 * lr for p in model.parameters())
    assert not bool(torch.isfinite(torch.tensor(train(lr, 150, sgd)[1])).all())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("lr", [0.5, 50.0, 1e6])
def test_a_regression_moves_toward_half_the_least_squares_solution_at_any_rate(
    reduction: str, lr: float
) -> None:
    """In each direction of the inputs by 1 - 2 η̃λ², in (-1, 1) for every rate: slowly if the rate is huge."""
    x, target = batch(20)
    half = torch.linalg.lstsq(x, target).solution.T / 2
    linear = nn.Linear(4, 2, bias=False)
    optimizer = DeltaGradientDescent(linear, lr, reduction)
    spectrum, vectors = torch.linalg.eigh(x.T @ x * (1 if reduction == "sum" else 1 / 20))
    factor = 1 - 2 * lr * spectrum / (1 + lr * spectrum)
    assert bool((factor.abs() < 1).all())
    for _ in range(30):
        before = (linear.weight.detach() - half) @ vectors
        optimizer.zero_grad()
        loss_of(linear, x, target, reduction).backward()
        optimizer.step()
        after = (linear.weight.detach() - half) @ vectors
        torch.testing.assert_close(after, factor * before, rtol=0, atol=1e-8 if lr == 1e6 else 1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_regression_comes_to_rest_at_half_the_least_squares_solution(reduction: str) -> None:
    x, target = batch(20)
    linear = nn.Linear(4, 2, bias=False)
    optimizer = DeltaGradientDescent(linear, 0.5 if reduction == "mean" else 0.05, reduction)
    for _ in range(400):
        optimizer.zero_grad()
        loss_of(linear, x, target, reduction).backward()
        optimizer.step()
    best = torch.linalg.lstsq(x, target).solution.T
    torch.testing.assert_close(linear.weight.detach(), best / 2, rtol=0, atol=1e-10)
