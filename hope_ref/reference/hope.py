"""HOPE: self-modifying Titans, then the continuum memory, block after block, between an embedding and its tied head. Source: [P 94-97], [D].

The model comes first, then the sub-layers of a block: convolution, rotary positions, self-modifying Titans in heads, and
attention. Token rows are (T, d), d the width of the layer; heads are equal slices of it, cut *after* projection and
convolution. What has no underscore and takes arrays alone checks nothing: `hope` has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, shape_is
from hope_ref.config import HopeConfig
from hope_ref.reference import continuum_memory, self_modifying_titans, states
from hope_ref.reference.activations import rms_norm, silu
from hope_ref.reference.continuum_memory import ContinuumState, Level
from hope_ref.reference.parameters import checked_parameters
from hope_ref.reference.parameters import init as init
from hope_ref.reference.parameters import parameter_shapes as parameter_shapes

Arrays = dict[str, Array]
ROTARY_BASE = 10_000.0
PROJECTIONS = ("p_key", "p_value", "w_query")


class TitansState(NamedTuple):
    """What the Titans sub-layer carries: the last inputs of each convolution, and every head's memories."""

    key_inputs: Array  # (convolution_width - 1, d); (0, d) without convolution
    value_inputs: Array
    query_inputs: Array
    heads: tuple[self_modifying_titans.State, ...]


class AttentionState(NamedTuple):
    """What attention carries: all keys, already rotated, and all values; with a window W the last W - 1, not rotated."""

    keys: Array  # (t, heads, d / heads)
    values: Array  # (t, heads, d / heads)


class BlockState(NamedTuple):
    """What one block carries."""

    mixer: TitansState | AttentionState
    continuum: ContinuumState


class HopeState(NamedTuple):
    """All that a later token can see of earlier ones."""

    blocks: tuple[BlockState, ...]
    position: int  # tokens seen so far
    config: HopeConfig  # of the model that the state belongs to


