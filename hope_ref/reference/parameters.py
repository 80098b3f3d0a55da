"""Parameters: those of a model by dotted names such as ``blocks.0.heads.1.w1_memory``, and those of one head's memories. [D]"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hope_ref.common.validation import Array, float64, positive_integer, same_names
from hope_ref.config import HopeConfig, eta_bias, logit, weight_shapes
from hope_ref.reference.continuum_memory import random_levels

Arrays = dict[str, Array]
Shapes = dict[str, tuple[int | str, ...]]
MIXERS = ("self_modifying_titans", "softmax_attention")  # HOPE, HOPE-Attention: the baselines are PyTorch's

# --- a model -----------------------------------------------------------------------------------------------------------


def parameter_shapes(config: HopeConfig) -> Shapes:
    """The shape of every parameter by name; the head is the embedding itself (tied)."""
    shapes: Shapes = {"embedding": (config.vocabulary, config.width), "norm": (config.width,)}
    if config.learned_rates:
        shapes["log_rates"] = (len(config.levels_chunk_sizes),)
    for index in range(config.blocks):
        inside = _mixer_shapes(config) | _level_shapes(config)
        shapes |= {f"blocks.{index}.{name}": shape for name, shape in inside.items()}
    return shapes


def init(config: HopeConfig) -> Arrays:
    """Where training starts: orthogonal projections, identity convolutions, gains 1, memories as in `init_memories` [D].

    The embedding is N(0, 1/d), so that the tied head's logits start with about unit variance.

    Args:
        config: the model; d is ``config.width``, the generator's seed ``config.seed``.
    Returns:
        parameters by name, for `hope`.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    check_mixer(config)
    width = config.width
    rng = np.random.default_rng(config.seed)
    parameters: Arrays = {}
    for name, shape in parameter_shapes(config).items():
        if name == "embedding":
            parameters[name] = rng.normal(size=shape) / math.sqrt(width)  # type: ignore[arg-type]
        elif name == "log_rates":
            parameters[name] = np.log(config.level_rates)
        elif ".conv_" in name:
            parameters[name] = np.zeros(shape)  # type: ignore[arg-type]
            parameters[name][:, -1] = 1.0  # the token itself
        elif name.endswith(("p_key", "p_value", "w_query", "output")):
            parameters[name] = orthogonal(rng, width, width)
        elif ".heads." not in name and ".levels." not in name:
            parameters[name] = np.ones(shape)  # type: ignore[arg-type]  # a gain
    for index in range(config.blocks):
        parameters |= _memories(config, f"blocks.{index}", rng)
    return parameters


def checked_parameters(parameters: Any, config: Any) -> Arrays:
    """The parameters as finite float64 arrays under exactly the names that the configuration needs."""
    check_mixer(config)
    shapes = parameter_shapes(config)
    same_names("parameters", parameters, shapes)
    return {name: float64(f"parameters['{name}']", parameters[name], shape) for name, shape in shapes.items()}


def check_mixer(config: Any) -> None:
    """Raise a ValueError unless this floor has the mixer."""
    if not isinstance(config, HopeConfig):
        raise ValueError(f"config must be a HopeConfig, got {type(config).__name__}")
    if config.mixer not in MIXERS:
        raise ValueError(
            f"mixer must be one of {', '.join(map(repr, MIXERS))} in NumPy, got {config.mixer!r}"
        )


def _mixer_shapes(config: HopeConfig) -> Shapes:
    width, d = config.width, config.head_width
    square = (width, width)
    if config.mixer == "softmax_attention":
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


def _memories(config: HopeConfig, prefix: str, rng: np.random.Generator) -> Arrays:
    """The starting memories of one block: every head's and every level's."""
    arrays: Arrays = {}
    for head in range(config.heads if config.mixer == "self_modifying_titans" else 0):
        own = init_memories(config, int(rng.integers(2**31)))
        own.pop("w_query", None)  # the layer's W_q, (d, d) and before the convolution, stands for it
        arrays |= {f"{prefix}.heads.{head}.{name}": array for name, array in own.items()}
    levels = random_levels(config.width, len(config.levels_chunk_sizes), int(rng.integers(2**31)))
    shapes = _level_shapes(config)
    for index, level in enumerate(levels):
        for name, array in level._asdict().items():
            if f"levels.{index}.{name}" in shapes:
                arrays[f"{prefix}.levels.{index}.{name}"] = np.asarray(array, dtype=np.float64)
    return arrays


