"""What an experiment is made of: cells that run on their own, records that they leave, tables that are read off them. [D]"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any, NamedTuple

SCALES = ("quick", "full")
STILL = "stand still while a model reads: they are MLPs behind its mixer, trained as any other weights"
Measures = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One training with one seed: what a record is kept of.

    ``settings`` hold everything that decides the result beside the seed, as JSON knows it; a cell whose settings have
    changed is another cell, and its old record no longer counts.
    """

    experiment: str
    task: str
    model: str
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The record's place: experiment/task--model--seed, in letters that every file system takes."""
        return f"{self.experiment}/{_plain(self.task)}--{_plain(self.model)}--{self.seed}"

    @property
    def checksum(self) -> str:
        """Of everything that decides the result."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Everything by name."""
        return {
            "experiment": self.experiment,
            "task": self.task,
            "model": self.model,
            "seed": self.seed,
            "settings": dict(self.settings),
        }


class Record(NamedTuple):
    """What a cell gave."""

    cell: Cell
    measures: Measures
    seconds: float


class Table(NamedTuple):
    """Rows under a header, with a title; ``note`` says what a reader has to know to read it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Experiment:
    """A question, the cells that answer it, and how the answer is read off their records."""

    name: str
    question: str
    cells: Callable[[str, Sequence[int]], list[Cell]]  # (scale, seeds)
    measure: Callable[[Cell], Measures]  # runs one cell; no side effects
    tables: Callable[[Records], list[Table]]
    sentence: Callable[[Records], str]  # what was found, the bad news first
    levels: str = STILL  # what the continuum memory does while a model reads
    needs: tuple[str, ...] = ()  # modules beyond the project's own requirements


class Records:
    """The records of one experiment, looked up by task and model, over all seeds."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.all = sorted(records, key=lambda record: record.cell.key)

    def __len__(self) -> int:
        return len(self.all)

    def of(self, task: str | None = None, model: str | None = None) -> list[Record]:
        """Those of a task and a model, in the order of the seeds."""
        return [
            record
            for record in self.all
            if task in (None, record.cell.task) and model in (None, record.cell.model)
        ]

    def tasks(self) -> list[str]:
        """The tasks that there are records of."""
        return list(dict.fromkeys(record.cell.task for record in self.all))

    def models(self, task: str | None = None) -> list[str]:
        """The models that there are records of."""
        return list(dict.fromkeys(record.cell.model for record in self.of(task)))

    def values(self, task: str, model: str, measure: str) -> list[float]:
        """One measure, a number per seed; a name with dots looks inside: "bin0.sequences"."""
        found = []
        for record in self.of(task, model):
            value: Any = record.measures
            for part in measure.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if not isinstance(value, int | float | None):
                raise ValueError(
                    f"record {record.cell.key}: {measure} must be a number, got {type(value).__name__}"
                )
            if value is not None:
                found.append(float(value))
        return found

    def text(self, task: str, model: str, measure: str, digits: int = 1, scale: float = 1.0) -> str:
        """The measure as the tables print it; see `spread`."""
        return spread([scale * value for value in self.values(task, model, measure)], digits)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation over seeds (n - 1); one value alone says so, none is a dash."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.{digits}f} (1 seed)"
    seeds = "" if len(values) == 3 else f" ({len(values)} seeds)"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}{seeds}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("_") or "none"