def hope(
    tokens: Any, parameters: Arrays, config: HopeConfig, state: HopeState | None = None
) -> tuple[Array, HopeState]:
    """logits = E RMSNorm(block_N(… block_1(E[token]))), block = Titans sub-layer, then continuum memory [P 94-97].

    A split at any token gives the same logits and the same final state, in exact arithmetic and, where the dynamics
    contract, to rounding. With ``signal="task"`` the levels stay as the state has them: a driver moves them, never the
    forward pass. An overflow is not hidden: inf and NaN pass on.

    Args:
        tokens: integers in [0, vocabulary), (T,).
        parameters: by name, as `init` makes them.
        config: the model; with ``mixer="softmax_attention"`` HOPE-Attention: rotary softmax attention in the Titans' place.
        state: what the last call returned; None starts from the parameters.
    Returns:
        logits, (T, vocabulary), and the state after the last token.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    parameters = checked_parameters(parameters, config)
    indices = checked_tokens(tokens, config.vocabulary)
    state = _start(parameters, config) if state is None else checked_state(state, parameters, config)
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
    return logits, HopeState(tuple(blocks), state.position + len(x), config)


def block(x: Array, parameters: Arrays, config: HopeConfig, before: BlockState) -> tuple[Array, BlockState]:
    """One block, (T, d) to (T, d): the mixer that its state belongs to, then the continuum memory."""
    x, mixer = mix(x, parameters, config, before.mixer)
    y, continuum = continuum_memory.stream(
        x,
        levels(parameters, config),
        before.continuum,
        config.cms_options,
        config.signal,
        config.objective,
    )
    return y, BlockState(mixer, continuum)


def levels(parameters: Arrays, config: HopeConfig) -> tuple[Level, ...]:
    """The levels of one block, fast to slow."""
    return tuple(
        Level(**part(parameters, f"levels.{index}")) for index in range(len(config.levels_chunk_sizes))
    )


# --- the sub-layers of a block ---------------------------------------------------------------------------------------


def part(parameters: Arrays, prefix: str) -> Arrays:
    """The arrays whose names begin with the prefix and a dot, without them."""
    return {
        name.removeprefix(prefix + "."): array
        for name, array in parameters.items()
        if name.startswith(prefix + ".")
    }


def split(z: Array, heads: int) -> Array:
    """(T, d) to (T, heads, d / heads)."""
    return z.reshape(len(z), heads, z.shape[1] // heads)


def convolution(x: Array, kernel: Array, inputs: Array) -> tuple[Array, Array]:
    """y_t = σ(Σ_j c_j ⊙ x_{t-w+1+j}), every channel for itself, nothing from later tokens [P 8.3].

    Args: x, (T, d); kernel, (d, w), its last column for the token itself; inputs, the last w - 1 before x, (w - 1, d).
    Returns: y, (T, d), and the last w - 1 inputs, (w - 1, d).
    """
    width = kernel.shape[1]
    seen = np.concatenate([inputs, x])  # (w - 1 + T, d)
    y = np.zeros_like(x)
    for t in range(len(x)):
        y[t] = silu(np.sum(kernel.T * seen[t : t + width], axis=0))
    return y, seen[len(x) :]


def rotary(z: Array, position: int) -> Array:
    """Turn the pair (z_i, z_{i + d/2}) by the angle position · 10000^(-2i/d), in every head; z is (heads, d), d even [D]."""
    half = z.shape[-1] // 2
    angle = position * ROTARY_BASE ** (-np.arange(half) / half)  # (d / 2,)
    first, second = z[..., :half], z[..., half:]
    turned = (first * np.cos(angle) - second * np.sin(angle), first * np.sin(angle) + second * np.cos(angle))
    return np.concatenate(turned, axis=-1)


def titans_layer(
    x: Array, parameters: Arrays, config: HopeConfig, state: TitansState
) -> tuple[Array, TitansState]:
    """y = x + W_o RMSNorm_head(Titans(x^k, x^v, x^q)), with x^k = conv_k(P_k n), x^v = conv_v(P_v n), x^q = conv_q(W_q n) [P 94-97, D].

    n = RMSNorm(x); each head has its own memories; P_k and P_v are left out without ``input_projection``, W_q with
    ``adaptive_query``. All of W_q stands before the convolution, so a head's own query projection is the identity.
    """
    n = rms_norm(x, parameters["norm"])  # (T, d)
    key, value, query = (n @ parameters[name].T if name in parameters else n for name in PROJECTIONS)
    inputs = [state.key_inputs, state.value_inputs, state.query_inputs]
    if config.convolution_width:
        key, inputs[0] = convolution(key, parameters["conv_key"], inputs[0])
        value, inputs[1] = convolution(value, parameters["conv_value"], inputs[1])
        query, inputs[2] = convolution(query, parameters["conv_query"], inputs[2])
    k, v, q = (split(view, config.heads) for view in (key, value, query))  # (T, heads, d / heads)
    answers, after = np.zeros_like(k), []
    for head, memories in enumerate(state.heads):
        own = head_parameters(parameters, head, config)
        answers[:, head], memories = self_modifying_titans.stream(
            k[:, head], v[:, head], q[:, head], own, config, memories
        )
        after.append(memories)
    gain = parameters["head_norm"].reshape(k.shape[1:])
    y = x + rms_norm(answers, gain).reshape(x.shape) @ parameters["output"].T
    return y, TitansState(inputs[0], inputs[1], inputs[2], tuple(after))


def head_parameters(parameters: Arrays, head: int, config: HopeConfig) -> Arrays:
    """What `self_modifying_titans` wants of one head: W_q has been applied already, so the identity stands there."""
    own = part(parameters, f"heads.{head}")
    return own if config.adaptive_query else own | {"w_query": np.eye(len(own["eta_readout"]))}


def initial_titans_state(parameters: Arrays, config: HopeConfig) -> TitansState:
    """No inputs seen (zeros), every memory at its parameters."""
    empty = np.zeros((max(config.convolution_width - 1, 0), len(parameters["norm"])))
    heads = (head_parameters(parameters, head, config) for head in range(config.heads))
    memories = tuple(self_modifying_titans.initial_state(own, config) for own in heads)
    return TitansState(empty, empty.copy(), empty.copy(), memories)


def attention_layer(
    x: Array, parameters: Arrays, config: HopeConfig, state: AttentionState
) -> tuple[Array, AttentionState]:
    """y_t = x_t + W_o Σ_{s≤t} softmax_s(⟨q_t, k_s⟩/√d) v_s per head, q and k rotated by their positions: HOPE-Attention [P 8.3, D]; over the last ``window`` tokens, if there is one [P 63]."""
    n = rms_norm(x, parameters["norm"])  # (T, d)
    key, value, query = (split(n @ parameters[name].T, config.heads) for name in PROJECTIONS)
    if config.window:
        return _in_window(x, key, value, query, parameters, config.window, state)
    start = len(state.keys)
    turned = np.array([rotary(k, start + t) for t, k in enumerate(key)]).reshape(key.shape)
    keys = np.concatenate([state.keys, turned])  # (start + T, heads, d / heads)
    values = np.concatenate([state.values, value])
    y = x.copy()
    for t in range(len(x)):
        seen = start + t + 1
        turned_query = rotary(query[t], start + t)  # (heads, d / heads)
        y[t] += parameters["output"] @ attended(turned_query, keys[:seen], values[:seen])
    return y, AttentionState(keys, values)


def attended(query: Array, keys: Array, values: Array) -> Array:
    """Σ_s softmax_s(⟨q, k_s⟩/√d) v_s of every head, side by side, (d,): query (heads, d / heads), keys and values (s, heads, d / heads)."""
    score = np.einsum("shd,hd->hs", keys, query) / np.sqrt(query.shape[-1])
    share = np.exp(score - score.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return np.einsum("hs,shd->hd", share, values).reshape(-1)


def _in_window(
    x: Array, key: Array, value: Array, query: Array, parameters: Arrays, window: int, state: AttentionState
) -> tuple[Array, AttentionState]:
    """The same over the last W tokens, s in (t - W, t] [P 63]. Only t - s matters to a turned pair: a key is turned back by its age."""
    keys, values = state
    y = x.copy()
    for t in range(len(x)):
        keys, values = (
            np.concatenate([old, new[t : t + 1]])[-window:] for old, new in ((keys, key), (values, value))
        )
        turned = np.array([rotary(k, -age) for k, age in zip(keys, reversed(range(len(keys))), strict=True)])
        y[t] += parameters["output"] @ attended(query[t], turned, values)
        keys, values = (
            z[max(len(z) - (window - 1), 0) :] for z in (keys, values)
        )  # what the next token sees
    return y, AttentionState(keys, values)


def initial_attention_state(parameters: Arrays, config: HopeConfig) -> AttentionState:
    """No keys, no values."""
    empty = np.zeros((0, config.heads, len(parameters["norm"]) // config.heads))
    return AttentionState(empty, empty.copy())


def first_state(parameters: Arrays, config: HopeConfig, position: int = 0) -> TitansState | AttentionState:
    """The state of a block's mixer before its first token; or, in its shapes, after ``position`` tokens."""
    if config.mixer == "softmax_attention":
        seen = min(position, config.window - 1) if config.window else position
        rows = np.broadcast_to(0.0, (seen, config.heads, config.head_width))
        return AttentionState(rows, rows) if position else initial_attention_state(parameters, config)
    state = initial_titans_state(parameters, config)
    return state._replace(heads=tuple(head._replace(position=position) for head in state.heads))


