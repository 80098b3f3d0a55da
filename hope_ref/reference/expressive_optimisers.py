"""Expressive optimisers: preconditioners, deep and higher-order momenta, outer products, and the general form.

Source: [P 38-41, 45, 47, 50-52, 59-60, App. B]. Gradients come in as arrays, weights and states go out. One call is one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, positive_integer, scalar
from hope_ref.reference.activations import silu, silu_derivative
from hope_ref.reference.newton_schulz import newton_schulz

FEATURES: dict[str, Callable[[Array], Array]] = {
    "identity": lambda g: g,
    "cube": lambda g: g**3,
    "tanh": np.tanh,
}
OUTPUTS = ("identity", "newton_schulz")
SIDES = ("both", "left")
LOSSES = ("dot", "l2")


def preconditioner_step(p: Any, g_hat: Any, gradient: Any, zeta: Any) -> Array:
    """Teach a preconditioner to map ĝ to g: P' = P - ζ (P ĝ - g) ĝᵀ, one step on ½‖P ĝ - g‖². [P 38-41]

    It is the delta rule, with ĝ as key. The weights then move by W' = W - η P⁻¹ g. At ζ = 1/‖ĝ‖² P' maps ĝ to g
    exactly (Broyden's update): with ĝ a move and g the change of the gradient, P⁻¹ g is a Newton step.

    Args: p, (rows, columns); g_hat, (columns,); gradient, (rows,); zeta, the step size, >= 0.
    Returns: the new preconditioner, (rows, columns).
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    p = float64("p", p, ("rows", "columns"))
    g_hat, gradient = float64("g_hat", g_hat, p.shape[1:]), float64("gradient", gradient, p.shape[:1])
    return p - scalar("zeta", zeta, low=0) * np.outer(p @ g_hat - gradient, g_hat)


def feature_momentum_step(
    w: Any,
    m: Any,
    gradient: Any,
    eta: Any,
    mu: Any,
    target: Any = 1.0,
    feature: str = "identity",
    output: str = "identity",
    scale: Any = 1.0,
    steps: Any = 5,
    coefficients: str = "quintic",
) -> tuple[Array, Array]:
    """m' = μ m - η P φ(g), W' = W + s σ(m'). [P 47, P 51, P 52]

    One step of size η on ⟨m φ(g)ᵀ, P⟩ + ((1 - μ)/2η) ‖m‖². φ acts entry by entry and is odd, so that with P = 1 a first
    step descends. With Newton–Schulz as σ it is Muon [P 42]. Newton–Schulz takes away the scale of m, and η with it,
    so the size of such a step is s [D]; the print has s = 1.

    Args:
        w, m, gradient: weights, momentum and loss gradient, (rows, columns).
        eta, mu: learning rate >= 0 and momentum decay in [0, 1].
        target: P, a number (that many times I) or (rows, rows).
        feature: φ, "identity", "cube" (g³) or "tanh".
        output: σ, "identity" or "newton_schulz", of ``steps`` steps with these ``coefficients``.
        scale: s >= 0.
    Returns:
        the new weights and the new momentum, (rows, columns).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w, ("rows", "columns"))
    m, gradient = float64("m", m, w.shape), float64("gradient", gradient, w.shape)
    eta, mu = scalar("eta", eta, low=0), scalar("mu", mu, low=0, high=1)
    one_of("feature", feature, tuple(FEATURES))
    one_of("output", output, OUTPUTS)
    p = float64("target", target)
    p = p * np.eye(len(w)) if p.ndim == 0 else float64("target", target, (len(w), len(w)))
    m = mu * m - eta * p @ FEATURES[feature](gradient)
    answer = newton_schulz(m, steps, coefficients) if output == "newton_schulz" else m
    return w + scalar("scale", scale, low=0) * answer, m


def deep_momentum_step(
    w: Any, w1: Any, w2: Any, gradient: Any, eta: Any, mu: Any, target: Any = None
) -> tuple[Array, Array, Array]:
    """A momentum that is an MLP, m(u) = W1 σ(W2 u): learn from u = g, then move by the answer to it, W' = W + m'(u). [P 50]

    m' = μ m - η ∇⟨m(u), P⟩ in both layers: ∇_{W1} = P σ(W2 u)ᵀ, ∇_{W2} = (W1ᵀP ⊙ σ′(W2 u)) uᵀ. P is u itself [D]: the
    move is to promise a smaller loss, ⟨m(u), u⟩ < 0. The printed P = 1 does not look at the gradient's sign.

    Args:
        w, gradient: a parameter vector and the loss gradient at it, (d,).
        w1, w2: the memory's layers, (d, h) and (h, d). From W1 = 0 the first move is down the gradient.
        eta, mu: learning rate >= 0 and momentum decay in [0, 1].
        target: P, (d,); None: the gradient.
    Returns:
        the new weights and the two new layers.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w, ("d",))
    w1, u = float64("w1", w1, (len(w), "h")), float64("gradient", gradient, w.shape)
    w2 = float64("w2", w2, w1.T.shape)
    p = u if target is None else float64("target", target, w.shape)
    eta, mu = scalar("eta", eta, low=0), scalar("mu", mu, low=0, high=1)
    hidden = w2 @ u
    new1 = mu * w1 - eta * np.outer(p, silu(hidden))
    new2 = mu * w2 - eta * np.outer(w1.T @ p * silu_derivative(hidden), u)
    return w + new1 @ silu(new2 @ u), new1, new2


