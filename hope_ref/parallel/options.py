"""Numbers as optimisers take them: PyTorch's schedulers and their callers set NumPy scalars and tensors too."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor


def number(name: str, value: Any, below: float = math.inf) -> float:
    """Return ``value`` as a finite float in [0, below), or raise a ValueError that names it.

    Args: value, a Python number, a NumPy scalar, or a tensor or array without axes, of any real dtype but bool. A tensor
    on a GPU is read back from there.
    """
    plain: Any = value
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        plain = value.item()
    if isinstance(plain, Real) and not isinstance(plain, bool) and 0 <= float(plain) < below:
        return float(plain)
    interval = ">= 0" if below == math.inf else f"in [0, {below:g})"
    got = (
        f"shape {tuple(value.shape)}"
        if isinstance(value, Tensor | np.ndarray) and value.ndim
        else repr(plain)
    )
    raise ValueError(f"{name} must be a number {interval}, got {got}")
