"""The whole model as a golden component, frozen (`hope`) and learning while it reads (`hope_adaptation`).

Inputs are ``tokens`` (integers, kept as float64 like every array of a vector) and the parameters by their own names,
``blocks.0.heads.0.w1_memory`` and so on; a function takes these as ``**parameters``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import positive_integer
from hope_ref.config import CHOICES, HopeConfig
from hope_ref.golden.components import Arrays, Component, Options, Sizes
from hope_ref.golden.self_modifying import OPTIONS as MEMORY_OPTIONS
from hope_ref.reference.hope import HopeState, hope, init
from hope_ref.reference.hope_adaptation import adapt
from hope_ref.reference.parameters import MIXERS

VOCABULARY = 5
LAYER_OPTIONS: Options = {
    "heads": (1, 2),
    "convolution_width": (4, 3, 2, 1, 0),
    "input_projection": (True, False),
    "levels_chunk_sizes": ((2, 4), (1, 1)),
    "cms_rate": (None, 0.1, 0.2),
    "nested_rate": (0.1, 0.0, 1.0),
    **{name: CHOICES[name] for name in ("order", "signal", "rule", "variant")},
    "mixer": MIXERS,
}
OPTIONS: Options = {**MEMORY_OPTIONS, "eta_max": (1.0, 2.0), **LAYER_OPTIONS}


def configured(options: Options, width: int, hidden: int) -> HopeConfig:
    """The model of one block that these options name."""
    sizes = {"width": width, "hidden": hidden, "vocabulary": VOCABULARY, "blocks": 1}
    return HopeConfig.from_dict({**options, **sizes})


def unit(options: Options) -> int:
    """What the width must be a multiple of: heads are equally wide, and rotary positions come in pairs."""
    return positive_integer("heads", options["heads"]) * (2 if options["mixer"] == "softmax_attention" else 1)


def draw(options: Options, sizes: Sizes, seed: int) -> Arrays:
    """One block: the start of training plus 0.3 N(0, 1) in every entry, so that nothing is zero; alpha_bias about 3."""
    config = configured(options, sizes.width, sizes.hidden).replace(seed=seed)
    rng = np.random.default_rng([seed, 1])
    tokens = rng.integers(VOCABULARY, size=sizes.tokens).astype(np.float64)
    start = init(config)
    start |= {name: np.array(3.0) for name in start if name.endswith("alpha_bias")}
    return {"tokens": tokens} | {n: a + 0.3 * rng.normal(size=a.shape) for n, a in start.items()}


def _given(inputs: Arrays, options: Options) -> tuple[Any, Arrays, HopeConfig]:
    parameters = dict(inputs)
    tokens = np.rint(parameters.pop("tokens")).astype(np.int64)
    width, hidden = len(parameters["norm"]), None
    if "blocks.0.heads.0.w1_k" in parameters:
        hidden = parameters["blocks.0.heads.0.w1_k"].shape[1]
    return tokens, parameters, configured(options, width, hidden or width)


def _levels(state: HopeState) -> Arrays:
    """W1 and W2 of every level of the one block, as they are after the last token."""
    levels = enumerate(state.blocks[0].continuum.levels)
    return {f"final_{part}_{i}": getattr(level, part) for i, level in levels for part in ("w1", "w2")}


def run_hope(inputs: Arrays, options: Options) -> Arrays:
    """The reference: outputs are the logits (T, vocabulary); final_w1_ℓ and final_w2_ℓ are the levels'."""
    outputs, state = hope(*_given(inputs, options))
    return {"outputs": outputs, **_levels(state)}


def run_adaptation(inputs: Arrays, options: Options) -> Arrays:
    """The reference that learns from its own loss; results as for `run_hope`."""
    outputs, state = adapt(*_given(inputs, options))
    return {"outputs": outputs, **_levels(state.now)}


def _component(name: str, run: Any, equations: tuple[str, ...], options: Options, seconds: Any) -> Component:
    return Component(name, equations, options, draw, run, pairs=False, unit=unit, seconds=seconds)


COMPONENTS = (
    _component(
        "hope",
        run_hope,
        ("P 94-97", "P 70-74", "P 83-93"),
        OPTIONS,
        lambda entries: 3e-3 + 1e-8 * entries,
    ),
    _component(
        "hope_adaptation",
        run_adaptation,
        ("S 14-15", "P 71"),
        {**OPTIONS, "signal": ("task",)},
        lambda entries: 4 * entries * (1e-4 + 1e-9 * entries),  # four runs for each weight's difference
    ),
)
