"""HOPE in PyTorch: chunk-parallel, with a batch, trained through its own writes. Equal to `hope_ref.reference.hope`. Source: [P 94-97], [D].

Modules are thin: the functions beside them compute, these hold the parameters. The state goes in and comes back; nothing
of a stream is kept in a module. `hope_adaptation` lets the levels learn from the model's own loss.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hope_ref.common.validation import name_difference, positive_integer, scalar
from hope_ref.config import CmsOptions, HopeConfig
from hope_ref.parallel import checks, states
from hope_ref.parallel.continuum_memory import ContinuumMemory, ContinuumState
from hope_ref.parallel.delta_rule import GatedDeltaRule
from hope_ref.parallel.layers import Mixer, SoftmaxAttention, rms_norm
from hope_ref.parallel.linear_attention import LinearAttention
from hope_ref.parallel.self_modifying_titans import SelfModifyingTitans, head_names
from hope_ref.parallel.states import UnequalStates
from hope_ref.parallel.titans import Titans

__all__ = ["MIXERS", "BlockState", "Hope", "HopeBlock", "HopeState", "UnequalStates"]

MIXERS: dict[str, type[Mixer]] = {
    "self_modifying_titans": SelfModifyingTitans,
    "softmax_attention": SoftmaxAttention,
    "linear_attention": LinearAttention,
    "gated_delta_rule": GatedDeltaRule,
    "titans": Titans,
}
Model = TypeVar("Model", bound="Hope")


class BlockState(NamedTuple):
    """What one block carries."""

    mixer: Any
    continuum: ContinuumState


class _HopeState(NamedTuple):
    blocks: tuple[BlockState, ...]
    position: int
    config: HopeConfig


class HopeState(states.StreamState, _HopeState):  # type: ignore[misc]  # indexes the batch, not the fields
    """All that a later token can see of earlier ones, for every sequence of the batch. See `states.StreamState`.

    Attributes:
        blocks: what each block carries.
        position: tokens seen so far, by every sequence.
        config: of the model that the state belongs to; a model with another one refuses it.
    """

    __slots__ = ()


states.register(HopeState)


class HopeBlock(nn.Module):
    """A mixer, then the continuum memory, both with their residuals [P 97]."""

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.mixer = MIXERS[config.mixer](config, generator)
        self.continuum = ContinuumMemory(config, generator)

    def initial_state(self, lead: tuple[int, ...] = (), *, copy: bool = True) -> BlockState:
        """Nothing seen, for sequences in the leading axes ``lead``."""
        return BlockState(
            self.mixer.initial_state(lead, copy=copy), self.continuum.initial_state(lead, copy=copy)
        )

    def forward(
        self, x: Tensor, state: BlockState | None = None, *, recompute: bool = False, backend: str = "torch"
    ) -> tuple[Tensor, BlockState]:
        """y, (..., T, d), and the state after the last token; None starts a stream."""
        mixer, continuum = (None, None) if state is None else state
        x, mixer = self.mixer(x, mixer, recompute=recompute, backend=backend)
        y, continuum = self.continuum(x, continuum)
        return y, BlockState(mixer, continuum)


class Hope(nn.Module):
    """logits = E RMSNorm(block_N(… block_1(E[token]))); equals `reference.hope.hope` on every sequence [P 94-97].

    Training starts from projections that are orthogonal, convolutions that are the identity, gains of 1, memories as
    `HopeConfig` says, and an embedding ~ N(0, 1/d), so that the tied head's logits have about unit variance.

    Args:
        config: the whole model but for its parameters; ``Hope()`` is ``Hope(HopeConfig())``.
    Raises:
        ValueError: if config is no HopeConfig.
    """

    def __init__(self, config: HopeConfig | None = None) -> None:
        super().__init__()
        config = HopeConfig() if config is None else config
        if not isinstance(config, HopeConfig):
            raise ValueError(f"config must be a HopeConfig, got {type(config).__name__}")
        generator = None if config.seed is None else torch.Generator().manual_seed(config.seed)
        self.config = config
        drawn = torch.empty(config.vocabulary, config.width)
        self.embedding = nn.Parameter(nn.init.normal_(drawn, std=config.width**-0.5, generator=generator))
        self.blocks = nn.ModuleList(HopeBlock(config, generator) for _ in range(config.blocks))
        self.norm = nn.Parameter(torch.ones(config.width))
        if config.learned_rates:
            self.log_rates = nn.Parameter(torch.tensor(config.level_rates).log())

    @property
    def cms_options(self) -> CmsOptions:
        """The options of the levels, with the rates that are learned in place of those of the configuration."""
        options = self.config.cms_options
        return options._replace(rates=tuple(self.log_rates.exp())) if self.config.learned_rates else options

    # --- forward --------------------------------------------------------------------------------------------------

    def initial_state(self, lead: Sequence[int] = ()) -> HopeState:
        """Every memory and level at its parameters (copies of them), nothing seen, for sequences in the leading axes ``lead``."""
        blocks = tuple(block.initial_state(tuple(lead)) for block in self.blocks)  # type: ignore[operator]
        return HopeState(blocks, 0, self.config)

    def forward(
        self,
        tokens: Tensor,
        state: HopeState | UnequalStates | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        starts: Tensor | None = None,
        recompute: bool = False,
        backend: str = "torch",
    ) -> tuple[Tensor, HopeState | UnequalStates]:
        """Logits, (..., T, vocabulary), and the state after the last token.

        A split at any token gives the same logits and the same final state, in exact arithmetic and, where the dynamics
        contract, to rounding. With ``signal="task"`` the levels stay as the state has them: `adapt` moves them. An
        overflow is not hidden: inf and NaN pass on.

        Args:
            tokens: integers in [0, vocabulary) of any integer dtype, (..., T).
            state: what the last call returned; None starts from the parameters.
            lengths: for tokens (B, T): how many of each row are read; what stands behind them enters no state, and its
                logits are 0. The state is then one per row, `UnequalStates`.
            starts: for tokens (B, T): True where a document begins. There the row starts from the parameters again. The
                state is one per row then, too.
            recompute: keep only the memories' states between chunks for the backward pass and compute the rest again.
            backend: of the mixers that have kernels: "torch", "triton", "compiled" or "auto", see
                `hope_ref.parallel.kernels` and `hope_ref.parallel.compiling`.
        Raises:
            ValueError: naming the argument, what it got and what it wants.
        """
        tokens = self.check_tokens(tokens)
        how: dict[str, Any] = {"recompute": recompute, "backend": backend}
        if lengths is not None or starts is not None or isinstance(state, UnequalStates):
            from hope_ref.parallel.unequal_lengths import read

            return read(self, tokens, state, lengths, starts, how)
        if torch.compiler.is_exporting() and self.config.mixer != "softmax_attention":
            _check_fixed(tokens.shape[-1])
        lead = tuple(tokens.shape[:-1])
        state = self.initial_state(lead) if state is None else self.check_state(state, lead)
        x, blocks = functional.embedding(tokens, self.embedding), []  # (..., T, d)
        for block, before in zip(self.blocks, state.blocks, strict=True):
            x, after = block(x, before, **how)
            blocks.append(after)
        return self.head(x), HopeState(tuple(blocks), state.position + tokens.shape[-1], self.config)

    def head(self, x: Tensor) -> Tensor:
        """The tied head: E RMSNorm(x), (..., T, vocabulary)."""
        return functional.linear(rms_norm(x, self.norm), self.embedding)

    def adapt(self, tokens: Tensor, state: Any = None, *, differentiable: bool = False) -> tuple[Tensor, Any]:
        """Read and learn: `hope_ref.parallel.hope_adaptation.adapt` with this model."""
        from hope_ref.parallel.hope_adaptation import adapt

        return adapt(self, tokens, state, differentiable=differentiable)

    # --- inference ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prefill(
        self,
        tokens: Tensor,
        state: HopeState | UnequalStates | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, HopeState | UnequalStates]:
        """Read a prompt, (..., T) with T >= 1: logits of the next token, (..., vocabulary), and the state.

        With ``lengths``, of prompts of unequal length padded on the right, each row's logits are those behind its last token.
        """
        if isinstance(tokens, Tensor) and tokens.ndim and tokens.shape[-1] == 0:
            raise ValueError("tokens must have at least one token, got none")
        logits, state = self(tokens, state, lengths=lengths)
        if lengths is None:
            return logits[..., -1, :], state
        last = torch.as_tensor(lengths, device=logits.device) - 1
        if int(last.min()) < 0:
            raise ValueError("lengths must be >= 1 in a prompt, got 0")
        return logits[torch.arange(len(logits), device=logits.device), last], state

    @torch.no_grad()
    def step(
        self, token: Tensor, state: HopeState | UnequalStates | None = None
    ) -> tuple[Tensor, HopeState | UnequalStates]:
        """Read one token per sequence, (...): logits of the next, (..., vocabulary), and the state.

        Time and memory per token do not depend on how many came before (but for softmax attention).
        """
        return self.prefill(token[..., None], state)

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        state: HopeState | UnequalStates | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, HopeState | UnequalStates]:
        """Read a prompt and go on from it, one token after the other.

        Args:
            tokens: the prompt, (..., T) with T >= 1.
            max_new_tokens: tokens to make, >= 1; there is no token that ends a text, so all of them are made.
            state: what an earlier call returned.
            lengths: of prompts of unequal length, (B, T) padded on the right.
            temperature: 0 takes the most likely token; else logits are divided by it and one is drawn.
            generator: of the draws.
        Returns:
            the new tokens, (..., max_new_tokens), and the state before the last of them is read.
        Raises:
            ValueError: naming the argument, what it got and what it wants.
        """
        count = positive_integer("max_new_tokens", max_new_tokens)
        temperature = scalar("temperature", temperature, low=0)
        logits, state = self.prefill(tokens, state, lengths=lengths)
        tokens_out = [self._drawn(logits, temperature, generator)]
        while len(tokens_out) < count:
            logits, state = self.step(tokens_out[-1], state)
            tokens_out.append(self._drawn(logits, temperature, generator))
        return torch.stack(tokens_out, -1), state

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

    # --- training -------------------------------------------------------------------------------------------------

    def parameter_groups(self, weight_decay: float = 0.01) -> list[dict[str, Any]]:
        """Every parameter once, in groups for an optimiser: ``AdamW(model.parameter_groups())``.

        Groups by "name": "matrices", linear maps of a mixer; "memories", the initial weights W_0, stacks of matrices;
        "levels.0", … of the continuum memory, with their "chunk_size", as `LevelSchedule` takes them; "vectors", gains,
        biases, read-outs and depthwise kernels, and "embedding", both without weight decay. The first three hold what M3 takes.
        """
        decay = scalar("weight_decay", weight_decay, low=0)
        names = ["matrices", "memories", *(f"levels.{i}" for i in range(len(self.config.levels_chunk_sizes)))]
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in (*names, "vectors", "embedding")}
        for name, parameter in self.named_parameters():
            groups[_group(name, parameter)].append(parameter)
        sizes = {f"levels.{i}": size for i, size in enumerate(self.config.levels_chunk_sizes)}
        return [
            {"name": name, "params": parameters, "weight_decay": decay if name in names else 0.0}
            | ({"chunk_size": sizes[name]} if name in sizes else {})
            for name, parameters in groups.items()
            if parameters
        ]

    # --- files ----------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder, which is made if need be.

        Each file is whole or not there; files by other names are not touched. The weights carry the configuration and a
        checksum, which `load` compares. Raises: OSError.
        """
        from hope_ref.parallel.pretrained import save

        save(self, Path(folder))

    @classmethod
    def load(cls: type[Model], folder: str | Path, device: torch.device | str = "cpu") -> Model:
        """The model that `save` wrote, bit for bit, in its dtype; weights of other programs need no checksum.

        Raises: ValueError if a file is damaged or not one of such a model, or a weight is not finite; OSError.
        """
        from hope_ref.parallel.pretrained import load

        return load(cls, Path(folder), device)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """`save`, by the name that Hugging Face's libraries have for it."""
        self.save(save_directory)

    @classmethod
    def from_pretrained(
        cls: type[Model],
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        device: torch.device | str = "cpu",
    ) -> Model:
        """`load` from a folder; where there is none of that name, from the Hugging Face Hub, if huggingface_hub is installed.

        Raises: ValueError if there is neither; what huggingface_hub raises; as `load`.
        """
        from hope_ref.parallel.pretrained import folder_of

        return cls.load(folder_of(str(pretrained_model_name_or_path), revision), device)

    # --- the reference's parameters -------------------------------------------------------------------------------

    @classmethod
    def from_reference(
        cls: type[Model],
        parameters: dict[str, Any],
        config: HopeConfig,
        *,
        dtype: torch.dtype = torch.float64,
    ) -> Model:
        """The model with the parameters of `hope_ref.reference.hope.init`, NumPy arrays by name, or of `to_reference`.

        Raises: ValueError if names or shapes do not fit the configuration.
        """
        if not isinstance(parameters, dict):
            raise ValueError(f"parameters must be a dict by name, got {type(parameters).__name__}")
        model = cls(config).to(dtype)
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
        tensors: dict[str, Tensor] = {}
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
            tensors[name] = value
        return tensors

    def to_reference(self) -> dict[str, Any]:
        """The parameters as `hope_ref.reference.hope` takes them: float64 arrays by name, each head's apart."""
        arrays: dict[str, Any] = {}
        for name, parameter in self.named_parameters():
            value = parameter.detach().to("cpu", torch.float64).numpy()
            values = value if _per_head(name, self.config) else [value]
            arrays |= {
                theirs: np.array(one)
                for theirs, one in zip(_reference_names(name, self.config), values, strict=True)
            }
        return arrays

    # --- checks ---------------------------------------------------------------------------------------------------

    def check_tokens(self, tokens: Any, name: str = "tokens") -> Tensor:
        """The tokens as the embedding takes them. Raises: ValueError unless they are integers in [0, vocabulary), (..., T)."""
        if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.is_complex():
            got = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f"{name} must be a tensor of integers, got {got}")
        if tokens.dtype == torch.bool:
            raise ValueError(f"{name} must be a tensor of integers, got {tokens.dtype}")
        if tokens.ndim < 1:
            raise ValueError(f"{name} must have shape (..., T), got ()")
        tokens = tokens if tokens.dtype in (torch.int64, torch.int32) else tokens.long()
        if checks.has_values(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(
            self.embedding
        ):
            raise ValueError(
                f"{name} must be in [0, {len(self.embedding)}), got {int(tokens.min())} to {int(tokens.max())}"
            )
        return tokens

    def check_state(self, state: Any, lead: tuple[int, ...], name: str = "state") -> HopeState:
        """The state, None in it (see `states.StreamState.detach`) filled from the parameters. Raises: ValueError unless it is one of this model, whole.

        Types, shapes, dtypes and devices of all that is carried are looked at, the configuration, and that positions agree.
        """
        if not isinstance(state, HopeState) or len(state.blocks) != len(self.blocks):
            got = f"{len(state.blocks)} blocks" if isinstance(state, HopeState) else type(state).__name__
            raise ValueError(f"{name} must be a HopeState of {len(self.blocks)} blocks or None, got {got}")
        position = states.checked(state.position, None, f"{name}.position")
        moving = {"associative": position, "none": 0}.get(self.config.signal)  # "task": a driver's own count
        blocks = []
        for block in self.blocks:
            levels: Any = block.continuum.initial_state(lead, copy=False)  # type: ignore[operator, union-attr]
            mixer = block.mixer.like_state(lead, position)  # type: ignore[operator, union-attr]
            blocks.append(BlockState(mixer, levels._replace(position=moving)))
        # the configuration first: another one explains what does not fit
        states.checked(state.config, self.config, f"{name}.config")
        absent: list[str] = []
        like = HopeState(tuple(blocks), position, self.config)
        whole: HopeState = states.checked(state, like, name, absent)
        for leaf in absent:  # a parameter that no token has moved yet, and nothing else
            if not states.unmoved(whole, re.sub(r"\['?(\w+)'?\]", r".\1", leaf.removeprefix(f"{name}."))):
                raise ValueError(f"{leaf} must be a torch.Tensor, got NoneType")
        seen, chunk_size = whole.blocks[0].continuum.position, self.config.levels_chunk_sizes[0]
        for index, block_state in enumerate(whole.blocks):
            own, target = block_state.continuum.position, ""
            if own != seen:
                target = f"{seen}, as in the first block"
            elif own > position:
                target = f"at most {position}, that of the state"
            elif self.config.signal == "task" and own % chunk_size:
                target = f"a multiple of {chunk_size}, the fastest level's chunk"
            if target:
                raise ValueError(f"{name}.blocks[{index}].continuum.position must be {target}, got {own}")
        return whole

    def extra_repr(self) -> str:
        return f"vocabulary={len(self.embedding)}, mixer={self.config.mixer!r}"


def _check_fixed(length: Any) -> None:
    """Raise a ValueError if a model that is exported is to read any number of tokens: the loop over its chunks is unrolled."""
    if not isinstance(length, int):
        raise ValueError(
            "tokens must have a fixed length under torch.export, because chunks are unrolled, got a dynamic one; "
            "the batch may be dynamic, and a stream may be cut into pieces of that length"
        )


def _group(name: str, parameter: Tensor) -> str:
    """The group of `Hope.parameter_groups` that a parameter of a model belongs to."""
    own = name.rsplit(".", 1)[-1]
    if name == "embedding":
        return name
    if own.startswith("conv_") or own.endswith(("_readout", "_weight")) or parameter.ndim < 2:
        return "vectors"
    if ".continuum.levels." in name:
        return "levels." + name.split(".levels.")[1].split(".")[0]
    return "matrices" if parameter.ndim == 2 else "memories"


def _per_head(name: str, config: HopeConfig) -> bool:
    """Whether the first axis of this parameter of a model counts the heads."""
    return ".mixer." in name and name.rsplit(".", 1)[1] in head_names(config)


def _reference_names(name: str, config: HopeConfig) -> list[str]:
    """Where a parameter of the model stands in the reference: one name, or one for each head."""
    if not _per_head(name, config):
        return [name.replace(".mixer.", ".").replace(".continuum.", ".")]
    block, own = name.split(".mixer.")
    return [f"{block}.heads.{head}.{own}" for head in range(config.heads)]
