r"""One gain for five memories: linear memories without the skip all move by one matrix G. Source: [P 83-88], [P 93], VisionHOPE, [D].

M_□(z) = W_□ z for □ in k, v, eta, alpha, memory, all with one η_t, one α_t and one chunk size. Each writes its own answer to v as
the target; the gradient is taken at the boundary b(t), erase and retention act on the moving weight:

    W_t = α_t W_{t-1} - η_t (W_{t-1} k_t + W_b k_t - W_b v_t) k_tᵀ        objective="l2"
    W_t = α_t W_{t-1} - η_t (W_{t-1} k_t - W_b v_t) k_tᵀ                  objective="dot"

Whatever stands to the right of W_{t-1} and W_b is the same for all five. So W_t = W_b G_t, and one recurrence moves them all:

    G_t = α_t G_{t-1} - η_t (G_{t-1} k_t - u_t) k_tᵀ,   G_b = I,   u_t = v_t - k_t ("l2") or v_t ("dot").

With η‖k‖² <= 2α and η‖u‖‖k‖ <= ϱ (1 - α), ϱ <= 1, no memory ever expands: ‖G_t‖₂ <= ϱ + (1 - ϱ) γ_t <= 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, positive_integer, same_names, scalar
from hope_ref.reference import states
from hope_ref.reference.activations import sigmoid
from hope_ref.reference.self_modifying_titans import unit

MEMORIES = ("w_k", "w_v", "w_eta", "w_alpha", "w_memory")
OBJECTIVES = ("l2", "dot")
READOUTS = ("vector", "matrix")
READS = ("post", "boundary")
Arrays = dict[str, Array]


class State(NamedTuple):
    """All that a later token can see of earlier ones.

    Attributes:
        memories: W_b of the five memories, from the boundary.
        gain: G, (d, d): the memories now are W_b G, see `current`.
        position: tokens seen so far.
    """

    memories: Arrays
    gain: Array
    position: int


def write(gain: Array, k: Array, u: Array, eta: float, alpha: float) -> Array:
    """G_t = α G_{t-1} - η (G_{t-1} k - u) kᵀ, (d, d)."""
    return alpha * gain - eta * np.outer(gain @ k - u, k)


def bounded_rate(k: Array, u: Array, eta: float, alpha: float, gain_bound: float) -> float:
    """A rate below η with η‖u‖‖k‖ <= ϱ (1 - α) and η‖k‖² <= 2α; ϱ = ``gain_bound`` = 0 leaves η as it is [VisionHOPE].

    Below the first limit, c = ϱ (1 - α) / (‖u‖‖k‖), it is bent, η ← c (1 - exp(-η/c)): cut off, it would have no slope by η where the
    limit binds, which is nearly everywhere. At the second it is cut off. VisionHOPE's c has no ‖k‖: its keys are unit.
    """
    if gain_bound == 0:
        return eta
    square, injected, most = k @ k, math.sqrt((k @ k) * (u @ u)), gain_bound * (1 - alpha)
    if eta * injected > 0:
        eta = -most / injected * math.expm1(-eta * injected / most) if most > 0 else 0.0
    return 2 * alpha / float(square) if eta * square > 2 * alpha else eta


def current(state: State) -> Arrays:
    """The memories as they are now: W_t = W_b G_t, a vector as the row wᵀ G."""
    return {name: weight @ state.gain for name, weight in state.memories.items()}


def shared_gain(
    x: Any,
    parameters: Any,
    *,
    chunk_size: int = 16,
    objective: str = "l2",
    readout: str = "vector",
    read: str = "post",
    eta_max: Any = 1.0,
    gain_bound: Any = 1.0,
    state: State | None = None,
) -> tuple[Array, State]:
    """k = unit(M_k(x)), v = M_v(x), q = unit(W_q x), then G_t = α_t G_{t-1} - η_t (G_{t-1} k_t - u_t) k_tᵀ, o_t = W_b G_t q_t [D].

    η = eta_max · sigmoid(z_η + c_η), made smaller where `bounded_rate` says so, and α = sigmoid(z_α + c_α). With "vector" read-outs M_η
    and M_α are vectors, z = w·x; with "matrix" ones they are matrices, z = r·(W x)/√d, and Wᵀ r/√d is a vector that does the same.
    A split at any token gives the same outputs and the same final state.

    Args:
        x: tokens, (T, d).
        parameters: w_k, w_v, w_memory, w_query (d, d); w_eta, w_alpha (d,), or (d, d) with eta_readout, alpha_readout (d,) for
            "matrix"; eta_bias, alpha_bias (). The five memories start there, the others stay.
        chunk_size: C, tokens between two boundaries, part of the model.
        objective: "l2" or "dot". readout: "vector" or "matrix".
        read: "post", after the token's write, or "boundary", o_t = W_b q_t.
        eta_max: >= 0. gain_bound: ϱ in [0, 1]; 0 is no bound.
        state: what the last call returned; None starts from the parameters.
    Returns:
        outputs, (T, d), and the final state.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    x = float64("x", x, ("T", "d"))
    parameters = _parameters(parameters, x.shape[1], readout)
    chunk_size = positive_integer("chunk_size", chunk_size)
    one_of("objective", objective, OBJECTIVES)
    one_of("read", read, READS)
    eta_max, gain_bound = scalar("eta_max", eta_max, low=0), scalar("gain_bound", gain_bound, low=0, high=1)
    start = initial_state(parameters)
    if state is not None:
        states.check(state, start._replace(position=None))  # type: ignore[arg-type]
    state = start if state is None else state
    outputs = np.zeros_like(x)  # (T, d)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # without the bound it may overflow: seen in the results
        for t in range(len(x)):
            if state.position % chunk_size == 0:
                state = State(current(state), np.eye(x.shape[1]), state.position)
            w, gain = state.memories, state.gain
            k, v, q = unit(w["w_k"] @ x[t]), w["w_v"] @ x[t], unit(parameters["w_query"] @ x[t])  # (d,) each
            eta = eta_max * sigmoid(_number("eta", w, parameters, x[t]))
            alpha = float(sigmoid(_number("alpha", w, parameters, x[t])))
            u = v - k if objective == "l2" else v  # (d,)
            gain = write(gain, k, u, bounded_rate(k, u, float(eta), alpha, gain_bound), alpha)
            outputs[t] = w["w_memory"] @ (gain @ q if read == "post" else q)
            state = State(w, gain, state.position + 1)
    return outputs, state


