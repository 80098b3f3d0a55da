"""Second derivatives at the untouched start of training: where W1 of `memory` is 0, gates stand still, writes are zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hope_ref.config import HopeConfig
from hope_ref.parallel.hope import MIXERS, Hope
from hope_ref.parallel.memory_network import bound_factor, squared_norm, unit

SMALL: dict[str, Any] = {
    "width": 4,
    "vocabulary": 5,
    "levels_chunk_sizes": (2, 4),
    "memory_chunk_size": 2,
    "projection_chunk_size": 2,
}
TOKENS = torch.tensor([[0, 3, 1, 4, 2], [2, 2, 0, 1, 3]])


def start(mixer: str, blocks: int, **options: Any) -> Hope:
    """A model as the constructor leaves it, in float64."""
    return Hope(HopeConfig(**{**SMALL, "mixer": mixer, "blocks": blocks, **options})).double()


def loss_of(model: Hope, tokens: Tensor = TOKENS) -> Tensor:
    logits, _ = model(tokens[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("mixer", MIXERS)
def test_hessian_vector_products_equal_differences_of_gradients(mixer: str, blocks: int) -> None:
    model = start(mixer, blocks)
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]

    def gradients(create_graph: bool = False) -> list[Tensor]:
        found = torch.autograd.grad(
            loss_of(model), parameters, create_graph=create_graph, materialize_grads=True
        )
        return list(found)

    slope = sum((g * v).sum() for g, v in zip(gradients(True), direction, strict=True))
    got = torch.autograd.grad(torch.as_tensor(slope), parameters, materialize_grads=True)
    h, ends = 1e-5, []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, v in zip(parameters, direction, strict=True):
                parameter.add_(v, alpha=sign * h)
        ends.append(gradients())
    largest = max(float(g.abs().max()) for g in got)
    for (name, _), hvp, up, down in zip(model.named_parameters(), got, *ends, strict=True):
        assert torch.isfinite(hvp).all(), name
        assert (hvp - (up - down) / (2 * h)).abs().max() < 1e-6 * largest, name


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_gradient_penalty_reaches_every_parameter(mixer: str) -> None:
    model = start(mixer, 2)
    gradients = torch.autograd.grad(
        loss_of(model), list(model.parameters()), create_graph=True, allow_unused=True
    )
    torch.stack([g.square().sum() for g in gradients if g is not None]).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("rule", ["gd", "dgd"])
@pytest.mark.parametrize("mixer", MIXERS)
def test_adaptation_is_differentiable_where_training_starts(mixer: str, rule: str) -> None:
    model = start(mixer, 2, rule=rule, cms_rate=0.1)
    loss = functional.cross_entropy(
        model.adapt(TOKENS[:, :-1], differentiable=True)[0].flatten(0, 1), TOKENS[:, 1:].flatten()
    )
    parameters = [p for name, p in model.named_parameters() if ".continuum." in name]
    got = torch.autograd.grad(loss, parameters)
    direction = [
        torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype) for p in parameters
    ]
    h, ends = 1e-5, []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, v in zip(parameters, direction, strict=True):
                parameter.add_(v, alpha=sign * h)
            logits, _ = model.adapt(TOKENS[:, :-1])
        ends.append(functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten()))
    want = float(ends[0] - ends[1]) / (2 * h)
    assert all(torch.isfinite(g).all() for g in got)
    assert abs(float(sum((g * v).sum() for g, v in zip(got, direction, strict=True))) - want) < 1e-7


@pytest.mark.parametrize(
    ("function", "curvature"),
    [(squared_norm, 2.0), (lambda z: bound_factor(z, 2.0), -1 / 4), (lambda z: unit(z).sum(-1), 0.0)],
    ids=["squared norm", "bound", "unit"],
)
def test_smooth_functions_have_second_derivatives_at_zero(function: Any, curvature: float) -> None:
    hessian = torch.autograd.functional.hessian(
        lambda z: function(z).sum(), torch.zeros(3, dtype=torch.float64)
    )
    torch.testing.assert_close(hessian, curvature * torch.eye(3, dtype=torch.float64))
