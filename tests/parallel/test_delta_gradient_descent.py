"""Delta Gradient Descent with leading axes: against the NumPy reference, a literal solve, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hope_ref import parallel, reference

NUMPY, TORCH = reference.delta_gradient_descent, parallel.delta_gradient_descent
D_IN, D_OUT = 5, 3
LENGTHS = (0, 1, 2, D_IN, D_IN + 1, 20)


def single(lead: tuple[int, ...] = (), seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=(*lead, D_OUT, D_IN)),
        "x": rng.normal(size=(*lead, D_IN)),
        "grad_y": rng.normal(size=(*lead, D_OUT)),
        "eta": rng.uniform(0, 3, size=lead),
    }


def chunk(length: int, lead: tuple[int, ...] = (), seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=(*lead, D_OUT, D_IN)),
        "x": rng.normal(size=(*lead, length, D_IN)),
        "u": rng.normal(size=(*lead, length, D_OUT)),
        "eta": rng.uniform(0, 3, size=lead),
    }


def tensors(arguments: dict[str, np.ndarray], gradient: bool = False) -> dict[str, Tensor]:
    return {n: torch.tensor(a, dtype=torch.float64, requires_grad=gradient) for n, a in arguments.items()}


@pytest.mark.parametrize("seed", range(3))
def test_step_equals_the_reference(seed: int) -> None:
    given = single(seed=seed)
    want = NUMPY.delta_gradient_descent_step(**given)
    np.testing.assert_allclose(TORCH.delta_gradient_descent_step(**tensors(given)), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("eta", [None, 0.0, 100.0])
def test_chunk_equals_the_reference(length: int, eta: float | None) -> None:
    given = chunk(length, seed=length)
    if eta is not None:
        given["eta"] = np.array(eta)
    want = NUMPY.delta_gradient_descent_chunk(**given)
    np.testing.assert_allclose(TORCH.delta_gradient_descent_chunk(**tensors(given)), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "function", ["effective_step", "delta_gradient_descent_step", "delta_gradient_descent_chunk"]
)
def test_every_leading_index_is_a_problem_of_its_own(function: str) -> None:
    given = chunk(4, (2, 3)) if function.endswith("chunk") else single((2, 3))
    if function == "effective_step":
        given = {"eta": given["eta"], "x": given["x"]}
    got = getattr(TORCH, function)(**tensors(given))
    for index in np.ndindex(2, 3):
        want = getattr(NUMPY, function)(**{name: a[index] for name, a in given.items()})
        np.testing.assert_allclose(got[index], want, rtol=0, atol=1e-12)


def test_a_number_is_a_rate_for_all() -> None:
    given = tensors(single((4,)))
    given["eta"] = torch.full((4,), 0.7, dtype=torch.float64)
    want = TORCH.delta_gradient_descent_step(**given)
    assert torch.equal(TORCH.delta_gradient_descent_step(**{**given, "eta": 0.7}), want)
    many = tensors(chunk(6, (4,)))
    many["eta"] = given["eta"]
    assert torch.equal(
        TORCH.delta_gradient_descent_chunk(**{**many, "eta": 0.7}), TORCH.delta_gradient_descent_chunk(**many)
    )


@pytest.mark.parametrize("length", [1, 4, 20])
def test_stable_at_a_million(length: int) -> None:
    given = chunk(length)
    given["eta"] = np.array(1e6)
    w = tensors(given)
    got = TORCH.delta_gradient_descent_chunk(**w).numpy()
    stack = np.vstack([given["x"], np.eye(D_IN) * 1e-3])
    want = np.linalg.lstsq(stack, np.vstack([given["u"], given["w"].T * 1e-3]), rcond=None)[0].T
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("length", [1, 4])
def test_the_small_system_keeps_its_digits_where_the_large_one_would_not(length: int) -> None:
    """At η = 1e12 and fewer inputs than directions the d × d system has a condition number of 1e12; C × C has not."""
    given = chunk(length)
    given["eta"] = np.array(1e12)
    limit = given["w"] + (given["u"] - given["x"] @ given["w"].T).T @ np.linalg.pinv(given["x"]).T  # η → ∞
    got = TORCH.delta_gradient_descent_chunk(**tensors(given)).numpy()
    np.testing.assert_allclose(got, limit, rtol=0, atol=1e-10)


def literal_step(w: Tensor, x: Tensor, grad_y: Tensor, eta: Tensor) -> Tensor:
    """A solve with all of [S 19]: shares no line with the closed form."""
    system = torch.outer(x, x) + torch.eye(D_IN, dtype=x.dtype) / eta
    return torch.linalg.solve(system, (torch.outer(-grad_y, x) + w / eta).mT).mT


def literal_chunk(w: Tensor, x: Tensor, u: Tensor, eta: Tensor) -> Tensor:
    """The sums of [S 19] input by input, then an explicit inverse."""
    system, right = torch.eye(D_IN, dtype=x.dtype) / eta, w / eta
    for x_s, u_s in zip(x, u, strict=True):
        system, right = system + torch.outer(x_s, x_s), right + torch.outer(u_s, x_s)
    return right @ torch.linalg.inv(system)


def probe(w: Any) -> Any:
    """A scalar that depends on every entry."""
    weights = np.random.default_rng(1).normal(size=(D_OUT, D_IN))
    return (torch.from_numpy(weights) * w).sum() if isinstance(w, Tensor) else (weights * w).sum()


CASES = [("delta_gradient_descent_step", literal_step, single())] + [
    ("delta_gradient_descent_chunk", literal_chunk, chunk(length)) for length in (1, 4, 6, 20)
]


@pytest.mark.parametrize(("function", "literal", "given"), CASES)
def test_gradients_equal_those_of_a_literal_form(
    function: str, literal: Callable[..., Tensor], given: dict[str, np.ndarray]
) -> None:
    ours, theirs = tensors(given, gradient=True), tensors(given, gradient=True)
    probe(getattr(TORCH, function)(**ours)).backward()
    probe(literal(**theirs)).backward()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor.grad, theirs[name].grad, rtol=1e-10, atol=1e-11, msg=name)


@pytest.mark.parametrize(("function", "literal", "given"), CASES)
def test_gradients_equal_central_differences_of_the_reference(
    function: str, literal: Any, given: dict[str, np.ndarray]
) -> None:
    ours = tensors(given, gradient=True)
    probe(getattr(TORCH, function)(**ours)).backward()
    rng, h = np.random.default_rng(4), 1e-5
    for name, array in given.items():
        direction = rng.normal(size=array.shape)
        ends = [probe(getattr(NUMPY, function)(**{**given, name: array + s * direction})) for s in (h, -h)]
        gradient = ours[name].grad
        assert gradient is not None
        slope = (ends[0] - ends[1]) / (2 * h)
        assert float((gradient.numpy() * direction).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-7), name


@pytest.mark.parametrize("length", [0, 2, 7])
def test_zeros_have_both_derivatives(length: int) -> None:
    """A zero input, a zero weight, a zero rate; the derivative by that rate is one-sided, for there are none below 0."""
    w, x, u, eta = tensors(chunk(max(length, 1), (2,)), gradient=True).values()
    with torch.no_grad():
        w[0], x[0, 0], eta[0] = 0, 0, 0
    call = TORCH.delta_gradient_descent_chunk if length else TORCH.delta_gradient_descent_step
    rows = (x, u) if length else (x[:, 0], u[:, 0])
    assert torch.autograd.gradgradcheck(lambda w, x, u: call(w, x, u, eta.detach()), (w, *rows))
    got = torch.autograd.grad(call(w, *rows, eta).sum(), eta)[0][0]
    h, at = 1e-4, [eta.detach().clone() for _ in range(3)]
    with torch.no_grad():
        for steps, rate in enumerate(at):
            rate[0] = steps * h
        zero, one, two = (call(w, *rows, rate).sum() for rate in at)
    assert abs(float(got - (4 * one - 3 * zero - two) / (2 * h))) < 1e-5 * max(1.0, abs(float(got)))


def test_single_precision_stays_near() -> None:
    given = chunk(20)
    single_precision = {name: tensor.float() for name, tensor in tensors(given).items()}
    got = TORCH.delta_gradient_descent_chunk(**single_precision)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), NUMPY.delta_gradient_descent_chunk(**given), rtol=0, atol=1e-4)


@pytest.mark.cuda
def test_cuda_equals_the_reference() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    for given, name in ((single(), "step"), (chunk(3), "chunk"), (chunk(9), "chunk")):
        function = f"delta_gradient_descent_{name}"
        got = getattr(TORCH, function)(**{n: t.cuda() for n, t in tensors(given).items()}).cpu().numpy()
        np.testing.assert_allclose(got, getattr(NUMPY, function)(**given), rtol=0, atol=1e-12)


DOUBLE = torch.float64
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("effective_step", {"x": torch.tensor(1.0)}, r"x must have shape \(d_in,\), got \(\)"),
    (
        "effective_step",
        {"eta": torch.ones(2)},
        "eta must have the dtype of x, torch.float64, got torch.float32",
    ),
    ("effective_step", {"x": torch.full((2, 5), torch.nan, dtype=DOUBLE)}, "x must be finite, got 10 NaN"),
    ("step", {"w": torch.ones(5, dtype=DOUBLE)}, r"w must have shape \(\.\.\., d_out, d_in\), got \(5,\)"),
    ("step", {"x": torch.ones(5, dtype=DOUBLE)}, r"x must have shape \(2, 5\), got \(5,\)"),
    ("step", {"grad_y": torch.ones(2, 4, dtype=DOUBLE)}, r"grad_y must have shape \(2, 3\), got \(2, 4\)"),
    (
        "step",
        {"grad_y": torch.ones(2, 3)},
        "grad_y must have the dtype of w, torch.float64, got torch.float32",
    ),
    ("step", {"x": np.ones((2, 5))}, "x must be a torch.Tensor, got ndarray"),
    ("step", {"eta": -0.3}, "eta must be >= 0, got min -0.3"),
    ("step", {"eta": torch.ones(3, dtype=DOUBLE)}, r"eta must have shape \(2,\), got \(3,\)"),
    ("step", {"eta": float("nan")}, "eta must be finite, got 1 NaN"),
    ("chunk", {"x": torch.ones(2, 4, 4, dtype=DOUBLE)}, r"x must have shape \(2, C, 5\), got \(2, 4, 4\)"),
    ("chunk", {"u": torch.ones(2, 3, 3, dtype=DOUBLE)}, r"u must have shape \(2, 4, 3\), got \(2, 3, 3\)"),
    (
        "chunk",
        {"u": torch.full((2, 4, 3), torch.inf, dtype=DOUBLE)},
        "u must be finite, got 24 NaN or infinite",
    ),
    ("chunk", {"eta": torch.tensor([1.0, -2.0], dtype=DOUBLE)}, "eta must be >= 0, got min -2"),
    (
        "chunk",
        {"w": torch.ones(2, 3, 5, dtype=torch.long)},
        "w must have a floating-point dtype, got torch.int64",
    ),
]


@pytest.mark.parametrize(("function", "replaced", "message"), BAD)
def test_bad_input_is_named(function: str, replaced: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = dict(tensors(chunk(4, (2,)) if function == "chunk" else single((2,))))
    if function == "effective_step":
        given = {"eta": given["eta"], "x": given["x"]}
    else:
        function = f"delta_gradient_descent_{function}"
    with pytest.raises(ValueError, match=message):
        getattr(TORCH, function)(**{**given, **replaced})
