"""Batched Newton–Schulz in PyTorch against NumPy, the polar factor, autograd, low precision, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hope_ref import parallel, reference

newton_schulz = parallel.newton_schulz.newton_schulz
orthogonality_step = parallel.newton_schulz.orthogonality_step


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("coefficients", ["quintic", "cubic"])
@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (0,)])
@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (3, 8), (8, 3), (1, 4)])
def test_equals_numpy_on_every_leading_index(
    coefficients: str, lead: tuple[int, ...], rows: int, columns: int
) -> None:
    x = draw(*lead, rows, columns)
    got, step = newton_schulz(x, 5, coefficients), orthogonality_step(x, 0.02)
    assert got.shape == x.shape
    for index in np.ndindex(lead):
        want = reference.newton_schulz.newton_schulz(x[index].numpy(), 5, coefficients)
        np.testing.assert_allclose(got[index].numpy(), want, rtol=0, atol=1e-12)
        want = reference.newton_schulz.orthogonality_step(x[index].numpy(), 0.02)
        np.testing.assert_allclose(step[index].numpy(), want, rtol=0, atol=1e-12)


def test_many_cubic_steps_give_the_polar_factor() -> None:
    x = draw(3, 6, 4)
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    torch.testing.assert_close(newton_schulz(x, 40, "cubic"), left @ right, rtol=0, atol=1e-12)


def test_zero_gives_zero_and_a_finite_gradient() -> None:
    x = draw(2, 3, 4)
    x[0] = 0
    x.requires_grad_()
    got = newton_schulz(x)
    assert (got[0] == 0).all()
    (gradient,) = torch.autograd.grad(got.sum(), x)
    assert torch.isfinite(gradient).all()


def test_differentiable() -> None:
    x, zeta = draw(2, 3, 4).requires_grad_(), torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(newton_schulz, (x,))
    assert torch.autograd.gradcheck(orthogonality_step, (x, zeta))


@pytest.mark.parametrize("steps", [1, 3])
def test_both_derivatives_at_a_zero_matrix_are_the_limits(steps: int) -> None:
    """Against central differences far within the 1e-7 that is added to the norm."""
    zero = torch.zeros(2, 3, dtype=torch.float64)
    probe, direction, h = draw(2, 3), draw(3, 2).mT, 1e-14

    def slope(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((probe * newton_schulz(x, steps)).sum(), x, create_graph=True)
        return gradient

    ends = [(probe * newton_schulz(s * direction, steps)).sum() for s in (h, -h)]
    by_differences = (ends[0] - ends[1]) / (2 * h)
    torch.testing.assert_close((slope(zero) * direction).sum(), by_differences, rtol=1e-5, atol=0)
    x = zero.requires_grad_()
    (gradient,) = torch.autograd.grad((probe * newton_schulz(x, steps)).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((gradient * direction).sum(), x)
    torch.testing.assert_close(
        (slope(h * direction) - slope(-h * direction)).detach(), second, rtol=0, atol=1e-3
    )


@pytest.mark.parametrize(
    ("dtype", "size"),
    [(torch.float16, 6e4), (torch.bfloat16, 3e38), (torch.float32, 3e38), (torch.float64, 1e308)],
)
def test_large_entries_do_not_overflow(dtype: torch.dtype, size: float) -> None:
    small = torch.tensor([[1.0, 0.25, 0.0], [-0.5, 1.0, 0.75]], dtype=torch.float64)
    got = newton_schulz((size * small).to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), newton_schulz(small), rtol=0.01, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.005), (torch.float16, 0.0005)]
)
def test_low_precision_stays_near(dtype: torch.dtype, bound: float) -> None:
    x = draw(8, 64, 48)
    with torch.autocast("cpu", torch.bfloat16):  # as if it were not there
        got = newton_schulz(x.to(dtype))
    assert got.dtype == dtype
    want = newton_schulz(x.to(dtype).double())
    assert (got.double() - want).norm() / want.norm() < bound


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda() -> None:
    x = draw(4, 64, 48)
    torch.testing.assert_close(newton_schulz(x.cuda()).cpu(), newton_schulz(x), rtol=0, atol=1e-12)


SQUARE = torch.ones(2, 2)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (newton_schulz, (torch.ones(3),), r"x must have shape \(\.\.\., rows, columns\), got \(3,\)"),
        (newton_schulz, (SQUARE * torch.nan,), "x must be finite, got 4 NaN"),
        (newton_schulz, (SQUARE.int(),), "x must have a floating-point dtype, got torch.int32"),
        (newton_schulz, (SQUARE, 0), "steps must be an integer >= 1, got 0"),
        (newton_schulz, (SQUARE, 5, "septic"), "coefficients must be one of 'quintic', 'cubic', got 'septic'"),
        (orthogonality_step, (torch.ones(3),), r"o must have shape \(\.\.\., rows, columns\), got \(3,\)"),
        (orthogonality_step, (SQUARE, -0.1), "zeta must be >= 0, got min -0.1"),
        (orthogonality_step, (SQUARE, torch.ones(2)), r"zeta must have shape \(\), got \(2,\)"),
    ],
)  # fmt: skip
def test_bad_input_is_named(function: Callable[..., Any], arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(*arguments)
