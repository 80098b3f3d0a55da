"""Small models that several test files look at: configurations, parameters shaken awake, states under the reference's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.parallel import states
from hope_ref.parallel.hope import Hope
from hope_ref.reference import hope as literal

SMALL: dict[str, Any] = {
    "memory_chunk_size": 2, "projection_chunk_size": 4, "levels_chunk_sizes": (2, 4), "signal": "associative",
    "cms_rate": 0.05, "inner_momentum": 0.3, "width": 4, "hidden": 3, "vocabulary": 5,
}  # fmt: skip
HOPE, ATTENTION = "self_modifying_titans", "softmax_attention"
VOCABULARY = 5
TOKENS = np.array([1, 4, 0, 2, 2, 3, 1, 0, 4])  # 2 C + 1 of the longer chunks

FEW: dict[str, HopeConfig] = {
    "two heads": HopeConfig(**SMALL, heads=2),
    "no convolution": HopeConfig(**SMALL, convolution_width=0, heads=2),
    "bare": HopeConfig(**SMALL, convolution_width=0, input_projection=False, adaptive_query=True),
    "linear, dgd": HopeConfig(**SMALL, architecture="linear", rule="dgd", variant="nested"),
    "task": HopeConfig(**(SMALL | {"signal": "task", "variant": "independent"})),
    "attention": HopeConfig(**SMALL, heads=2, mixer=ATTENTION),
    "attention in a window": HopeConfig(**SMALL, heads=2, mixer=ATTENTION, window=4),
}


def awake(config: HopeConfig) -> dict[str, Array]:
    """The start of training, shaken, so that nothing is zero, one or the identity any more."""
    rng = np.random.default_rng(100)
    start = literal.init(config)
    start |= {name: np.array(3.0) for name in start if name.endswith("alpha_bias")}
    return {name: array + 0.3 * rng.normal(size=array.shape) for name, array in start.items()}


def model_of(config: HopeConfig, dtype: torch.dtype = torch.float64) -> Hope:
    return Hope.from_reference(awake(config), config, dtype=dtype)


def tensors(state: Any) -> dict[str, torch.Tensor]:
    return {n: leaf for n, leaf in states.flattened(state).items() if isinstance(leaf, torch.Tensor)}


def in_reference_names(state: Any, heads: int, index: tuple[int, ...] = ()) -> dict[str, Any]:
    """One sequence's state under the names and axes of the reference: a tuple of heads, attention's tokens first."""
    found = {}
    for name, leaf in states.flattened(state).items():
        value = leaf.detach().numpy()[index] if isinstance(leaf, torch.Tensor) else leaf
        if ".mixer.memory." in name:
            block, own = name.split(".mixer.memory.")
            for head in range(heads):
                found[f"{block}.mixer.heads.{head}.{own}"] = value if isinstance(value, int) else value[head]
        else:
            found[name] = value.swapaxes(0, 1) if name.endswith((".mixer.keys", ".mixer.values")) else value
    return found


def close(one: Any, other: Any, bound: float = 1e-10) -> None:
    left, right = states.flattened(one), states.flattened(other)
    assert left.keys() == right.keys()
    for name, leaf in left.items():
        if isinstance(leaf, torch.Tensor):
            torch.testing.assert_close(
                leaf, right[name], rtol=0, atol=bound, msg=lambda m, n=name: f"{n}: {m}"
            )
        else:
            assert leaf == right[name], name
