"""The sub-layers of a HOPE block as functions, with batch and heads. Equal to `hope_ref.reference.hope_layers`. Source: [P 94-97], [D].

Tokens are (..., T, d), d the width of the layer; heads are equal slices of it, cut *after* projection and convolution.
Parameters go by the names of the reference, without the block's prefix; those of the heads are stacked, so that w1_k is
(heads, d / heads, h). Nothing here looks at values: an overflow is seen in the results.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hope_ref.config import HopeConfig
from hope_ref.parallel.continuum_levels import rms_norm
from hope_ref.parallel.self_modifying_titans import self_modifying_titans

Tensors = dict[str, Tensor]
ROTARY_BASE = 10_000.0
PROJECTIONS = ("p_key", "p_value", "w_query")
CONVOLUTIONS = ("conv_key", "conv_value", "conv_query")


class MixerState(NamedTuple):
    """What a sub-layer with convolutions carries: their last inputs, and its memory's state."""

    key_inputs: Tensor  # (..., convolution_width - 1, d); (..., 0, d) without convolution
    value_inputs: Tensor
    query_inputs: Tensor
    memory: Any  # with axes (..., heads, ...)


class AttentionState(NamedTuple):
    """What attention carries: all keys, already rotated, and all values."""

    keys: Tensor  # (..., heads, t, d / heads)
    values: Tensor  # (..., heads, t, d / heads)


def split(z: Tensor, heads: int) -> Tensor:
    """(..., T, d) to (..., heads, T, d / heads)."""
    return z.unflatten(-1, (heads, -1)).transpose(-3, -2)


def joined(z: Tensor) -> Tensor:
    """The way back: (..., heads, T, d / heads) to (..., T, d)."""
    return z.transpose(-3, -2).flatten(-2)


def convolution(x: Tensor, kernel: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """y_t = σ(Σ_j c_j ⊙ x_{t-w+1+j}), every channel for itself [P 8.3]; equals `reference.convolution`.

    Args: x, (..., T, d); kernel, (d, w), its last column for the token itself; inputs, the last w - 1 before x.
    Returns: y, (..., T, d), and the last w - 1 inputs, (..., w - 1, d).
    """
    length = x.shape[-2]
    seen = torch.cat([inputs, x], -2)  # (..., w - 1 + T, d)
    y = sum(seen[..., j : j + length, :] * kernel[:, j] for j in range(kernel.shape[1]))
    return functional.silu(torch.as_tensor(y)), seen[..., length:, :]


def rotary(z: Tensor, position: int) -> Tensor:
    """Turn (z_i, z_{i + d/2}) of the t-th token by the angle (position + t) · 10000^(-2i/d); equals `reference.rotary`. z is (..., T, d)."""
    half = z.shape[-1] // 2
    exact = torch.promote_types(z.dtype, torch.float32)  # eight bits cannot tell token 257 from 256
    steps = torch.arange(half, dtype=exact, device=z.device) / half
    tokens = torch.arange(position, position + z.shape[-2], dtype=exact, device=z.device)
    angle = tokens[:, None] * ROTARY_BASE**-steps  # (T, d / 2)
    first, second = z[..., :half], z[..., half:]
    cos, sin = angle.cos().to(z.dtype), angle.sin().to(z.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def views(
    n: Tensor, parameters: Tensors, heads: int, state: MixerState
) -> tuple[Tensor, Tensor, Tensor, MixerState]:
    """x^k, x^v and x^q in heads, (..., heads, T, d / heads), and the state with the convolutions' last inputs.

    Each is conv(P n); a projection or convolution that is not among the parameters is left out.
    """
    made, kept = [], []
    for projection, kernel, inputs in zip(PROJECTIONS, CONVOLUTIONS, state[:3], strict=True):
        view = functional.linear(n, parameters[projection]) if projection in parameters else n
        if kernel in parameters:
            view, inputs = convolution(view, parameters[kernel], inputs)
        made.append(split(view, heads))
        kept.append(inputs)
    return made[0], made[1], made[2], MixerState(kept[0], kept[1], kept[2], state.memory)


def output(x: Tensor, answers: Tensor, parameters: Tensors) -> Tensor:
    """x + W_o RMSNorm_head(answers); answers are (..., heads, T, d / heads)."""
    gain = parameters["head_norm"].unflatten(0, (answers.shape[-3], -1))  # (heads, d / heads)
    return x + functional.linear(joined(rms_norm(answers, gain)), parameters["output"])


def titans_layer(
    x: Tensor,
    parameters: Tensors,
    config: HopeConfig,
    state: MixerState,
    *,
    recompute: bool = False,
    backend: str = "torch",
) -> tuple[Tensor, MixerState]:
    """y = x + W_o RMSNorm_head(Titans(x^k, x^v, x^q)) [P 94-97, D]; equals `reference.titans_layer`.

    All of W_q stands before the convolution, so a head's own query projection is the identity.
    """
    key, value, query, kept = views(rms_norm(x, parameters["norm"]), parameters, config.heads, state)
    own = {name: parameters[name] for name in head_names(config)}
    if not config.adaptive_query:
        own["w_query"] = torch.eye(key.shape[-1], dtype=x.dtype, device=x.device)
    answers, memories = self_modifying_titans(
        key, value, query, own, config, state.memory, recompute=recompute, backend=backend
    )
    return output(x, answers, parameters), kept._replace(memory=memories)


def head_names(config: HopeConfig) -> list[str]:
    """Names of the parameters that each head has for itself, in the order of the reference."""
    layers = ("w1", "w2") if config.architecture == "mlp" else ("w",)
    weights = [f"{layer}_{memory}" for memory in config.memories for layer in layers]
    biases = [f"eta_bias_{memory}" for memory in config.memories]
    return [*weights, *biases, "eta_readout", "alpha_readout", "alpha_bias"]


def initial_mixer_state(config: HopeConfig, lead: tuple[int, ...], like: Tensor) -> MixerState:
    """No inputs seen (zeros); the memory's state is None: it starts from the parameters."""
    empty = like.new_zeros(*lead, max(config.convolution_width - 1, 0), config.width)
    return MixerState(empty, empty, empty, None)


def attention_layer(
    x: Tensor, parameters: Tensors, config: HopeConfig, state: AttentionState
) -> tuple[Tensor, AttentionState]:
    """y_t = x_t + W_o Σ_{s≤t} softmax_s(⟨q_t, k_s⟩/√d) v_s per head, rotary; equals `reference.attention_layer` [P 9, D]."""
    n = rms_norm(x, parameters["norm"])
    key, value, query = (split(functional.linear(n, parameters[name]), config.heads) for name in PROJECTIONS)
    start, length = state.keys.shape[-2], x.shape[-2]
    keys = torch.cat([state.keys, rotary(key, start)], -2)
    values = torch.cat([state.values, value], -2)
    query = rotary(query, start)
    if length == 0:
        return x, AttentionState(keys, values)
    if start == 0:
        answers = functional.scaled_dot_product_attention(query, keys, values, is_causal=True)
    else:
        past = torch.ones(length, start + length, dtype=torch.bool, device=x.device).tril(start)
        answers = functional.scaled_dot_product_attention(query, keys, values, attn_mask=past)
    return x + functional.linear(joined(answers), parameters["output"]), AttentionState(keys, values)


def initial_attention_state(config: HopeConfig, lead: tuple[int, ...], like: Tensor) -> AttentionState:
    """No keys, no values."""
    empty = like.new_zeros(*lead, config.heads, 0, config.head_width)
    return AttentionState(empty, empty)
