"""The first sub-layer of a block, as modules: HOPE's own, and the baselines in its place, with the same plumbing around them. [D]

Every mixer maps x (..., T, d) and its state to y (..., T, d) and the state after it, residual included, and starts from
``initial_state``. `SelfModifyingTitans` is HOPE's, `SoftmaxAttention` HOPE-Attention's. `LinearAttention`,
`GatedDeltaRule` and `Titans` have the same projections, convolutions, heads, head norm and output projection around them,
so that a comparison compares the memories.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from hope_ref.config import HopeConfig
from hope_ref.memories import eta_bias, logit, weight_shapes
from hope_ref.parallel import delta_rule, doors, hope_layers, linear_attention, titans
from hope_ref.parallel.continuum_levels import rms_norm
from hope_ref.parallel.hope_layers import AttentionState, MixerState
from hope_ref.parallel.memory_network import unit
from hope_ref.parallel.memory_states import initial_state as initial_memories
from hope_ref.validation import shape_is

BLOCK = 64  # tokens that the baselines compute at once; changes speed, not the result


class Mixer(nn.Module):
    """Gain, projections and output of every mixer; the parameters go by the names of `hope_ref.reference.hope`."""

    state_type: type = MixerState

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.Parameter(torch.ones(config.width))
        self.output = square(config.width, generator)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return dict(self.named_parameters())

    def initial_state(self, lead: tuple[int, ...] = ()) -> Any:
        """Nothing seen, for sequences in the leading axes ``lead``."""
        raise NotImplementedError

    def check_state(self, state: Any, lead: tuple[int, ...], position: int, name: str = "state") -> None:
        """Raise a ValueError unless the state is of this mixer's kind, for sequences in ``lead``, after ``position`` tokens."""
        if not isinstance(state, self.state_type):
            raise ValueError(f"{name} must be a {self.state_type.__name__}, got {type(state).__name__}")
        for field, shape in self.state_shapes(position).items():
            tensor = getattr(state, field)
            doors.tensors(**{"norm": self.norm, f"{name}.{field}": tensor})
            shape_is(f"{name}.{field}", tuple(tensor.shape), (*lead, *shape))

    def state_shapes(self, position: int) -> dict[str, tuple[int, ...]]:
        """The last axes of what is carried beside the memory, by field."""
        shape = (max(self.config.convolution_width - 1, 0), self.config.width)
        return dict.fromkeys(MixerState._fields[:3], shape)

    def extra_repr(self) -> str:
        return f"width={self.config.width}, heads={self.config.heads}"


class _Convolved(Mixer):
    """A mixer with convolutions before and a norm of each head behind its memory, as HOPE has them [P 94-97, D]."""

    def __init__(
        self,
        config: HopeConfig,
        generator: torch.Generator | None = None,
        *,
        projected: bool = True,
        asked: bool = True,
    ) -> None:
        super().__init__(config, generator)
        if projected:
            self.p_key, self.p_value = square(config.width, generator), square(config.width, generator)
        if asked:
            self.w_query = square(config.width, generator)
        if config.convolution_width:
            identity = torch.zeros(config.width, config.convolution_width)
            identity[:, -1] = 1.0  # the token itself
            for name in hope_layers.CONVOLUTIONS:
                setattr(self, name, nn.Parameter(identity.clone()))
        self.head_norm = nn.Parameter(torch.ones(config.width))

    def initial_state(self, lead: tuple[int, ...] = ()) -> MixerState:
        """No inputs seen; the memory at its parameters."""
        state = hope_layers.initial_mixer_state(self.config, lead, self.norm)
        return state._replace(memory=self.initial_memory((*lead, self.config.heads)))

    def initial_memory(self, lead: tuple[int, ...]) -> Any:
        """The memory's own state, ``lead`` ending in the heads."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, state: MixerState, *, recompute: bool = False, backend: str = "torch"
    ) -> tuple[Tensor, MixerState]:
        """y and the state after the last token; ``recompute`` and ``backend`` matter to `SelfModifyingTitans` alone."""
        n, parameters = rms_norm(x, self.norm), self.tensors()
        key, value, query, kept = hope_layers.views(n, parameters, self.config.heads, state)
        with doors.no_autocast(x.device.type):  # what autocast has halved is made whole
            n, key, value, query = (z.to(self.norm.dtype) for z in (n, key, value, query))
            answers, memory = self.memory(n, unit(query), unit(key), value, state.memory)
        return hope_layers.output(x, answers, parameters), kept._replace(memory=memory)

    def memory(self, n: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Answers to unit queries after writing unit keys and values, (..., heads, T, d / heads); n is (..., T, d)."""
        raise NotImplementedError

    def rate(self, name: str, start: float) -> None:
        """A number per head and token, sigmoid(w n + bias), that starts at ``start`` for every token."""
        setattr(self, f"{name}_weight", nn.Parameter(torch.zeros(self.config.heads, self.config.width)))
        setattr(self, f"{name}_bias", nn.Parameter(torch.full((self.config.heads,), logit(start))))

    def rated(self, name: str, n: Tensor) -> Tensor:
        """(..., heads, T), in (0, 1)."""
        z = nn.functional.linear(n, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))
        return torch.sigmoid(z).transpose(-1, -2)


