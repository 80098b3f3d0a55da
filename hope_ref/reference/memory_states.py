"""The complete state of one head's memories: names and shapes of its arrays, where it starts, its check, its file. [D]

Arrays go by plain names, w1_k, w2_k, …, w1_memory, w2_memory (w_k, …, w_memory if linear), b1_k, … for inner momentum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hope_ref.config import HopeConfig
from hope_ref.memories import momentum_name, weight_names
from hope_ref.reference.state import read_arrays, write_arrays
from hope_ref.validation import Array, same_names, shape_is

Arrays = dict[str, Array]
PARTS = ("weights", "boundary", "momentum")


class State(NamedTuple):
    """All that a later token can see of earlier ones.

    Attributes:
        weights: W_t of every memory.
        boundary: the copies at b(t), for both groups of memories.
        momentum: B_t of every weight; empty if ``inner_momentum`` is 0.
        position: tokens seen so far.
    """

    weights: Arrays
    boundary: Arrays
    momentum: Arrays
    position: int


def initial_state(parameters: Arrays, config: HopeConfig) -> State:
    """W_0 everywhere, no momentum, nothing seen."""
    names = [name for memory in config.memories for name in weight_names(memory, config)]
    weights = {name: parameters[name] for name in names}
    moving = names if config.inner_momentum > 0 else []
    momentum = {momentum_name(name): np.zeros_like(parameters[name]) for name in moving}
    return State(weights, dict(weights), momentum, 0)


def checked_state(state: Any, parameters: Arrays, config: HopeConfig) -> State:
    """The state, if its names, shapes and types fit the parameters; it need not be finite: an overflow may go on."""
    if not isinstance(state, State):
        raise ValueError(f"state must be a State or None, got {type(state).__name__}")
    start = initial_state(parameters, config)
    for part in PARTS:
        arrays, wanted = getattr(state, part), getattr(start, part)
        same_names(f"state.{part}", arrays, wanted)
        for name, want in wanted.items():
            float64_array(f"state.{part}['{name}']", arrays[name], want.shape)
    _position("state.position", state.position)
    return state


def save_state(path: str | Path, state: State) -> None:
    """Write the state to a .npz file: to a temporary file beside it first, then renamed, so that none is ever half written.

    Args: path, taken as it is; state. Raises: OSError if it cannot be written.
    """
    arrays = {f"{part}.{name}": array for part in PARTS for name, array in getattr(state, part).items()}
    write_arrays(path, {"position": np.int64(state.position), **arrays})


def load_state(path: str | Path) -> State:
    """Read what `save_state` wrote.

    Args: path. Returns: the state, bit for bit. Raises: ValueError if the file holds anything else; OSError.
    """
    arrays = read_arrays(path)
    parts: dict[str, Arrays] = {part: {} for part in PARTS}
    if "position" not in arrays:
        raise ValueError(f"{path} must hold position, got {', '.join(arrays) or 'nothing'}")
    position = arrays.pop("position")
    for name, array in arrays.items():
        part, _, key = name.partition(".")
        if part not in parts or not key:
            raise ValueError(f"{path}: names must begin with weights., boundary. or momentum., got {name}")
        float64_array(f"{path}: {name}", array, None)
        parts[part][key] = array
    if position.dtype != np.int64 or position.ndim:
        raise ValueError(
            f"{path}: position must be one integer, got {position.dtype} of shape {position.shape}"
        )
    return State(**parts, position=_position(f"{path}: position", int(position)))


def float64_array(name: str, value: Any, shape: tuple[int, ...] | None) -> None:
    """Raise a ValueError unless the value is a float64 array of that shape; its entries may be anything."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        raise ValueError(
            f"{name} must be a float64 array, got {getattr(value, 'dtype', type(value).__name__)}"
        )
    if shape is not None:
        shape_is(name, value.shape, shape)


def _position(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
    return value
