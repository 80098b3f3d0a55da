"""HOPE in PyTorch: chunk-parallel, with a batch, trained through its own writes. Equal to `hope_ref.reference.hope`. Source: [P 94-97], [D].

Modules are thin: `hope_layers` and `continuum_memory` compute, these hold the parameters. The state goes in and comes back;
nothing of a stream is kept in a module. `hope_adaptation` lets the levels learn from the model's own loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hope_ref.config import HopeConfig
from hope_ref.continuum_settings import of_config
from hope_ref.parallel import continuum_memory, doors, hope_layers
from hope_ref.parallel.continuum_levels import ContinuumState, Level, rms_norm
from hope_ref.parallel.mixers import MIXERS, Mixer
from hope_ref.validation import name_difference, one_of, positive_integer, scalar, shape_is

__all__ = ["BlockState", "ContinuumMemory", "Hope", "HopeAttention", "HopeBlock", "HopeState"]


class BlockState(NamedTuple):
    """What one block carries."""

    mixer: Any
    continuum: ContinuumState


class HopeState(NamedTuple):
    """All that a later token can see of earlier ones, for every sequence of the batch."""

    blocks: tuple[BlockState, ...]
    position: int  # tokens seen so far


class LevelParameters(nn.Module):
    """The parameters of one level: W1 and W2, where θ starts, and what is slow: the gain, V and a if they are used."""

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        width, hidden = config.width, 4 * config.width
        w1, w2 = torch.empty(width, hidden), torch.empty(hidden, width)
        self.w1 = nn.Parameter(nn.init.normal_(w1, std=(0.25 / hidden) ** 0.5, generator=generator))
        self.w2 = nn.Parameter(nn.init.normal_(w2, std=width**-0.5, generator=generator))
        self.gain = nn.Parameter(torch.ones(width))
        self.value = self.weight = None
        if config.signal == "associative":
            self.value = nn.Parameter(nn.init.orthogonal_(torch.empty(width, width), generator=generator))
        if config.variant == "independent":
            self.weight = nn.Parameter(torch.ones(()))

    def level(self) -> Level:
        """As the functions of `continuum_memory` take it."""
        return Level(self.w1, self.w2, self.gain, self.value, 1.0 if self.weight is None else self.weight)


class ContinuumMemory(nn.Module):
    """MLPs in a row, each holding still for its own number of tokens. `continuum_memory.continuum_memory` [S 14-15, P 70-74]."""

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.settings = config, of_config(config)
        self.levels = nn.ModuleList(LevelParameters(config, generator) for _ in config.levels_chunk_sizes)

    def parameters_of_levels(self) -> tuple[Level, ...]:
        """The levels, fast to slow."""
        return tuple(level.level() for level in self.levels)  # type: ignore[operator]

    def initial_state(self, lead: tuple[int, ...] = ()) -> ContinuumState:
        """Every level at its parameters, for sequences in the leading axes ``lead``."""
        return continuum_memory.initial_state(self.parameters_of_levels(), lead)

    def forward(self, x: Tensor, state: ContinuumState) -> tuple[Tensor, ContinuumState]:
        """y, (..., T, d), and the state after the last token."""
        levels = self.parameters_of_levels()
        return continuum_memory.stream(
            x, levels, state, self.settings, self.config.signal, self.config.objective
        )


class HopeBlock(nn.Module):
    """A mixer, then the continuum memory, both with their residuals [P 97]."""

    def __init__(self, config: HopeConfig, mixer: Mixer, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.mixer, self.continuum = mixer, ContinuumMemory(config, generator)

    def initial_state(self, lead: tuple[int, ...] = ()) -> BlockState:
        """Nothing seen, for sequences in the leading axes ``lead``."""
        return BlockState(self.mixer.initial_state(lead), self.continuum.initial_state(lead))

    def forward(
        self, x: Tensor, state: BlockState, *, recompute: bool = False, backend: str = "torch"
    ) -> tuple[Tensor, BlockState]:
        """y, (..., T, d), and the state after the last token."""
        x, mixed = self.mixer(x, state.mixer, recompute=recompute, backend=backend)
        y, continuum = self.continuum(x, state.continuum)
        return y, BlockState(mixed, continuum)


class Hope(nn.Module):
    """logits = E RMSNorm(block_N(… block_1(E[token]))); equals `reference.hope` on every sequence [P 94-97].

    Training starts from projections that are orthogonal, convolutions that are the identity, gains of 1, memories as
    `HopeConfig` says, and an embedding ~ N(0, 1/d), so that the tied head's logits have about unit variance.

    Args:
        config: the options; d is ``config.width``.
        vocabulary, blocks: integers >= 1.
        mixer: what stands in the Titans' place: a name of `mixers.MIXERS`; see there for the baselines.
        seed: of the starting values; None takes PyTorch's own generator.
        mixer_options: e.g. ``beta_max`` of "gated_delta_rule".
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """

    def __init__(
        self,
        config: HopeConfig,
        vocabulary: int,
        blocks: int,
        *,
        mixer: str = "self_modifying_titans",
        seed: int | None = 0,
        **mixer_options: Any,
    ) -> None:
        super().__init__()
        if not isinstance(config, HopeConfig):
            raise ValueError(f"config must be a HopeConfig, got {type(config).__name__}")
        one_of("mixer", mixer, tuple(MIXERS))
        vocabulary, blocks = positive_integer("vocabulary", vocabulary), positive_integer("blocks", blocks)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise ValueError(f"seed must be an integer or None, got {seed!r}")
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        self.config, self.mixer = config, mixer
        drawn = torch.empty(vocabulary, config.width)
        self.embedding = nn.Parameter(nn.init.normal_(drawn, std=config.width**-0.5, generator=generator))
        self.blocks = nn.ModuleList(
            HopeBlock(config, MIXERS[mixer](config, generator, **mixer_options), generator)
            for _ in range(blocks)
        )
        self.norm = nn.Parameter(torch.ones(config.width))

    # --- forward --------------------------------------------------------------------------------------------------

    def initial_state(self, lead: Sequence[int] = ()) -> HopeState:
        """Every memory and level at its parameters, nothing seen, for sequences in the leading axes ``lead``."""
        lead = tuple(lead)
        with doors.trust():
            return HopeState(tuple(block.initial_state(lead) for block in self.blocks), 0)  # type: ignore[operator]

    def forward(
        self,
        tokens: Tensor,
        state: HopeState | None = None,
        *,
        recompute: bool = False,
        backend: str = "torch",
    ) -> tuple[Tensor, HopeState]:
        """Logits, (..., T, vocabulary), and the state after the last token.

        A split at any token gives the same logits and the same final state. With ``signal="task"`` the levels stay as
        the state has them: `hope_adaptation.adapt` moves them. An overflow is not hidden: inf and NaN pass on.

        Args:
            tokens: integers in [0, vocabulary), (..., T).
            state: what the last call returned; None starts from the parameters.
            recompute: keep only the memories' states between chunks for the backward pass and compute the rest again.
            backend: of the self-modifying Titans: "torch", "triton" or "auto", see `hope_ref.parallel.kernels`.
        Raises:
            ValueError: naming the argument, what it got and what it wants.
        """
        self.check_tokens(tokens)
        if state is None:
            state = self.initial_state(tokens.shape[:-1])
        self.check_state(state, tuple(tokens.shape[:-1]))
        x, blocks = functional.embedding(tokens, self.embedding), []  # (..., T, d)
        with doors.trust():
            for block, before in zip(self.blocks, state.blocks, strict=True):
                x, after = block(x, before, recompute=recompute, backend=backend)
                blocks.append(after)
        return self.head(x), HopeState(tuple(blocks), state.position + tokens.shape[-1])

    def head(self, x: Tensor) -> Tensor:
        """The tied head: E RMSNorm(x), (..., T, vocabulary)."""
        return functional.linear(rms_norm(x, self.norm), self.embedding)

    # --- inference ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prefill(self, tokens: Tensor, state: HopeState | None = None) -> tuple[Tensor, HopeState]:
        """Read a prompt, (..., T) with T >= 1: logits of the next token, (..., vocabulary), and the state."""
        if isinstance(tokens, Tensor) and tokens.ndim and tokens.shape[-1] == 0:
            raise ValueError("tokens must have at least one token, got none")
        logits, state = self(tokens, state)
        return logits[..., -1, :], state

    @torch.no_grad()
    def step(self, token: Tensor, state: HopeState) -> tuple[Tensor, HopeState]:
        """Read one token per sequence, (...): logits of the next, (..., vocabulary), and the state.

        Time and memory per token do not depend on how many came before (but for softmax attention).
        """
        return self.prefill(token[..., None], state)

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        count: int,
        state: HopeState | None = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, HopeState]:
        """Read a prompt and go on from it, one token after the other.

        Args:
            tokens: the prompt, (..., T) with T >= 1.
            count: tokens to make, >= 1.
            state: what an earlier call returned.
            temperature: 0 takes the most likely token; else logits are divided by it and one is drawn.
            generator: of the draws.
        Returns:
            the new tokens, (..., count), and the state before the last of them is read.
        Raises:
            ValueError: naming the argument, what it got and what it wants.
        """
        count = positive_integer("count", count)
        temperature = scalar("temperature", temperature, low=0)
        logits, state = self.prefill(tokens, state)
        made = [self._drawn(logits, temperature, generator)]
        while len(made) < count:
            logits, state = self.step(made[-1], state)
            made.append(self._drawn(logits, temperature, generator))
        return torch.stack(made, -1), state

    @staticmethod
    def _drawn(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
        if temperature == 0:
            return logits.argmax(-1)
        logits = logits.float()
        # Where denormals are flushed, a lower one would be 0, and the likeliest byte's share 0/0.
        temperature = max(temperature, torch.finfo(logits.dtype).tiny)
        # at most 0, so that no temperature, however low, makes inf of them
        share = ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)
        drawn = torch.multinomial(share.flatten(0, -2) if share.ndim > 1 else share, 1, generator=generator)
        return drawn.reshape(logits.shape[:-1])

    # --- the reference's parameters -------------------------------------------------------------------------------

    @classmethod
    def from_reference(
        cls,
        parameters: dict[str, Any],
        config: HopeConfig,
        *,
        mixer: str = "self_modifying_titans",
        dtype: torch.dtype = torch.float64,
        **mixer_options: Any,
    ) -> Hope:
        """The model with the parameters of `hope_ref.reference.hope.init`, NumPy arrays by name, or of `to_reference`.

        Raises: ValueError if names or shapes do not fit.
        """
        if not isinstance(parameters, dict) or "embedding" not in parameters:
            raise ValueError(f"parameters must be a dict with 'embedding', got {type(parameters).__name__}")
        blocks = 1  # so that a model without blocks is told what is missing
        while f"blocks.{blocks}.norm" in parameters:
            blocks += 1
        model = Hope(config, len(parameters["embedding"]), blocks, mixer=mixer, **mixer_options).to(dtype)
        tensors = model.from_reference_names(parameters)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors[name])
        return model

    def from_reference_names(self, parameters: dict[str, Any]) -> dict[str, Tensor]:
        """Arrays or tensors by the reference's names as tensors by this model's, the heads' stacked; differentiable.

        Raises: ValueError if names or shapes do not fit.
        """
        own = dict(self.named_parameters())
        found: dict[str, Tensor] = {}
        names = {theirs for name in own for theirs in _reference_names(name, self.config)}
        if difference := name_difference(parameters, names):
            raise ValueError(f"parameters must be those of such a model; {difference}")
        for name, parameter in own.items():
            values = [torch.as_tensor(parameters[theirs]) for theirs in _reference_names(name, self.config)]
            value = torch.stack(values) if _per_head(name, self.config) else values[0]
            if value.shape != parameter.shape:
                raise ValueError(
                    f"parameters: {name} must have shape {tuple(parameter.shape)}, got {tuple(value.shape)}"
                )
            found[name] = value
        return found

    def to_reference(self) -> dict[str, Any]:
        """The parameters as `hope_ref.reference.hope` takes them: float64 arrays by name, each head's apart."""
        found: dict[str, Any] = {}
        for name, parameter in self.named_parameters():
            value = parameter.detach().to("cpu", torch.float64).numpy()
            values = value if _per_head(name, self.config) else [value]
            found |= {
                theirs: np.array(one)
                for theirs, one in zip(_reference_names(name, self.config), values, strict=True)
            }
        return found

    # --- the door -------------------------------------------------------------------------------------------------

    def check_tokens(self, tokens: Any, name: str = "tokens") -> None:
        """Raise a ValueError unless these are integers in [0, vocabulary), (..., T)."""
        if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
            got = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f"{name} must be a tensor of int64 or int32, got {got}")
        if tokens.ndim < 1:
            raise ValueError(f"{name} must have shape (..., T), got ()")
        looked_at = tokens.device.type == "cpu" and tokens.numel() and not torch.compiler.is_compiling()
        if looked_at and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(self.embedding):
            raise ValueError(
                f"{name} must be in [0, {len(self.embedding)}), got {int(tokens.min())} to {int(tokens.max())}"
            )

    def check_state(self, state: Any, lead: tuple[int, ...], name: str = "state") -> None:
        """Raise a ValueError unless types and shapes fit; what a memory carries inside is looked at by its own door."""
        if not isinstance(state, HopeState) or len(state.blocks) != len(self.blocks):
            got = f"{len(state.blocks)} blocks" if isinstance(state, HopeState) else type(state).__name__
            raise ValueError(f"{name} must be a HopeState of {len(self.blocks)} blocks or None, got {got}")
        if isinstance(state.position, bool) or not isinstance(state.position, int) or state.position < 0:
            raise ValueError(f"{name}.position must be an integer >= 0, got {state.position!r}")
        width, sizes = self.config.width, self.config.levels_chunk_sizes
        for index, (block, (mixed, continuum)) in enumerate(zip(self.blocks, state.blocks, strict=True)):
            mixer: Any = block.mixer
            mixer.check_state(mixed, lead, state.position, f"{name}.blocks[{index}].mixer")
            if len(continuum.levels) != len(sizes):
                raise ValueError(
                    f"{name}.blocks[{index}].continuum.levels must have {len(sizes)} entries, got {len(continuum.levels)}"
                )
            for number, level in enumerate(continuum.levels):
                own = f"{name}.blocks[{index}].continuum.levels[{number}].w1"
                doors.tensors(**{"embedding": self.embedding, own: level.w1})
                shape_is(own, tuple(level.w1.shape), (*lead, width, 4 * width))

    def extra_repr(self) -> str:
        return f"vocabulary={len(self.embedding)}, mixer={self.mixer!r}"


class HopeAttention(Hope):
    """HOPE-Attention: softmax attention in the Titans' place, the same continuum memory [P 9]."""

    def __init__(self, config: HopeConfig, vocabulary: int, blocks: int, *, seed: int | None = 0) -> None:
        super().__init__(config, vocabulary, blocks, mixer="softmax_attention", seed=seed)

    @classmethod
    def from_reference(cls, parameters: dict[str, Any], config: HopeConfig, **options: Any) -> Hope:
        """As `Hope.from_reference`, with attention."""
        return Hope.from_reference(parameters, config, **({"mixer": "softmax_attention"} | options))


def _per_head(name: str, config: HopeConfig) -> bool:
    """Whether the first axis of this parameter of a model counts the heads."""
    return ".mixer." in name and name.rsplit(".", 1)[1] in hope_layers.head_names(config)


def _reference_names(name: str, config: HopeConfig) -> list[str]:
    """Where a parameter of the model stands in the reference: one name, or one for each head."""
    if not _per_head(name, config):
        return [name.replace(".mixer.", ".").replace(".continuum.", ".")]
    block, own = name.split(".mixer.")
    return [f"{block}.heads.{head}.{own}" for head in range(config.heads)]
