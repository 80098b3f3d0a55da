"""Parameters of one head's memories: a start that trains, and random ones for vectors and tests. [D]"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hope_ref.config import HopeConfig
from hope_ref.memories import eta_bias, logit, weight_shapes
from hope_ref.validation import Array, positive_integer

Arrays = dict[str, Array]


def init(config: HopeConfig, seed: int) -> Arrays:
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
