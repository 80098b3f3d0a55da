"""The self-modifying Titans as a golden component: one head, one view of the token for key, value and query."""

from __future__ import annotations

import numpy as np

from hope_ref.config import CHOICES, MEMORIES, HopeConfig
from hope_ref.golden.components import Arrays, Component, Options, Sizes
from hope_ref.reference.parameters import random_parameters
from hope_ref.reference.self_modifying_titans import self_modifying_titans

_CHUNK_SIZES = (16, 1, 2, 3, 4, 8, 32, 64)
_BUT_ONE = tuple(tuple(m for m in MEMORIES if m not in ("q", out)) for out in MEMORIES if out != "q")
OPTIONS = {
    **{name: CHOICES[name] for name in ("architecture", "objective", "step")},
    "surprise_bound": (1.0, 0.0),
    "value_norm": (True, False),
    **{name: CHOICES[name] for name in ("retention_scope", "retention_target", "erase")},
    "writing": (None, ("memory",), *_BUT_ONE),
    "inner_momentum": (0.0, 0.5, 0.9),
    **{name: CHOICES[name] for name in ("target", "target_gradient", "read")},
    "read_skip": (False, True),
    "adaptive_query": (False, True),
    "memory_chunk_size": _CHUNK_SIZES,
    "projection_chunk_size": _CHUNK_SIZES,
}


def of_config(config: HopeConfig) -> Options:
    """The options of the configuration that these vectors have; the others belong to the layer around the memories."""
    return {name: getattr(config, name) for name in OPTIONS}


def draw(options: Options, sizes: Sizes, seed: int) -> Arrays:
    """x ~ N(0, 1), parameters as `random_parameters` draws them, eta_max as given."""
    config = HopeConfig.from_dict(options)
    x = np.random.default_rng([seed, 1]).normal(size=(sizes.tokens, sizes.width))
    parameters = random_parameters(config, sizes.width, sizes.hidden, seed)
    return {"x": x, **parameters, "eta_max": np.array(config.eta_max)}


def run(inputs: Arrays, options: Options) -> Arrays:
    """The reference: outputs (T, d), final_w1_□ and final_w2_□ (final_w_□), and final_b… with inner momentum."""
    parameters = dict(inputs)
    x, eta_max = parameters.pop("x"), parameters.pop("eta_max")
    config = HopeConfig.from_dict({**options, "eta_max": float(eta_max)})
    outputs, state = self_modifying_titans(x, x, x, parameters, config)
    final = {f"final_{name}": array for name, array in {**state.weights, **state.momentum}.items()}
    return {"outputs": outputs, **final}


COMPONENT = Component(
    "self_modifying_titans",
    ("S 25-34", "P 83-93"),
    OPTIONS,
    draw,
    run,
    draws={"eta_max": (1.0,)},
    seconds=lambda entries: 2e-3 + 1e-8 * entries,
)
