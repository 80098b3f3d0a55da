"""Optimisers that are copied, pickled or loaded go on by themselves, and share nothing with what they come from."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hope_ref.parallel.delta_gradient_descent import DeltaGradientDescent
from hope_ref.parallel.m3 import M3

COPIES: dict[str, Callable[[Any], Any]] = {
    "copied": copy.deepcopy,
    "pickled": lambda pair: pickle.loads(pickle.dumps(pair)),
}
MAKERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "M3": lambda model: M3(model.parameters(), 0.05, slow_every=3),
    "DeltaGradientDescent": lambda model: DeltaGradientDescent(
        [{"modules": model[0], "lr": 0.5}, {"modules": model[2], "reduction": "sum"}], 0.1
    ),
}


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 2, bias=False)).double()


def take(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("name", MAKERS)
def test_a_copy_takes_the_same_steps_and_leaves_the_first_alone(name: str, copied: str) -> None:
    model = network()
    optimizer = MAKERS[name](model)
    take(model, optimizer, range(4))
    other, twin = COPIES[copied]((model, optimizer))
    before = copy.deepcopy(model.state_dict())
    take(other, twin, range(4, 8))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    take(model, optimizer, range(4, 8))
    assert same(model, other)


@pytest.mark.parametrize("copied", COPIES)
def test_a_copied_model_is_not_watched_and_keeps_no_inputs(copied: str) -> None:
    model = network()
    optimizer = DeltaGradientDescent(model, 0.5)
    alone = COPIES[copied](model)
    for _ in range(3):
        alone(torch.ones(5, 4, dtype=torch.float64)).sum().backward()
    for layer in optimizer._layers.values():
        assert layer.gram is None
        assert not layer.waiting
    watches = [hook for part in alone.modules() for hook in part._forward_hooks.values()]
    assert [watch.layer for watch in watches] == [None, None]


def test_a_weight_frozen_later_does_not_hinder_a_copy() -> None:
    model = network()
    optimizer = DeltaGradientDescent(model, 0.5)
    model[0].requires_grad_(False)
    other, twin = copy.deepcopy((model, optimizer))
    take(other, twin, range(2))
    take(model, optimizer, range(2))
    assert same(model, other)


@pytest.mark.parametrize("name", MAKERS)
def test_a_state_is_a_snapshot_and_a_loaded_one_is_its_own(name: str) -> None:
    """In the middle of a window: steps taken after it do not change it, nor does changing it change the optimiser."""
    model, other = network(), network(1)
    optimizer, twin = MAKERS[name](model), MAKERS[name](other)
    take(model, optimizer, range(4))
    weights, state = copy.deepcopy(model.state_dict()), optimizer.state_dict()
    take(model, optimizer, range(4, 9))
    other.load_state_dict(weights)
    twin.load_state_dict(state)
    for held in state["state"].values():
        for value in held.values():
            if isinstance(value, Tensor):
                value.fill_(torch.nan)
    take(other, twin, range(4, 9))
    assert same(model, other)


def test_other_hooks_see_a_state_before_it_is_loaded() -> None:
    """M3 takes what the last of PyTorch's hooks leaves."""
    parameter = nn.Parameter(torch.ones(2, 3, dtype=torch.bfloat16))
    optimizer = M3([parameter])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    fine = 1 + 2.0**-20  # more digits than bfloat16 has

    def hook(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        changed = {**state["state"][0], "m1": torch.full((2, 3), fine)}
        return {**state, "state": {0: changed}}

    optimizer.register_load_state_dict_pre_hook(hook)
    optimizer.load_state_dict(optimizer.state_dict())
    assert (optimizer.state[parameter]["m1"] == fine).all()
