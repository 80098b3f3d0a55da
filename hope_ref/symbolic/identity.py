"""An identity is data: where it stands, how it is printed, how it is right, and a proof that runs.

A proof returns two sides: what SymPy *derives* (by differentiating, solving, unrolling) and what is *stated* in
closed form. It holds iff the residual, derived minus stated, simplifies to zero. Where a source prints something
else, `printed_proof` pairs the same derivation with the printed form; for a wrong print its residual is not zero,
and `slip` says by how much at one random point.

Sizes here are small (2 or 3) and scalars general; `sizes` tells which, and how far the argument in the docstring of the
proof goes beyond them. That argument is read, not run; numerical tests go to other sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import sympy as sp

BEYOND = (
    "every size",
    "every length by induction",
    "every size, every length by induction",
    "no size in it",
    "these numbers only",
)


class Sides(NamedTuple):
    """The two sides of a proof: scalars or matrices of one shape."""

    derived: Any
    stated: Any


@dataclass(frozen=True)
class Identity:
    """One proved statement.

    Attributes:
        name: ``concept.what``; the concept is the name of the file on each floor.
        source: where it stands, e.g. ``S 3, P 18``.
        claim: one plain sentence.
        printed: LaTeX as the source prints it, but for fonts, levels and arguments such as (W_t; x_t); None if not printed.
        correct: LaTeX of what is right; the same text where the source is right.
        proof: derives one side, states the other.
        printed_proof: the same derivation against the printed form, where the two differ.
        sizes: what SymPy proved it for, and after a semicolon how far it holds, one of `BEYOND`.
        alias_of: name of the identity that it repeats, to answer another print; it is not counted.
    """

    name: str
    source: str
    claim: str
    printed: str | None
    correct: str
    proof: Callable[[], Sides]
    printed_proof: Callable[[], Sides] | None = None
    sizes: str = ""
    alias_of: str | None = None

    @property
    def concept(self) -> str:
        return self.name.split(".")[0]

    def residual(self) -> sp.ImmutableMatrix:
        """Derived minus stated, simplified: a matrix of zeros iff the identity holds."""
        return _run(self.proof)

    def printed_residual(self) -> sp.ImmutableMatrix:
        """The same for the printed form; ValueError if the source prints the correct form."""
        if self.printed_proof is None:
            raise ValueError(f"identity {self.name} has no other print: there is no other form to test")
        return _run(self.printed_proof)

    def holds(self) -> bool:
        return self.residual().is_zero_matrix is True


def _matrix(side: Any) -> sp.Matrix:
    return sp.Matrix(side) if isinstance(side, sp.MatrixBase) else sp.Matrix([[side]])


def _simplified(entry: sp.Expr) -> sp.Expr:
    """`simplify`; that a quotient is zero shows in its numerator, much sooner."""
    entry = sp.expand(entry)
    return sp.S.Zero if sp.expand(sp.numer(sp.together(entry))) == 0 else sp.simplify(entry)


def residual(sides: Sides) -> sp.ImmutableMatrix:
    """Derived minus stated, simplified entry by entry, always as a matrix."""
    derived, stated = _matrix(sides.derived), _matrix(sides.stated)
    if derived.shape != stated.shape:
        raise ValueError(f"stated must have shape {derived.shape}, got {stated.shape}")
    return sp.ImmutableMatrix((derived - stated).applyfunc(_simplified))


@cache
def _run(proof: Callable[[], Sides]) -> sp.ImmutableMatrix:
    """A proof is asked for by its concept, by its erratum and by the command line: it runs once in a process."""
    return residual(proof())


def slip(sides: Sides, seed: int = 0) -> float:
    """Relative size of derived minus stated, in the Frobenius norm, with every symbol drawn at random.

    Positive symbols are drawn uniformly from (0.2, 0.9), the others from a standard normal.
    """
    rng = np.random.default_rng(seed)
    derived, stated = _matrix(sides.derived), _matrix(sides.stated)
    names = sorted(derived.free_symbols | stated.free_symbols, key=str)
    point = {s: rng.uniform(0.2, 0.9) if s.is_positive else rng.normal() for s in names}
    true = np.array(derived.subs(point).evalf(), dtype=float)
    said = np.array(stated.subs(point).evalf(), dtype=float)
    return float(np.linalg.norm(true - said) / np.linalg.norm(true))
