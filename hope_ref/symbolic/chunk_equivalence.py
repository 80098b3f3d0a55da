r"""When the chunk form is the token form for every input: iff the written pair does not depend on the state.

A matrix memory with given k, v, η, α, and a written u that may read the state at the boundary b(t):

    M_t = M_{t-1} (α_t I - e η_t k_t k_tᵀ) + η_t u_t(M_{b(t)}) k_tᵀ,   e = 1 with the erase term, 0 without

Its token form has M_{t-1} in the place of M_{b(t)}. u = v ("dot") does not read it, u = v - M k ("l2") does.

If. `difference`: what is between the two forms is carried on by the erase, and grows only by u_t(M_b) - u_t(M_{t-1}). That is 0 if u_t
does not depend on M, and at a boundary nothing is between them: by induction the two are equal for every C.

Only if. Let them be equal at C = 2 for every input. At the second token u_2(M_0) = u_2(M_1) for every M_0 and every M_1 that the first
write can reach. If its u_1 takes any value as v_1 runs through all vectors, then M_1 takes any value along k_1, and k_1 was free: so u_2 is
the same at all M. `two_tokens` has the difference of the family u = v + c M k: c η_2 times something that runs with v_1
through all vectors, if k_1ᵀk_2 ≠ 0 and η_1 > 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import inner, matrix, positive, real
from hope_ref.symbolic.identity import Identity, Sides

ERASE, SHARE = real("e c")
LENGTH = 3
K, V, START = matrix("k", LENGTH, 2), matrix("v", LENGTH, 1), matrix("M", 1, 2)
ETA, ALPHA = positive(f"eta_1:{LENGTH + 1}"), positive(f"alpha_1:{LENGTH + 1}")
Written = Callable[[int, Any], Any]


def states(written: Written, chunk_size: int, length: int) -> list[Any]:
    """M_0 ... M_T of the rule at the head of this file, d_v = 1, d_k = 2."""
    found = [START]
    for t in range(length):
        k, boundary = K.row(t).T, found[chunk_size * (t // chunk_size)]
        kept = found[-1] * (ALPHA[t] * sp.eye(2) - ERASE * ETA[t] * k * k.T)
        found.append(kept + ETA[t] * written(t, boundary) * k.T)
    return found


class Read(sp.Function):
    """u_t(M), a function that nothing is known of: of t and the entries of M."""


def _any(t: int, memory: Any) -> Any:
    return sp.Matrix([[Read(t + 1, *memory)]])


def _affine(t: int, memory: Any) -> Any:
    return V.row(t) + SHARE * memory * K.row(t).T


def _difference() -> Sides:
    """Three tokens, one chunk of three; u unnamed. A row of M is written by its own entry of u, so at every size."""
    chunk, token = states(_any, LENGTH, LENGTH), states(_any, 1, LENGTH)
    apart, stated = [many - one for many, one in zip(chunk, token, strict=True)], []
    for t in range(LENGTH):
        k = K.row(t).T
        grown = _any(t, START) - _any(t, token[t])
        stated.append(apart[t] * (ALPHA[t] * sp.eye(2) - ERASE * ETA[t] * k * k.T) + ETA[t] * grown * k.T)
    return Sides(sp.Matrix.vstack(*apart[1:]), sp.Matrix.vstack(*stated))


def _given() -> Sides:
    """u_t of the token alone: chunks of 1, 2 and 3 end in one memory. By induction over t, see `difference`: every size."""
    ends = [states(lambda t, _: V.row(t), size, LENGTH)[-1] for size in (1, 2, LENGTH)]
    return Sides(sp.Matrix.vstack(*ends[1:]), sp.Matrix.vstack(ends[0], ends[0]))


def _two_tokens() -> Sides:
    """The first write is the same; the second reads M_0 or M_1, and M_0 - M_1 is put in. Rows of M stay apart: every size."""
    one, two = K.row(0).T, K.row(1).T
    first = V.row(0) + SHARE * START * one  # u_1
    seen = (1 - ALPHA[0]) * START * two + ETA[0] * inner(one, two) * (ERASE * START * one - first)
    apart = states(_affine, 2, 2)[-1] - states(_affine, 1, 2)[-1]
    return Sides(apart, SHARE * ETA[1] * seen * two.T)


def _entry(what: str, claim: str, latex: str, proof: Any, sizes: str) -> Identity:
    """Not printed in the sources."""
    return Identity(f"chunk_equivalence.{what}", "P 90, P 92-93, D", claim, None, latex, proof, sizes=sizes)


IDENTITIES = (
    _entry(
        "difference",
        "What is between the chunk form and the token form is carried on by the erase, and grows only where the written value reads the state.",
        r"\delta_t = \delta_{t-1} (\alpha_t I - e \eta_t k_t k_t^\top) + \eta_t (u_t(M_b) - u_t(M_{t-1})) k_t^\top",
        _difference,
        "3 tokens in one chunk, two inputs, one output; every size, every length by induction",
    ),
    _entry(
        "given",
        "If the written pair does not depend on the state, the chunk form is the token form for every input and chunk size.",
        r"M_t^{C} = M_{t-1}^{C} (\alpha_t I - e \eta_t k_t k_t^\top) + \eta_t v_t k_t^\top, \quad M_t^{C} = M_t^{1}",
        _given,
        "3 tokens in chunks of 1, 2 and 3, two inputs, one output; every size, every length by induction",
    ),
    _entry(
        "two_tokens",
        "A written value that reads the state by any share of M k makes another model of a chunk of two tokens.",
        r"M_2^{C=2} - M_2^{C=1} = c \eta_2 \left((1 - \alpha_1) M_0 k_2 "
        r"+ \eta_1 (k_1^\top k_2) (e M_0 k_1 - v_1 - c M_0 k_1)\right) k_2^\top",
        _two_tokens,
        "2 tokens, two inputs, one output; every size",
    ),
)
