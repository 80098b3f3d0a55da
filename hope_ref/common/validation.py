"""What every public door checks: the same words for the same mistakes on every floor.

Each message names the argument, what it got and what it wants, e.g. ``eta must be >= 0, got min -0.3``.
Nothing here imports PyTorch: arrays are judged by their ``shape``, ``ndim`` and ``dtype`` alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def positive_integer(name: str, value: Any) -> int:
    """Return ``value`` as an int >= 1, or raise a ValueError that names it."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
    return int(value.__index__())


def whole_number(name: str, value: Any, least: int = 0) -> int:
    """Return ``value``, an integer >= ``least``, or raise a ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    return value


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise a ValueError unless ``value`` is one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def shape_is(name: str, got: tuple[int, ...], want: tuple[int | str, ...]) -> None:
    """Raise a ValueError unless the shape fits; a string in ``want`` stands for any length, by its name."""
    fits = len(got) == len(want) and all(isinstance(w, str) or g == w for g, w in zip(got, want, strict=True))
    if not fits:
        wanted = "(" + ", ".join(map(str, want)) + ("," if len(want) == 1 else "") + ")"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(got)}")


def name_difference(got: Iterable[Any], want: Iterable[str]) -> str:
    """``missing: …, unknown: …``, or nothing if both have the same names, in any order."""
    got, want = set(map(str, got)), set(want)
    if got == want:
        return ""
    missing, unknown = sorted(want - got), sorted(got - want)
    return f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}"


def same_names(what: str, got: Any, want: Iterable[str], kind: str = "arrays") -> None:
    """Raise a ValueError unless ``got`` is a dict with exactly the wanted names, in any order."""
    if not isinstance(got, dict):
        raise ValueError(f"{what} must be a dict of named {kind}, got {type(got).__name__}")
    want = list(want)
    if difference := name_difference(got, want):
        raise ValueError(f"{what} must hold {', '.join(want)}; {difference}")


def in_range(name: str, least: float, most: float, low: float = -np.inf, high: float = np.inf) -> None:
    """Raise a ValueError unless low <= least and most <= high: the smallest and largest entry of an array."""
    if least < low:
        raise ValueError(f"{name} must be >= {low:g}, got min {least:g}")
    if most > high:
        raise ValueError(f"{name} must be <= {high:g}, got max {most:g}")


def float64(name: str, value: Any, shape: tuple[int | str, ...] | None = None) -> Array:
    """Return ``value`` as a finite float64 array of the given shape, or raise a ValueError that names it.

    Integers are welcome (they are exact); float32 is not, because a reference that silently mixes
    precisions is none; complex numbers and objects are not numbers here.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged nested lists
        raise ValueError(f"{name} must be an array of real numbers: {error}") from error
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and array.dtype != np.float64):
        raise ValueError(f"{name} must be float64 (or integers), got dtype {array.dtype}")
    array = array.astype(np.float64)
    if shape is not None:
        shape_is(name, array.shape, shape)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite, got {int((~np.isfinite(array)).sum())} NaN or infinite entries"
        )
    return array


def scalar(name: str, value: Any, low: float = -np.inf, high: float = np.inf) -> float:
    """Return ``value`` as a finite float within [low, high], or raise a ValueError that names it."""
    number = float(float64(name, value, ()))
    in_range(name, number, number, low, high)
    return number


def per_token(name: str, value: Any, length: int, low: float = -np.inf, high: float = np.inf) -> Array:
    """Return one number per token, shape (T,): a single number is repeated."""
    array = float64(name, value)
    array = np.full(length, array) if array.ndim == 0 else array
    shape_is(name, array.shape, (length,))
    if length:
        in_range(name, float(array.min()), float(array.max()), low, high)
    return array
