"""A stretch of the self-modifying Titans in kernels: one launch per layer, over batch × heads × memories. [S 28-29], [P 88-93]

Within a chunk φ, u, η̃ and α of every memory are known (`hope_ref.parallel.memory_network`), and S = W - R, the distance from
what forgetting returns to, is the plain recurrence of `forward`, with E what the erase term measures from:

    W_t = α_t W_{t-1} + (1 - α_t) R - η̃_t ((W_{t-1} - E) φ_t - u_t) φ_tᵀ
    S_t = α_t S_{t-1} + η̃_t (u_t + (E - R) φ_t - S_{t-1} φ_t) φ_tᵀ,            W_t q = S_t q + R q.

The next chunk's φ and u come from the state that this one leaves, through the whole network. So here a launch is a chunk,
while with φ and u given (`launch.recurrence`) it is a sequence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hope_ref.config import HopeConfig
from hope_ref.parallel.kernels.launch import recurrence
from hope_ref.parallel.memory_network import Association, associations, squared_norm, step_size
from hope_ref.parallel.memory_states import Group, Stack
from hope_ref.parallel.ops import apply


class Layer(NamedTuple):
    """One weight matrix of a group, ready for a launch: every tensor (..., M, C, d) or (..., M, rows, columns)."""

    phi: Tensor
    u: Tensor  # u + (E - R) φ
    eta: Tensor  # η̃, (..., M, C)
    alpha: Tensor  # (..., M, C)
    state: Tensor  # S_0 = W_0 - R
    rest: Tensor | None  # R; None: 0


def layers(
    stack: Stack, initial: tuple[Tensor, ...], group: Group, token: Any, eta: Tensor, config: HopeConfig
) -> list[Layer]:
    """The layers of a group, W1 first."""
    k, v = token.k[..., None, :, :], token.v[..., None, :, :]
    keeping = len(group.names) - group.forgetting
    alpha = token.alpha[..., None, :].expand(*token.alpha.shape[:-1], len(group.names), -1)
    alpha = torch.cat([torch.ones_like(alpha[..., :keeping, :]), alpha[..., keeping:, :]], -2)
    found = []
    pairs = zip(stack.weights, initial, associations(stack.boundary, k, v, config), strict=True)
    for weight, start, association in pairs:
        found.append(_layer(weight, start, association, eta, alpha, config))
    return found


def _layer(
    weight: Tensor, initial: Tensor, association: Association, eta: Tensor, alpha: Tensor, config: HopeConfig
) -> Layer:
    phi, u, factor, _ = association
    rest = initial if config.retention_target == "initial" else None
    u = u if factor is None else factor * u
    if config.erase == "deviation" and rest is None:
        u = u + apply(initial, phi)
    elif config.erase == "full" and rest is not None:
        u = u - apply(rest, phi)
    eta = step_size(eta, squared_norm(phi)[..., 0], config.step)
    return Layer(phi, u, eta, alpha, weight if rest is None else weight - rest, rest)


def part(layer: Layer, which: slice) -> Layer:
    """The same for some memories of the stack."""
    phi, u = (x if x.shape[-3] == 1 else x[..., which, :, :] for x in (layer.phi, layer.u))
    rest = None if layer.rest is None else layer.rest[..., which, :, :]
    numbers = layer.eta[..., which, :], layer.alpha[..., which, :]
    return Layer(phi, u, *numbers, layer.state[..., which, :, :], rest)


def launched(layer: Layer, q: Tensor | None, config: HopeConfig) -> tuple[Tensor | None, Tensor]:
    """W_t q_t of every memory of the layer (None without q), and W_C."""
    erase = "none" if config.erase == "none" else "before_decay"
    phi, u, eta, alpha, state, rest = layer
    answers, end = recurrence(
        q, phi, u, eta, alpha, state, phi.shape[-2], erase, "none" if q is None else config.read
    )
    if rest is None:
        return (None if q is None else answers), end
    return (None if q is None else answers + apply(rest, q)), end + rest


def memory_reads(found: list[Layer], q: Tensor, config: HopeConfig) -> tuple[Tensor, tuple[Tensor, ...]]:
    """M(q) - q of `memory`, the group's last, W2 first; and the weights after the stretch, of all the group."""
    ends: list[Tensor] = []
    inner = q  # (..., 1, C, d)
    for place, layer in enumerate(reversed(found)):
        if place:
            inner = functional.silu(inner)
        read, end = launched(part(layer, slice(-1, None)), inner, config)
        assert read is not None
        inner = read
        if layer.state.shape[-3] > 1:
            others = launched(part(layer, slice(-1)), None, config)[1]
            end = torch.cat([others, end], -3)
        ends.insert(0, end)
    return inner, tuple(ends)


def stretch(
    token: Any, of_groups: tuple[Stack, ...], initial: tuple[tuple[Tensor, ...], ...], of_config: tuple[Group, ...],
    config: HopeConfig,
) -> tuple[Tensor | None, tuple[Stack, ...]]:  # fmt: skip
    """The answers M_memory(q_t), (..., C, d), None if they need no moving state; and the state after the stretch."""
    answers, after = None, []
    for index, (group, stack) in enumerate(zip(of_config, of_groups, strict=True)):
        if group.writes:
            found = layers(stack, initial[index], group, token, token.eta[index], config)
            if index == len(of_groups) - 1 and config.read != "boundary":
                q = token.q[..., None, :, :]
                branch, weights = memory_reads(found, q, config)
                answers = (q + branch if config.read_skip else branch)[..., 0, :, :]
            else:
                weights = tuple(launched(layer, None, config)[1] for layer in found)
            stack = stack._replace(weights=weights)
        after.append(stack)
    return answers, tuple(after)