def mix(
    x: Array, parameters: Arrays, config: HopeConfig, state: TitansState | AttentionState
) -> tuple[Array, TitansState | AttentionState]:
    """The first sub-layer of a block: the one that the state belongs to."""
    if isinstance(state, TitansState):
        return titans_layer(x, parameters, config, state)
    return attention_layer(x, parameters, config, state)


# --- states, and checks ------------------------------------------------------------------------------------------------


def initial_state(parameters: Arrays, config: HopeConfig) -> HopeState:
    """Every memory and level at its parameters, nothing seen.

    Args: parameters and config as `hope`. Returns: the state. Raises: ValueError, as `hope`.
    """
    return _start(checked_parameters(parameters, config), config)


def save_state(path: str | Path, hope_state: HopeState) -> None:
    """Write the whole state to one .npz file, by names such as ``blocks.0.mixer.heads.0.weights.w1_k``.

    Args: path, taken as it is; hope_state. Raises: ValueError, OSError, as `states.save_state`.
    """
    states.save_state(path, hope_state)


def load_state(path: str | Path, like: HopeState) -> HopeState:
    """Read what `save_state` wrote, bit for bit, into the structure of ``like``, e.g. of an initial state.

    Args: path; like. Returns: the state. Raises: ValueError if the file holds anything else; OSError.
    """
    loaded: HopeState = states.load_state(path, like)
    return loaded


def _start(parameters: Arrays, config: HopeConfig, position: int = 0) -> HopeState:
    """The state before the first token; or, in its shapes, after ``position`` tokens."""
    blocks = []
    for index in range(config.blocks):
        own = part(parameters, f"blocks.{index}")
        continuum = continuum_memory.initial_state(levels(own, config))
        blocks.append(BlockState(first_state(own, config, position), continuum))
    return HopeState(tuple(blocks), position, config)


def checked_tokens(tokens: Any, vocabulary: int, name: str = "tokens") -> Any:
    """Integers in [0, vocabulary), (T,); an empty list is no tokens."""
    array = np.asarray(tokens)
    shape_is(name, array.shape, ("T",))
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"{name} must be integers, got dtype {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= vocabulary):
        raise ValueError(f"{name} must be in [0, {vocabulary}), got {array.min()} to {array.max()}")
    return array.astype(np.int64)


def checked_state(state: Any, parameters: Arrays, config: HopeConfig, name: str = "state") -> HopeState:
    """The state, if it is one of this model; it need not be finite: an overflow goes on, so that it is seen."""
    if not isinstance(state, HopeState):
        raise ValueError(f"{name} must be a HopeState or None, got {type(state).__name__}")
    states.check(state.config, config, f"{name}.config")  # first: another one explains what does not fit
    states.check(state.position, None, f"{name}.position")
    start = _start(parameters, config, state.position)
    moving = {"associative": state.position, "none": 0}.get(config.signal)  # "task": a driver's own count
    blocks = tuple(
        block._replace(continuum=block.continuum._replace(position=moving))  # type: ignore[arg-type]
        for block in start.blocks
    )
    states.check(state, start._replace(blocks=blocks), name)
    seen = [block.continuum.position for block in state.blocks]
    if len(set(seen)) > 1 or max(seen) > state.position:
        raise ValueError(
            f"{name}.blocks must have one continuum.position, at most {state.position}, got {seen}"
        )
    if config.signal == "task" and seen[0] % config.levels_chunk_sizes[0]:
        raise ValueError(
            f"{name}.blocks must have a continuum.position that is a multiple of {config.levels_chunk_sizes[0]}, "
            f"the fastest level's chunk, got {seen[0]}"
        )
    return state
