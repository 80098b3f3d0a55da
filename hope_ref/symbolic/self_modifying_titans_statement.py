r"""Self-modifying Titans written out in symbols: a chunk of two tokens and the first token of the next, options at their defaults.

Nothing is simplified: the expressions are large, and only made to have numbers put in.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, real, squared_norm, vector
from hope_ref.symbolic.statement import Statement

D, HIDDEN, TOKENS = 2, 1, 2
MEMORIES = ("k", "v", "eta", "alpha", "memory")
TINY = sp.Rational("1e-6")
Weights = tuple[sp.Matrix, sp.Matrix]


def sigmoid(z: Any) -> Any:
    return 1 / (1 + sp.exp(-z))


def silu(z: Any) -> Any:
    return z * sigmoid(z)


def times(left: sp.Matrix, right: sp.Matrix) -> sp.Matrix:
    """left · right; SymPy's own product asks of every entry whether it is finite, which takes long in large terms."""
    entries = [[inner(left.row(i), right.col(j)) for j in range(right.cols)] for i in range(left.rows)]
    return sp.Matrix(entries)


def unit(z: sp.Matrix) -> sp.Matrix:
    return z / sp.sqrt(squared_norm(z) + TINY)


def answer(weights: Weights, z: sp.Matrix) -> sp.Matrix:
    """z + W1 σ(W2 z)."""
    w1, w2 = weights
    return z + times(w1, times(w2, z).applyfunc(silu))


def associations(weights: Weights, k: sp.Matrix, target: sp.Matrix, objective: str) -> list[tuple[Any, Any]]:
    """(φ, u) of W1 and of W2: u is minus the derivative of the loss by that layer's output, then bounded by c = 1."""
    w1, w2 = weights
    out, hidden, wanted = vector("y", D), vector("n", HIDDEN), vector("t", D)  # put in last

    def loss(branch: sp.Matrix) -> sp.Expr:
        said = k + branch
        return -inner(said, wanted) if objective == "dot" else squared_norm(said - wanted) / 2

    activation = hidden.applyfunc(silu)
    numbers = dict(zip([*hidden, *wanted], [*times(w2, k), *target], strict=True))
    numbers |= zip(out, times(w1, activation).xreplace(numbers), strict=True)
    first = -gradient(loss(out), out).xreplace(numbers)
    second = -gradient(loss(times(w1, activation)), hidden).xreplace(numbers)
    pairs = [(activation.xreplace(numbers), first), (k, second)]
    return [(phi, u / sp.sqrt(1 + squared_norm(u))) for phi, u in pairs]


def statement(objective: str = "l2", erase: str = "deviation", crossed: bool = False) -> Statement:
    """`reference.self_modifying_titans` on two tokens of one chunk, d = 2, h = 1, one view, all other options default.

    ``erase`` is "deviation" or "full". If a boundary is ``crossed`` the statement goes on from there by one token: what the
    memories have come to is an argument, ``boundary_w1_k`` and so on, beside the first weights, to which they still forget
    and from which they still erase. In one expression SymPy could not write the two down. The arguments are x and the parameters by name; the results are outputs and the final weights by name.
    """
    x, start = matrix("x", 1 if crossed else TOKENS, D), {}
    arguments: dict[str, Any] = {}
    for memory in MEMORIES:
        start[memory] = (matrix(f"A_{memory}_", D, HIDDEN), matrix(f"B_{memory}_", HIDDEN, D))
        arguments |= {f"w{layer}_{memory}": start[memory][layer - 1] for layer in (1, 2)}
    arguments |= {"w_query": matrix("Q", D, D), "alpha_bias": real("c_alpha")}
    arguments |= {name: tuple(vector(name, D)) for name in ("eta_readout", "alpha_readout")}
    arguments |= {f"eta_bias_{memory}": real(f"c_eta_{memory}") for memory in MEMORIES}
    boundary: dict[str, Weights] = start
    if crossed:
        boundary = {m: (matrix(f"C_{m}_", D, HIDDEN), matrix(f"D_{m}_", HIDDEN, D)) for m in MEMORIES}
        arguments |= {f"boundary_w{layer}_{m}": boundary[m][layer - 1] for m in MEMORIES for layer in (1, 2)}
    state = dict(boundary)
    rows = []
    for t in range(x.rows):
        token = x.row(t).T
        k, v = (unit(answer(boundary[memory], token)) for memory in ("k", "v"))
        z, r = (
            inner(sp.Matrix(arguments[f"{name}_readout"]), answer(boundary[name], token)) / sp.sqrt(D)
            for name in ("eta", "alpha")
        )
        for memory in MEMORIES:
            eta = sp.log(1 + sp.exp(z + arguments[f"eta_bias_{memory}"]))
            alpha = sigmoid(r + arguments["alpha_bias"]) if memory == "memory" else sp.Integer(1)
            pairs = associations(boundary[memory], k, answer(boundary[memory], v), objective)
            moved = []
            for weight, initial, (phi, u) in zip(state[memory], start[memory], pairs, strict=True):
                step = eta / (1 + eta * squared_norm(phi))
                origin = initial if erase == "deviation" else sp.zeros(*initial.shape)
                slip = times(weight - origin, phi) - u
                moved.append(alpha * weight + (1 - alpha) * initial - step * times(slip, phi.T))
            state[memory] = (moved[0], moved[1])
        q = unit(times(arguments["w_query"], token))
        rows.append((answer(state["memory"], q) - q).T)
    finals = {f"final_w{layer}_{memory}": state[memory][layer - 1] for memory in MEMORIES for layer in (1, 2)}
    return Statement({"x": x, **arguments}, {"outputs": sp.Matrix.vstack(*rows), **finals})
