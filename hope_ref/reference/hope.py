"""HOPE: self-modifying Titans, then the continuum memory, block after block, between an embedding and its tied head. Source: [P 94-97], [D]."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hope_ref.config import HopeConfig
from hope_ref.continuum_settings import of_config
from hope_ref.reference import continuum_memory, memory_states, state
from hope_ref.reference.continuum_levels import ContinuumState, Level, rms_norm
from hope_ref.reference.continuum_levels import checked_state as checked_levels_state
from hope_ref.reference.hope_layers import (
    AttentionState,
    TitansState,
    attention_layer,
    convolution,
    head_parameters,
    initial_attention_state,
    initial_titans_state,
    part,
    rotary,
    titans_layer,
)
from hope_ref.reference.hope_parameters import checked_parameters, init, parameter_shapes
from hope_ref.validation import Array, positive_integer, shape_is

__all__ = [
    "AttentionState",
    "BlockState",
    "HopeState",
    "TitansState",
    "attention_layer",
    "convolution",
    "hope",
    "init",
    "initial_state",
    "load_state",
    "parameter_shapes",
    "rotary",
    "save_state",
    "titans_layer",
]

Arrays = dict[str, Array]


class BlockState(NamedTuple):
    """What one block carries."""

    mixer: TitansState | AttentionState
    continuum: ContinuumState


class HopeState(NamedTuple):
    """All that a later token can see of earlier ones."""

    blocks: tuple[BlockState, ...]
    position: int  # tokens seen so far


def hope(
    tokens: Any,
    parameters: Arrays,
    config: HopeConfig,
    state: HopeState | None = None,
    *,
    mixer: str = "self_modifying_titans",
) -> tuple[Array, HopeState]:
    """logits = E RMSNorm(block_N(… block_1(E[token]))), block = Titans sub-layer, then continuum memory [P 94-97].

    A split at any token gives the same logits and the same final state. With ``signal="task"`` the levels stay as the
    state has them: a driver moves them, never the forward pass. An overflow is not hidden: inf and NaN pass on.

    Args:
        tokens: integers in [0, vocabulary), (T,).
        parameters: by name, as `init` makes them.
        config: the options; the vocabulary and the number of blocks come from the arrays.
        state: what the last call returned; None starts from the parameters.
        mixer: "self_modifying_titans", or "softmax_attention" for HOPE-Attention: rotary softmax attention in the Titans' place.
    Returns:
        logits, (T, vocabulary), and the state after the last token.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    parameters, count = checked_parameters(parameters, config, mixer)
    indices = checked_tokens(tokens, len(parameters["embedding"]))
    start = _start(parameters, count, config, mixer)
    state = start if state is None else _checked_state(state, start, parameters, config)
    return stream(indices, parameters, config, state)


def stream(
    indices: Array, parameters: Arrays, config: HopeConfig, state: HopeState
) -> tuple[Array, HopeState]:
    """What `hope` computes, with nothing checked: for a loop whose arguments are its own."""
    embedding = parameters["embedding"]
    x, blocks = embedding[indices], []  # (T, d)
    with np.errstate(over="ignore", invalid="ignore"):  # seen in the results
        for index, before in enumerate(state.blocks):
            x, after = block(x, part(parameters, f"blocks.{index}"), config, before)
            blocks.append(after)
        logits = rms_norm(x, parameters["norm"]) @ embedding.T  # (T, vocabulary)
    return logits, HopeState(tuple(blocks), state.position + len(x))


def block(x: Array, parameters: Arrays, config: HopeConfig, before: BlockState) -> tuple[Array, BlockState]:
    """One block, (T, d) to (T, d): the mixer that its state belongs to, then the continuum memory."""
    x, mixed = mix(x, parameters, config, before.mixer)
    y, continuum = continuum_memory.stream(
        x,
        levels(parameters, config),
        before.continuum,
        of_config(config),
        config.signal,
        config.objective,
    )
    return y, BlockState(mixed, continuum)


