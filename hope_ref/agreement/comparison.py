"""Components and how they are compared: random points, worst relative errors, the matrix as text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from hope_ref import symbolic
from hope_ref.common.validation import Array
from hope_ref.symbolic.statement import Statement

BOUND = 1e-10  # relative, float64
GRADIENT_BOUND = 1e-7  # relative, of a derivative, against central differences
STEPS = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)  # of these, longest first
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Component:
    """One concept on the three floors.

    Attributes:
        name: as in the agreement matrix.
        concept: the file that holds it on each floor; its identities are counted.
        results: names of what the functions return, in order.
        statement: the SymPy statement; None for what is put together from components that have one.
        reference: the NumPy function.
        parallel: the PyTorch function, called with tensors under the same names; None where a model needs none.
        sample: draws the arguments on which reference and parallel are compared; None where there is no parallel.
    """

    name: str
    concept: str
    results: tuple[str, ...]
    statement: Callable[[], Statement] | None
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
        return {name: torch.as_tensor(value).detach().cpu().numpy() for name, value in results.items()}

    def derivatives(self, arguments: dict[str, Any], device: str, rng: np.random.Generator) -> float:
        """Relative difference of two derivatives of Σ r ⊙ results in one random direction of all float arguments.

        One is autograd through the parallel function, the other central differences of the reference.
        """
        assert self.parallel is not None
        moving = [n for n, a in arguments.items() if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
        direction = {name: rng.normal(size=arguments[name].shape) for name in moving}
        results = self.run_reference(arguments)
        weight = {name: rng.normal(size=np.shape(array)) for name, array in results.items()}

        def along(step: float) -> float:
            moved = {name: arguments[name] + step * direction[name] for name in moving}
            found = self.run_reference(arguments | moved)
            return float(sum((weight[name] * np.asarray(array)).sum() for name, array in found.items()))

        epsilon = torch.zeros((), dtype=torch.float64, device=device, requires_grad=True)
        tensors = {
            n: torch.from_numpy(a).to(device) if isinstance(a, np.ndarray) else a
            for n, a in arguments.items()
        }
        for name in moving:
            tensors[name] = tensors[name] + epsilon * torch.from_numpy(direction[name]).to(device)
        found = self._by_name(self.parallel(**tensors))
        total = torch.zeros((), dtype=torch.float64, device=device)
        for name, value in found.items():
            if isinstance(value, torch.Tensor):
                total = total + (value * torch.from_numpy(np.asarray(weight[name])).to(device)).sum()
        return derivative_error(along, float(torch.autograd.grad(total, epsilon)[0]))

    def _by_name(self, results: Any) -> dict[str, Any]:
        return dict(zip(self.results, results if isinstance(results, tuple) else (results,), strict=True))


class Row(NamedTuple):
    """One row of the agreement matrix: proofs that hold, and worst relative errors (None: no such floor)."""

    name: str
    proved: int
    identities: int
    symbolic_error: float | None
    parallel_errors: dict[str, float | None]  # device -> error
    gradient_errors: dict[str, float | None]  # device -> error of the derivative in a random direction

    def agrees(self) -> bool:
        """Do all proofs hold and all errors stay below their bounds?"""
        values = [e for e in (self.symbolic_error, *self.parallel_errors.values()) if e is not None]
        gradients = [e for e in self.gradient_errors.values() if e is not None]
        return (
            self.proved == self.identities
            and all(error < BOUND for error in values)
            and all(error < GRADIENT_BOUND for error in gradients)
        )


def derivative_error(along: Callable[[float], float], slope: float, scale: float = 1.0) -> float:
    """|slope - numeric| / max(scale, |numeric|), numeric from f(±h) and f(±2h), whose error is of order h⁴.

    Where f curves hugely, as the norm of a head whose answers nearly vanish, 1e-5 is too long a step; so shorter ones
    are tried, and the closest counts. A wrong derivative is wrong at every step.
    """
    error = math.inf
    for step in STEPS:
        near, far = along(step) - along(-step), along(2 * step) - along(-2 * step)
        numeric = (8 * near - far) / (12 * step)
        found = abs(slope - numeric) / max(scale, abs(numeric))
        error = min(error, found) if math.isfinite(found) else error
        if error < GRADIENT_BOUND:
            break
    return error


def worst_error(got: Arrays, want: Arrays) -> float:
    """Largest max|got - want| / max(1, max|want|) over all results; NaN counts as infinite."""
    worst = 0.0
    for name, array in want.items():
        array = np.asarray(array)  # a count of steps is a number
        error = np.abs(np.reshape(got[name], array.shape) - array).max(initial=0.0)
        scaled = float(error) / max(1.0, float(np.abs(array).max(initial=0.0)))
        worst = max(worst, scaled if math.isfinite(scaled) else math.inf)
    return worst


def devices() -> tuple[str, ...]:
    """The devices present that compute in float64: the CPU, and CUDA where there is one."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@cache
def proofs(concept: str) -> tuple[int, int]:
    """How many of the concept's identities are proved, and how many there are; several components share a concept."""
    held = [identity.holds() for identity in symbolic.distinct() if identity.concept == concept]
    return sum(held), len(held)


def compare(component: Component, seeds: int = 3, prove: bool = True) -> Row:
    """Fill one row of the matrix: the concept's proofs (0 of 0 if not ``prove``), then the comparisons at random points."""
    symbolic_error, parallel_errors, gradient_errors = None, {}, {}
    if component.statement is not None:
        statement = component.statement()
        said = statement.function()
        points = [statement.random_point(np.random.default_rng(seed)) for seed in range(seeds)]
        symbolic_error = max(worst_error(component.run_reference(point), said(**point)) for point in points)
    for device in devices():
        draw = component.sample
        samples = [draw(np.random.default_rng(seed)) for seed in range(seeds)] if draw else []
        errors = [worst_error(component.run_parallel(a, device), component.run_reference(a)) for a in samples]
        parallel_errors[device] = max(errors, default=None)
        slopes = [component.derivatives(a, device, np.random.default_rng(i)) for i, a in enumerate(samples)]
        gradient_errors[device] = max(slopes, default=None)
    proved = proofs(component.concept) if prove else (0, 0)
    return Row(component.name, *proved, symbolic_error, parallel_errors, gradient_errors)


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
        *(f"derivatives ({d})" for d in rows[0].gradient_errors),
        "",
    ]
    lines = [
        [
            row.name,
            f"{row.proved}/{row.identities}",
            decade(row.symbolic_error),
            *map(decade, row.parallel_errors.values()),
            *map(decade, row.gradient_errors.values()),
            "agrees" if row.agrees() else "DISAGREES",
        ]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    text = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in [heads, *lines]
    ]
    if any(None in (row.symbolic_error, *row.parallel_errors.values()) for row in rows):
        text.append("–: this floor has no such form")
    return "\n".join(text)
