r"""One gain for five memories derived: linear memories without the skip move by W_t = W_b G_t, and when G never expands.

A memory is M(z) = W z, its target W_b v its own answer to the value, its gradient taken at the boundary [P 84, P 88, P 93].
The theorem: from G_b = I, if η‖k‖² <= 2α and η‖u‖‖k‖ <= ϱ (1 - α) with ϱ <= 1 at every token, then
‖G_t‖₂ <= ϱ + (1 - ϱ) γ_t <= 1, γ_t the product of the α since the boundary. Its steps are the last four identities:

    ‖G_t‖₂ <= ‖G_{t-1} (α I - η k kᵀ)‖₂ + ‖η u kᵀ‖₂        triangle inequality
           <= α ‖G_{t-1}‖₂ + η‖u‖‖k‖                       `erase`, `injection`
           <= α ‖G_{t-1}‖₂ + ϱ (1 - α)                     the second hypothesis; unrolled in `non_expansion`
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, positive, real, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.self_modifying_titans_statement import sigmoid, times, unit
from hope_ref.symbolic.statement import Statement

D, TOKENS, CHUNK = 2, 3, 2
K, V, X, READOUT = vector("k", D), vector("v", D), vector("x", D), vector("r", D)
START, GAIN = matrix("W", D, D), matrix("G", D, D)
ETA, ALPHA, BOUND = positive("eta alpha varrho")
MEMORIES = ("w_k", "w_v", "w_eta", "w_alpha", "w_memory")


def write(weight: Any, boundary: Any, k: Any, v: Any, eta: Any, alpha: Any, objective: str) -> Any:
    """One printed write of M(z) = W z toward W_b v: the loss differentiated at W_b, the target held fixed, the erase on W."""
    unknown, wanted = matrix("X", boundary.rows, D), vector("t", boundary.rows)
    said = unknown * k
    loss = -inner(said, wanted) if objective == "dot" else squared_norm(said - wanted) / 2
    at = dict(zip([*unknown, *wanted], [*boundary, *times(boundary, v)], strict=True))
    slope = gradient(loss, unknown).xreplace(at)
    return alpha * weight - eta * times(times(weight, k), k.T) - eta * slope


def _moved_by_the_gain(objective: str) -> Sides:
    u = V - K if objective == "l2" else V
    gain = ALPHA * GAIN - ETA * (GAIN * K - u) * K.T
    return Sides(write(START * GAIN, START, K, V, ETA, ALPHA, objective), START * gain)


def _five_memories() -> Sides:
    """If W_{t-1} = W_b G_{t-1}, W_b stands on the left of the erase, of the slope W_b (k - v) kᵀ and of α W: at every size, by induction."""
    return _moved_by_the_gain("l2")


def _dot() -> Sides:
    """As `five_memories`, with the slope -W_b v kᵀ: at every size."""
    return _moved_by_the_gain("dot")


def _boundary() -> Sides:
    """Three tokens, the boundary after the second: there W_2 = W_0 G_2 becomes the new W_b and the gain starts at I again.

    A product of the chunks' gains, from left to right, at every size and number of chunks.
    """
    k, v = (matrix(name, TOKENS, D) for name in "kv")
    eta, alpha = positive("eta_1:4"), positive("alpha_1:4")
    weight = boundary = START
    factors, gain = [], sp.eye(D)
    for t in range(TOKENS):
        if t % CHUNK == 0:
            boundary, gain = weight, sp.eye(D)
        key, value = k.row(t).T, v.row(t).T
        weight = write(weight, boundary, key, value, eta[t], alpha[t], "l2")
        gain = gain * (alpha[t] * sp.eye(D) - eta[t] * key * key.T) - eta[t] * (key - value) * key.T
        factors.append(gain)
    return Sides(weight, START * factors[1] * factors[2])


def _readout() -> Sides:
    """The write of a matrix, multiplied by rᵀ from the left, is the write of the row rᵀ W, at every size: each factor k, v, kᵀ is on the right of W."""
    moving = matrix("Z", D, D)
    row = READOUT.T * moving
    derived = READOUT.T * write(moving, START, K, V, ETA, ALPHA, "l2")
    return Sides(derived, write(row, READOUT.T * START, K, V, ETA, ALPHA, "l2"))


def _erase() -> Sides:
    """α² less the square of the symmetric factor is η (2α - η‖k‖²) k kᵀ, at every size: not negative iff η‖k‖² <= 2α.

    So the factor shortens every x to at most α ‖x‖: the first hypothesis.
    """
    factor = ALPHA * sp.eye(D) - ETA * K * K.T
    derived = ALPHA**2 * squared_norm(X) - squared_norm(factor * X)
    return Sides(derived, ETA * (2 * ALPHA - ETA * squared_norm(K)) * inner(K, X) ** 2)


def _injection() -> Sides:
    """Lagrange's identity: half the squares of all k_i x_j - k_j x_i, at every size. So ‖u kᵀ‖₂ = ‖u‖‖k‖, met at x = k."""
    u = vector("u", D)
    derived = squared_norm(u) * squared_norm(K) * squared_norm(X) - squared_norm(u * K.T * X)
    return Sides(derived, squared_norm(u) * squared_norm(K * X.T - X * K.T) / 2)


