"""The outer gradient of the chunks: through every write, to parameters, inputs and the incoming state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import self_modifying_titans_autograd as independent
import torch
from selection import some_slow
from torch.autograd.graph import saved_tensors_hooks

from hope_ref.config import CHOICES, HopeConfig
from hope_ref.parallel.self_modifying_titans import State, self_modifying_titans
from hope_ref.reference import self_modifying_titans as literal
from hope_ref.reference.parameters import random_parameters

PARTS = ("weights", "boundary", "momentum")


HERE = (
    "architecture", "objective", "step", "retention_scope", "retention_target", "erase", "target", "read",
    "target_gradient",
)  # fmt: skip
SMALL = {"memory_chunk_size": 2, "projection_chunk_size": 4}
EACH: dict[str, HopeConfig] = {
    "default": HopeConfig(**SMALL),
    "printed": HopeConfig.printed(**SMALL),
    **{f"{n}={v}": HopeConfig(**SMALL, **{n: v}) for n in HERE for v in CHOICES[n][1:]},
    "no unit values": HopeConfig(**SMALL, value_norm=False),
    "no bound": HopeConfig(**SMALL, surprise_bound=0),
    "read with its skip": HopeConfig(**SMALL, read_skip=True),
    "adaptive query": HopeConfig(**SMALL, adaptive_query=True),
    "chunks the other way": HopeConfig(memory_chunk_size=4, projection_chunk_size=2),
    "equal chunks": HopeConfig(memory_chunk_size=4, projection_chunk_size=4),
    "token by token": HopeConfig(memory_chunk_size=1, projection_chunk_size=1),
    "momentum": HopeConfig(**SMALL, inner_momentum=0.6),
    "momentum, nothing erased": HopeConfig(**SMALL, inner_momentum=0.6, erase="none"),
    "only memory and v write": HopeConfig(**SMALL, writing=("v", "memory")),
    "all at once": HopeConfig(
        **SMALL, architecture="linear", inner_momentum=0.3, adaptive_query=True, erase="deviation",
        retention_scope="all", step="normalized", objective="dot", read="pre", eta_max=0.9,
    ),
}  # fmt: skip
each_option = pytest.mark.parametrize("config", EACH.values(), ids=EACH)
AT_ONCE = ("default", "printed", "read=boundary", "chunks the other way", "momentum", "all at once")
few_at_once = pytest.mark.parametrize("config", some_slow(EACH, AT_ONCE))


def problem(
    config: HopeConfig, length: int = 9, d: int = 4, hidden: int = 5
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Views and parameters as leaves."""
    rng = np.random.default_rng(0)
    x = [torch.tensor(rng.normal(size=(length, d)), requires_grad=True) for _ in range(3)]
    parameters = random_parameters(config, d, hidden, 0)
    return x, {n: torch.tensor(a, requires_grad=True) for n, a in parameters.items()}


def loss(outputs: torch.Tensor, final: dict[str, torch.Tensor]) -> torch.Tensor:
    """One number in which every output and every final weight counts, each with a random weight of its own."""
    rng = np.random.default_rng(1)
    total = (outputs * torch.tensor(rng.normal(size=outputs.shape))).sum()
    for name in sorted(final):
        total = total + (final[name] * torch.tensor(rng.normal(size=final[name].shape))).sum()
    return total


def final_of(state: State) -> dict[str, torch.Tensor]:
    return {f"final_{n}": t for n, t in {**state.weights, **state.momentum}.items()}


def leaves_of(state: State) -> State:
    """The same state, cut off from what made it; boundary copies are leaves of their own."""
    parts = [{n: t.detach().clone().requires_grad_() for n, t in getattr(state, p).items()} for p in PARTS]
    return State(*parts, state.position)


