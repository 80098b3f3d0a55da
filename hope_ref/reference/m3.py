"""M3: momentum on two clocks, each made orthogonal. Source: [S 36-37], [P Alg. 1], [P 75].

One call is one step; the gradient comes in as an array, the state goes in and comes back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, positive_integer, scalar
from hope_ref.reference.momentum import below_one
from hope_ref.reference.newton_schulz import COEFFICIENTS
from hope_ref.reference.newton_schulz import newton_schulz as orthogonalise

ACCUMULATE = ("ema", "sum")
SECOND_MOMENT = ("update", "gradient", "none")
NEWTON_SCHULZ = (*COEFFICIENTS, "none")


class M3State(NamedTuple):
    """What M3 remembers between two steps; every array has the shape of the weight."""

    m1: Array  # fast momentum
    m2: Array  # slow momentum, moves every f steps
    window: Array  # sum of the gradients since m2 moved last: a partial window is carried, not lost
    o2: Array  # Newton–Schulz of m2, what acts; 0 until the first window is full
    second_moment: Array  # V
    steps: int  # steps taken


def initial_state(w: Any) -> M3State:
    """The state before the first step: zeros in the shape of the weight, (rows, columns)."""
    zero = np.zeros_like(float64("w", w, ("rows", "columns")))
    return M3State(zero, zero, zero, zero, zero, 0)


def mixed(memory: Array, new: Array, beta: float, accumulate: str) -> Array:
    """β m + (1 - β) g for "ema" [S 36]; m + β g for "sum", as [P Alg. 1] prints it: nothing decays."""
    return beta * memory + (1 - beta) * new if accumulate == "ema" else memory + beta * new


def _checked(state: M3State | None, w: Array) -> M3State:
    """Validate what the last call returned; None is the state before the first step."""
    if state is None:
        return initial_state(w)
    arrays = {name: float64(f"state.{name}", getattr(state, name), w.shape) for name in M3State._fields[:-1]}
    count = state.steps if state.steps == 0 else positive_integer("state.steps", state.steps)
    return state._replace(steps=count, **arrays)


def m3_step(
    w: Any,
    gradient: Any,
    state: M3State | None = None,
    *,
    lr: Any = 1e-3,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    beta3: Any = 0.9,
    slow_weight: Any = 1.0,
    slow_every: Any = 100,
    steps: Any = 5,
    newton_schulz: str = "quintic",
    accumulate: str = "ema",
    second_moment: str = "update",
    epsilon: Any = 1e-8,
) -> tuple[Array, M3State]:
    """W' = W - η U/(√V̂ + ε), U = O_1 + a O_2: a fast momentum and a slow one, both orthogonalised. [P Alg. 1], corrected.

    Steps count from 1. Every step: m1 ← β1 m1 + (1 - β1) g, O_1 = NS(m1). After a step i ≡ 0 (mod f), and acting from
    step i + 1: m2 ← β3 m2 + (1 - β3) Σ_{j=i-f+1..i} g_j, O_2 = NS(m2); until then O_2 = 0. A last, partial window
    waits in the state. V averages the square of U ("update"; V̂ = V/(1 - β2ᵗ), as in Adam) or of g ("gradient", as
    printed: no correction). Orthogonalising takes the gradient's scale away, and dividing by the root of V of g
    brings it back inverted: such steps grow like 1/‖g‖. With "none" the update is not divided, nor is ε used.

    Args:
        w, gradient: the weight and the loss gradient at it, (rows, columns). Vectors are for another optimiser.
        state: what the last call returned; None starts from nothing.
        lr, slow_weight, epsilon: η, a and ε, >= 0.
        beta1, beta2, beta3: decays of m1, V and m2, in [0, 1).
        slow_every: f, the steps between two moves of the slow momentum, >= 1.
        steps: Newton–Schulz steps, >= 1.
        newton_schulz: "quintic", "cubic", or "none": O = m, for comparison with optimisers that do not orthogonalise.
        accumulate: "ema" [S 36-37] or "sum" [P Alg. 1], where Newton–Schulz makes β1 and β3 change nothing.
        second_moment: "update" [D], "gradient" [P Alg. 1] or "none" [S 36-37]. A sum is never bias corrected.
    Returns:
        the new weight and the new state.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w, ("rows", "columns"))
    gradient = float64("gradient", gradient, w.shape)
    m1, m2, window, o2, v, count = _checked(state, w)
    lr, slow_weight = scalar("lr", lr, low=0), scalar("slow_weight", slow_weight, low=0)
    beta1, beta2, beta3 = below_one("beta1", beta1), below_one("beta2", beta2), below_one("beta3", beta3)
    slow_every, steps = positive_integer("slow_every", slow_every), positive_integer("steps", steps)
    epsilon = scalar("epsilon", epsilon, low=0)
    one_of("newton_schulz", newton_schulz, NEWTON_SCHULZ)
    one_of("accumulate", accumulate, ACCUMULATE)
    one_of("second_moment", second_moment, SECOND_MOMENT)

    def ns(m: Array) -> Array:
        return m if newton_schulz == "none" else orthogonalise(m, steps, newton_schulz)

    count = count + 1
    m1 = mixed(m1, gradient, beta1, accumulate)
    update = ns(m1) + slow_weight * o2  # o2 is of an earlier window
    scale = 1.0
    if second_moment != "none":
        v = mixed(v, (update if second_moment == "update" else gradient) ** 2, beta2, accumulate)
        corrected = second_moment == "update" and accumulate == "ema"
        scale = np.sqrt(v / (1 - beta2**count) if corrected else v) + epsilon
        if (scale == 0).any():
            raise ValueError(f"epsilon must be > 0 where the second moment is 0, got {epsilon:g}")
    w = w - lr * update / scale
    window = window + gradient
    if count % slow_every == 0:
        m2 = mixed(m2, window, beta3, accumulate)
        o2, window = ns(m2), np.zeros_like(w)  # acts from the next step on
    return w, M3State(m1, m2, window, o2, v, count)