def _non_expansion() -> Sides:
    """g_t = α_t g_{t-1} + ϱ (1 - α_t) keeps g_t - ϱ = α_t (g_{t-1} - ϱ), at every length; here three tokens from g_0 = 1."""
    alpha, bound = positive("alpha_1:4"), sp.Integer(1)
    for rate in alpha:
        bound = rate * bound + BOUND * (1 - rate)
    return Sides(1 - bound, (1 - BOUND) * (1 - sp.prod(alpha)))


def _met() -> Sides:
    """The first write from G = I, with k an eigenvector: at ϱ = 1 its length is that of k, past either limit it is longer, at every size."""
    u = -BOUND * (1 - ALPHA) / (ETA * squared_norm(K)) * K
    gain = ALPHA * sp.eye(D) - ETA * (K - u) * K.T
    general = (ALPHA - ETA * squared_norm(K) - BOUND * (1 - ALPHA)) * K
    at_both = (gain * K).subs(ETA, 2 * ALPHA / squared_norm(K))
    return Sides(
        sp.Matrix.vstack(gain * K, at_both),
        sp.Matrix.vstack(general, -(ALPHA + BOUND * (1 - ALPHA)) * K),
    )


def statement(objective: str = "l2", readout: str = "vector", chunk_size: int = 2) -> Statement:
    """`reference.shared_gain` on two tokens, d = 2, as five separate memories: no gain stands in it.

    Nothing is simplified: three tokens would be too large to have numbers put in.

    The arguments are x and the parameters by name; the results are outputs and the final memories by name.
    """
    tokens = 2
    x = matrix("x", tokens, D)
    weights: dict[str, Any] = {name: matrix(name.replace("w_", "W"), D, D) for name in MEMORIES}
    arguments: dict[str, Any] = {**weights, "w_query": matrix("Q", D, D)}
    if readout == "vector":
        rows = {name: vector(name, D) for name in ("w_eta", "w_alpha")}
        weights |= {name: row.T for name, row in rows.items()}
        arguments |= {name: tuple(row) for name, row in rows.items()}
    else:
        arguments |= {f"{name}_readout": tuple(vector(f"r_{name}", D)) for name in ("eta", "alpha")}
    arguments |= {"eta_bias": real("c_eta"), "alpha_bias": real("c_alpha")}

    def number(name: str, boundary: dict[str, Any], token: Any) -> Any:
        answer, bias = times(boundary[f"w_{name}"], token), arguments[f"{name}_bias"]
        if readout == "vector":
            return answer[0] + bias
        return inner(sp.Matrix(arguments[f"{name}_readout"]), answer) / sp.sqrt(D) + bias

    boundary, outputs = weights, []
    for t in range(tokens):
        boundary = weights if t % chunk_size == 0 else boundary
        token = x.row(t).T
        k, v = unit(times(boundary["w_k"], token)), times(boundary["w_v"], token)
        alpha, eta = (sigmoid(number(name, boundary, token)) for name in ("alpha", "eta"))
        u = v - k if objective == "l2" else v
        limit = (1 - alpha) / sp.sqrt(squared_norm(k) * squared_norm(u))
        eta = sp.Min(limit * (1 - sp.exp(-eta / limit)), 2 * alpha / squared_norm(k), evaluate=False)
        weights = {n: write(w, boundary[n], k, v, eta, alpha, objective) for n, w in weights.items()}
        outputs.append(times(weights["w_memory"], unit(times(arguments["w_query"], token))).T)
    finals = {f"final_{name}": weights[name] for name in MEMORIES}
    return Statement({"x": x, **arguments}, {"outputs": sp.Matrix.vstack(*outputs), **finals})


