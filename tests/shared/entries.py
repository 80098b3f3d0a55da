"""How many numbers a state holds."""

from __future__ import annotations

from typing import Any

import numpy as np


def entries(found: Any) -> int:
    """The float64 entries of all arrays in a structure of tuples and dicts; a number beside them is not counted."""
    if isinstance(found, np.ndarray):
        return found.size
    if isinstance(found, dict):
        return sum(map(entries, found.values()))
    return sum(map(entries, found)) if isinstance(found, tuple) else 0