def compare(
    got: torch.Tensor, want: torch.Tensor, leaves: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Both gradients by every leaf, equal to 1e-10 of the largest entry (or of 1)."""
    assert float(got.detach()) == pytest.approx(float(want.detach()), rel=1e-10)
    one = torch.autograd.grad(got, list(leaves.values()), allow_unused=True)
    other = torch.autograd.grad(want, list(leaves.values()), allow_unused=True)
    found = {}
    for (name, leaf), mine, theirs in zip(leaves.items(), one, other, strict=True):
        mine, theirs = (torch.zeros_like(leaf) if g is None else g for g in (mine, theirs))
        largest = max(1.0, float(theirs.abs().max()))
        assert float((mine - theirs).abs().max()) <= 1e-10 * largest, name
        found[name] = mine
    return found


@each_option
def test_the_gradient_equals_that_of_the_literal_loop(config: HopeConfig) -> None:
    """Its inner gradients come from automatic differentiation of the inner loss; 9 tokens are 2C + 1."""
    x, parameters = problem(config)
    outputs, state = self_modifying_titans(*x, parameters, config)
    want = independent.run(*x, parameters, config)
    want_outputs = want.pop("outputs")
    leaves = {**parameters, **dict(zip(("x_key", "x_value", "x_query"), x, strict=True))}
    gradients = compare(loss(outputs, final_of(state)), loss(want_outputs, want), leaves)
    needless = {f"eta_bias_{memory}" for memory in config.memories if memory not in config.writers}
    for name, gradient in gradients.items():
        assert (gradient.abs().max() > 1e-6) == (name not in needless), f"{name} never reaches the outputs"


@pytest.mark.parametrize("position", some_slow({"3": 3, "4": 4, "6": 6}, ["6"]))
@few_at_once
def test_the_gradient_by_an_incoming_state_equals_that_of_the_literal_loop(
    config: HopeConfig, position: int
) -> None:
    """A state in the middle of both chunks, between both, and between those of one group alone."""
    x, parameters = problem(config, position + 5)
    _, state = self_modifying_titans(*(view[:position] for view in x), parameters, config)
    state = leaves_of(state)
    rest = [view[position:] for view in x]
    outputs, after = self_modifying_titans(*rest, parameters, config, state)
    want = independent.run(*rest, parameters, config, state)
    want_outputs = want.pop("outputs")
    leaves = {f"{part}.{n}": t for part in PARTS for n, t in getattr(state, part).items()} | parameters
    gradients = compare(loss(outputs, final_of(after)), loss(want_outputs, want), leaves)
    for name in state.weights:
        assert gradients[f"weights.{name}"].abs().max() > 1e-6, name
        open_chunk = position % config.chunk_size(name.split("_", 1)[1]) != 0
        assert (gradients[f"boundary.{name}"].abs().max() > 0) == open_chunk or config.read == "boundary", (
            name
        )


MEASURED = {
    name: EACH[name] for name in ("default", "printed", "momentum", "all at once", "retention_scope=all")
}


@pytest.mark.parametrize("config", some_slow(MEASURED, ("momentum", "all at once")))
def test_the_gradient_equals_slopes_measured_on_the_token_loop(config: HopeConfig) -> None:
    """Central differences of the NumPy loop along one random direction for each parameter and view."""
    x, parameters = problem(config)
    outputs, state = self_modifying_titans(*x, parameters, config)
    loss(outputs, final_of(state)).backward()
    leaves = {**parameters, **dict(zip(("x_key", "x_value", "x_query"), x, strict=True))}
    rng, size = np.random.default_rng(2), 1e-5
    for which, leaf in leaves.items():
        direction = rng.normal(size=leaf.shape)
        ends = []
        for sign in (1, -1):
            moved = {n: t.detach().numpy() for n, t in leaves.items()}
            moved[which] = moved[which] + sign * size * direction
            given = [moved.pop(n) for n in ("x_key", "x_value", "x_query")]
            y, after = literal.self_modifying_titans(*given, moved, config)
            final = {f"final_{n}": torch.tensor(a) for n, a in {**after.weights, **after.momentum}.items()}
            ends.append(float(loss(torch.tensor(y), final)))
        assert leaf.grad is not None
        slope = float(np.sum(leaf.grad.numpy() * direction))
        assert (ends[0] - ends[1]) / (2 * size) == pytest.approx(slope, rel=1e-7, abs=1e-7), which


def test_heads_with_parameters_of_their_own_have_gradients_of_their_own() -> None:
    """x (batch, heads, T, d): each parameter's gradient is the sum over the batch of that of separate runs."""
    config = EACH["momentum"]
    rng = np.random.default_rng(3)
    x = [torch.tensor(rng.normal(size=(2, 3, 9, 4)), requires_grad=True) for _ in range(3)]
    each = [random_parameters(config, 4, 5, seed) for seed in range(3)]
    parameters = {n: torch.tensor(np.stack([p[n] for p in each]), requires_grad=True) for n in each[0]}
    weights = torch.tensor(rng.normal(size=(2, 3, 9, 4)))
    outputs, _ = self_modifying_titans(*x, parameters, config)
    separate = sum(
        (
            weights[b, h]
            * self_modifying_titans(*(v[b, h] for v in x), {n: t[h] for n, t in parameters.items()}, config)[
                0
            ]
        ).sum()
        for b in range(2)
        for h in range(3)
    )
    leaves = {**parameters, **dict(zip(("x_key", "x_value", "x_query"), x, strict=True))}
    compare((weights * outputs).sum(), separate, leaves)


def test_stopping_the_gradient_at_the_target_changes_it_and_not_the_outputs() -> None:
    gradients = []
    for how in CHOICES["target_gradient"]:
        x, parameters = problem(HopeConfig(**SMALL))
        outputs, _ = self_modifying_titans(*x, parameters, HopeConfig(**SMALL, target_gradient=how))
        gradients.append((outputs, *torch.autograd.grad(outputs.sum(), [parameters["w1_memory"]])))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert (gradients[0][1] - gradients[1][1]).abs().max() > 1e-4


# --- recomputing ----------------------------------------------------------------------------------------------------


def saved_bytes(config: HopeConfig, length: int, recompute: bool) -> tuple[int, list[torch.Tensor]]:
    """Bytes that the forward pass keeps for the backward pass, each storage once; and the gradients."""
    x, parameters = problem(config, length, 8, 8)
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (
            storage.nbytes(),
            tensor,
        )  # the tensor stays, so that no address is used twice
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs, state = self_modifying_titans(*x, parameters, config, recompute=recompute)
        forward = sum(size for size, _ in kept.values())
    leaves = [*parameters.values(), *x]
    gradients = torch.autograd.grad(loss(outputs, final_of(state)), leaves, allow_unused=True)
    return forward, [outputs.detach(), *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("name", ["default", "printed", "momentum", "token by token", "equal chunks"])
def test_recomputing_gives_the_same_numbers(name: str) -> None:
    plain = saved_bytes(EACH[name], 11, recompute=False)[1]
    again = saved_bytes(EACH[name], 11, recompute=True)[1]
    for one, other in zip(plain, again, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=0, atol=1e-12)


def test_recomputing_keeps_little_more_than_one_state_per_chunk() -> None:
    config = HopeConfig(memory_chunk_size=16, projection_chunk_size=16)
    plain, _ = saved_bytes(config, 96, recompute=False)
    again, _ = saved_bytes(config, 96, recompute=True)
    assert again < plain / 5


def test_without_gradients_recomputing_changes_nothing() -> None:
    x, parameters = problem(EACH["default"])
    with torch.no_grad():
        plain, _ = self_modifying_titans(*x, parameters, EACH["default"])
        again, _ = self_modifying_titans(*x, parameters, EACH["default"], recompute=True)
    assert torch.equal(plain, again)
