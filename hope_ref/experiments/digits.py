"""Handwritten digits, two classes after the other: does a continuum memory keep the first ones better than an MLP? [D]

The image is the input of a continuum memory, a fixed random table reads ten scores from its answer: the levels are all that
learns, by SGD under `LevelSchedule` [S 15, P 71], an image counting as a token. The test is among all ten classes; a second
one names the task, so that what is left of the other tasks shows even where the last two classes answer everything.

Every model runs at every learning rate of one grid; its own is chosen on other seeds by the loss while it learns, so what
it forgets is not looked at.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hope_ref.experiments.cells import Cell, Experiment, Measures, Records, Table, spread
from hope_ref.experiments.findings import NONE, findings
from hope_ref.experiments.fitting import parameters
from hope_ref.parallel.continuum_memory import Level, read
from hope_ref.parallel.continuum_schedule import LevelSchedule
from hope_ref.tasks import digits
from hope_ref.tasks.digits import PIXELS, Task

TUNING_SEEDS = (1001, 1002, 1003)  # for the learning rates alone
CLASSES = 10

# Chunk sizes of the levels in images, how a slower level's rate follows from the fast one's, and what is learnt when.
# "sum": the same rate for every level, so a level moves by the sum over its chunk; "mean": by the mean over its chunk times
# the fast chunk's size.
MODELS: dict[str, tuple[tuple[int, ...], str, str]] = {
    "MLP": ((16,), "sum", "in turn"),
    "3 levels, sum": ((16, 64, 256), "sum", "in turn"),
    "3 levels, mean": ((16, 64, 256), "mean", "in turn"),
    "2 levels, sum": ((16, 128), "sum", "in turn"),
    "2 levels, mean": ((16, 128), "mean", "in turn"),
    "3 levels, one frequency": ((16, 16, 16), "sum", "in turn"),
    "frozen after the first task": ((16,), "sum", "first alone"),
    "MLP, all tasks at once": ((16,), "sum", "at once"),
}


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """Every model with every learning rate, on the tuning seeds first."""
    quick = scale == "quick"
    shared: dict[str, Any] = {
        "hidden": 192,  # of all levels together
        "tests": ["all classes", "the task's classes"],
        "batch": 16,
        "epochs": 1 if quick else 3,  # of every task
        "rates": [0.1] if quick else [0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
    }
    found = []
    for task in ("tuning", "digits"):
        for seed in TUNING_SEEDS[: 1 if quick else None] if task == "tuning" else seeds:
            for model in list(MODELS)[: 2 if quick else None]:
                sizes, slower, order = MODELS[model]
                own = {"chunk_sizes": list(sizes), "slower": slower, "order": order}
                found.append(Cell("digits", task, model, seed, {**shared, **own}))
    return found


class Levels(nn.Module):
    """Levels between an image and a fixed random table of ten classes."""

    answers: Tensor

    def __init__(self, count: int, hidden: int, seed: int) -> None:
        super().__init__()
        tables, weights = np.random.default_rng((seed, 2)), np.random.default_rng((seed, 3))
        answers = tables.normal(size=(CLASSES, PIXELS)) / math.sqrt(PIXELS)
        self.register_buffer("answers", torch.from_numpy(answers).float())
        own = hidden // count
        self.w1, self.w2 = nn.ParameterList(), nn.ParameterList()
        for _ in range(count):
            w1 = weights.normal(size=(PIXELS, own)) * math.sqrt(0.25 / own)
            w2 = weights.normal(size=(own, PIXELS)) / math.sqrt(PIXELS)
            self.w1.append(nn.Parameter(torch.from_numpy(w1).float()))
            self.w2.append(nn.Parameter(torch.from_numpy(w2).float()))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (n, 10) of images (n, 64)."""
        pairs = tuple(zip(self.w1, self.w2, strict=True))
        gain = torch.ones(PIXELS)
        levels = [Level(w1, w2, gain) for w1, w2 in pairs]
        return read(images, pairs, levels, "sequential", "fast_to_slow")[0] @ self.answers.mT


def schedule(model: Levels, settings: dict[str, Any], rate: float) -> LevelSchedule:
    """SGD, every level at its own frequency and rate (see `MODELS`)."""
    groups, levels = [], []
    sizes = settings["chunk_sizes"]
    for w1, w2, size in zip(model.w1, model.w2, sizes, strict=True):
        own = rate if settings["slower"] == "sum" else rate * sizes[0] / size
        groups.append({"params": [w1, w2], "lr": own})
        levels.append({"params": [w1, w2], "chunk_size": size})
    return LevelSchedule(torch.optim.SGD(groups), levels)


