"""The batched gradient step in PyTorch against the NumPy loop, autograd, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hope_ref import parallel, reference

step = parallel.gradient_descent.gradient_descent_step
loop = reference.gradient_descent.gradient_descent_step


def sample(lead: tuple[int, ...], d_out: int, d_in: int, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    return {
        "w": rng.normal(size=(*lead, d_out, d_in)),
        "x": rng.normal(size=(*lead, count, d_in)),
        "grad_y": rng.normal(size=(*lead, count, d_out)),
        "eta": rng.uniform(0, 0.3, size=(*lead, count)),
    }


def tensors(arguments: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(a) for name, a in arguments.items()}


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize(("d_out", "d_in", "count"), [(1, 1, 1), (3, 5, 0), (3, 5, 1), (3, 5, 40), (6, 2, 7)])
def test_equals_the_numpy_loop_on_every_leading_index(
    lead: tuple[int, ...], d_out: int, d_in: int, count: int
) -> None:
    arguments = sample(lead, d_out, d_in, count)
    got = step(**tensors(arguments)).numpy()
    for index in np.ndindex(lead):
        want = loop(**{name: array[index] for name, array in arguments.items()})
        np.testing.assert_allclose(got[index], want, rtol=0, atol=1e-13)


def test_a_number_for_eta_and_float32() -> None:
    arguments = sample((), 3, 5, 7)
    single = {name: t.float() for name, t in tensors(arguments).items()} | {"eta": 0.2}
    got = step(**single)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), loop(**{**arguments, "eta": 0.2}), rtol=0, atol=1e-5)


def test_the_step_is_minus_autograds_gradient_of_the_summed_loss() -> None:
    arguments = tensors(sample((2,), 3, 5, 7))
    w = arguments["w"].clone().requires_grad_()
    y = arguments["x"] @ w.mT
    y.retain_grad()
    torch.logsumexp(y, -1).sum().backward()
    assert y.grad is not None
    assert w.grad is not None
    got = step(arguments["w"], arguments["x"], y.grad, 0.3)
    torch.testing.assert_close(got, arguments["w"] - 0.3 * w.grad, rtol=0, atol=1e-13)


def test_differentiable_in_every_argument() -> None:
    arguments = {n: t.clone().requires_grad_() for n, t in tensors(sample((2,), 2, 3, 4)).items()}
    assert torch.autograd.gradcheck(lambda *a: step(*a), tuple(arguments.values()))


W, X, G = torch.ones(2, 3), torch.ones(4, 3), torch.ones(4, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((W[0], X, G, 0.1), r"w must have shape \(\.\.\., d_out, d_in\), got \(3,\)"),
        ((W, X[0], G[0], 0.1), r"x must have shape \(N, 3\), got \(3,\)"),
        ((W, X, G[:3], 0.1), r"grad_y must have shape \(4, 2\), got \(3, 2\)"),
        ((W.expand(2, 2, 3), X, G, 0.1), r"x must have shape \(2, N, 3\), got \(4, 3\)"),
        ((W, X.double(), G, 0.1), r"x must have the dtype of w, torch.float32, got torch.float64"),
        (
            (W, X, G, torch.ones(4).double()),
            r"eta must have the dtype of w, torch.float32, got torch.float64",
        ),
        ((W.int(), X, G, 0.1), r"w must have a floating-point dtype, got torch.int32"),
        ((W.numpy(), X, G, 0.1), r"w must be a torch.Tensor, got ndarray"),
        ((W, X, G, -0.3), r"eta must be >= 0, got min -0.3"),
        ((W, X, G, torch.ones(3)), r"eta must have shape \(4,\), got \(3,\)"),
        ((W, X, G * torch.nan, 0.1), r"grad_y must be finite, got 8 NaN"),
    ],
)
def test_bad_input(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step(*arguments)
