"""What the optimiser's hooks must not miss: every way to a gradient, groups, state, closures, and bad input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hope_ref.parallel.delta_gradient_descent import DeltaGradientDescent


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


def steps(
    change: Callable[[nn.Module, DeltaGradientDescent, Tensor, Tensor], None], **options: Any
) -> dict[str, Tensor]:
    """Run one way of making gradients, take one step, return the parameters."""
    model, (x, target) = network(), batch(8)
    optimizer = DeltaGradientDescent(model, 0.5, **options)
    change(model, optimizer, x, target)
    optimizer.step()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def once(model: nn.Module, optimizer: DeltaGradientDescent, x: Tensor, target: Tensor) -> None:
    loss_of(model, x, target).backward()


def once_sum(model: nn.Module, optimizer: DeltaGradientDescent, x: Tensor, target: Tensor) -> None:
    loss_of(model, x, target, "sum").backward()


def _looks_first(model: nn.Module, optimizer: DeltaGradientDescent, x: Tensor, target: Tensor) -> None:
    with torch.no_grad():
        model(100 * x)
    with torch.inference_mode():
        model(100 * x)
    model(100 * x)  # with gradients, but no backward pass
    once(model, optimizer, x, target)


def _in_halves(model: nn.Module, optimizer: DeltaGradientDescent, x: Tensor, target: Tensor) -> None:
    (loss_of(model, x[:4], target[:4]) / 2).backward()
    (loss_of(model, x[4:], target[4:]) / 2).backward()


def _in_unequal_parts(model: nn.Module, optimizer: DeltaGradientDescent, x: Tensor, target: Tensor) -> None:
    for part in (slice(0, 1), slice(1, 6), slice(6, 8)):
        loss_of(model, x[part], target[part], "sum").backward()


def _after_clearing(clear: str) -> Callable[[nn.Module, DeltaGradientDescent, Tensor, Tensor], None]:
    def change(model: nn.Module, optimizer: DeltaGradientDescent, x: Tensor, target: Tensor) -> None:
        loss_of(model, 3 * x, target).backward()
        if clear == "optimizer":
            optimizer.zero_grad()
        elif clear == "optimizer, to zero":
            optimizer.zero_grad(set_to_none=False)
        elif clear == "model":
            model.zero_grad()
        else:
            for parameter in model.parameters():
                parameter.grad = None
        once(model, optimizer, x, target)

    return change


def _after_autograd_grad(
    model: nn.Module, optimizer: DeltaGradientDescent, x: Tensor, target: Tensor
) -> None:
    torch.autograd.grad(loss_of(model, 3 * x, target), list(model.parameters()))
    optimizer.zero_grad()
    once(model, optimizer, x, target)


def _with_sequence_axes(model: nn.Module, optimizer: DeltaGradientDescent, x: Tensor, target: Tensor) -> None:
    (0.5 * ((model(x.reshape(2, 4, 4)) - target.reshape(2, 4, 2)) ** 2).sum(-1)).mean().backward()


def _by_keyword(model: nn.Module, optimizer: DeltaGradientDescent, x: Tensor, target: Tensor) -> None:
    first, _, last = model
    out = last(input=torch.tanh(first(input=x)))
    (0.5 * ((out - target) ** 2).sum(-1)).mean().backward()


SAME = [
    (once, _looks_first, {}),
    (once, _in_halves, {}),
    (once_sum, _in_unequal_parts, {"reduction": "sum"}),
    *((once, _after_clearing(how), {}) for how in ("optimizer", "optimizer, to zero", "model", "parameters")),
    (once, _after_autograd_grad, {}),
    (once, _with_sequence_axes, {}),
    (once, _by_keyword, {}),
]


@pytest.mark.parametrize(
    ("one", "other", "options"), SAME, ids=[getattr(o, "__name__", "") for _, o, _ in SAME]
)
def test_ways_to_the_same_gradient_take_the_same_step(one: Any, other: Any, options: dict[str, Any]) -> None:
    want, got = steps(one, **options), steps(other, **options)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=1e-13, msg=name)


class TwoCalls(nn.Module):
    """One layer used twice in one forward pass, or two modules that share one weight."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False) if tied else self.first
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize("tied", [False, True], ids=["one layer twice", "two layers, one weight"])
def test_a_layer_used_twice_counts_both_uses(tied: bool) -> None:
    torch.manual_seed(3)
    model = TwoCalls(tied)
    x, target = torch.randn(6, 4), torch.randn(6, 4)
    start = model.first.weight.detach().clone()
    hidden = torch.tanh(x @ start.T)
    optimizer = DeltaGradientDescent(model, 0.5, "sum")
    loss_of(model, x, target, "sum").backward()
    grad = model.first.weight.grad
    assert grad is not None
    rows = torch.cat([x, hidden])
    want = (start - 0.5 * grad) @ torch.linalg.inv(torch.eye(4) + 0.5 * rows.T @ rows)
    optimizer.step()
    torch.testing.assert_close(model.first.weight.detach(), want, rtol=0, atol=1e-12)
    optimizer.zero_grad()
    loss_of(model, x, target, "sum").backward()
    assert optimizer._layers[model.first.weight].rows == 12