def measure(cell: Cell) -> Measures:
    """One model at every rate of its grid: {"rate0": …, "rate1": …}, and what all of them share."""
    settings = dict(cell.settings)
    start = time.perf_counter()
    # a test image must be none that any model has trained on, so the split belongs to the seed, as the order of the tasks does
    given = digits.tasks(digits.load(), (cell.seed, 0), shuffle=True)
    found: Measures = {
        f"rate{n}": follow(settings, given, rate, cell.seed) for n, rate in enumerate(settings["rates"])
    }
    model = Levels(len(settings["chunk_sizes"]), settings["hidden"], cell.seed)
    found["parameters"], found["chance"] = parameters(model), 1 / CLASSES
    found["training_seconds"] = time.perf_counter() - start
    return found


def follow(settings: dict[str, Any], given: Sequence[Task], rate: float, seed: int) -> Measures:
    """Learn task after task, tested on all of them after each: R[i, j]."""
    model = Levels(len(settings["chunk_sizes"]), settings["hidden"], seed)
    stepper = schedule(model, settings, rate)
    rng = np.random.default_rng((seed, 4))
    trained = [task.train for task in given]
    if settings["order"] == "at once":
        images = np.concatenate([task.images for task in trained])
        labels = np.concatenate([task.labels for task in trained])
        trained = [digits.Digits(images, labels)]
    elif settings["order"] == "first alone":
        trained = trained[:1]
    matrix: list[list[float]] = []  # among all classes
    told: list[list[float]] = []  # among the classes of the task
    losses: list[float] = []
    for own in trained:
        for _ in range(settings["epochs"]):
            order = rng.permutation(len(own.labels))
            for rows in np.array_split(order, math.ceil(len(order) / settings["batch"])):
                seen, wanted = torch.from_numpy(own.images[rows]).float(), torch.from_numpy(own.labels[rows])
                stepper.zero_grad()
                loss = cross_entropy(model(seen), wanted)
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    return {"steps": len(losses) - 1, "diverged": True}
                loss.backward()
                stepper.step(len(rows))
        tested = [_accuracies(model, task) for task in given]
        matrix.append([among_all for among_all, _ in tested])
        told.append([among_own for _, among_own in tested])
    matrix += [matrix[-1]] * (len(given) - len(matrix))  # who does not learn any more stays as he is
    told += [told[-1]] * (len(given) - len(told))
    learnt = [row[n] for n, row in enumerate(matrix)]
    return {
        "mean_accuracy": digits.mean_accuracy(matrix),
        "forgetting": digits.forgetting(matrix),
        "just_learnt": sum(learnt) / len(learnt),  # mean accuracy on a task right after learning it
        "told_accuracy": digits.mean_accuracy(told),
        "told_forgetting": digits.forgetting(told),
        "online_loss": sum(losses) / len(losses),
        "matrix": [[round(entry, 4) for entry in row] for row in matrix],
        "steps": len(losses),
        "diverged": False,
    }


@torch.no_grad()
def _accuracies(model: Levels, task: Task) -> tuple[float, float]:
    """The share of a task's test images that are right among all classes, and among the task's own."""
    scores = model(torch.from_numpy(task.test.images).float())
    own = torch.tensor(task.classes)[scores[:, task.classes].argmax(-1)]
    first, second = (digits.accuracy(guess.numpy(), task.test.labels) for guess in (scores.argmax(-1), own))
    return first, second


# --- what was found -------------------------------------------------------------------------------------------------

BASELINE, DEEPER = "MLP", "3 levels, one frequency"
LEVELLED = tuple(name for name in MODELS if "levels" in name and name != DEEPER)
CHOICES = {
    "online_loss": False,
    "told_accuracy": True,
}  # what a rate is chosen by, and whether more is better


SHOWN = ("mean_accuracy", "forgetting", "just_learnt", "told_accuracy", "told_forgetting")


def chosen(records: Records, model: str, measure: str) -> int | None:
    """The number of the rate that is best by this measure on the tuning seeds; None if there is none."""
    found: dict[int, float] = {}
    tuned = records.of("tuning", model)
    for number in range(len(tuned[0].cell.settings["rates"]) if tuned else 0):
        runs = [record.measures[f"rate{number}"] for record in tuned]
        if not any(run["diverged"] for run in runs):
            total = sum(run[measure] for run in runs)
            found[number] = -total if CHOICES[measure] else total
    return min(found, key=lambda number: found[number], default=None)


