"""Complete states of the parallel floor: nested named tuples, tuples and dicts of tensors and integers. [D]

`flattened` names every leaf by its path, as `hope_ref.reference.state` does, so the same names stand in both floors' files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hope_ref import nested
from hope_ref.files import replacing
from hope_ref.validation import name_difference


def flattened(state: Any, name: str = "") -> dict[str, Any]:
    """The leaves by dotted names, e.g. ``blocks.0.continuum.levels.1.w1``; None is left out.

    Raises: ValueError if a leaf is neither a tensor nor an integer.
    """
    return nested.flattened(state, _is_leaf, "a tensor", name)


def _is_leaf(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, int) and not isinstance(value, bool))


def mapped(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """The same structure with the function applied to every tensor, e.g. ``mapped(torch.Tensor.detach, state)``."""
    return nested.rebuilt(state, lambda _, leaf: function(leaf) if isinstance(leaf, Tensor) else leaf)


def save_state(path: str | Path, state: Any) -> None:
    """Write the state to a temporary file beside ``path``, then rename it: no reader ever meets half a file.

    Args: path, taken as it is; state. Raises: ValueError if the state holds anything else; OSError.
    """
    # Memories start as views of one parameter: without a copy the file would hold the storage behind each view.
    leaves = {
        name: leaf.detach().clone(memory_format=torch.contiguous_format) if isinstance(leaf, Tensor) else leaf
        for name, leaf in flattened(state).items()
    }
    with replacing(path, private=True) as file:
        torch.save(leaves, file)


def load_state(path: str | Path, like: Any) -> Any:
    """Read what `save_state` wrote into the structure, dtypes and devices of ``like``, e.g. of an initial state.

    Args: path; like, a state of the same kind; lengths may differ, names, dtypes and numbers of axes may not.
    Returns: the state. Raises: ValueError if the file holds anything else; OSError if it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            leaves = torch.load(file, map_location="cpu", weights_only=True)
        except (
            Exception
        ) as error:  # zip, pickle and torch errors alike (an OSError if truncated): no file of ours
            raise ValueError(f"{path} must be a file of a state: {error}") from error
    if not isinstance(leaves, dict):
        raise ValueError(f"{path} must hold named tensors, got {type(leaves).__name__}")
    wanted = flattened(like)
    if difference := name_difference(leaves, wanted):
        raise ValueError(f"{path} must hold the names of such a state; {difference}")
    for name, want in wanted.items():
        got = leaves[name]
        if _kind(got) != _kind(want):
            raise ValueError(f"{path}: {name} must be {_kind(want)}, got {_kind(got)}")
    return nested.rebuilt(
        like, lambda name, leaf: leaves[name].to(leaf.device) if isinstance(leaf, Tensor) else leaves[name]
    )


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype} with {leaf.ndim} axes" if isinstance(leaf, Tensor) else type(leaf).__name__