# --- the memories of one head ------------------------------------------------------------------------------------------


def init_memories(config: HopeConfig, seed: int) -> Arrays:
    """Where training starts: wide-awake features, small writes, nearly full retention [D].

    W2 orthogonal with gain 2: a unit key under N(0, 1/d) weights gives pre-activations of 0.2 and writes of 10 %.
    W1 ~ N(0, 0.25/h), that of `memory` N(0, memory_w1_std²); a linear W likewise, d in the place of h. W_q orthogonal.
    Read-outs 0, so that η is ``eta_init`` and α is ``alpha_init`` at every token.

    Args:
        config: the options; d is ``config.head_width``, h is ``config.hidden_width``.
        seed: of the generator.
    Returns:
        parameters by name, for `self_modifying_titans`.
    Raises:
        ValueError: if an eta_init is not below eta_max where a sigmoid has to reach it.
    """
    rng = np.random.default_rng(seed)
    d, hidden = config.head_width, config.hidden_width
    parameters: Arrays = {}
    for name, (rows, columns) in _sizes(config, d, hidden).items():
        layer, memory = name.split("_", 1)
        if layer == "w2":
            parameters[name] = 2.0 * orthogonal(rng, rows, columns)
        else:
            std = config.memory_w1_std if memory == "memory" else 0.5 / math.sqrt(columns)
            parameters[name] = std * rng.normal(size=(rows, columns))
    if not config.adaptive_query:
        parameters["w_query"] = orthogonal(rng, d, d)
    of_memory, of_others = (eta_bias(eta, config) for eta in config.eta_init)
    for memory in config.memories:
        parameters[f"eta_bias_{memory}"] = np.array(of_memory if memory == "memory" else of_others)
    parameters |= {"eta_readout": np.zeros(d), "alpha_readout": np.zeros(d)}
    parameters["alpha_bias"] = np.array(logit(config.alpha_init))
    return parameters


def random_parameters(config: HopeConfig, width: int, hidden: int, seed: int) -> Arrays:
    """Parameters in which everything matters, for vectors and tests [D].

    w1 ~ N(0, 0.25/h), w2 ~ N(0, 1/d), linear w ~ N(0, 0.25/d), w_query ~ N(0, 1/d), read-outs and eta biases ~ N(0, 1),
    alpha_bias 3.

    Args: config; width d of the head and hidden width h, integers >= 1; seed.
    Returns: parameters by name, for `self_modifying_titans`.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    d, hidden = positive_integer("width", width), positive_integer("hidden", hidden)
    rng = np.random.default_rng(seed)
    parameters: Arrays = {}
    for name, (rows, columns) in _sizes(config, d, hidden).items():
        gain = 1.0 if name.startswith("w2_") else 0.5
        parameters[name] = gain * rng.normal(size=(rows, columns)) / math.sqrt(columns)
    if not config.adaptive_query:
        parameters["w_query"] = rng.normal(size=(d, d)) / math.sqrt(d)
    parameters |= {"eta_readout": rng.normal(size=d), "alpha_readout": rng.normal(size=d)}
    parameters |= {f"eta_bias_{memory}": np.array(rng.normal()) for memory in config.memories}
    return parameters | {"alpha_bias": np.array(3.0)}


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """A random matrix whose rows or columns, whichever are fewer, are orthonormal."""
    tall = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    signs = np.where(np.diag(tall.R) < 0, -1.0, 1.0)  # makes the factor unique, and the draw uniform
    matrix = tall.Q * signs
    return matrix if rows >= columns else matrix.T


def _sizes(config: HopeConfig, d: int, hidden: int) -> dict[str, Any]:
    return dict(weight_shapes(config, d, hidden))
