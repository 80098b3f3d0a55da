"""Exact work in the field of rational functions, where every entry comes out cancelled: fast, and short to read."""

from __future__ import annotations

from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import gradient


def solve(equations: sp.Matrix, unknown: sp.Matrix) -> sp.Matrix:
    """The solution of equations = 0, linear in the symbols of ``unknown``, in its shape."""
    system, right = sp.linear_eq_to_matrix(list(equations), list(unknown))
    left_side, right_side = system.to_DM().unify(right.to_DM())
    solution = left_side.to_field().lu_solve(right_side.to_field()).to_Matrix()
    return sp.Matrix(*unknown.shape, list(solution))


def minimiser(objective: sp.Expr, over: sp.Matrix) -> sp.Matrix:
    """The only stationary point of a strictly convex quadratic, as `algebra.minimiser`."""
    return solve(gradient(objective, over), over)


def inverse(square: sp.Matrix) -> sp.Matrix:
    """The inverse of a matrix of rational functions."""
    return square.to_DM().to_field().inv().to_Matrix()


def with_norm(side: sp.Matrix, x: sp.Matrix, lam: sp.Symbol) -> sp.Matrix:
    """Put λ² - x_1² - … - x_{n-1}² in the place of x_n², exactly, and factor: a remainder of polynomials in x_n.

    Two rational functions of x that agree wherever ‖x‖ = λ come out equal.
    """
    last = x[-1]
    relation = last**2 - (lam**2 - sum(entry**2 for entry in x[:-1]))

    def reduced(entry: Any) -> Any:
        above, below = sp.fraction(sp.cancel(entry))
        return sp.factor(sp.rem(above, relation, last) / sp.rem(below, relation, last))

    return side.applyfunc(reduced)
