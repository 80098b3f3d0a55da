"""Complete states: named tuples, tuples and dicts of arrays and integers; their check, and their files, bit for bit. [D]"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from hope_ref.common import nested
from hope_ref.common.files import one_line, replacing, stored_records
from hope_ref.common.validation import Array, name_difference, shape_is
from hope_ref.config import HopeConfig


def flattened(state: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested tuples and dicts by dotted names, e.g. ``levels.0.w1``; None is left out.

    Raises: ValueError if a leaf is neither an array of numbers, an integer nor a configuration.
    """
    return nested.flattened(state, _is_leaf, "an array of numbers", name)


def _is_leaf(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iuf"
    return isinstance(value, HopeConfig) or (isinstance(value, int) and not isinstance(value, bool))


def check(state: Any, start: Any, name: str = "state") -> None:
    """Raise a ValueError unless types, names and shapes are those of ``start``; a state need not be finite: an overflow goes on.

    Integers must be those of ``start``, or any >= 0 where start holds None. A configuration must compute the same.
    """
    if isinstance(start, np.ndarray):
        check_array(state, start.shape, name)
    elif isinstance(start, HopeConfig):
        check_config(state, start, name)
    elif start is None or isinstance(start, int):
        check_integer(state, start, name)
    elif isinstance(start, dict):
        if not isinstance(state, dict):
            raise ValueError(f"{name} must be a dict of named arrays, got {type(state).__name__}")
        if difference := name_difference(state, start):
            raise ValueError(f"{name} must hold {', '.join(start)}; {difference}")
        for key, part in start.items():
            check(state[key], part, f"{name}['{key}']")
    else:
        if not isinstance(state, type(start)):
            raise ValueError(f"{name} must be a {type(start).__name__}, got {type(state).__name__}")
        if len(state) != len(start):
            raise ValueError(f"{name} must have {len(start)} entries, got {len(state)}")
        fields = getattr(start, "_fields", None)
        for index, (part, pattern) in enumerate(zip(state, start, strict=True)):
            check(part, pattern, f"{name}.{fields[index]}" if fields else f"{name}[{index}]")


def check_array(array: Any, shape: tuple[int, ...], name: str) -> None:
    """Raise a ValueError unless it is a float64 array of that shape; its entries may be anything."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        kind = getattr(array, "dtype", type(array).__name__)
        raise ValueError(f"{name} must be a float64 array, got {kind}")
    shape_is(name, array.shape, shape)


def check_integer(number: Any, own: int | None, name: str) -> None:
    """Raise a ValueError unless it is an integer >= 0, and our own, if there is one."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"{name} must be an integer >= 0, got {number!r}")
    if own is not None and number != own:
        raise ValueError(f"{name} must be {own}, as state.position says, got {number}")


def check_config(config: Any, own: HopeConfig, name: str) -> None:
    """Raise a ValueError unless a model with that configuration computes what one with our own does."""
    if not isinstance(config, HopeConfig):
        raise ValueError(f"{name} must be a HopeConfig, got {type(config).__name__}")
    if option := own.difference(config):
        theirs, ours = getattr(config, option), getattr(own, option)
        raise ValueError(f"{name} must be that of the model, got {option}={theirs!r} for {ours!r}")


def write_arrays(path: str | Path, arrays: dict[str, Any]) -> None:
    """Write named arrays to a temporary file beside ``path``, then rename it: no reader ever meets half a file.

    Args: path, taken as it is; arrays by name. Raises: OSError if the file cannot be written.
    """
    with replacing(path, private=True) as file:
        np.savez(file, **arrays)


def read_arrays(path: str | Path) -> dict[str, Array]:
    """The named arrays of a .npz file that `write_arrays` wrote, none of which is made before its size is known.

    Raises: ValueError if the file is damaged or another one; OSError if it cannot be opened.
    """
    with stored_records(path, "a .npz file of a state") as archive:
        return {name.removesuffix(".npy"): _array(archive.read(name), name) for name in archive.namelist()}


def _array(record: bytes, name: str) -> Array:
    """The array in a record. Raises: ValueError unless it is as long as its own header says."""
    file = io.BytesIO(record)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{name} must be an array of format 1.0, got {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "iufU":
        raise ValueError(f"{name} must be an array of numbers or text, got {dtype}")
    if math.prod(shape) * dtype.itemsize != len(record) - file.tell():
        raise ValueError(
            f"{name} must have {shape} entries of {dtype}, got {len(record) - file.tell()} bytes"
        )
    file.seek(0)
    array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def save_state(path: str | Path, state: Any) -> None:
    """Write the state with `write_arrays`, by names such as ``blocks.0.mixer.heads.0.weights.w1_k``.

    Args: path, taken as it is; state, a named tuple or dict of arrays, integers, None and tuples or dicts of these.
    Raises: ValueError if the state holds anything else; OSError if the file cannot be written.
    """
    leaves = flattened(state)
    write_arrays(
        path, {n: leaf.to_json() if isinstance(leaf, HopeConfig) else leaf for n, leaf in leaves.items()}
    )


def load_state(path: str | Path, like: Any) -> Any:
    """Read what `save_state` wrote into the structure of ``like``, e.g. of an initial state.

    Args: path; like, a state of the same kind: its names, types, numbers of axes and configuration must fit, lengths may differ.
    Returns: the state, of the type of ``like``.
    Raises: ValueError if the file holds anything else; OSError if it cannot be read.
    """
    pattern_of, arrays = flattened(like), read_arrays(path)
    if difference := name_difference(arrays, pattern_of):
        raise ValueError(f"{path} must hold the names of such a state; {one_line(difference)}")
    for name, want in pattern_of.items():
        _check_leaf(arrays[name], want, f"{path}: {name}")

    def leaf(name: str, pattern: Any) -> Any:
        if isinstance(pattern, HopeConfig):
            return pattern
        return int(arrays[name]) if isinstance(pattern, int) else arrays[name]

    return nested.rebuilt(like, leaf)


def _check_leaf(array: Array, want: Any, place: str) -> None:
    """Raise a ValueError unless an array of a file is of the kind of ``want``."""
    if isinstance(want, HopeConfig) and array.dtype.kind == "U" and array.ndim == 0:
        check_config(HopeConfig.from_json(str(array), place), want, place)
        return
    pattern = np.asarray("" if isinstance(want, HopeConfig) else want)
    if array.dtype.kind != pattern.dtype.kind or array.ndim != pattern.ndim:
        raise ValueError(
            f"{place} must be {pattern.dtype} with {pattern.ndim} axes, got {array.dtype} of shape {array.shape}"
        )
    if pattern.dtype.kind == "f" and array.dtype != pattern.dtype:
        raise ValueError(f"{place} must be {pattern.dtype}, got {array.dtype}")
    if isinstance(want, int):
        check_integer(int(array), None, place)
