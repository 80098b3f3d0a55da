"""Components and how they are compared: random points, worst relative errors, the matrix as text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from hope_ref import symbolic
from hope_ref.symbolic.statement import Statement
from hope_ref.validation import Array

BOUND = 1e-10  # relative, float64
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Component:
    """One concept on the three floors.

    Attributes:
        name: as in the agreement matrix.
        concept: the file that holds it on each floor; its identities are counted.
        results: names of what the functions return, in order.
        statement: the SymPy statement.
        reference: the NumPy function.
        parallel: the PyTorch function, called with tensors under the same names; None where a model needs none.
        sample: draws the arguments on which reference and parallel are compared; None where there is no parallel.
    """

    name: str
    concept: str
    results: tuple[str, ...]
    statement: Callable[[], Statement]
    reference: Callable[..., Any]
    parallel: Callable[..., Any] | None = None
    sample: Callable[[np.random.Generator], dict[str, Any]] | None = None

    def run_reference(self, arguments: dict[str, Any]) -> Arrays:
        """Call the NumPy function; its results by name."""
        return self._by_name(self.reference(**arguments))

    def run_parallel(self, arguments: dict[str, Any], device: str) -> Arrays:
        """Call the PyTorch function on the device; its results by name, as NumPy arrays."""
        assert self.parallel is not None
        moved = {
            n: torch.from_numpy(a).to(device) if isinstance(a, np.ndarray) else a
            for n, a in arguments.items()
        }
        results = self._by_name(self.parallel(**moved))
        return {name: value.detach().cpu().numpy() for name, value in results.items()}

    def _by_name(self, results: Any) -> dict[str, Any]:
        return dict(zip(self.results, results if isinstance(results, tuple) else (results,), strict=True))


class Row(NamedTuple):
    """One row of the agreement matrix: proofs that hold, and worst relative errors (None: no such floor)."""

    name: str
    proved: int
    identities: int
    symbolic_error: float
    parallel_errors: dict[str, float | None]  # device -> error

    def agrees(self) -> bool:
        """Do all proofs hold and all errors stay below the bound?"""
        errors = [self.symbolic_error, *(e for e in self.parallel_errors.values() if e is not None)]
        return self.proved == self.identities and all(error < BOUND for error in errors)


def worst_error(got: Arrays, want: Arrays) -> float:
    """Largest max|got - want| / max(1, max|want|) over all results; NaN counts as infinite."""
    worst = 0.0
    for name, array in want.items():
        error = np.abs(np.reshape(got[name], array.shape) - array).max(initial=0.0)
        scaled = float(error) / max(1.0, float(np.abs(array).max(initial=0.0)))
        worst = max(worst, scaled if math.isfinite(scaled) else math.inf)
    return worst


def devices() -> tuple[str, ...]:
    """The devices present that compute in float64: the CPU, and CUDA where there is one."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def compare(component: Component, seeds: int = 3) -> Row:
    """Fill one row of the matrix: run the concept's proofs, then both comparisons at several random points."""
    proofs = [identity.holds() for identity in symbolic.identities() if identity.concept == component.concept]
    statement, parallel_errors = component.statement(), {}
    said, points = (
        statement.function(),
        [statement.random_point(np.random.default_rng(s)) for s in range(seeds)],
    )
    symbolic_error = max(worst_error(component.run_reference(point), said(**point)) for point in points)
    for device in devices():
        draw = component.sample
        samples = [draw(np.random.default_rng(seed)) for seed in range(seeds)] if draw else []
        errors = [worst_error(component.run_parallel(a, device), component.run_reference(a)) for a in samples]
        parallel_errors[device] = max(errors, default=None)
    return Row(component.name, sum(proofs), len(proofs), symbolic_error, parallel_errors)


def decade(error: float | None) -> str:
    """An error as the decade above it, e.g. ``< 1e-15``; its digits belong to the machine, not to the method."""
    if error is None:
        return "–"
    if error == 0:
        return "0"
    return f"< 1e{math.floor(math.log10(error)) + 1}" if math.isfinite(error) else "not finite"


def matrix(rows: list[Row]) -> str:
    """The agreement matrix as text, one line per component."""
    heads = [
        "component",
        "proofs",
        "SymPy = NumPy",
        *(f"NumPy = PyTorch ({d})" for d in rows[0].parallel_errors),
        "",
    ]
    lines = [
        [
            row.name,
            f"{row.proved}/{row.identities}",
            decade(row.symbolic_error),
            *map(decade, row.parallel_errors.values()),
            "agrees" if row.agrees() else "DISAGREES",
        ]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    text = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in [heads, *lines]
    ]
    if any(None in row.parallel_errors.values() for row in rows):
        text.append("–: this floor has no such form")
    return "\n".join(text)