def tables(records: Records) -> list[Table]:
    """Every model at the rate that learns best, and at the rate that keeps most."""
    header = (
        "model",
        "rate",
        "right in the end (%)",
        "forgetting (%)",
        "right when just learnt (%)",
        "right in the end, task told (%)",
        "forgetting, task told (%)",
    )
    titles = {
        "online_loss": "Five tasks of two digits, at the rate with the least loss while learning",
        "told_accuracy": "The same, at the rate with most right in the end if the task is told",
    }
    found = []
    for measure, title in titles.items():
        rows = [row for model in MODELS if (row := _row(records, model, measure))]
        if rows:
            found.append(Table(title, header, tuple(rows), _note(records)))
    return found


def _row(records: Records, model: str, by: str) -> tuple[str, ...] | None:
    number, runs = chosen(records, model, by), records.of("digits", model)
    if number is None or not runs:
        return None
    texts = [records.text("digits", model, f"rate{number}.{measure}", 1, 100) for measure in SHOWN]
    lost = sum(run.measures[f"rate{number}"]["diverged"] for run in runs)
    rate = f"{runs[0].cell.settings['rates'][number]:g}" + (f", {lost} diverged" if lost else "")
    return (model, rate, *texts)


def _note(records: Records) -> str:
    settings, weights = records.of("digits")[0].cell.settings, records.of("digits")[0].measures["parameters"]
    return (
        f"Chance is 10 %, and 50 % if the task is told; who knows the last task alone has 20 and 60 %. All models have {weights} weights that learn, "
        f"{settings['epochs']} epochs of every task, batches of {settings['batch']}, and {len(settings['rates'])} rates tried on "
        f"other seeds. All tasks at once is the upper line: the same steps, the images shuffled."
    )


def sentence(records: Records) -> str:
    """What the MLP keeps, and who keeps more or less (`findings`)."""
    own = _values(records, BASELINE, "mean_accuracy")
    in_the_end, told_too = _said(records, "online_loss", ("mean_accuracy", "told_accuracy"))
    (told,) = _said(records, "told_accuracy", ("told_accuracy",))
    if len(own) < 2 or not told_too or not told:
        return "Not run yet, or with too few seeds."
    joint = _values(records, "MLP, all tasks at once", "mean_accuracy")
    beside = f", and {spread(joint)} % if it learns all tasks at once" if joint else ""
    return (
        f"After five tasks in turn the MLP has {spread(own)} % right (20 % is the last task alone{beside}); "
        f"continuum memories beside it: {in_the_end}. "
        f"If the task is told: {told_too}; with the rates that are best for that: {told}."
    )


def _values(records: Records, model: str, measure: str, by: str = "online_loss") -> list[float]:
    """In per cent, seed by seed, at the chosen rate."""
    number = chosen(records, model, by)
    return [100 * value for value in records.values("digits", model, f"rate{number}.{measure}")]


def _said(records: Records, by: str, measures: Sequence[str]) -> list[str]:
    """Continuum memories beside the MLP, measure by measure; what is judged in one table is judged together."""
    more: dict[tuple[str, str], list[float]] = {}
    for measure in measures:
        own = _values(records, BASELINE, measure, by)
        for model in LEVELLED:
            other = _values(records, model, measure, by)
            if len(own) == len(other):
                more[measure, model] = [second - first for first, second in zip(own, other, strict=True)]
    judged = findings(more)
    said = []
    for measure in measures:
        groups: dict[int, list[str]] = {-1: [], 0: [], 1: []}
        for (of, model), way in judged.items():
            if of == measure:
                values = more[of, model]
                groups[way].append(f"{model} ({mean(values):+.1f} ± {stdev(values):.1f} points)")
        words = zip(("worse", NONE, "better"), groups.values(), strict=True)
        said.append(", ".join(f"{word}: {', '.join(names)}" for word, names in words if names))
    return said


EXPERIMENT = Experiment(
    name="digits",
    question="Ten digits, two classes after the other: does a continuum memory keep more of them than an MLP of equal size?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
    levels="move, from random starts: nothing has trained them to learn",
    needs=("sklearn",),
)
