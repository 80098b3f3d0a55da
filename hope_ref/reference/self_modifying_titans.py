"""Self-modifying Titans: memories that make their own keys, values, rates and targets. Source: [S 25-34], [P 83-93].

One head, token by token. Everything that token t needs is made from the states at its chunk's boundary b(t); the
states themselves move at every token, by `write`. Weights are a tuple, (W1, W2) of M(z) = z + W1 σ(W2 z) or (W,) of
M(z) = z + W z; a vector is (d,). The options are those of `HopeConfig`, each said where it acts.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, same_names
from hope_ref.config import HopeConfig, momentum_name, weight_names, weight_shapes
from hope_ref.reference import states
from hope_ref.reference.activations import sigmoid, silu, silu_derivative
from hope_ref.reference.parameters import random_parameters

__all__ = [
    "State",
    "Token",
    "answer",
    "associations",
    "at_boundary",
    "bounded",
    "generate",
    "initial_state",
    "random_parameters",
    "self_modifying_titans",
    "step_size",
    "stream",
    "unit",
    "write",
    "write_all",
]

EPSILON = 1e-6  # inside the root of `unit`, and beside ‖φ‖² in the normalised step
Arrays = dict[str, Array]
Weights = tuple[Array, ...]

# --- one write -----------------------------------------------------------------------------------------------------------


def write(
    weight: Array,
    initial: Array,
    momentum: Array | None,
    phi: Array,
    u: Array,
    eta: float,
    alpha: float,
    config: HopeConfig,
) -> tuple[Array, Array | None]:
    """W_t = α W_{t-1} + (1 - α) R - η̃ ((W_{t-1} - E) φ - u) φᵀ [P 88, D]; returns W_t and B_t.

    R is the initial weight or 0, what forgetting returns to; E is 0 or the initial weight, what the erase term
    measures from. With inner momentum B_t = μ B_{t-1} + η̃ u φᵀ stands in the place of η̃ u φᵀ.
    """
    eta_step = step_size(eta, phi, config.step)
    retained = alpha * weight + ((1.0 - alpha) * initial if config.retention_target == "initial" else 0.0)
    written = eta_step * np.outer(u, phi)
    if momentum is not None:
        written = momentum = config.inner_momentum * momentum + written
    if config.erase == "none":
        return retained + written, momentum
    old = (weight - initial if config.erase == "deviation" else weight) @ phi
    return retained - eta_step * np.outer(old, phi) + written, momentum


def step_size(eta: float, phi: Array, step: str) -> float:
    """η̃: η/(1 + η‖φ‖²) ("implicit" [P 57]), η/(‖φ‖² + 1e-6) ("normalized"), η ("explicit", as printed)."""
    if step == "implicit":
        return float(eta / (1.0 + eta * (phi @ phi)))
    return float(eta / (phi @ phi + EPSILON)) if step == "normalized" else eta


def associations(weights: Weights, k: Array, target: Array, config: HopeConfig) -> list[tuple[Array, Array]]:
    """Per weight matrix its input φ and wanted output u: minus the inner loss's gradient is u φᵀ, the target held fixed.

    e = -v̂ for the loss -⟨M(k), v̂⟩ ("dot"), M(k) - v̂ for ½‖M(k) - v̂‖² ("l2");
    W1: φ = σ(W2 k), u = -e;  W2: φ = k, u = -(W1ᵀ e) ⊙ σ′(W2 k);  W of a linear memory: φ = k, u = -e.
    u comes out bounded, see `bounded`.
    """
    error = -target if config.objective == "dot" else answer(weights, k) - target  # (d,)
    if len(weights) == 1:
        pairs = [(k, -error)]
    else:
        w1, w2 = weights
        hidden = w2 @ k  # (h,)
        pairs = [(silu(hidden), -error), (k, -(w1.T @ error) * silu_derivative(hidden))]
    return [(phi, bounded(u, config.surprise_bound)) for phi, u in pairs]


def bounded(u: Array, bound: float) -> Array:
    """u · c / √(c² + ‖u‖²): the same direction, shorter than c; c = 0 leaves u as it is [D]."""
    return u * bound / np.sqrt(bound**2 + u @ u) if bound > 0 else u


def answer(weights: Weights, z: Array, skip: bool = True) -> Array:
    """M(z) = z + W1 σ(W2 z) [P 89], or z + W z; without the leading z if not ``skip``."""
    if len(weights) == 1:
        (w,) = weights
        branch = w @ z  # (d,)
    else:
        w1, w2 = weights
        branch = w1 @ silu(w2 @ z)  # (d,)
    return z + branch if skip else branch


def softplus(z: Array) -> Array:
    """log(1 + exp(z))."""
    return np.logaddexp(0.0, z)


def unit(z: Array) -> Array:
    """z / √(‖z‖² + 1e-6): length one, and no division by zero [D]."""
    return z / np.sqrt(z @ z + EPSILON)


# --- one token -----------------------------------------------------------------------------------------------------------


class Token(NamedTuple):
    """What one token makes of itself, all from the boundary states."""

    k: Array  # (d,)
    v: Array  # (d,)
    q: Array  # (d,)
    eta: dict[str, float]  # one learning rate per memory
    alpha: float  # one retention for all


class State(NamedTuple):
    """All that a later token can see of earlier ones.

    Attributes:
        weights: W_t of every memory.
        boundary: the copies at b(t), for both groups of memories.
        momentum: B_t of every weight; empty if ``inner_momentum`` is 0.
        position: tokens seen so far.
    """

    weights: Arrays
    boundary: Arrays
    momentum: Arrays
    position: int


def of(weights: Arrays, memory: str, config: HopeConfig) -> Weights:
    """The weights of one memory, (W1, W2) or (W,)."""
    return tuple(weights[name] for name in weight_names(memory, config))


def at_boundary(state: State, config: HopeConfig) -> Arrays:
    """The weights at b(t): a memory whose chunk begins at this token takes its current ones, the others keep theirs.

    b(t) = C ⌊t/C⌋ for tokens counted from 0, C that of the memory's own group; all copies are taken before any is read.
    """
    boundary = dict(state.boundary)
    for memory in config.memories:
        if state.position % config.chunk_size(memory) == 0:
            boundary |= {name: state.weights[name] for name in weight_names(memory, config)}
    return boundary


def generate(
    x_key: Array, x_value: Array, x_query: Array, parameters: Arrays, config: HopeConfig, boundary: Arrays
) -> Token:
    """k = unit(M_k(x^k)), v = M_v(x^v), q = unit(W_q x^q), η_□ from M_η(x^v), α from M_α(x^k) [P 83, D].

    v is made unit with ``value_norm``; q = unit(M_q(x^q)) with ``adaptive_query``. The read-outs turn a memory's d
    numbers into one; η goes through softplus for implicit steps and through eta_max · sigmoid for the others.
    """
    root = math.sqrt(len(x_key))
    k = unit(answer(of(boundary, "k", config), x_key))
    v = answer(of(boundary, "v", config), x_value)
    query = (
        answer(of(boundary, "q", config), x_query)
        if config.adaptive_query
        else parameters["w_query"] @ x_query
    )
    z = parameters["eta_readout"] @ answer(of(boundary, "eta", config), x_value) / root
    eta = {}
    for memory in config.memories:
        raw = z + parameters[f"eta_bias_{memory}"]
        eta[memory] = float(softplus(raw) if config.step == "implicit" else config.eta_max * sigmoid(raw))
    raw = parameters["alpha_readout"] @ answer(of(boundary, "alpha", config), x_key) / root
    alpha = float(sigmoid(raw + parameters["alpha_bias"]))
    return Token(k, unit(v) if config.value_norm else v, unit(query), eta, alpha)


def write_all(
    token: Token, parameters: Arrays, config: HopeConfig, boundary: Arrays, state: State
) -> tuple[Arrays, Arrays]:
    """Move every memory that writes by one token: its target is its own answer to v (or v itself) [P 84-88].

    Gradients are taken at the boundary, the erase term and the retention act on the moving state. α is 1 for
    memories other than `memory` unless ``retention_scope`` is "all". Returns all weights and all momenta.
    """
    weights, momentum = dict(state.weights), dict(state.momentum)
    for memory in config.writers:
        own = of(boundary, memory, config)
        target = answer(own, token.v) if config.target == "self" else token.v  # v̂
        alpha = token.alpha if memory == "memory" or config.retention_scope == "all" else 1.0
        pairs = associations(own, token.k, target, config)
        for name, (phi, u) in zip(weight_names(memory, config), pairs, strict=True):
            b_name = momentum_name(name)
            weights[name], moved = write(
                weights[name],
                parameters[name],
                momentum.get(b_name),
                phi,
                u,
                token.eta[memory],
                alpha,
                config,
            )
            if moved is not None:
                momentum[b_name] = moved
    return weights, momentum


# --- a stream ------------------------------------------------------------------------------------------------------------


def self_modifying_titans(
    x_key: Any, x_value: Any, x_query: Any, parameters: Arrays, config: HopeConfig, state: State | None = None
) -> tuple[Array, State]:
    """Every memory □ rewrites itself toward its own target: M_□,t = DGD step on ℓ(M_□(k_t), M_□(v_t)); o_t = M_memory(q_t).

    [S 25-34], [P 83-93]. Per token: `generate` makes k, v, q, η and α at the boundary, `write_all` moves every
    memory, the answer to q is the output. A split at any token gives the same outputs and the same final state.
    An overflow is not hidden: inf and NaN pass into outputs and state. ``config.target_gradient`` has no effect
    here, where nothing is differentiated; width, heads and hidden neither: sizes come from the arrays.

    Args:
        x_key, x_value, x_query: the token's three views, (T, d) each; one and the same in the bare equations.
        parameters: initial states and read-outs by name, as `random_parameters` makes them: w1_□ (d, h) and
            w2_□ (h, d), or w_□ (d, d) if linear, for □ in ``config.memories``; w_query (d, d) unless adaptive_query;
            eta_readout (d,), eta_bias_□ (), alpha_readout (d,), alpha_bias (). eta_max is ``config.eta_max``.
        config: the options.
        state: what the last call returned; None starts from the parameters.
    Returns:
        outputs, (T, d), and the final state.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    x_key, x_value, x_query, parameters = _arguments(x_key, x_value, x_query, parameters, config)
    start = initial_state(parameters, config)
    if state is not None:
        states.check(state, start._replace(position=None))  # type: ignore[arg-type]
    state = start if state is None else state
    return stream(x_key, x_value, x_query, parameters, config, state)