def _entry(what: str, source: str, claim: str, latex: str, proof: Any, sizes: str) -> Identity:
    """Not printed."""
    return Identity(f"shared_gain.{what}", source, claim, None, latex, proof, sizes=sizes)


IDENTITIES = (
    _entry(
        "five_memories",
        "P 84, P 88, P 93, D",
        "On regression all linear memories without the skip move by one gain, if they share rate and retention.",
        r"W_t = \alpha_t W_{t-1} - \eta_t (W_{t-1} k_t + W_b k_t - W_b v_t) k_t^\top "
        r"= W_b (\alpha_t G_{t-1} - \eta_t (G_{t-1} k_t + k_t - v_t) k_t^\top)",
        _five_memories,
        sizes="d = 2, 1 token; every size, every length by induction",
    ),
    _entry(
        "dot",
        "P 84, P 88, P 92, D",
        "On the dot product they do so too, by a gain without the key in what is injected.",
        r"W_t = \alpha_t W_{t-1} - \eta_t (W_{t-1} k_t - W_b v_t) k_t^\top "
        r"= W_b (\alpha_t G_{t-1} - \eta_t (G_{t-1} k_t - v_t) k_t^\top)",
        _dot,
        sizes="d = 2, 1 token; every size, every length by induction",
    ),
    _entry(
        "boundary",
        "P 90, D",
        "Across a boundary the gains of the chunks multiply.",
        r"W_3 = W_0 (G_1 (\alpha_2 I - \eta_2 k_2 k_2^\top) - \eta_2 (k_2 - v_2) k_2^\top) "
        r"(\alpha_3 I - \eta_3 (2 k_3 - v_3) k_3^\top), \quad G_1 = \alpha_1 I - \eta_1 (2 k_1 - v_1) k_1^\top",
        _boundary,
        sizes="d = 2, 3 tokens, chunks of 2; every size, every length by induction",
    ),
    _entry(
        "readout",
        "D",
        "A matrix memory with a fixed read-out is a vector memory: it moves by the same gain.",
        r"r^\top W_t = \alpha_t r^\top W_{t-1} "
        r"- \eta_t (r^\top W_{t-1} k_t + r^\top W_b k_t - r^\top W_b v_t) k_t^\top",
        _readout,
        sizes="d = 2; every size",
    ),
    _entry(
        "erase",
        "D",
        "The erase lengthens nothing beyond the share that is retained as long as the rate is at most twice the retention, for a unit key.",
        r"\alpha^2 \|x\|^2 - \|(\alpha I - \eta k k^\top) x\|^2 = \eta (2 \alpha - \eta \|k\|^2) (k^\top x)^2",
        _erase,
        sizes="d = 2; every size",
    ),
    _entry(
        "injection",
        "D",
        "A rank-one write lengthens nothing by more than the product of its two lengths.",
        r"\|u\|^2 \|k\|^2 \|x\|^2 - \|u k^\top x\|^2 = \tfrac12 \|u\|^2 \|k x^\top - x k^\top\|_F^2",
        _injection,
        sizes="d = 2; every size",
    ),
    _entry(
        "non_expansion",
        "D",
        "Within both limits the gain never expands, and below the second one it contracts with the retention.",
        r"\alpha_t (\varrho + (1 - \varrho) \gamma_{t-1}) + \varrho (1 - \alpha_t) = \varrho + (1 - \varrho) \gamma_t, \quad "
        r"1 - (\varrho + (1 - \varrho) \gamma_t) = (1 - \varrho) (1 - \gamma_t)",
        _non_expansion,
        sizes="one number, 3 tokens; every size, every length by induction",
    ),
    _entry(
        "met",
        "D",
        "The limits are sharp: a write at both turns the key into its opposite, and beyond either of them it expands.",
        r"G_1 k = (\alpha - \eta \|k\|^2 - \varrho (1 - \alpha)) k, \quad "
        r"\eta = 2 \alpha / \|k\|^2 \Rightarrow G_1 k = -(\alpha + \varrho (1 - \alpha)) k",
        _met,
        sizes="d = 2; every size",
    ),
)
