"""The memories of the self-modifying Titans by name, for every floor: what their weights are called, their shapes, where rates start."""

from __future__ import annotations

import math

from hope_ref.config import HopeConfig


def layers(config: HopeConfig) -> tuple[str, ...]:
    """The layers of one memory, the outer one first: w1 and w2, or w if linear."""
    return ("w1", "w2") if config.architecture == "mlp" else ("w",)


def weight_names(memory: str, config: HopeConfig) -> tuple[str, ...]:
    """Names of a memory's weights: (w1_k, w2_k), or (w_k,) if linear."""
    return tuple(f"{layer}_{memory}" for layer in layers(config))


def momentum_name(weight_name: str) -> str:
    """b1_k belongs to w1_k."""
    return "b" + weight_name[1:]


def weight_shapes(config: HopeConfig, d: int, hidden: int | str) -> dict[str, tuple[int | str, ...]]:
    """The shape of every weight by name, its last two axes if it has more: w1_□ (d, h), w2_□ (h, d), or w_□ (d, d) if linear."""
    shapes: tuple[tuple[int | str, ...], ...] = ((d, hidden), (hidden, d))
    if config.architecture == "linear":
        shapes = ((d, d),)
    return {
        name: shape
        for memory in config.memories
        for name, shape in zip(weight_names(memory, config), shapes, strict=True)
    }


def logit(probability: float) -> float:
    """The inverse of sigmoid."""
    return math.log(probability) - math.log1p(-probability)


def eta_bias(eta: float, config: HopeConfig) -> float:
    """The bias at which the learning rate is eta: the inverse of softplus, or of eta_max · sigmoid.

    Raises: ValueError if eta is not below eta_max where a sigmoid has to reach it.
    """
    if config.step == "implicit":
        return eta + math.log(-math.expm1(-eta))  # log(exp(eta) - 1), without the overflow
    if eta >= config.eta_max:
        raise ValueError(
            f"eta_init must be < eta_max for step='{config.step}', got {eta:g} and {config.eta_max:g}"
        )
    return logit(eta / config.eta_max)
