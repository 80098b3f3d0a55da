"""Small helpers of the symbolic floor: named matrices, gradients, minimisers."""

from __future__ import annotations

from typing import Any

import sympy as sp


def matrix(name: str, rows: int, columns: int) -> sp.Matrix:
    """A matrix of real symbols name_ij, indices from 1."""
    return sp.Matrix(rows, columns, lambda i, j: sp.Symbol(f"{name}_{i + 1}{j + 1}", real=True))


def vector(name: str, size: int) -> sp.Matrix:
    """A column of real symbols name_i, indices from 1."""
    return sp.Matrix(size, 1, lambda i, _: sp.Symbol(f"{name}_{i + 1}", real=True))


def positive(names: str) -> Any:
    """Positive symbols, as `sympy.symbols`: learning rates, retentions, norms."""
    return sp.symbols(names, positive=True)


def real(names: str) -> Any:
    """Real symbols, as `sympy.symbols`."""
    return sp.symbols(names, real=True)


def squared_norm(array: sp.Matrix) -> sp.Expr:
    """Sum of the squared entries: ‖x‖² of a vector, ‖W‖_F² of a matrix."""
    return sum(entry**2 for entry in array)


def inner(left: sp.Matrix, right: sp.Matrix) -> sp.Expr:
    """⟨left, right⟩, the sum of the products of the entries."""
    return sum(a * b for a, b in zip(left, right, strict=True))


def gradient(scalar: sp.Expr, by: sp.Matrix) -> sp.Matrix:
    """The matrix of partial derivatives of a scalar, in the shape of ``by``."""
    return by.applyfunc(lambda entry: sp.diff(scalar, entry))


def minimiser(objective: sp.Expr, over: sp.Matrix) -> sp.Matrix:
    """The only stationary point of a strictly convex quadratic: solve gradient = 0, a linear system."""
    unknowns = list(over)
    system, right = sp.linear_eq_to_matrix(list(gradient(objective, over)), unknowns)
    return sp.Matrix(over.rows, over.cols, list(system.LUsolve(right)))
