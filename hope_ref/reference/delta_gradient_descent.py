"""Delta Gradient Descent: an implicit step that forgets along the input and nowhere else. Source: [S 17-21], [P 56-57].

The first half is the step of a linear layer y = W x; the second half is the same step as the update of a matrix
memory, [P 88] and [P 92-93], with the choices that the sources leave open as named options.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, positive_integer, scalar

OBJECTIVES = ("dot", "l2", "l2_without_half")
STEPS = ("explicit", "implicit", "normalized")
RULES = ("delta_gradient_descent", "gradient_descent")
EPSILON = 1e-6  # keeps the normalised step away from a division by zero


def effective_step(eta: Any, x: Any) -> float:
    """The step that an implicit update takes along x: η' = η / (1 + η ‖x‖²) [P 57, corrected].

    0 < η' ‖x‖² < 1 for every η > 0, so no η overshoots.

    Args:
        eta: inner learning rate >= 0.
        x: the input, (d_in,).
    Returns:
        a number.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    eta = scalar("eta", eta, low=0)
    x = float64("x", x, ("d_in",))
    return float(eta / (1 + eta * (x @ x)))


def delta_gradient_descent_step(w: Any, x: Any, grad_y: Any, eta: Any) -> Array:
    """Forget along x, then write: W_{t+1} = W_t (I - η' x xᵀ) - η' ∇_y L xᵀ, η' = η / (1 + η ‖x‖²).

    [P 57] for every ‖x‖: the exact minimiser of ½‖W x - u‖² + (1/2η)‖W - W_t‖² [S 17] with u = -∇_y L held fixed.

    Args:
        w: W_t, (d_out, d_in).
        x: the layer's input, (d_in,).
        grad_y: gradient of the loss at the layer's output, (d_out,).
        eta: inner learning rate >= 0.
    Returns:
        W_{t+1}, (d_out, d_in).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w, ("d_out", "d_in"))
    x = float64("x", x, (w.shape[1],))
    grad_y = float64("grad_y", grad_y, (w.shape[0],))
    eta_prime = effective_step(eta, x)
    identity = np.eye(len(x))  # (d_in, d_in)
    return w @ (identity - eta_prime * np.outer(x, x)) - eta_prime * np.outer(grad_y, x)


def delta_gradient_descent_chunk(w: Any, x: Any, u: Any, eta: Any) -> Array:
    """One implicit step for a whole chunk: W = (Uᵀ X + W_t/η)(Xᵀ X + I/η)⁻¹, inputs and wanted outputs in rows.

    The exact minimiser of ½ Σ_s ‖W x_s - u_s‖² + (1/2η)‖W - W_t‖² [D]; with C = 1 it is
    `delta_gradient_descent_step`. Both brackets are multiplied by η, so that η = 0 returns W_t. The system's
    condition number is 1 + η ‖X‖² if the inputs do not span every direction: of 16 digits the solve loses that many.

    Args:
        w: W_t, (d_out, d_in).
        x: the chunk's inputs, (C, d_in).
        u: the wanted outputs, (C, d_out); -∇_y L in [S 17].
        eta: inner learning rate >= 0.
    Returns:
        W, (d_out, d_in).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w, ("d_out", "d_in"))
    x = float64("x", x, ("C", w.shape[1]))
    u = float64("u", u, (x.shape[0], w.shape[0]))
    eta = scalar("eta", eta, low=0)
    left = eta * u.T @ x + w  # (d_out, d_in)
    right = eta * x.T @ x + np.eye(
        w.shape[1]
    )  # (d_in, d_in), symmetric: so the transpose below needs no second one
    return np.linalg.solve(right, left.T).T


def wanted_output(answer: Array, v: Array, objective: str) -> Array:
    """u, minus the gradient of the inner loss at the memory's answer M k: what the step writes toward.

    "dot": -⟨M k, v⟩ gives v [P 92]; "l2": ½‖M k - v‖² gives v - M k [P 93]; "l2_without_half": ‖M k - v‖² gives
    2 (v - M k), the loss as the sources print it.
    """
    if objective == "dot":
        return v
    return (1.0 if objective == "l2" else 2.0) * (v - answer)