class SelfModifyingTitans(_Convolved):
    """HOPE's own: memories that make their own keys, values, rates and targets. `hope_layers.titans_layer` [P 83-97]."""

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(
            config, generator, projected=config.input_projection, asked=not config.adaptive_query
        )
        d, hidden, heads = config.head_width, config.hidden_width, config.heads
        for name, shape in weight_shapes(config, d, hidden).items():
            layer, memory = name.split("_", 1)
            drawn = torch.empty(heads, *map(int, shape))
            if layer == "w2":
                for one in drawn:
                    nn.init.orthogonal_(one, gain=2.0, generator=generator)
            else:
                std = config.memory_w1_std if memory == "memory" else 0.5 / math.sqrt(drawn.shape[-1])
                nn.init.normal_(drawn, std=std, generator=generator)
            setattr(self, name, nn.Parameter(drawn))
        of_memory, of_others = (eta_bias(eta, config) for eta in config.eta_init)
        for memory in config.memories:
            start = of_memory if memory == "memory" else of_others
            setattr(self, f"eta_bias_{memory}", nn.Parameter(torch.full((heads,), start)))
        self.eta_readout = nn.Parameter(torch.zeros(heads, d))
        self.alpha_readout = nn.Parameter(torch.zeros(heads, d))
        self.alpha_bias = nn.Parameter(torch.full((heads,), logit(config.alpha_init)))

    def initial_memory(self, lead: tuple[int, ...]) -> Any:
        """W_0 everywhere."""
        return initial_memories(self.tensors(), self.config, lead)

    def forward(
        self, x: Tensor, state: MixerState, *, recompute: bool = False, backend: str = "torch"
    ) -> tuple[Tensor, MixerState]:
        """y and the state after the last token; ``recompute`` and ``backend``: as there."""
        return hope_layers.titans_layer(
            x, self.tensors(), self.config, state, recompute=recompute, backend=backend
        )


class SoftmaxAttention(Mixer):
    """Causal softmax attention with rotary positions: HOPE-Attention's. `hope_layers.attention_layer` [P 9, D]."""

    state_type = AttentionState

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        if config.head_width % 2:
            raise ValueError(f"width of a head must be even for rotary positions, got {config.head_width}")
        super().__init__(config, generator)
        self.p_key, self.p_value = square(config.width, generator), square(config.width, generator)
        self.w_query = square(config.width, generator)

    def state_shapes(self, position: int) -> dict[str, tuple[int, ...]]:
        """All keys and values so far."""
        shape = (self.config.heads, position, self.config.head_width)
        return dict.fromkeys(AttentionState._fields, shape)

    def initial_state(self, lead: tuple[int, ...] = ()) -> AttentionState:
        """No keys, no values."""
        return hope_layers.initial_attention_state(self.config, lead, self.norm)

    def forward(
        self, x: Tensor, state: AttentionState, *, recompute: bool = False, backend: str = "torch"
    ) -> tuple[Tensor, AttentionState]:
        """y and the state, which grows with every token; the options have no effect."""
        return hope_layers.attention_layer(x, self.tensors(), self.config, state)


