"""The complete state of the memories by name, and its stacked form, in which it is computed. [D]

Names and shapes are those of `hope_ref.reference.self_modifying_titans.State`, with leading axes: w1_k (..., d, h), w2_k (..., h, d),
…, w1_memory, w2_memory (w_k, …, w_memory (..., d, d) if linear), b1_k, … for inner momentum. Memories that move alike
form a `Group`; their weights are stacked along a new axis M, so that one matrix product serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from hope_ref.config import HopeConfig, layers, momentum_name, weight_names
from hope_ref.parallel.ops import whole

Tensors = dict[str, Tensor]
PARTS = ("weights", "boundary", "momentum")


class State(NamedTuple):
    """All that a later token can see of earlier ones.

    Attributes:
        weights: W_t of every memory, (..., rows, columns).
        boundary: the copies at b(t), for both groups of memories.
        momentum: B_t of every weight; empty if ``inner_momentum`` is 0.
        position: tokens seen so far.
    """

    weights: Tensors
    boundary: Tensors
    momentum: Tensors
    position: int


class Group(NamedTuple):
    """Memories that move alike: with the same boundaries, and all of them write or none does."""

    names: tuple[str, ...]  # in the order of ``config.memories``
    chunk_size: int
    writes: bool
    forgetting: int  # how many of them, the last ones, α acts on; for the others it is 1


class Stack(NamedTuple):
    """The weights of one group, one entry for each layer: W1 and W2, or W; every tensor (..., M, rows, columns)."""

    weights: tuple[Tensor, ...]
    boundary: tuple[Tensor, ...]
    momentum: tuple[Tensor, ...]  # empty without inner momentum
    begins: bool = False  # whether a chunk begins here: then ``boundary`` is ``weights``


def groups(config: HopeConfig) -> tuple[Group, ...]:
    """The memories in groups; `memory` is the last of the last."""
    return _grouped(config) if torch.compiler.is_compiling() else _known_groups(config)


def _grouped(config: HopeConfig) -> tuple[Group, ...]:
    members: dict[tuple[int, bool], list[str]] = {}
    for name in reversed(config.memories):  # `memory` comes first
        members.setdefault((config.chunk_size(name), name in config.writers), []).insert(0, name)
    grouped = []
    for (chunk_size, writes), names in members.items():
        forgetting = len(names) if config.retention_scope == "all" else names.count("memory")
        grouped.append(Group(tuple(names), chunk_size, writes, forgetting))
    return tuple(reversed(grouped))


_known_groups = lru_cache(maxsize=64)(_grouped)


def initial_state(
    parameters: Tensors, config: HopeConfig, lead: Sequence[int] = (), *, copy: bool = True
) -> State:
    """W_0 everywhere, no momentum, nothing seen; ``lead`` is the shape of the leading axes (batch, heads).

    Parameters in half precision make a state in float32. Without ``copy`` the weights are views of the parameters.
    """
    names = [name for memory in config.memories for name in weight_names(memory, config)]

    def start(name: str) -> Tensor:
        (weight,) = whole(parameters[name])
        weight = weight.clone() if copy else weight
        return weight.expand(*lead, *weight.shape[-2:])

    weights = {name: start(name) for name in names}
    boundary = {name: start(name) for name in names} if copy else dict(weights)
    moving = names if config.inner_momentum > 0 else []
    momentum = {momentum_name(name): torch.zeros_like(weights[name]) for name in moving}
    return State(weights, boundary, momentum, 0)


def stacked(named: Tensors, group: Group, config: HopeConfig) -> tuple[Tensor, ...]:
    """The weights of a group, (..., M, rows, columns) for each layer."""
    return tuple(
        torch.stack([named[f"{layer}_{name}"] for name in group.names], -3) for layer in layers(config)
    )


def stacks(state: State, config: HopeConfig) -> tuple[Stack, ...]:
    """The state as one `Stack` for each group."""
    momentum = {f"w{name[1:]}": tensor for name, tensor in state.momentum.items()}
    return tuple(
        Stack(
            stacked(state.weights, group, config),
            stacked(state.boundary, group, config),
            stacked(momentum, group, config) if momentum else (),
        )
        for group in groups(config)
    )


def projections(of_groups: Sequence[Stack], config: HopeConfig) -> tuple[Tensor, ...]:
    """The boundary weights of all memories but `memory` in one stack, in their order; `memory` may follow."""
    names = [name for name in config.memories if name != "memory"]
    first = groups(config)[0]
    if list(first.names[: len(names)]) == names:
        return of_groups[0].boundary
    stacks_of_layers = []
    for layer in range(len(layers(config))):
        named: Tensors = {}
        for group, stack in zip(groups(config), of_groups, strict=True):
            named |= dict(zip(group.names, stack.boundary[layer].unbind(-3), strict=True))
        stacks_of_layers.append(torch.stack([named[name] for name in names], -3))
    return tuple(stacks_of_layers)


def unstacked(of_groups: Sequence[Stack], config: HopeConfig, position: int) -> State:
    """The state by name, in the order of ``config.memories``; the way back from `stacks`."""
    by_part: dict[str, Tensors] = {part: {} for part in PARTS}
    for group, stack in zip(groups(config), of_groups, strict=True):
        for part in PARTS:
            for layer, tensor in zip(layers(config), getattr(stack, part), strict=False):
                for name, one in zip(group.names, tensor.unbind(-3), strict=True):
                    by_part[part][f"{layer}_{name}"] = one
    names = [name for memory in config.memories for name in weight_names(memory, config)]
    weights, boundary = ({name: by_part[part][name] for name in names} for part in PARTS[:2])
    momentum = {
        momentum_name(name): by_part["momentum"][name] for name in names if name in by_part["momentum"]
    }
    return State(weights, boundary, momentum, position)