def step_taken(eta: float, k: Array, step: str) -> float:
    """η̃: η as printed ("explicit"), η/(1 + η‖k‖²) ("implicit"), or η/(‖k‖² + 1e-6) ("normalized") [D]."""
    if step == "implicit":
        return effective_step(eta, k)
    return float(eta / (k @ k + EPSILON)) if step == "normalized" else eta


def memory_step(
    memory: Any, k: Any, v: Any, eta: Any, alpha: Any = 1.0, objective: str = "dot", step: str = "explicit"
) -> Array:
    """Delta Gradient Descent on a matrix memory: M ← M (α I - η̃ k kᵀ) + η̃ u kᵀ [P 88, P 92-93].

    At α = 1 the dot product is the delta rule and a repeated pair comes to rest at M k = v; "l2" erases twice and
    rests at v/2, "l2_without_half" at 2v/3. Stable iff η̃‖k‖² < 1 + α, (1 + α)/2, (1 + α)/3 in this order.

    Args:
        memory: M_{t-1}, (d_v, d_k).
        k, v: key (d_k,) and value (d_v,).
        eta: inner learning rate >= 0.
        alpha: retention in [0, 1].
        objective: "dot", "l2" or "l2_without_half", see `wanted_output`.
        step: "explicit", "implicit" or "normalized", see `step_taken`.
    Returns:
        M_t, (d_v, d_k).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    memory, k, v, alpha, taken = _memory_arguments(memory, k, v, eta, alpha, objective, step)
    u = wanted_output(memory @ k, v, objective)  # (d_v,)
    return memory @ (alpha * np.eye(len(k)) - taken * np.outer(k, k)) + taken * np.outer(u, k)


def frozen_chunk(
    memory: Any,
    k: Any,
    v: Any,
    eta: Any,
    count: int,
    alpha: Any = 1.0,
    objective: str = "l2",
    step: str = "explicit",
    rule: str = "delta_gradient_descent",
) -> Array:
    """Write one pair ``count`` times with the gradient frozen at the start, as in a chunk [P 93]; the erase term moves.

    u is computed once from the first memory; then M ← M (α I - η̃ k kᵀ) + η̃ u kᵀ, count times. On "l2" at α = 1 a
    chunk multiplies the distance of M k from v/2 by 2 (1 - η̃‖k‖²)^C - 1, within (-1, 1) whenever 0 < η̃‖k‖² < 1.
    ``rule="gradient_descent"`` drops the erase term: M ← α M + η̃ u kᵀ multiplies the distance from v by
    1 - C η̃‖k‖², and diverges once C η̃‖k‖² > 2.

    Args:
        memory, k, v, eta, alpha, objective, step: as `memory_step`.
        count: C, an integer >= 1.
        rule: "delta_gradient_descent" or "gradient_descent".
    Returns:
        the memory after the chunk, (d_v, d_k).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    memory, k, v, alpha, taken = _memory_arguments(memory, k, v, eta, alpha, objective, step)
    one_of("rule", rule, RULES)
    u = wanted_output(memory @ k, v, objective)  # (d_v,), frozen
    erase = taken * np.outer(k, k) if rule == "delta_gradient_descent" else 0.0  # (d_k, d_k)
    for _ in range(positive_integer("count", count)):
        memory = memory @ (alpha * np.eye(len(k)) - erase) + taken * np.outer(u, k)  # (d_v, d_k)
    return memory


def _memory_arguments(
    memory: Any, k: Any, v: Any, eta: Any, alpha: Any, objective: str, step: str
) -> tuple[Array, Array, Array, float, float]:
    """Validate what both memory functions take; the last result is the step actually taken."""
    memory = float64("memory", memory, ("d_v", "d_k"))
    k = float64("k", k, (memory.shape[1],))
    v = float64("v", v, (memory.shape[0],))
    eta = scalar("eta", eta, low=0)
    alpha = scalar("alpha", alpha, low=0, high=1)
    one_of("objective", objective, OBJECTIVES)
    one_of("step", step, STEPS)
    return memory, k, v, alpha, step_taken(eta, k, step)
