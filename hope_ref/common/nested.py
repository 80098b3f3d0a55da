"""Nested named tuples, tuples, lists and dicts, as states are made of: their leaves by name, and the way back.

What a leaf is depends on the floor: an array, a tensor, an integer. None is an empty place and stays one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def flattened(state: Any, is_leaf: Callable[[Any], bool], kind: str, name: str = "") -> dict[str, Any]:
    """The leaves by dotted names, e.g. ``levels.0.w1``; None is left out.

    Raises: ValueError, which says that a leaf must be ``kind``, if it is none.
    """
    if state is None:
        return {}
    if isinstance(state, tuple | list | dict):
        leaves: dict[str, Any] = {}
        for field, part in _parts(state):
            leaves |= flattened(part, is_leaf, kind, _joined(name, field))
        return leaves
    if is_leaf(state):
        return {name: state}
    raise ValueError(
        f"{name or 'state'} must be {kind}, an integer, None or a tuple or dict of these, got {state!r}"
    )


def rebuilt(like: Any, leaf: Callable[[str, Any], Any], name: str = "") -> Any:
    """The same structure with ``leaf(name, value)`` in the place of every leaf."""
    if isinstance(like, tuple | list | dict):
        parts = [rebuilt(part, leaf, _joined(name, field)) for field, part in _parts(like)]
        if isinstance(like, dict):
            return dict(zip(like, parts, strict=True))
        return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)
    return None if like is None else leaf(name, like)


def _parts(state: Any) -> list[tuple[str, Any]]:
    """Names and values of the entries: keys of a dict, fields of a named tuple, else 0, 1, …"""
    if isinstance(state, dict):
        return [(str(key), part) for key, part in state.items()]
    fields = getattr(state, "_fields", range(len(state)))
    return [(str(field), part) for field, part in zip(fields, state, strict=True)]


def _joined(name: str, field: str) -> str:
    return f"{name}.{field}" if name else field
