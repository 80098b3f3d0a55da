"""The layer around a memory: norm, projections, convolutions, heads, output; and softmax attention, which needs no memory.

Equal to `hope_ref.reference.hope`. Source: [P 94-97], [D]. Tokens are (..., T, d), d the width of the layer; heads are
equal slices of it, cut *after* projection and convolution. Parameters go by the names of the reference, without the block's
prefix; those of the heads are stacked, so that w1_k is (heads, d / heads, h).

Every mixer maps x (..., T, d) and its state to y (..., T, d) and the state after it, residual included. `LinearAttention`,
`GatedDeltaRule` and `Titans` stand beside their functions and have the same plumbing around them as HOPE's own
`SelfModifyingTitans`, so that a comparison compares the memories.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from hope_ref.common import nested
from hope_ref.common.validation import one_of
from hope_ref.config import HopeConfig, logit
from hope_ref.parallel import checks
from hope_ref.parallel.kernels import BACKENDS
from hope_ref.parallel.memory_network import unit
from hope_ref.parallel.ops import whole

Tensors = dict[str, Tensor]
EPSILON = 1e-6  # inside the root of RMSNorm
ROTARY_BASE = 10_000.0
BLOCK = 64  # tokens that the baselines compute at once; changes speed, not the result
PROJECTIONS = ("p_key", "p_value", "w_query")
CONVOLUTIONS = ("conv_key", "conv_value", "conv_query")


class MixerState(NamedTuple):
    """What a sub-layer with convolutions carries: their last inputs, and its memory's state."""

    key_inputs: Tensor  # (..., convolution_width - 1, d); (..., 0, d) without convolution
    value_inputs: Tensor
    query_inputs: Tensor
    memory: Any  # with axes (..., heads, ...)


class AttentionState(NamedTuple):
    """What attention carries: all keys, already rotated, and all values; with a window W the last W - 1, not rotated."""

    keys: Tensor  # (..., heads, t, d / heads)
    values: Tensor  # (..., heads, t, d / heads)


# --- functions ------------------------------------------------------------------------------------------------------


def rms_norm(z: Tensor, gain: Tensor) -> Tensor:
    """gain ⊙ z / √(mean z² + 1e-6), over the last axis [D]; equals `reference.activations.rms_norm`. z (..., c, d), gain (..., d)."""
    (exact,) = whole(z)
    scaled = gain[..., None, :] * exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + EPSILON)
    return scaled.to(torch.promote_types(z.dtype, gain.dtype))


def split(z: Tensor, heads: int) -> Tensor:
    """(..., T, d) to (..., heads, T, d / heads)."""
    return z.unflatten(-1, (heads, -1)).transpose(-3, -2)


def joined(z: Tensor) -> Tensor:
    """The way back: (..., heads, T, d / heads) to (..., T, d)."""
    return z.transpose(-3, -2).flatten(-2)