def stream(
    x_key: Array, x_value: Array, x_query: Array, parameters: Arrays, config: HopeConfig, state: State
) -> tuple[Array, State]:
    """The loop over tokens of `self_modifying_titans`, which has checked the arguments; inf and NaN pass."""
    outputs = np.zeros_like(x_key)  # (T, d)
    with np.errstate(over="ignore", invalid="ignore"):  # seen in the results
        for t in range(len(x_key)):
            boundary = at_boundary(state, config)
            token = generate(x_key[t], x_value[t], x_query[t], parameters, config, boundary)
            weights, momentum = write_all(token, parameters, config, boundary, state)
            source = {"post": weights, "pre": state.weights, "boundary": boundary}[config.read]
            outputs[t] = answer(of(source, "memory", config), token.q, skip=config.read_skip)
            state = State(weights, boundary, momentum, state.position + 1)
    return outputs, state


def initial_state(parameters: Arrays, config: HopeConfig) -> State:
    """W_0 everywhere, no momentum, nothing seen."""
    names = [name for memory in config.memories for name in weight_names(memory, config)]
    weights = {name: parameters[name] for name in names}
    moving = names if config.inner_momentum > 0 else []
    momentum = {momentum_name(name): np.zeros_like(parameters[name]) for name in moving}
    return State(weights, dict(weights), momentum, 0)