class LinearAttention(_Convolved):
    """M_t = M_{t-1} + v_t k_tᵀ with unit keys and queries. `parallel.linear_attention` [S 2-3]."""

    def initial_memory(self, lead: tuple[int, ...]) -> Tensor:
        """An empty memory."""
        d = self.config.head_width
        return self.norm.new_zeros(*lead, d, d)

    def memory(self, n: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The answers and the memory after the last token."""
        return linear_attention.linear_attention(q, k, v, 1.0, state, chunk_size=BLOCK)


class GatedDeltaRule(LinearAttention):
    """M_t = α_t M_{t-1} (I - β_t k kᵀ) + β_t v kᵀ, α and β from the token. `parallel.delta_rule` [P 65].

    With ``beta_max`` 2 the factor along the key, α (1 - β), may be negative, which is what tracking a parity takes;
    ``gated=False`` is the plain delta rule, α = 1.
    """

    def __init__(
        self,
        config: HopeConfig,
        generator: torch.Generator | None = None,
        *,
        beta_max: float = 1.0,
        gated: bool = True,
    ) -> None:
        super().__init__(config, generator)
        if not 0 < beta_max <= 2:
            raise ValueError(f"beta_max must be in (0, 2], got {beta_max!r}")
        self.beta_max, self.gated = float(beta_max), gated
        self.rate("beta", 0.5)
        if gated:
            self.rate("alpha", config.alpha_init)

    def memory(self, n: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The answers and the memory after the last token."""
        beta = self.beta_max * self.rated("beta", n)
        if not self.gated:
            return delta_rule.delta_rule(q, k, v, beta, state, chunk_size=BLOCK)
        return delta_rule.gated_delta_rule(q, k, v, beta, self.rated("alpha", n), state, chunk_size=BLOCK)


class Titans(_Convolved):
    """B_t = μ_t B_{t-1} - η_t ∇ℓ(M_{b(t)}; k_t, v_t), M_t = α_t M_{t-1} + B_t. `parallel.titans` [S 22-24, Titans].

    The memory is a perceptron with ``architecture`` "mlp" and a matrix with "linear"; its chunks are ``memory_chunk_size``.
    All gradients of a chunk are taken at its start and add up, so η is at most 1/C, and 0.2/C where training starts [D]:
    with η = 0.5 a perceptron in chunks of 16 overflows on random tokens.
    """

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator)
        d, hidden, heads = config.head_width, config.hidden_width, config.heads
        if config.architecture == "mlp":
            self.w1 = nn.Parameter(torch.zeros(heads, d, hidden))
            drawn = torch.empty(heads, hidden, d)
            for one in drawn:
                nn.init.orthogonal_(one, gain=2.0, generator=generator)
            self.w2 = nn.Parameter(drawn)
        else:
            self.w = nn.Parameter(torch.zeros(heads, d, d))
        self.rate("eta", 0.2)
        self.rate("alpha", config.alpha_init)
        self.rate("mu", 0.1)

    def initial_memory(self, lead: tuple[int, ...]) -> titans.TitansState:
        """The memory at its parameters, without momentum."""
        weights = (self.w1, self.w2) if self.config.architecture == "mlp" else (self.w,)
        return titans.start(*(w.expand(*lead, *w.shape[-2:]) for w in weights))

    def memory(self, n: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The answers and the state after the last token."""
        eta, alpha, mu = (self.rated(name, n) for name in ("eta", "alpha", "mu"))
        chunk_size = self.config.memory_chunk_size
        return titans.titans(q, k, v, eta / chunk_size, alpha, mu, state, chunk_size, BLOCK)


MIXERS: dict[str, type[Mixer]] = {
    "self_modifying_titans": SelfModifyingTitans,
    "softmax_attention": SoftmaxAttention,
    "linear_attention": LinearAttention,
    "gated_delta_rule": GatedDeltaRule,
    "titans": Titans,
}


def square(width: int, generator: torch.Generator | None) -> nn.Parameter:
    """A projection that starts orthogonal, (d, d)."""
    return nn.Parameter(nn.init.orthogonal_(torch.empty(width, width), generator=generator))
