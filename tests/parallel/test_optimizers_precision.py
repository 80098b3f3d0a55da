"""Half precision in and out, float32 inside: the steps against NumPy, the optimisers over many steps, gradient scaling."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hope_ref import parallel, reference
from hope_ref.parallel.delta_gradient_descent import DeltaGradientDescent
from hope_ref.parallel.m3 import M3, M3State, m3_step

HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])


def draw(dtype: torch.dtype, *shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


# Of shapes that all steps take: (w, x, grad_y or u, momentum). In float16 the squares of x would overflow.
def arguments(dtype: torch.dtype) -> dict[str, tuple[Tensor, ...]]:
    w, m, g = (draw(dtype, 3, 4, seed=seed) for seed in range(3))
    x, y = draw(dtype, 4, seed=3, scale=200.0), draw(dtype, 3, seed=4)
    rows, u = draw(dtype, 5, 4, seed=5), draw(dtype, 5, 3, seed=6)
    return {
        "momentum.momentum_step": (w, m, g),
        "momentum.ema_step": (m, g),
        "momentum.delta_momentum_step": (w, m, 200 * g),
        "newton_schulz.newton_schulz": (w,),
        "newton_schulz.orthogonality_step": (w,),
        "delta_gradient_descent.delta_gradient_descent_step": (w, x, y),
        "delta_gradient_descent.delta_gradient_descent_chunk": (w, rows, u),
        "delta_gradient_descent.effective_step": (x,),
        "m3.m3_step": (w, g),
    }


RATES: dict[str, tuple[Any, ...]] = {
    "momentum_step": (0.1, 0.9),
    "ema_step": (0.9,),
    "delta_momentum_step": (0.1, 0.9),
    "delta_gradient_descent_step": (0.3,),
    "delta_gradient_descent_chunk": (0.3,),
}


@HALF
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
@pytest.mark.parametrize("name", arguments(torch.float16))
def test_results_are_rounded_once(name: str, autocast: bool, dtype: torch.dtype) -> None:
    module, function = name.split(".")
    given = arguments(dtype)[name]
    call = getattr(getattr(parallel, module), function)
    exact = getattr(getattr(reference, module), function)
    rates = RATES.get(function, ())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got = call(0.3, *given) if function == "effective_step" else call(*given, *rates)
    inputs = [tensor.double().numpy() for tensor in given]
    want = exact(0.3, *inputs) if function == "effective_step" else exact(*inputs, *rates)
    pairs = zip(got[:2], want[:2], strict=True) if isinstance(got, tuple) else [(got, want)]
    for one, other in pairs:
        if isinstance(one, M3State):
            assert {tensor.dtype for tensor in one[:-1]} == {torch.float32}
            one, other = one.m1, other.m1
        else:
            assert one.dtype == dtype
        bound = torch.finfo(dtype).eps / 2 * 1.01
        # what float32 leaves, and float16's least number
        np.testing.assert_allclose(one.double().numpy(), other, rtol=bound, atol=2e-6)


def stepped(weight: Tensor, gradients: list[Tensor], **options: Any) -> nn.Parameter:
    parameter = nn.Parameter(weight.clone())
    optimizer = M3([parameter], **options)
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return parameter


@HALF
def test_m3_of_half_weights_keeps_its_moments_in_float32(dtype: torch.dtype) -> None:
    """The weight is rounded after each step, and nothing else is: against NumPy, in float64."""
    start, gradients = draw(dtype, 3, 4), [draw(dtype, 3, 4, seed=seed) for seed in range(1, 20)]
    parameter = stepped(start, gradients, lr=0.05, slow_every=4)
    w, state = start.double().numpy(), None
    stepwise, own = start, None
    for gradient in gradients:
        w, state = reference.m3.m3_step(w, gradient.double().numpy(), state, lr=0.05, slow_every=4)
        w = torch.from_numpy(w).to(dtype).double().numpy()
        stepwise, own = m3_step(stepwise, gradient, own, lr=0.05, slow_every=4)
    assert torch.equal(stepwise, parameter)
    np.testing.assert_allclose(
        parameter.detach().double().numpy(), w, rtol=2 * torch.finfo(dtype).eps, atol=1e-3
    )
    assert state is not None
    np.testing.assert_allclose(own.second_moment.numpy(), state.second_moment, rtol=1e-4)


@HALF
@pytest.mark.parametrize("split", [1, 4, 6])
def test_a_loaded_half_state_goes_on_to_the_last_bit(split: int, dtype: torch.dtype) -> None:
    """Through a file. In the parameter's dtype, as PyTorch loads it, the moments would lose most of their digits."""
    start, gradients = draw(dtype, 3, 4), [draw(dtype, 3, 4, seed=seed) for seed in range(1, 12)]
    whole = stepped(start, gradients, slow_every=4)
    parameter = nn.Parameter(start.clone())
    optimizer = M3([parameter], slow_every=4)
    for step, gradient in enumerate(gradients):
        if step == split:
            file = io.BytesIO()
            torch.save([parameter.detach(), optimizer.state_dict()], file)
            file.seek(0)
            weight, state = torch.load(file)
            parameter = nn.Parameter(weight)
            optimizer = M3([parameter])
            optimizer.load_state_dict(state)
            assert optimizer.state[parameter]["m1"].dtype == torch.float32
            held = optimizer.state[parameter]["m1"]
            assert held.data_ptr() != state["state"][0]["m1"].data_ptr()
        parameter.grad = gradient
        optimizer.step()
    assert torch.equal(parameter, whole)


@HALF
def test_delta_gradient_descent_of_half_layers_is_rounded_once(dtype: torch.dtype) -> None:
    linear = nn.Linear(4, 3).to(dtype)
    twin = nn.Linear(4, 3).double()
    twin.load_state_dict({name: value.double() for name, value in linear.state_dict().items()})
    x = draw(dtype, 6, 4)
    optimizers = [DeltaGradientDescent(linear, 0.5), DeltaGradientDescent(twin, 0.5)]
    for model, rows in ((linear, x), (twin, x.double())):
        model(rows).sum().backward()
    for mine, own in zip(linear.parameters(), twin.parameters(), strict=True):
        own.grad = mine.grad.double()  # the same gradient: what is compared is the step
    with torch.autocast("cpu", torch.bfloat16):
        for optimizer in optimizers:
            optimizer.step()
    for mine, want in zip(linear.parameters(), twin.parameters(), strict=True):
        assert mine.dtype == dtype
        bound = torch.finfo(dtype).eps / 2 * 1.01
        torch.testing.assert_close(mine.detach().double(), want.detach(), rtol=bound, atol=1e-6)


# --- gradient scaling -------------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "M3": lambda model: M3(model.parameters(), 0.05, slow_every=2),
    "DeltaGradientDescent": lambda model: DeltaGradientDescent(model, 0.5),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_scaler_changes_nothing_and_skips_what_is_not_finite(name: str) -> None:
    """The third batch of five gives infinite gradients: as if it had not been."""
    weights = []
    for scaled in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 2, bias=False))
        optimizer = MAKERS[name](model)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
        for step in range(5):
            if step == 2 and not scaled:
                continue
            optimizer.zero_grad()
            loss = model(draw(torch.float32, 7, 4, seed=step)).square().mean()
            scaler.scale(loss * (torch.inf if step == 2 else 1)).backward()
            scaler.step(optimizer)
            scaler.update()
        weights.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
