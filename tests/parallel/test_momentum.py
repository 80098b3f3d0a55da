"""The batched steps in PyTorch against the NumPy steps, torch.optim, autograd, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hope_ref import parallel, reference

WRITES = ("explicit", "implicit")
delta_momentum_step = parallel.momentum.delta_momentum_step


def draw(*shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(shape))
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4)])
def test_momentum_and_mean_equal_numpy_entry_by_entry(shape: tuple[int, ...]) -> None:
    w, m, g = draw(*shape)
    eta, mu = torch.rand(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    got = parallel.momentum.momentum_step(w, m, g, eta, mu)
    mean = parallel.momentum.ema_step(m, g, mu)
    for index in np.ndindex(shape):
        arguments = [float(value[index]) for value in (w, m, g, eta, mu)]
        want = reference.momentum.momentum_step(*arguments)
        np.testing.assert_allclose([float(value[index]) for value in got], want, rtol=0, atol=1e-15)
        assert float(mean[index]) == pytest.approx(
            float(reference.momentum.ema_step(arguments[1], arguments[2], arguments[4])), abs=1e-15
        )


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (3, 4), (4, 1)])
def test_delta_momentum_equals_numpy_on_every_leading_index(
    write: str, lead: tuple[int, ...], rows: int, columns: int
) -> None:
    w, m, g = draw(*lead, rows, columns)
    target = torch.randn(*lead, rows, rows, dtype=torch.float64)
    eta, mu = torch.rand(lead, dtype=torch.float64), torch.rand(lead, dtype=torch.float64)
    got = delta_momentum_step(w, m, g, eta, mu, target, write)
    for index in np.ndindex(lead):
        arguments = [value[index].numpy() for value in (w, m, g, eta, mu, target)]
        want = reference.momentum.delta_momentum_step(*arguments, write=write)
        np.testing.assert_allclose([value[index].numpy() for value in got], want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("target", [1.0, torch.tensor(0.3, dtype=torch.float64)])
def test_a_parameter_vector_and_a_number_as_target(write: str, target: float | Tensor) -> None:
    w, m, g = draw(6)
    got = delta_momentum_step(w, m, g, 0.3, 0.9, target, write)
    want = reference.momentum.delta_momentum_step(
        w.numpy(), m.numpy(), g.numpy(), 0.3, 0.9, float(target), write
    )
    np.testing.assert_allclose([value.numpy() for value in got], want, rtol=0, atol=1e-14)
    assert got[0].shape == (6,)


def test_fifty_steps_equal_torch_sgd() -> None:
    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    theirs = start.clone()
    optimiser = torch.optim.SGD([theirs], lr=0.02, momentum=0.9)
    w, m = start, torch.zeros_like(start)
    for _ in range(50):
        theirs.grad = theirs**3
        optimiser.step()
        w, m = parallel.momentum.momentum_step(w, m, w**3, 0.02, 0.9)
    torch.testing.assert_close(w, theirs, rtol=0, atol=1e-12)


def test_differentiable_in_every_argument() -> None:
    w, m, g = (value.requires_grad_() for value in draw(2, 3, 4))
    eta, mu = (torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True) for _ in range(2))
    target = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    for write in WRITES:
        assert torch.autograd.gradcheck(
            lambda *a, write=write: delta_momentum_step(*a, write=write), (w, m, g, eta, mu, target)
        )
    rates = (torch.tensor(0.3, dtype=torch.float64, requires_grad=True),) * 2
    assert torch.autograd.gradcheck(parallel.momentum.momentum_step, (w, m, g, *rates))
    assert torch.autograd.gradcheck(parallel.momentum.ema_step, (m, g, rates[0]))


@pytest.mark.parametrize("write", WRITES)
def test_zeros_have_both_derivatives(write: str) -> None:
    w, m, g = draw(2, 3)
    g[0], m[:, 1] = 0, 0
    given = [value.requires_grad_() for value in (w, m, g)]
    assert torch.autograd.gradgradcheck(lambda *a: delta_momentum_step(*a, 0.3, 0.9, write=write), given)
    zero = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda *a: delta_momentum_step(*a, 0.3, 0.9, write=write), (w, m, zero)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_dtype(dtype: torch.dtype) -> None:
    w, m, g = (value.to(dtype) for value in draw(3, 4))
    for got in (
        *parallel.momentum.momentum_step(w, m, g, 0.1, 0.9),
        *delta_momentum_step(w, m, g, 0.1, 0.9),
        parallel.momentum.ema_step(m, g, 0.9),
    ):
        assert got.dtype == dtype


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda() -> None:
    w, m, g = draw(2, 3, 4)
    want = delta_momentum_step(w, m, g, 0.3, 0.9)
    got = delta_momentum_step(w.cuda(), m.cuda(), g.cuda(), 0.3, 0.9)
    torch.testing.assert_close(got[0].cpu(), want[0], rtol=0, atol=1e-13)


ONE, ROWS = torch.ones(3), torch.ones(2, 3)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("momentum_step", (ONE, ONE[:2], ONE, 0.1, 0.9), r"m must have shape \(3,\), got \(2,\)"),
        ("momentum_step", (ONE, ONE, ONE.double(), 0.1, 0.9), "gradient must have the dtype of w, torch.float32, got torch.float64"),
        ("momentum_step", (ONE, ONE, ONE, -0.3, 0.9), "eta must be >= 0, got min -0.3"),
        ("momentum_step", (ONE, ONE, ONE, 0.1, 1.5), "mu must be <= 1, got max 1.5"),
        ("momentum_step", (ONE, ONE, ONE, ONE[:2], 0.9), r"eta must have shape \(3,\), got \(2,\)"),
        ("momentum_step", (ONE, ONE, ONE, ONE.double(), 0.9), "eta must have the dtype of w, torch.float32, got torch.float64"),
        ("momentum_step", (ONE, ONE, ONE * torch.nan, 0.1, 0.9), "gradient must be finite, got 3 NaN"),
        ("momentum_step", (ONE.numpy(), ONE, ONE, 0.1, 0.9), "w must be a torch.Tensor, got ndarray"),
        ("ema_step", (ONE, ONE[:2], 0.9), r"gradient must have shape \(3,\), got \(2,\)"),
        ("ema_step", (ONE, ONE.int(), 0.9), "gradient must have a floating-point dtype, got torch.int32"),
        ("ema_step", (ONE, ONE, 1.1), "beta must be <= 1, got max 1.1"),
        ("delta_momentum_step", (ONE[0], ONE[0], ONE[0], 0.1, 0.9), r"w must have shape \(columns,\) or \(\.\.\., rows, columns\), got \(\)"),
        ("delta_momentum_step", (ROWS, ROWS, ROWS, ONE, 0.9), r"eta must have shape \(\), got \(3,\)"),
        ("delta_momentum_step", (ROWS, ROWS, ROWS, 0.1, 0.9, torch.ones(3, 3)), r"target must have shape \(2, 2\), got \(3, 3\)"),
        ("delta_momentum_step", (ROWS, ROWS, ROWS, 0.1, 0.9, torch.inf), "target must be finite, got 1 NaN or infinite"),
        ("delta_momentum_step", (ROWS, ROWS, ROWS, 0.1, 0.9, 1.0, "both"), "write must be one of 'explicit', 'implicit', got 'both'"),
    ],
)  # fmt: skip
def test_bad_input_is_named(function: str, arguments: tuple[Any, ...], message: str) -> None:
    call: Callable[..., Any] = getattr(parallel.momentum, function)
    with pytest.raises(ValueError, match=message):
        call(*arguments)