def _arguments(
    x_key: Any, x_value: Any, x_query: Any, parameters: Any, config: HopeConfig
) -> tuple[Array, Array, Array, Arrays]:
    """Views and parameters as finite float64 arrays of fitting shapes, under exactly the names that are needed."""
    if not isinstance(config, HopeConfig):
        raise ValueError(f"config must be a HopeConfig, got {type(config).__name__}")
    x_key = float64("x_key", x_key, ("T", "d"))
    x_value, x_query = float64("x_value", x_value, x_key.shape), float64("x_query", x_query, x_key.shape)
    d = x_key.shape[1]
    if d == 0:
        raise ValueError(f"x_key must have shape (T, d) with d >= 1, got {x_key.shape}")
    shapes: dict[str, tuple[int | str, ...]] = {} if config.adaptive_query else {"w_query": (d, d)}
    shapes |= {"eta_readout": (d,), "alpha_readout": (d,), "alpha_bias": ()}
    shapes |= {f"eta_bias_{memory}": () for memory in config.memories}
    same_names("parameters", parameters, [*shapes, *weight_shapes(config, d, "h")])
    hidden: int | str = "h"
    if config.architecture == "mlp":
        hidden = float64("parameters['w1_k']", parameters["w1_k"], (d, "h")).shape[1]
    shapes |= weight_shapes(config, d, hidden)
    checked = {
        name: float64(f"parameters['{name}']", parameters[name], shape) for name, shape in shapes.items()
    }
    return x_key, x_value, x_query, checked
