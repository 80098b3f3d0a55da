"""Complete states in one .npz file: nested named tuples and dicts of arrays and integers, bit for bit. [D]"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hope_ref import nested
from hope_ref.files import replacing
from hope_ref.validation import Array, name_difference


def flattened(state: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested tuples and dicts by dotted names, e.g. ``levels.0.w1``; None is left out.

    Raises: ValueError if a leaf is neither an array of numbers nor an integer.
    """
    return nested.flattened(state, _is_leaf, "an array of numbers", name)


def _is_leaf(value: Any) -> bool:
    number = isinstance(value, int) and not isinstance(value, bool)
    return number or (isinstance(value, np.ndarray) and value.dtype.kind in "iuf")


def write_arrays(path: str | Path, arrays: dict[str, Any]) -> None:
    """Write named arrays to a temporary file beside ``path``, then rename it: no reader ever meets half a file.

    Args: path, taken as it is; arrays by name. Raises: OSError if the file cannot be written.
    """
    with replacing(path, private=True) as file:
        np.savez(file, **arrays)


def read_arrays(path: str | Path) -> dict[str, Array]:
    """The named arrays of a .npz file. Raises: ValueError if the file is none; OSError if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, EOFError, AttributeError, TypeError) as error:
        # TypeError: a bare .npy file is an array, which is no context manager
        raise ValueError(f"{path} must be a .npz file of a state: {error}") from error


def save_state(path: str | Path, state: Any) -> None:
    """Write the state with `write_arrays`.

    Args: path, taken as it is; state, a named tuple or dict of arrays, integers, None and tuples or dicts of these.
    Raises: ValueError if the state holds anything else; OSError if the file cannot be written.
    """
    write_arrays(path, flattened(state))


def load_state(path: str | Path, like: Any) -> Any:
    """Read what `save_state` wrote into the structure of ``like``, e.g. of an initial state.

    Args: path; like, a state of the same kind: its names, types and numbers of axes must fit, lengths may differ.
    Returns: the state, of the type of ``like``.
    Raises: ValueError if the file holds anything else; OSError if it cannot be read.
    """
    wanted, arrays = flattened(like), read_arrays(path)
    if difference := name_difference(arrays, wanted):
        raise ValueError(f"{path} must hold the names of such a state; {difference}")
    for name, want in wanted.items():
        array, pattern = arrays[name], np.asarray(want)
        if array.dtype.kind != pattern.dtype.kind or array.ndim != pattern.ndim:
            raise ValueError(
                f"{path}: {name} must be {pattern.dtype} with {pattern.ndim} axes, "
                f"got {array.dtype} of shape {array.shape}"
            )
    return nested.rebuilt(
        like, lambda name, leaf: int(arrays[name]) if isinstance(leaf, int) else arrays[name]
    )