def convolution(x: Tensor, kernel: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """y_t = σ(Σ_j c_j ⊙ x_{t-w+1+j}), every channel for itself [P 8.3]; equals `reference.hope.convolution`.

    Args: x, (..., T, d); kernel, (d, w), its last column for the token itself; inputs, the last w - 1 before x.
    Returns: y, (..., T, d), and the last w - 1 inputs, (..., w - 1, d).
    """
    length = x.shape[-2]
    seen = torch.cat([inputs, x], -2)  # (..., w - 1 + T, d)
    y = sum(seen[..., j : j + length, :] * kernel[:, j] for j in range(kernel.shape[1]))
    return functional.silu(torch.as_tensor(y)), seen[..., length:, :]


def rotary(z: Tensor, position: int) -> Tensor:
    """Turn (z_i, z_{i + d/2}) of the t-th token by (position + t) · 10000^(-2i/d); equals `reference.hope.rotary`. z is (..., T, d)."""
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
    in_heads, inputs_after = [], []
    for projection, kernel, inputs in zip(PROJECTIONS, CONVOLUTIONS, state[:3], strict=True):
        view = functional.linear(n, parameters[projection]) if projection in parameters else n
        if kernel in parameters:
            view, inputs = convolution(view, parameters[kernel], inputs)
        in_heads.append(split(view, heads))
        inputs_after.append(inputs)
    return (
        in_heads[0],
        in_heads[1],
        in_heads[2],
        MixerState(inputs_after[0], inputs_after[1], inputs_after[2], state.memory),
    )


def output(x: Tensor, answers: Tensor, parameters: Tensors) -> Tensor:
    """x + W_o RMSNorm_head(answers); answers are (..., heads, T, d / heads)."""
    gain = parameters["head_norm"].unflatten(0, (answers.shape[-3], -1))  # (heads, d / heads)
    return x + functional.linear(joined(rms_norm(answers, gain)), parameters["output"])


def attention_layer(
    x: Tensor, parameters: Tensors, config: HopeConfig, state: AttentionState
) -> tuple[Tensor, AttentionState]:
    """y_t = x_t + W_o Σ_{s≤t} softmax_s(⟨q_t, k_s⟩/√d) v_s per head, rotary; equals `reference.hope.attention_layer` [P 8.3, D].

    With a window W the sum is over t - W < s ≤ t [P 63], and the state holds the last W - 1 keys as they were before they
    were turned: only t - s matters to the product of two turned vectors, so positions may count from any token.
    """
    n = rms_norm(x, parameters["norm"])
    key, value, query = (split(functional.linear(n, parameters[name]), config.heads) for name in PROJECTIONS)
    start, length, window = state.keys.shape[-2], x.shape[-2], config.window
    keys = torch.cat([state.keys, key if window else rotary(key, start)], -2)
    values = torch.cat([state.values, value], -2)
    query, after = rotary(query, start), AttentionState(keys, values)
    if window:
        cut = max(start + length - (window - 1), 0)
        kept = (z[..., cut:, :].clone() for z in (keys, values))  # and nothing of what is behind them
        keys, after = rotary(keys, 0), AttentionState(*kept)
    if length == 0:
        return x, after
    # Where a gradient may be wanted, so may be a second one, which the fused kernels do not have.
    with sdpa_kernel(SDPBackend.MATH) if torch.is_grad_enabled() else nullcontext():
        if start == 0 and not 0 < window < length:
            answers = functional.scaled_dot_product_attention(query, keys, values, is_causal=True)
        else:
            past = torch.ones(length, start + length, dtype=torch.bool, device=x.device).tril(start)
            past = past.triu(start - window + 1) if window else past
            answers = functional.scaled_dot_product_attention(query, keys, values, attn_mask=past)
    return x + functional.linear(joined(answers), parameters["output"]), after


# --- modules --------------------------------------------------------------------------------------------------------


class Mixer(nn.Module):
    """Gain, projections and output of every mixer; the parameters go by the names of `hope_ref.reference.hope`.

    ``mixer(x)`` starts a stream, ``mixer(x, state)`` goes on with it. What a stream carries begins with `initial_state`.
    """

    has_kernels = False

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.Parameter(torch.ones(config.width))
        self.output = square(config.width, generator)

    def tensors(self) -> Tensors:
        """The parameters by name."""
        return dict(self.named_parameters())

    def initial_state(self, lead: tuple[int, ...] = (), *, copy: bool = True) -> Any:
        """Nothing seen, for sequences in the leading axes ``lead``; without ``copy``, memories are views of parameters."""
        raise NotImplementedError

    def like_state(self, lead: tuple[int, ...], position: int) -> Any:
        """What a state after ``position`` tokens looks like, whose integers all count tokens: for `states.checked`."""
        start = self.initial_state(lead, copy=False)
        return nested.rebuilt(start, lambda _, leaf: position if isinstance(leaf, int) else leaf)

    def forward(
        self, x: Tensor, state: Any = None, *, recompute: bool = False, backend: str = "torch"
    ) -> tuple[Tensor, Any]:
        """y, (..., T, d), and the state after the last token.

        Args:
            x: tokens, (..., T, d).
            state: what the last call returned; None starts a stream.
            recompute: keep only the memories' states between chunks for the backward pass and compute the rest again.
            backend: "torch", "triton", "compiled" or "auto", see `hope_ref.parallel.kernels` and `hope_ref.parallel.compiling`.
        Raises:
            ValueError: if a mixer without kernels is asked for them, or backend is no known word.
        """
        raise NotImplementedError

    def check_backend(self, backend: str) -> None:
        """Raise a ValueError for no known word, and for "triton" and "compiled" where nothing goes through `chunks`."""
        one_of("backend", backend, BACKENDS)
        if backend in ("triton", "compiled") and not self.has_kernels:
            lacks = "kernels" if backend == "triton" else "chunk to compile"
            raise ValueError(
                f"backend must be 'torch' or 'auto' for {type(self).__name__}, which has no {lacks}, got {backend!r}"
            )

    def extra_repr(self) -> str:
        return f"width={self.config.width}, heads={self.config.heads}"


class Convolved(Mixer):
    """A mixer with convolutions before and a norm of each head behind its memory, as HOPE has them [P 94-97, D]."""

    has_kernels = True

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator)
        for name in self.projections():
            setattr(self, name, square(config.width, generator))
        if config.convolution_width:
            identity = torch.zeros(config.width, config.convolution_width)
            identity[:, -1] = 1.0  # the token itself
            for name in CONVOLUTIONS:
                setattr(self, name, nn.Parameter(identity.clone()))
        self.head_norm = nn.Parameter(torch.ones(config.width))

    def projections(self) -> tuple[str, ...]:
        """Which of the three projections the mixer has."""
        return PROJECTIONS

    def initial_state(self, lead: tuple[int, ...] = (), *, copy: bool = True) -> MixerState:
        """No inputs seen; the memory at its parameters."""
        shape = (*lead, max(self.config.convolution_width - 1, 0), self.config.width)
        key, value, query = (self.norm.new_zeros(shape) for _ in CONVOLUTIONS)
        return MixerState(key, value, query, self.initial_memory((*lead, self.config.heads), copy=copy))

    def initial_memory(self, lead: tuple[int, ...], *, copy: bool = True) -> Any:
        """The memory's own state, ``lead`` ending in the heads."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, state: MixerState | None = None, *, recompute: bool = False, backend: str = "torch"
    ) -> tuple[Tensor, MixerState]:
        """As `Mixer.forward`; ``recompute`` matters to `SelfModifyingTitans` alone."""
        self.check_backend(backend)
        state = self.initial_state(x.shape[:-2]) if state is None else state
        n, parameters = rms_norm(x, self.norm), self.tensors()
        key, value, query, state = views(n, parameters, self.config.heads, state)
        with checks.no_autocast(x.device.type):  # what autocast has halved is made whole
            q, k = (unit(*whole(z.to(self.norm.dtype))) for z in (query, key))
            n, value = whole(n.to(self.norm.dtype), value.to(self.norm.dtype))
            answers, memory = self.memory(n, q, k, value, state.memory, backend)
        return output(x, answers.to(self.norm.dtype), parameters), state._replace(memory=memory)

    def memory(
        self, n: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Any, backend: str
    ) -> tuple[Tensor, Any]:
        """Answers to unit queries after writing unit keys and values, (..., heads, T, d / heads); n is (..., T, d)."""
        raise NotImplementedError

    def add_rate(self, name: str, start: float) -> None:
        """Add a number per head and token, sigmoid(w n + bias), that starts at ``start`` for every token."""
        setattr(self, f"{name}_weight", nn.Parameter(torch.zeros(self.config.heads, self.config.width)))
        setattr(self, f"{name}_bias", nn.Parameter(torch.full((self.config.heads,), logit(start))))

    def rate(self, name: str, n: Tensor) -> Tensor:
        """The number of that name for every head and token, (..., heads, T), in (0, 1)."""
        weight, bias = whole(getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))
        return torch.sigmoid(functional.linear(n, weight, bias)).transpose(-1, -2)


class SoftmaxAttention(Mixer):
    """Causal softmax attention with rotary positions: HOPE-Attention's; with a ``window``, over that. `attention_layer` [P 63, 8.3, D]."""

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        if config.head_width % 2:
            raise ValueError(f"width of a head must be even for rotary positions, got {config.head_width}")
        super().__init__(config, generator)
        for name in PROJECTIONS:
            setattr(self, name, square(config.width, generator))

    def initial_state(self, lead: tuple[int, ...] = (), *, copy: bool = True) -> AttentionState:
        """No keys, no values."""
        shape = (*lead, self.config.heads, 0, self.config.head_width)
        return AttentionState(self.norm.new_zeros(shape), self.norm.new_zeros(shape))

    def like_state(self, lead: tuple[int, ...], position: int) -> AttentionState:
        """All keys and values so far, or those that a window still holds."""
        seen = min(position, self.config.window - 1) if self.config.window else position
        like = self.norm.detach()[0].expand(*lead, self.config.heads, seen, self.config.head_width)
        return AttentionState(like, like)

    def forward(
        self,
        x: Tensor,
        state: AttentionState | None = None,
        *,
        recompute: bool = False,
        backend: str = "torch",
    ) -> tuple[Tensor, AttentionState]:
        """As `Mixer.forward`; the state grows with every token, up to the window, ``recompute`` has no effect."""
        self.check_backend(backend)
        state = self.initial_state(x.shape[:-2]) if state is None else state
        return attention_layer(x, self.tensors(), self.config, state)


def square(width: int, generator: torch.Generator | None) -> nn.Parameter:
    """A projection that starts orthogonal, (d, d)."""
    return nn.Parameter(nn.init.orthogonal_(torch.empty(width, width), generator=generator))