def _number(name: str, memories: Arrays, parameters: Arrays, x: Array) -> Array:
    """What M_η or M_α answers to x as one number, with its bias: w·x + c, or r·(W x)/√d + c."""
    answer, bias = memories[f"w_{name}"] @ x, parameters[f"{name}_bias"]
    readout = parameters.get(f"{name}_readout")
    return answer + bias if readout is None else readout @ answer / math.sqrt(len(x)) + bias


def initial_state(parameters: Arrays) -> State:
    """W_0 everywhere, G = I, nothing seen."""
    memories = {name: parameters[name] for name in MEMORIES}
    return State(memories, np.eye(len(parameters["w_k"])), 0)


def shapes(d: int, readout: str) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter by name. Raises: ValueError for an unknown ``readout``."""
    one_of("readout", readout, READOUTS)
    of_rates = (d,) if readout == "vector" else (d, d)
    found: dict[str, tuple[int, ...]] = {name: (d, d) for name in ("w_k", "w_v", "w_memory", "w_query")}
    found |= {"w_eta": of_rates, "w_alpha": of_rates, "eta_bias": (), "alpha_bias": ()}
    return found if readout == "vector" else found | {"eta_readout": (d,), "alpha_readout": (d,)}


def random_parameters(width: int, readout: str, seed: int) -> Arrays:
    """Parameters in which everything matters, for vectors and tests: N(0, 1/d), read-outs and eta_bias N(0, 1), alpha_bias 1 [D].

    Args: width d, an integer >= 1; readout, "vector" or "matrix"; seed. Returns: parameters by name, for `shared_gain`.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    d, rng = positive_integer("width", width), np.random.default_rng(seed)
    drawn: Arrays = {}
    for name, shape in shapes(d, readout).items():
        drawn[name] = np.asarray(rng.normal(size=shape) / (math.sqrt(d) if name.startswith("w_") else 1.0))
    return drawn | {"alpha_bias": np.array(1.0)}


def _parameters(parameters: Any, d: int, readout: str) -> Arrays:
    """Exactly the needed names, as finite float64 arrays of fitting shapes."""
    if d == 0:
        raise ValueError("x must have shape (T, d) with d >= 1, got d = 0")
    wanted = shapes(d, readout)
    same_names("parameters", parameters, wanted)
    return {name: float64(f"parameters['{name}']", parameters[name], shape) for name, shape in wanted.items()}
