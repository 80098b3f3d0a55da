"""The options of the continuum memory, validated: the same for every floor. [D]"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from hope_ref.config import CHOICES, HopeConfig
from hope_ref.validation import float64, one_of, positive_integer, scalar

VARIANTS, ORDERS, RULES = CHOICES["variant"], CHOICES["order"], CHOICES["rule"]
SIGNALS, OBJECTIVES = CHOICES["signal"], CHOICES["objective"]


class Settings(NamedTuple):
    """The validated options of all levels."""

    chunk_sizes: tuple[int, ...]
    rates: tuple[float, ...]
    nested_rate: float
    variant: str
    order: str
    rule: str


def settings(
    count: int,
    levels_chunk_sizes: Any = (512, 2048, 8192),
    cms_rate: Any = None,
    nested_rate: Any = 0.1,
    variant: str = "sequential",
    order: str = "fast_to_slow",
    rule: str = "gd",
) -> Settings:
    """Validate the options of the levels, for ``count`` levels.

    Raises: ValueError, naming the option, what it got and what it wants.
    """
    one_of("variant", variant, VARIANTS)
    one_of("order", order, ORDERS)
    one_of("rule", rule, RULES)
    sizes = tuple(positive_integer("levels_chunk_sizes", size) for size in levels_chunk_sizes)
    if len(sizes) != count:
        raise ValueError(f"levels_chunk_sizes must have one entry per level ({count}), got {len(sizes)}")
    if list(sizes) != sorted(sizes):
        raise ValueError(f"levels_chunk_sizes must be listed fast to slow (rising), got {sizes}")
    if variant == "nested" and any(slow % fast for fast, slow in pairwise(sizes)):
        raise ValueError(
            f"levels_chunk_sizes must each be a multiple of the one before (nested), got {sizes}"
        )
    rates = np.array([0.1 / size for size in sizes]) if cms_rate is None else float64("cms_rate", cms_rate)
    rates = float64("cms_rate", np.full(count, rates) if rates.ndim == 0 else rates, (count,))
    if rates.min() < 0:
        raise ValueError(f"cms_rate must be >= 0, got min {rates.min():g}")
    nested_rate = scalar("nested_rate", nested_rate, low=0, high=1)
    return Settings(sizes, tuple(map(float, rates)), nested_rate, variant, order, rule)


def of_config(config: HopeConfig) -> Settings:
    """The options that a configuration names."""
    names = ("levels_chunk_sizes", "nested_rate", "variant", "order", "rule")
    chosen = {name: getattr(config, name) for name in names}
    return settings(len(config.levels_chunk_sizes), cms_rate=config.level_rates, **chosen)
