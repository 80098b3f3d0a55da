"""Expressive optimisers as golden components: each takes one gradient per step, in the place of the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hope_ref.golden.components import Arrays, Component, Mistake, Options, Sizes
from hope_ref.reference.activations import silu
from hope_ref.reference.expressive_optimisers import (
    FEATURES,
    OUTPUTS,
    SIDES,
    ShampooState,
    deep_momentum_step,
    feature_momentum_step,
    preconditioner_step,
    shampoo_step,
)


def _weight_draw(options: Options, sizes: Sizes, seed: int) -> Arrays:
    """w (hidden, width) and gradient (T, hidden, width)."""
    rng = np.random.default_rng(seed)
    shape = (sizes.hidden, sizes.width)
    return {"w": rng.normal(size=shape), "gradient": rng.normal(size=(sizes.tokens, *shape))}


def _feature_draw(options: Options, sizes: Sizes, seed: int) -> Arrays:
    """The same, with the preconditioner P (hidden, hidden) and the rates."""
    target = np.random.default_rng([seed, 1]).normal(size=(sizes.hidden, sizes.hidden))
    rates = {"eta": np.array(0.3), "mu": np.array(0.9), "scale": np.array(0.2)}
    return _weight_draw(options, sizes, seed) | {"target": target} | rates


def _feature(inputs: Arrays, options: Options) -> Arrays:
    given: dict[str, Any] = {**inputs, **options}
    w, gradients = given.pop("w"), given.pop("gradient")
    m, outputs = np.zeros_like(w), np.zeros_like(gradients)
    for step, gradient in enumerate(gradients):
        w, m = feature_momentum_step(w, m, gradient, **given)
        outputs[step] = w
    return {"outputs": outputs, "final_m": m}


def _deep_draw(options: Options, sizes: Sizes, seed: int) -> Arrays:
    """w (width,), the memory's layers w1 (width, hidden) and w2 (hidden, width), and gradient (T, width)."""
    rng = np.random.default_rng(seed)
    width, hidden = sizes.width, sizes.hidden
    return {
        "w": rng.normal(size=width),
        "w1": rng.normal(size=(width, hidden)) / math.sqrt(hidden),
        "w2": rng.normal(size=(hidden, width)) / math.sqrt(width),
        "gradient": rng.normal(size=(sizes.tokens, width)),
        "eta": np.array(0.1),
        "mu": np.array(0.9),
    }


def _deep_loop(step_of: Callable[..., Any]) -> Callable[[Arrays, Options], Arrays]:
    def run(inputs: Arrays, options: Options) -> Arrays:
        w, w1, w2 = (inputs[name] for name in ("w", "w1", "w2"))
        outputs = np.zeros_like(inputs["gradient"])
        for step, gradient in enumerate(inputs["gradient"]):
            w, w1, w2 = step_of(w, w1, w2, gradient, inputs["eta"], inputs["mu"])
            outputs[step] = w
        return {"outputs": outputs, "final_w1": w1, "final_w2": w2}

    return run


def _ones(w: Any, w1: Any, w2: Any, gradient: Any, eta: Any, mu: Any) -> Any:
    return deep_momentum_step(w, w1, w2, gradient, eta, mu, np.ones_like(w))


def _answers_first(w: Any, w1: Any, w2: Any, gradient: Any, eta: Any, mu: Any) -> Any:
    _, new1, new2 = deep_momentum_step(w, w1, w2, gradient, eta, mu)
    return w + w1 @ silu(w2 @ gradient), new1, new2


def _shampoo(inputs: Arrays, options: Options) -> Arrays:
    w, outputs = inputs["w"], np.zeros_like(inputs["gradient"])
    state = ShampooState(*(np.zeros((length, length)) for length in w.shape))
    for step, gradient in enumerate(inputs["gradient"]):
        w, state = shampoo_step(w, gradient, state, **options)
        outputs[step] = w
    return {"outputs": outputs, "final_left": state.left, "final_right": state.right}


def _pairs_draw(options: Options, sizes: Sizes, seed: int) -> Arrays:
    """p (hidden, width), and what it has to map: g_hat (T, width) to gradient (T, hidden)."""
    rng = np.random.default_rng(seed)
    tokens, width, hidden = sizes
    return {
        "p": rng.normal(size=(hidden, width)),
        "g_hat": rng.normal(size=(tokens, width)) / math.sqrt(width),
        "gradient": rng.normal(size=(tokens, hidden)),
        "zeta": np.array(0.4),
    }


def _preconditioner(inputs: Arrays, options: Options) -> Arrays:
    p = inputs["p"]
    for g_hat, gradient in zip(inputs["g_hat"], inputs["gradient"], strict=True):
        p = preconditioner_step(p, g_hat, gradient, inputs["zeta"])
    return {"final_p": p}


COMPONENTS = (
    Component("preconditioner_step", ("P 38-41",), {}, _pairs_draw, _preconditioner),
    Component(
        "feature_momentum_step",
        ("P 42", "P 47", "P 51-52"),
        {"feature": tuple(FEATURES), "output": OUTPUTS},
        _feature_draw,
        _feature,
    ),
    Component(
        "deep_momentum_step",
        ("P 50",),
        {},
        _deep_draw,
        _deep_loop(deep_momentum_step),
        mistakes=(
            Mistake("the target is 1, not the gradient", _deep_loop(_ones)),
            Mistake("the memory answers before it has learnt", _deep_loop(_answers_first)),
        ),
    ),
    Component(
        "shampoo_step",
        ("P App. B",),
        {"eta": (0.1,), "epsilon": (1e-4, 1e-6), "sides": SIDES},
        _weight_draw,
        _shampoo,
    ),
)
