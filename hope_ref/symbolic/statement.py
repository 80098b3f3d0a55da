"""A statement: a reference function written out in symbols at a small size, so that numbers can be put in.

`agreement` evaluates it at random points and compares with the NumPy function of the same name: that ties the
proofs to the code that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sympy as sp


class Statement(NamedTuple):
    """Symbolic arguments and results, by the names of the reference function's arguments and results.

    An argument is a SymPy matrix (a 2-D array), a tuple of symbols (a 1-D array) or a symbol (a number).
    """

    arguments: dict[str, Any]
    results: dict[str, Any]

    def symbols(self, name: str) -> list[sp.Symbol]:
        """The symbols of one argument in row-major order."""
        value = self.arguments[name]
        return [value] if isinstance(value, sp.Symbol) else list(value)

    def random_point(self, rng: np.random.Generator) -> dict[str, Any]:
        """Numbers for every argument: positive symbols uniform in (0.2, 0.9), the others standard normal."""

        def draws(name: str) -> Iterator[float]:
            return (rng.uniform(0.2, 0.9) if s.is_positive else rng.normal() for s in self.symbols(name))

        return {
            name: next(draws(name))
            if isinstance(value, sp.Symbol)
            else np.reshape(list(draws(name)), getattr(value, "shape", -1))
            for name, value in self.arguments.items()
        }

    def function(self) -> Callable[..., dict[str, npt.NDArray[np.float64]]]:
        """Compile to NumPy: a function of one array per argument, by name, that returns a float64 matrix per result."""
        unknowns = [symbol for name in self.arguments for symbol in self.symbols(name)]
        matrices = [
            sp.Matrix(r) if isinstance(r, sp.MatrixBase) else sp.Matrix([[r]]) for r in self.results.values()
        ]
        compiled = sp.lambdify(unknowns, matrices, "numpy", cse=True)

        def call(**numbers: Any) -> dict[str, npt.NDArray[np.float64]]:
            outcome = compiled(*np.concatenate([np.ravel(numbers[name]) for name in self.arguments]))
            return {
                name: np.asarray(o, dtype=np.float64) for name, o in zip(self.results, outcome, strict=True)
            }

        return call

    def evaluate(self, **numbers: Any) -> dict[str, npt.NDArray[np.float64]]:
        """Put numbers in once: `function` compiled and called."""
        return self.function()(**numbers)
