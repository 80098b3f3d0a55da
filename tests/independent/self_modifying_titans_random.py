"""Self-modifying Titans drawn at random: every option, odd sizes, seeded; and the two floors run on one of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from hope_ref.common.validation import Array
from hope_ref.config import CHOICES, HopeConfig
from hope_ref.parallel import self_modifying_titans as chunked
from hope_ref.reference import self_modifying_titans as literal
from hope_ref.reference.parameters import random_parameters

OPTIONS = (
    "architecture", "objective", "step", "retention_scope", "retention_target", "erase", "target", "read",
    "target_gradient",
)  # fmt: skip
SWITCHES = ("read_skip", "adaptive_query")
PARTS = ("weights", "boundary", "momentum")


class Drawn(NamedTuple):
    """One random problem: the options, the parameters by name, and three views (T, d)."""

    config: HopeConfig
    parameters: dict[str, Array]
    views: list[Array]


def random_configuration(seed: int) -> Drawn:
    """Every option at random, and sizes: d, h in 1..6, T in 1..25, chunks of 1..24.

    Odd seeds switch the unit values or the bounded surprise off, or both: some of those overflow.
    """
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {name: str(rng.choice(CHOICES[name])) for name in OPTIONS}
    options |= {name: bool(rng.integers(2)) for name in SWITCHES}
    one, times = int(rng.integers(1, 9)), int(rng.integers(1, 4))
    sizes = (one, one * times) if rng.integers(2) else (one * times, one)
    options["memory_chunk_size"], options["projection_chunk_size"] = sizes
    options["eta_max"] = rng.uniform(0.1, 1)
    options["surprise_bound"] = rng.uniform(0.3, 3)
    options["inner_momentum"] = rng.choice([0, rng.uniform(0, 1)])
    if seed % 2:
        off = [{"value_norm": False}, {"surprise_bound": 0}, {"value_norm": False, "surprise_bound": 0}]
        options |= off[rng.integers(3)]
    config = HopeConfig(**options)
    if rng.integers(2):
        config = config.replace(writing=tuple(name for name in config.memories if rng.integers(2)))
    d, hidden, length = (int(rng.integers(1, end)) for end in (7, 7, 26))
    views = [rng.normal(size=(length, d)) for _ in range(3)]
    return Drawn(config, random_parameters(config, d, hidden, seed), views)


def tensors(arrays: dict[str, Array], dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array, dtype=dtype) for name, array in arrays.items()}


def results(outputs: Any, state: Any) -> dict[str, Any]:
    """Outputs and everything in the final state, by name."""
    found = {"outputs": outputs}
    for part in PARTS:
        found |= {f"{part}.{name}": value for name, value in getattr(state, part).items()}
    return found


def disagreement(drawn: Drawn) -> tuple[float, float]:
    """Largest difference between chunks and token loop in outputs and final state; and the loop's largest entry.

    The chunks run twice: as for training, and without gradients, where they take shorter ways.
    """
    config, parameters, views = drawn
    want = results(*literal.self_modifying_titans(*views, parameters, config))
    largest = max(float(np.abs(array).max(initial=0)) for array in want.values())
    errors = []
    for training in (True, False):
        with torch.set_grad_enabled(training):
            got = results(
                *chunked.self_modifying_titans(*map(torch.tensor, views), tensors(parameters), config)
            )
        assert got.keys() == want.keys()
        errors += [float(np.abs(got[name].numpy() - want[name]).max(initial=0)) for name in want]
    return float(np.max(errors)), largest
