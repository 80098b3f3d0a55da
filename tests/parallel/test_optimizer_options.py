"""Numbers as PyTorch's callers set them: Python's, NumPy's, tensors without axes; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hope_ref.parallel.delta_gradient_descent import DeltaGradientDescent
from hope_ref.parallel.m3 import M3, m3_step
from hope_ref.parallel.options import number

NUMBERS = {
    "int": 2,
    **{kind.__name__: kind(0.25) for kind in (float, np.float16, np.float32, np.float64, np.longdouble)},
    "np.int64": np.int64(2),
    "array": np.array(0.25, np.float32),
    **{
        str(dtype): torch.tensor(0.25, dtype=dtype)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    },
    "parameter": nn.Parameter(torch.tensor(0.25)),
}


@pytest.mark.parametrize("value", NUMBERS.values(), ids=NUMBERS)
def test_numbers_of_all_kinds_are_numbers(value: Any) -> None:
    got = number("lr", value)
    assert type(got) is float
    assert got == (2 if "int" in type(value).__name__ else 0.25)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("fast", "'fast'"),
        (None, "None"),
        (True, "True"),
        (1j, "1j"),
        (np.bool_(True), "True"),
        (-0.1, "-0.1"),
        (float("nan"), "nan"),
        (torch.inf, "inf"),
        (torch.tensor(torch.nan), "nan"),
        (torch.tensor(-1.0), "-1.0"),
        (torch.tensor(True), "True"),
        (torch.ones(2), r"shape \(2,\)"),
        (np.ones((1, 1)), r"shape \(1, 1\)"),
        ([0.1], r"\[0.1\]"),
    ],
)
def test_the_rest_is_named(value: Any, got: str) -> None:
    with pytest.raises(ValueError, match=f"^lr must be a number >= 0, got .*{got}"):
        number("lr", value)
    with pytest.raises(ValueError, match=r"beta1 must be a number in \[0, 1\), got 1.0"):
        number("beta1", 1.0, below=1)


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2, bias=False)


def stepped(make: Callable[[nn.Linear], torch.optim.Optimizer], then: Any = None) -> torch.Tensor:
    """The weight after two steps; ``then`` may make a scheduler."""
    linear = layer()
    optimizer = make(linear)
    scheduler = then(optimizer) if then else None
    for _ in range(2):
        optimizer.zero_grad()
        linear(torch.linspace(-1, 1, 12).reshape(4, 3)).square().mean().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return linear.weight.detach()


MAKERS: dict[str, Callable[[nn.Linear, Any], torch.optim.Optimizer]] = {
    "M3": lambda linear, lr: M3(linear.parameters(), lr),
    "DeltaGradientDescent": DeltaGradientDescent,
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "kind", ["float16", "float32", "longdouble", "torch.bfloat16", "torch.float64", "array"]
)
def test_both_optimisers_take_every_kind(name: str, kind: str) -> None:
    make = MAKERS[name]
    want = stepped(lambda linear: make(linear, 0.25))
    assert torch.equal(stepped(lambda linear: make(linear, NUMBERS[kind])), want)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("start", [0.5, torch.tensor(0.5), torch.tensor(0.5, dtype=torch.bfloat16)])
def test_a_scheduler_may_set_numpy_numbers(name: str, start: Any) -> None:
    make, rates = MAKERS[name], [1.0, 0.25, 1.0]

    def scheduler(kind: type) -> Any:
        return lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: kind(rates[step]))

    want = stepped(lambda linear: make(linear, 0.5), scheduler(float))
    start = start.clone() if isinstance(start, torch.Tensor) else start
    assert torch.equal(stepped(lambda linear: make(linear, start), scheduler(np.float32)), want)


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_scheduler_sets_is_checked_at_the_step(name: str) -> None:
    linear = layer()
    optimizer = MAKERS[name](linear, 0.1)
    optimizer.param_groups[0]["lr"] = "fast"
    linear(torch.ones(1, 3)).sum().backward()
    with pytest.raises(ValueError, match="lr must be a number >= 0, got 'fast'"):
        optimizer.step()


def test_every_option_of_m3_may_be_a_numpy_number() -> None:
    w = torch.ones(2, 3, dtype=torch.float64)
    plain: dict[str, Any] = {"lr": 0.5, "beta1": 0.5, "beta2": 0.75, "beta3": 0.25}
    plain |= {"slow_weight": 2.0, "epsilon": 0.125}
    (want, _), (got, _) = (
        m3_step(w, w, slow_every=kind(1), steps=kind(2), **options)
        for kind, options in ((int, plain), (np.int64, {n: np.float32(v) for n, v in plain.items()}))
    )
    assert torch.equal(got, want)