def test_a_layer_named_twice_is_watched_once() -> None:
    x, target = batch()
    moved = []
    for times in (1, 2):
        torch.manual_seed(0)
        linear = nn.Linear(4, 2)
        optimizer = DeltaGradientDescent([linear] * times, 0.5, "sum")
        loss_of(linear, x, target).backward()
        optimizer.step()
        moved.append(linear.weight.detach())
    assert torch.equal(*moved)


def test_groups_have_their_own_rates_and_reductions() -> None:
    model, (x, target) = network(), batch()
    both = DeltaGradientDescent(
        [{"modules": model[0], "lr": 0.0}, {"modules": [model[2]], "reduction": "sum"}], lr=0.5
    )
    before = copy.deepcopy(model.state_dict())
    loss_of(model, x, target, "sum").backward()
    both.step()
    after = model.state_dict()
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert torch.equal(before["0.bias"], after["0.bias"])
    assert not torch.equal(before["2.weight"], after["2.weight"])
    assert [(g["lr"], g["reduction"]) for g in both.param_groups] == [(0.0, "mean"), (0.5, "sum")]


def test_a_layer_without_a_gradient_rests() -> None:
    model, (x, target) = network(), batch()
    optimizer = DeltaGradientDescent(model, 0.5)
    loss_of(model, x, target).backward()
    model[0].weight.grad = model[0].bias.grad = None
    before = model[0].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[0].weight, before)


def test_closure_is_called_with_gradients_on_and_its_loss_returned() -> None:
    model, (x, target) = network(), batch()
    optimizer = DeltaGradientDescent(model, 0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, x, target)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert first.requires_grad
    assert optimizer.step(closure).item() < first.item()


def test_state_dict_round_trip() -> None:
    model, (x, target) = network(), batch()
    optimizer = DeltaGradientDescent(
        [{"modules": model[0], "lr": 0.1}, {"modules": model[2]}], lr=0.3, reduction="sum"
    )
    saved = copy.deepcopy(optimizer.state_dict())
    twin = network()
    fresh = DeltaGradientDescent([{"modules": twin[0]}, {"modules": twin[2]}], lr=9.0)
    fresh.load_state_dict(saved)
    assert fresh.state_dict() == saved
    for one, other in ((model, optimizer), (twin, fresh)):
        loss_of(one, x, target).backward()
        other.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_scheduler_moves_the_rate() -> None:
    model, (x, target) = network(), batch()
    optimizer = DeltaGradientDescent(model, 0.5)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    loss_of(model, x, target).backward()
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_hooks_come_off() -> None:
    model, (x, target) = network(), batch()
    optimizer = DeltaGradientDescent(model, 0.5)
    optimizer.remove_hooks()
    assert not any(m._forward_hooks for m in model.modules())
    loss_of(model, x, target).backward()
    with pytest.raises(
        ValueError, match=r"'0' must have seen inputs before step\(\), got a gradient without any"
    ):
        optimizer.step()
    optimizer.remove_hooks()  # twice is harmless


