"""Experiments: questions with an answer that can be run again, cell by cell. `python -m hope_ref experiment`. [D]"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from hope_ref.experiments.cells import Cell, Experiment, Record, Records, Table, spread

NAMES = (
    "formal_languages",
    "recall",
    "text",
    "languages",
    "continual",
    "digits",
    "learned_starts",
    "modules",
    "adaptation",
    "ablations",
    "optimizers",
    "chunk_size",
    "reproducibility",
)  # modules of this package, in the order of RESULTS.md

SHIPPED = (
    Path(__file__).parent / "shipped"
)  # the models of `amnesia`: `learned` and `ordinary`, one folder of `Hope.save` each

__all__ = ["NAMES", "SHIPPED", "Cell", "Experiment", "Record", "Records", "Table", "experiment", "spread"]


def experiment(name: str) -> Experiment:
    """The experiment of that name. Raises: ValueError for an unknown one."""
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(map(repr, NAMES))}, got {name!r}")
    found: Experiment = import_module(f"hope_ref.experiments.{name}").EXPERIMENT
    return found
