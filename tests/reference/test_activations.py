"""SiLU, its derivative and RMSNorm against PyTorch, finite differences and the far ends."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.reference.activations import rms_norm, sigmoid, silu, silu_derivative

Z = np.concatenate([np.linspace(-30, 30, 241), [0.0, -0.0, 1e-300, -1e-300]])


def test_equals_pytorch_and_its_autograd() -> None:
    z = torch.from_numpy(Z).requires_grad_()
    y = torch.nn.functional.silu(z)
    (slope,) = torch.autograd.grad(y.sum(), z)
    np.testing.assert_allclose(silu(Z), y.detach().numpy(), rtol=1e-14, atol=1e-300)
    np.testing.assert_allclose(silu_derivative(Z), slope.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
def test_the_norm_is_that_of_pytorch(scale: float) -> None:
    """Also where 1e-6 inside the root is more than the mean square."""
    rng = np.random.default_rng(0)
    x, gain = scale * rng.normal(size=(4, 7)), rng.normal(size=7)
    want = torch.nn.functional.rms_norm(torch.from_numpy(x), (7,), torch.from_numpy(gain), eps=1e-6)
    np.testing.assert_allclose(rms_norm(x, gain), want.numpy(), rtol=1e-13, atol=0)
    np.testing.assert_array_equal(rms_norm(np.zeros(3), np.ones(3)), np.zeros(3))


def test_derivative_is_the_measured_slope() -> None:
    h = 1e-5
    np.testing.assert_allclose(silu_derivative(Z), (silu(Z + h) - silu(Z - h)) / (2 * h), rtol=0, atol=1e-9)


def test_far_ends_are_exact_and_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(silu(np.array([-1e4, 0, 1e4])), [0, 0, 1e4])
        np.testing.assert_array_equal(silu_derivative(np.array([-1e4, 0, 1e4])), [0, 0.5, 1])
        np.testing.assert_array_equal(sigmoid(np.array([-1e4, 0, 1e4])), [0, 0.5, 1])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
@pytest.mark.parametrize("function", [sigmoid, silu, silu_derivative])
def test_keeps_the_shape(function: Any, shape: tuple[int, ...]) -> None:
    assert function(np.ones(shape)).shape == shape


@pytest.mark.parametrize("function", [sigmoid, silu, silu_derivative])
def test_what_overflowed_stays_visible(function: Any) -> None:
    assert np.isnan(function(np.array([0.0, np.nan]))).tolist() == [False, True]