def outer_product_memory(gradients: Any, target: Any, lam: Any) -> Array:
    """The regression of one target on gradient vectors: argmin_m Σ ‖m g_i - P‖² + λ‖m‖² = P M̃ (H + λ I)⁻¹. [P 106-108]

    M̃ = Σ g_iᵀ and H = Σ g_i g_iᵀ. The inverse stands on the right; the print has it on the left.

    Args: gradients, (n, d), n >= 1; target, P, (rows,); lam > 0.
    Returns: m, (rows, d).
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    gradients, target = float64("gradients", gradients, ("n", "d")), float64("target", target, ("rows",))
    lam = scalar("lam", lam, low=0)
    if lam == 0 or len(gradients) == 0:
        raise ValueError(f"lam must be > 0 and n >= 1, got lam {lam:g} and n {len(gradients)}")
    h = gradients.T @ gradients + lam * np.eye(gradients.shape[1])
    return np.linalg.solve(h, np.outer(gradients.sum(0), target)).T


class ShampooState(NamedTuple):
    """What Shampoo remembers: sums of outer products of the gradient, over its columns and over its rows."""

    left: Array  # L, Σ g gᵀ, (rows, rows)
    right: Array  # R, Σ gᵀ g, (columns, columns)


def inverse_root(h: Array, root: int) -> Array:
    """H^(-1/root) of a symmetric positive matrix, through its eigenvalues."""
    values, vectors = np.linalg.eigh(h)
    return np.asarray(vectors * values ** (-1 / root) @ vectors.T)


def shampoo_step(
    w: Any,
    gradient: Any,
    state: ShampooState | None = None,
    eta: Any = 0.1,
    epsilon: Any = 1e-4,
    sides: str = "both",
) -> tuple[Array, ShampooState]:
    """L' = L + g gᵀ, R' = R + gᵀg, W' = W - η (L' + ε I)^(-1/4) g (R' + ε I)^(-1/4). [P App. B]

    Gradient descent in a metric that the gradients have made: argmin ⟨g, W'⟩ + (1/2η)⟨W' - W, L^(1/4) (W' - W) R^(1/4)⟩.
    With ``sides="left"`` it is W - η (L' + ε I)^(-1/2) g, AdaGrad with a full matrix for a column; its diagonal is AdaGrad.

    Args:
        w, gradient: weights and the loss gradient at w, (rows, columns).
        state: what the last call returned; None starts from nothing.
        eta: learning rate >= 0. epsilon > 0. sides: "both" or "left".
    Returns:
        the new weights and the new state.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    w = float64("w", w, ("rows", "columns"))
    g = float64("gradient", gradient, w.shape)
    rows, columns = w.shape
    eta, epsilon = scalar("eta", eta, low=0), scalar("epsilon", epsilon, low=0)
    if epsilon == 0:
        raise ValueError("epsilon must be > 0, got 0")
    one_of("sides", sides, SIDES)
    left, right = (np.zeros((rows, rows)), np.zeros((columns, columns))) if state is None else state
    left = float64("state.left", left, (rows, rows)) + g @ g.T
    right = float64("state.right", right, (columns, columns)) + g.T @ g
    if sides == "both":
        change = inverse_root(left + epsilon * np.eye(rows), 4) @ g
        change = change @ inverse_root(right + epsilon * np.eye(columns), 4)
    else:
        change = inverse_root(left + epsilon * np.eye(rows), 2) @ g
    return w - eta * change, ShampooState(left, right)


def general_step(loss: str, retention: Sequence[tuple[Any, Any]], x: Any, u: Any) -> Array:
    """W' = argmin_W loss(W; x, u) + Σ_j (r_j/2)‖W - A_j‖², a linear system. [P 59-60]

    The loss is -⟨W x, u⟩ ("dot") or ½‖W x - u‖² ("l2"), the retention any list of rates and anchors. With u = -∇_y L:

    * "dot", [(1/η, W_t)]: gradient descent. "l2": Delta Gradient Descent, or the implicit step toward u, if u is a target.
    * "dot", [((1 + μ)/η, W_t), (-μ/η, W_{t-1})]: gradient descent with momentum (heavy ball).
    * "dot", [(μ/η, m_t), ((1 - μ)/η, 0)]: the momentum itself, m' = μ m + η u xᵀ.

    Args:
        loss: "dot" or "l2".
        retention: pairs of a rate r_j and an anchor A_j, (d_out, d_in); the rates add up to more than 0.
        x, u: the input and the wanted output, (d_in,) and (d_out,).
    Returns:
        W', (d_out, d_in).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    one_of("loss", loss, LOSSES)
    x, u = float64("x", x, ("d_in",)), float64("u", u, ("d_out",))
    rates = [scalar(f"retention[{j}][0]", rate) for j, (rate, _) in enumerate(retention)]
    anchors = [float64(f"retention[{j}][1]", a, (len(u), len(x))) for j, (_, a) in enumerate(retention)]
    if sum(rates) <= 0:
        raise ValueError(f"retention must have rates that add up to more than 0, got {sum(rates):g}")
    curved = np.outer(x, x) if loss == "l2" else np.zeros((len(x), len(x)))
    right = np.outer(u, x) + sum(rate * anchor for rate, anchor in zip(rates, anchors, strict=True))
    system = curved + sum(rates) * np.eye(len(x))  # W (δ x xᵀ + ρ I) = u xᵀ + Σ r A
    return np.asarray(np.linalg.solve(system, right.T).T, dtype=np.float64)


class StaleMotion(NamedTuple):
    """What an old momentum does after a switch: what of it is left, and how far it has moved the weights."""

    held: Array
    moved: Array


def stale_motion(m: Any, directions: Any, mu: Any, steps: Any) -> StaleMotion:
    """What is left of a momentum, and what it has moved, across the inputs of the new task: μⁿ m⊥ and (μ + … + μⁿ) m⊥. [P 45]

    m⊥ = m - m Q, with Q the projection on the new task's directions. No gradient of that task reaches this part of the
    weights, so it is exact, for momentum and for delta momentum: each forgets the old task by coasting.

    Args: m, (rows, columns), at the switch; directions, one per row, (n, columns); mu in [0, 1]; steps >= 1.
    Returns: both parts, (rows, columns).
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    m = float64("m", m, ("rows", "columns"))
    directions = float64("directions", directions, ("n", m.shape[1]))
    mu, steps = scalar("mu", mu, low=0, high=1), positive_integer("steps", steps)
    stale = m - m @ np.linalg.pinv(directions) @ directions
    return StaleMotion(mu**steps * stale, sum(mu**i for i in range(1, steps + 1)) * stale)
