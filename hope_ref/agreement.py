"""The one place that imports all three floors and holds them against each other.

A `Component` names one concept: its statement in SymPy, its reference in NumPy, its parallel form in PyTorch, and
how to draw arguments. `compare` evaluates the statement at random points against the reference, and the reference
against the parallel form on every device present, and reports the worst relative error. A bound that is missed is
a failure, here and in ``python -m hope_ref verify``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from hope_ref import parallel, reference, symbolic
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
    statement = component.statement()
    symbolic_error, parallel_errors = 0.0, {}
    for seed in range(seeds):
        point = statement.random_point(np.random.default_rng(seed))
        symbolic_error = max(
            symbolic_error, worst_error(component.run_reference(point), statement.evaluate(**point))
        )
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
        text.append("–: no such form is needed on that floor")
    return "\n".join(text)


def _tokens(rng: np.random.Generator, **gates: float) -> dict[str, Any]:
    """37 tokens with unit keys, d_k = 5, d_v = 3, a random state, and gates uniform between 0 and the given end."""
    k = rng.normal(size=(37, 5))
    arguments = {
        "q": rng.normal(size=(37, 5)),
        "k": k / np.linalg.norm(k, axis=1, keepdims=True),
        "v": rng.normal(size=(37, 3)),
        "memory": rng.normal(size=(3, 5)),
    }
    return arguments | {name: rng.uniform(0, end, size=37) for name, end in gates.items()}


def _recurrence(rng: np.random.Generator) -> dict[str, Any]:
    """`_tokens` under the names of the rank-one recurrence."""
    names = {"q": "q", "k": "phi", "v": "u", "memory": "state", "eta": "eta", "alpha": "alpha"}
    return {names[name]: array for name, array in _tokens(rng, eta=1.9, alpha=1).items()}


def _titans(**arguments: Any) -> tuple[Array, ...]:
    """`reference.titans` with its state taken apart: outputs, weights, momentum."""
    weights = [arguments.pop(name) for name in ("memory", "w1", "w2") if name in arguments]
    y, state = reference.titans.titans(**arguments, state=reference.titans.start(*weights))
    return (y, *state.weights, *state.momentum)


def _layer(rng: np.random.Generator) -> dict[str, Any]:
    """A linear layer, d_in = 5, d_out = 3, and a batch of 37 inputs with their gradients and learning rates."""
    return {
        "w": rng.normal(size=(3, 5)),
        "x": rng.normal(size=(37, 5)),
        "grad_y": rng.normal(size=(37, 3)),
        "eta": rng.uniform(0, 0.2, size=37),
    }


def _gradients(rng: np.random.Generator) -> dict[str, Any]:
    """Weights, momentum and a gradient of four rows and six columns."""
    return {name: rng.normal(size=(4, 6)) for name in ("w", "m", "gradient")}


def _chunk(rng: np.random.Generator, length: int) -> dict[str, Any]:
    """A linear layer, d_in = 5, d_out = 3, and a chunk of inputs with their wanted outputs."""
    sizes = {"w": (3, 5), "x": (length, 5), "u": (length, 3)}
    return {name: rng.normal(size=size) for name, size in sizes.items()} | {"eta": rng.uniform(0, 10)}


def components() -> tuple[Component, ...]:
    """Every component, in the order of the course."""
    return (
        Component(
            "linear attention",
            "linear_attention",
            ("y", "memory"),
            symbolic.linear_attention.statement,
            reference.linear_attention.linear_attention,
            partial(parallel.linear_attention.linear_attention, chunk_size=8),
            lambda rng: _tokens(rng, alpha=1),
        ),
        Component(
            "delta rule",
            "delta_rule",
            ("y", "memory"),
            symbolic.delta_rule.statement,
            reference.delta_rule.delta_rule,
            partial(parallel.delta_rule.delta_rule, chunk_size=8),
            lambda rng: _tokens(rng, eta=1.9),
        ),
        Component(
            "gated delta rule",
            "delta_rule",
            ("y", "memory"),
            symbolic.delta_rule.gated_statement,
            reference.delta_rule.gated_delta_rule,
            partial(parallel.delta_rule.gated_delta_rule, chunk_size=8),
            lambda rng: _tokens(rng, eta=1.9, alpha=1),
        ),
        Component(
            "gradient descent",
            "gradient_descent",
            ("w",),
            symbolic.gradient_descent.statement,
            reference.gradient_descent.gradient_descent_step,
            parallel.gradient_descent.gradient_descent_step,
            _layer,
        ),
        Component(
            "online training",
            "gradient_descent",
            ("w", "surprises"),
            symbolic.gradient_descent.training_statement,
            reference.gradient_descent.train_linear,
        ),
        Component(
            "local surprises of an MLP",
            "gradient_descent",
            ("w1_surprise", "w1_input", "w2_surprise", "w2_input"),
            symbolic.gradient_descent.surprises_statement,
            reference.gradient_descent.mlp_surprises,
        ),
        Component(
            "Delta Gradient Descent",
            "delta_gradient_descent",
            ("w",),
            symbolic.delta_gradient_descent.statement,
            reference.delta_gradient_descent.delta_gradient_descent_step,
            parallel.delta_gradient_descent.delta_gradient_descent_step,
            lambda rng: {n: a[0] if n in ("x", "grad_y", "eta") else a for n, a in _layer(rng).items()},
        ),
        *(
            Component(
                f"Delta Gradient Descent, chunk of {length}",
                "delta_gradient_descent",
                ("w",),
                symbolic.delta_gradient_descent.chunk_statement,
                reference.delta_gradient_descent.delta_gradient_descent_chunk,
                parallel.delta_gradient_descent.delta_gradient_descent_chunk,
                partial(_chunk, length=length),
            )
            for length in (3, 37)  # fewer and more inputs than directions: two different systems
        ),
        *(
            Component(
                f"Delta Gradient Descent on a memory, {objective}, {step}",
                "delta_gradient_descent",
                ("memory",),
                partial(symbolic.delta_gradient_descent.memory_statement, objective, step),
                partial(reference.delta_gradient_descent.memory_step, objective=objective, step=step),
            )
            for objective, step in (
                ("dot", "implicit"),
                ("l2", "explicit"),
                ("l2_without_half", "normalized"),
            )
        ),
        Component(
            "momentum",
            "momentum",
            ("w", "m"),
            symbolic.momentum.statement,
            reference.momentum.momentum_step,
            parallel.momentum.momentum_step,
            lambda rng: _gradients(rng) | {"eta": 0.3, "mu": 0.9},
        ),
        Component(
            "running mean",
            "momentum",
            ("m",),
            symbolic.momentum.ema_statement,
            reference.momentum.ema_step,
            parallel.momentum.ema_step,
            lambda rng: {n: a for n, a in _gradients(rng).items() if n != "w"} | {"beta": 0.9},
        ),
        *(
            Component(
                f"delta momentum, {write} write",
                "momentum",
                ("w", "m"),
                partial(symbolic.momentum.delta_statement, write),
                partial(reference.momentum.delta_momentum_step, write=write),
                partial(parallel.momentum.delta_momentum_step, write=write),
                lambda rng: _gradients(rng) | {"eta": 0.3, "mu": 0.9, "target": rng.normal(size=(4, 4))},
            )
            for write in parallel.momentum.WRITES
        ),
        Component(
            "Adam's regression",
            "momentum",
            ("m",),
            symbolic.momentum.regression_statement,
            reference.momentum.adam_regression,
        ),
        *(
            Component(
                f"Newton–Schulz, {coefficients}",
                "newton_schulz",
                ("o",),
                partial(symbolic.newton_schulz.statement, coefficients),
                partial(reference.newton_schulz.newton_schulz, steps=2, coefficients=coefficients),
                partial(parallel.newton_schulz.newton_schulz, steps=2, coefficients=coefficients),
                lambda rng: {"x": rng.normal(size=(4, 6))},
            )
            for coefficients in parallel.newton_schulz.COEFFICIENTS
        ),
        Component(
            "Titans, matrix memory",
            "titans",
            ("y", "memory", "momentum"),
            symbolic.titans.statement,
            _titans,
        ),
        Component(
            "Titans, perceptron memory, chunks of 2",
            "titans",
            ("y", "w1", "w2", "momentum1", "momentum2"),
            partial(symbolic.titans.perceptron_statement, chunk_size=2),
            partial(_titans, chunk_size=2),
        ),
        *(
            Component(
                f"rank-one recurrence, erase {erase.replace('_', ' ')}",
                "chunks",
                ("y", "state"),
                partial(symbolic.chunks.statement, erase),
                partial(reference.chunks.recurrence, erase=erase),
                partial(parallel.chunks.recurrence, chunk_size=8, erase=erase),
                _recurrence,
            )
            for erase in parallel.chunks.ERASE
        ),
        Component(
            "rank-one recurrence with momentum",
            "chunks",
            ("y", "state", "momentum"),
            symbolic.chunks.momentum_statement,
            reference.chunks.momentum_recurrence,
        ),
    )