def test_a_weight_frozen_later_is_left_alone() -> None:
    model, (x, target) = network(), batch()
    optimizer = DeltaGradientDescent(model, 0.5)
    model[2].requires_grad_(False)
    before = model[2].weight.detach().clone()
    loss_of(model, x, target).backward()
    optimizer.step()
    assert torch.equal(model[2].weight, before)
    assert not optimizer._layers[model[2].weight].waiting  # and nothing piles up


def test_a_gradient_for_one_of_weight_and_bias_is_refused() -> None:
    model, (x, target) = network(), batch()
    optimizer = DeltaGradientDescent(model, 0.5)
    loss_of(model, x, target).backward()
    model[0].bias.grad = None
    with pytest.raises(
        ValueError, match="'0' must have a gradient for its weight and its bias, got only one"
    ):
        optimizer.step()


def test_half_precision_is_solved_in_single() -> None:
    linear = nn.Linear(4, 2).bfloat16()
    optimizer = DeltaGradientDescent(linear, 0.5)
    linear(torch.randn(5, 4).bfloat16()).float().square().mean().backward()
    optimizer.step()
    assert linear.weight.dtype == torch.bfloat16
    assert optimizer._layers[linear.weight].gram.dtype == torch.float32
    assert torch.isfinite(linear.weight).all()


def test_single_precision_stays_near_double() -> None:
    moved = []
    for dtype in (torch.float32, torch.float64):
        model, (x, target) = network().to(dtype), batch()
        optimizer = DeltaGradientDescent(model, 10.0)
        for _ in range(5):
            optimizer.zero_grad()
            loss_of(model, x.to(dtype), target.to(dtype)).backward()
            optimizer.step()
        moved.append(model[0].weight.detach().double())
    torch.testing.assert_close(moved[0], moved[1], rtol=0, atol=1e-3)


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2).requires_grad_(False)


def shared_weight_with_two_biases() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: DeltaGradientDescent(network(), -0.1), "lr must be a number >= 0, got -0.1"),
    (lambda: DeltaGradientDescent(network(), float("nan")), "lr must be a number >= 0, got nan"),
    (
        lambda: DeltaGradientDescent(network(), 1.0, "none"),
        "reduction must be one of 'mean', 'sum', got 'none'",
    ),
    (
        lambda: DeltaGradientDescent([{"modules": network(), "lr": -1}], 1.0),
        "lr must be a number >= 0, got -1",
    ),
    (lambda: DeltaGradientDescent([{"modules": network(), "reduction": 1}], 1.0), "reduction must be one of"),
    (
        lambda: DeltaGradientDescent(network(), 1.0, process_group="ddp"),
        "process_group must be a torch.distributed.ProcessGroup, 'alone' or None, got 'ddp'",
    ),
    (lambda: DeltaGradientDescent(nn.Tanh(), 1.0), "modules must contain an nn.Linear, got Tanh"),
    (lambda: DeltaGradientDescent([], 1.0), "modules must contain an nn.Linear, got none"),
    (
        lambda: DeltaGradientDescent(network().parameters(), 1.0),
        "modules must be torch.nn.Module, got Parameter",
    ),
    (lambda: DeltaGradientDescent([{"params": []}], 1.0), "modules must be named in every group, got"),
    (
        lambda: DeltaGradientDescent(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), 1.0),
        "modules must have no parameters outside nn.Linear, got 1.weight, 1.bias: give those to another optimiser",
    ),
    (lambda: DeltaGradientDescent([nn.Linear(2, 2), nn.Embedding(2, 2)], 1.0), "got 1.Embedding.weight"),
    (lambda: DeltaGradientDescent(Frozen(), 1.0), "weights that require a gradient, got 'layer' frozen"),
    (
        lambda: DeltaGradientDescent(shared_weight_with_two_biases(), 1.0),
        "modules must not share a weight without the bias, got '0' and '1'",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_input_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_one_layer_in_two_groups_is_refused() -> None:
    model = network()
    with pytest.raises(ValueError, match="parameter group"):
        DeltaGradientDescent([{"modules": model}, {"modules": model[0]}], 1.0)