def mix(
    x: Array, parameters: Arrays, config: HopeConfig, before: TitansState | AttentionState
) -> tuple[Array, TitansState | AttentionState]:
    """The first sub-layer of a block: the one that the state belongs to."""
    if isinstance(before, TitansState):
        return titans_layer(x, parameters, config, before)
    return attention_layer(x, parameters, config, before)


def levels(parameters: Arrays, config: HopeConfig) -> tuple[Level, ...]:
    """The levels of one block, fast to slow."""
    return tuple(
        Level(**part(parameters, f"levels.{index}")) for index in range(len(config.levels_chunk_sizes))
    )


def initial_state(
    parameters: Arrays, config: HopeConfig, *, mixer: str = "self_modifying_titans"
) -> HopeState:
    """Every memory and level at its parameters, nothing seen.

    Args: parameters, config and mixer as `hope`. Returns: the state. Raises: ValueError, as `hope`.
    """
    return _start(*checked_parameters(parameters, config, mixer), config, mixer)


def save_state(path: str | Path, hope_state: HopeState) -> None:
    """Write the whole state to one .npz file, by names such as ``blocks.0.mixer.heads.0.weights.w1_k``.

    Args: path, taken as it is; hope_state. Raises: ValueError, OSError, as `state.save_state`.
    """
    state.save_state(path, hope_state)


def load_state(path: str | Path, like: HopeState) -> HopeState:
    """Read what `save_state` wrote, bit for bit, into the structure of ``like``, e.g. of an initial state.

    Args: path; like. Returns: the state. Raises: ValueError if the file holds anything else; OSError.
    """
    loaded: HopeState = state.load_state(path, like)
    return loaded


def _start(parameters: Arrays, count: int, config: HopeConfig, mixer: str) -> HopeState:
    blocks = []
    for index in range(count):
        own = part(parameters, f"blocks.{index}")
        first = initial_titans_state if mixer == "self_modifying_titans" else initial_attention_state
        blocks.append(BlockState(first(own, config), continuum_memory.initial_state(levels(own, config))))
    return HopeState(tuple(blocks), 0)


def checked_tokens(tokens: Any, vocabulary: int) -> Any:
    """Integers in [0, vocabulary), (T,); an empty list is no tokens."""
    array = np.asarray(tokens)
    shape_is("tokens", array.shape, ("T",))
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"tokens must be integers, got dtype {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= vocabulary):
        raise ValueError(f"tokens must be in [0, {vocabulary}), got {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _checked_state(state: Any, start: HopeState, parameters: Arrays, config: HopeConfig) -> HopeState:
    """The state, if names, shapes and types fit; it need not be finite: an overflow goes on, so that it is seen."""
    if not isinstance(state, HopeState):
        raise ValueError(f"state must be a HopeState or None, got {type(state).__name__}")
    if len(state.blocks) != len(start.blocks):
        raise ValueError(f"state.blocks must have {len(start.blocks)} entries, got {len(state.blocks)}")
    if state.position != 0:
        positive_integer("state.position", state.position)
    for index, (got, want) in enumerate(zip(state.blocks, start.blocks, strict=True)):
        own, name = part(parameters, f"blocks.{index}"), f"state.blocks[{index}]"
        if type(got.mixer) is not type(want.mixer):
            raise ValueError(
                f"{name}.mixer must be a {type(want.mixer).__name__}, got {type(got.mixer).__name__}"
            )
        for field, pattern in want.mixer._asdict().items():
            if field != "heads":
                rows = (state.position,) if isinstance(want.mixer, AttentionState) else pattern.shape[:1]
                wanted = rows + pattern.shape[1:]
                memory_states.float64_array(f"{name}.mixer.{field}", getattr(got.mixer, field), wanted)
        if isinstance(got.mixer, TitansState):
            if len(got.mixer.heads) != config.heads:
                raise ValueError(
                    f"{name}.mixer.heads must have {config.heads} entries, got {len(got.mixer.heads)}"
                )
            for head, memories in enumerate(got.mixer.heads):
                memory_states.checked_state(memories, head_parameters(own, head, config), config)
        checked_levels_state(got.continuum, levels(own, config))
    return state
