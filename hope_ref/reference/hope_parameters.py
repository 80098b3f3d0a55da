"""Parameters of HOPE: one flat dict, by dotted names such as ``blocks.0.heads.1.w1_memory``; shapes, start, check. [D]"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hope_ref.config import HopeConfig
from hope_ref.memories import weight_shapes
from hope_ref.reference import memory_parameters
from hope_ref.reference.continuum_levels import random_levels
from hope_ref.reference.memory_parameters import orthogonal
from hope_ref.validation import Array, float64, one_of, positive_integer, same_names

Arrays = dict[str, Array]
Shapes = dict[str, tuple[int | str, ...]]
MIXERS = ("self_modifying_titans", "softmax_attention")  # HOPE, HOPE-Attention


def parameter_shapes(
    config: HopeConfig, vocabulary: int, blocks: int, mixer: str = "self_modifying_titans"
) -> Shapes:
    """The shape of every parameter by name; the head is the embedding itself (tied)."""
    shapes: Shapes = {"embedding": (vocabulary, config.width), "norm": (config.width,)}
    for index in range(blocks):
        inside = _mixer_shapes(config, mixer) | _level_shapes(config)
        shapes |= {f"blocks.{index}.{name}": shape for name, shape in inside.items()}
    return shapes


def init(
    config: HopeConfig, vocabulary: int, blocks: int, seed: int, *, mixer: str = "self_modifying_titans"
) -> Arrays:
    """Where training starts: orthogonal projections, identity convolutions, gains 1, memories as in `memory_parameters.init` [D].

    The embedding is N(0, 1/d), so that the tied head's logits start with about unit variance.

    Args:
        config: the options; d is ``config.width``.
        vocabulary, blocks: integers >= 1.
        seed: of the generator.
        mixer: "self_modifying_titans" (HOPE) or "softmax_attention" (HOPE-Attention; the width of a head must be even).
    Returns:
        parameters by name, for `hope`.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    if not isinstance(config, HopeConfig):
        raise ValueError(f"config must be a HopeConfig, got {type(config).__name__}")
    vocabulary, blocks = positive_integer("vocabulary", vocabulary), positive_integer("blocks", blocks)
    check_mixer(config, mixer)
    width = config.width
    rng = np.random.default_rng(seed)
    parameters: Arrays = {}
    for name, shape in parameter_shapes(config, vocabulary, blocks, mixer).items():
        if name == "embedding":
            parameters[name] = rng.normal(size=(vocabulary, width)) / math.sqrt(width)
        elif ".conv_" in name:
            parameters[name] = np.zeros(shape)  # type: ignore[arg-type]
            parameters[name][:, -1] = 1.0  # the token itself
        elif name.endswith(("p_key", "p_value", "w_query", "output")):
            parameters[name] = orthogonal(rng, width, width)
        elif ".heads." not in name and ".levels." not in name:
            parameters[name] = np.ones(shape)  # type: ignore[arg-type]  # a gain
    for index in range(blocks):
        parameters |= _memories(config, f"blocks.{index}", mixer, rng)
    return parameters


def checked_parameters(parameters: Any, config: Any, mixer: str) -> tuple[Arrays, int]:
    """The parameters as finite float64 arrays under exactly the names that are needed, and the number of blocks."""
    if not isinstance(config, HopeConfig):
        raise ValueError(f"config must be a HopeConfig, got {type(config).__name__}")
    if not isinstance(parameters, dict) or "embedding" not in parameters:
        raise ValueError(f"parameters must be a dict with 'embedding', got {type(parameters).__name__}")
    embedding = float64("parameters['embedding']", parameters["embedding"], ("vocabulary", config.width))
    if embedding.size == 0:
        raise ValueError(f"parameters['embedding'] must not be empty, got shape {embedding.shape}")
    check_mixer(config, mixer)
    blocks = 1  # so that a model without blocks is told what is missing
    while f"blocks.{blocks}.norm" in parameters:
        blocks += 1
    shapes = parameter_shapes(config, len(embedding), blocks, mixer)
    same_names("parameters", parameters, shapes)
    found = {n: float64(f"parameters['{n}']", parameters[n], shape) for n, shape in shapes.items()}
    return found, blocks


def check_mixer(config: HopeConfig, mixer: str) -> None:
    """Raise a ValueError unless the mixer is known and, for rotary positions, a head's channels come in pairs."""
    one_of("mixer", mixer, MIXERS)
    if mixer == "softmax_attention" and config.head_width % 2:
        raise ValueError(f"width of a head must be even for rotary positions, got {config.head_width}")


def _mixer_shapes(config: HopeConfig, mixer: str) -> Shapes:
    width, d = config.width, config.head_width
    square = (width, width)
    if mixer == "softmax_attention":
        return {"norm": (width,), "p_key": square, "p_value": square, "w_query": square, "output": square}
    shapes: Shapes = {"norm": (width,)}
    if config.input_projection:
        shapes |= {"p_key": square, "p_value": square}
    if not config.adaptive_query:
        shapes["w_query"] = square
    if config.convolution_width:
        shapes |= {f"conv_{view}": (width, config.convolution_width) for view in ("key", "value", "query")}
    one: Shapes = dict(weight_shapes(config, d, config.hidden_width))
    one |= {f"eta_bias_{memory}": () for memory in config.memories}
    one |= {"eta_readout": (d,), "alpha_readout": (d,), "alpha_bias": ()}
    for head in range(config.heads):
        shapes |= {f"heads.{head}.{name}": shape for name, shape in one.items()}
    return shapes | {"head_norm": (width,), "output": square}


def _level_shapes(config: HopeConfig) -> Shapes:
    """V only where a level asks for it, a_ℓ only where it is used."""
    width = config.width
    one: Shapes = {"w1": (width, 4 * width), "w2": (4 * width, width), "gain": (width,)}
    if config.signal == "associative":
        one["value"] = (width, width)
    if config.variant == "independent":
        one["weight"] = ()
    levels = range(len(config.levels_chunk_sizes))
    return {f"levels.{level}.{name}": shape for level in levels for name, shape in one.items()}


def _memories(config: HopeConfig, prefix: str, mixer: str, rng: np.random.Generator) -> Arrays:
    """The starting memories of one block: every head's and every level's."""
    found: Arrays = {}
    for head in range(config.heads if mixer == "self_modifying_titans" else 0):
        own = memory_parameters.init(config, int(rng.integers(2**31)))
        own.pop("w_query", None)  # the layer's W_q, (d, d) and before the convolution, stands for it
        found |= {f"{prefix}.heads.{head}.{name}": array for name, array in own.items()}
    levels = random_levels(config.width, len(config.levels_chunk_sizes), int(rng.integers(2**31)))
    wanted = _level_shapes(config)
    for index, level in enumerate(levels):
        for name, array in level._asdict().items():
            if f"levels.{index}.{name}" in wanted:
                found[f"{prefix}.levels.{index}.{name}"] = np.asarray(array, dtype=np.float64)
    return found
