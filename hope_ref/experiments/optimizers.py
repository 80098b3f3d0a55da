"""M3 beside AdamW, Muon and SGD with momentum: on a toy loss, and for the matrices of a small HOPE. [P Alg. 1], [P 9.7]

Of the model every optimiser moves the matrices and the stacks of matrices, each matrix of a stack on its own, at the best
of equally many learning rates; all else is moved by AdamW at one recipe, the same for all. The rates were chosen once, on a
seed of its own and on the validation text: the tuning runs are cells too, and a test holds them against `RATES`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW, Muon, Optimizer

from hope_ref.experiments import fitting
from hope_ref.experiments.cells import Cell, Experiment, Measures, Record, Records, Table, spread
from hope_ref.experiments.findings import findings
from hope_ref.experiments.optimizers_toy import TOY, TUNING_SEED, toy
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.m3 import M3
from hope_ref.tasks import text
from hope_ref.training.evaluation import bits_per_byte
from hope_ref.training.optimizers import Together, is_matrix
from hope_ref.training.presets import PRESETS
from hope_ref.training.settings import Run

# What moves the matrices, with which learning rates it was tried, and the best of them.
OPTIONS: dict[str, dict[str, Any]] = {
    "M3": {"slow_every": 10},  # f = 100 would act in the last steps of so short a training alone
    "AdamW": {},
    "Muon": {"momentum": 0.95},
    "M3, fast momentum only": {"slow_every": 10, "slow_weight": 0.0},
    "SGD with momentum": {"momentum": 0.9},
}
TRIED: dict[str, list[float]] = {
    "M3": [1e-3, 3e-3, 1e-2, 3e-2],
    "AdamW": [1e-3, 3e-3, 1e-2, 3e-2],
    "Muon": [1e-2, 3e-2, 1e-1, 3e-1],
    "M3, fast momentum only": [1e-3, 3e-3, 1e-2, 3e-2],
    "SGD with momentum": [3e-2, 1e-1, 3e-1, 1.0],
}
RATES: dict[str, float] = {
    "M3": 3e-3,
    "AdamW": 1e-2,
    "Muon": 3e-2,
    "M3, fast momentum only": 3e-3,
    "SGD with momentum": 0.3,
}


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """The tuning runs, the toy loss, then the text model at the best rates."""
    quick = scale == "quick"
    run = PRESETS["tiny"]
    if quick:
        run = run.changed(width=16, heads=1, blocks=1, levels_chunk_sizes=(16, 32), batch=2, tokens=32)
    model = {
        "config": fitting.memory_options(run.config),
        "blocks": run.config.blocks,
        "betas": list(run.training.betas),
        "batch": run.training.batch,
        "tokens": run.training.tokens,
        "moved": "matrices and stacks of matrices",  # by the optimiser named
        "rest_rate": run.training.lr,  # AdamW's, for all else
        "test_bytes": 200 if quick else None,  # None: all
    }
    names = list(OPTIONS)[: 3 if quick else None]
    found = []
    for name in names:
        tuning = {"rates": TRIED[name][: 1 if quick else None], "steps": 2 if quick else 50}
        settings = {**model, "options": OPTIONS[name], **tuning}
        found.append(Cell("optimizers", "tuning", name, TUNING_SEED, settings))
    for name in TOY[2:] if quick else TOY:
        settings = {
            "rates": [0.1] if quick else [float(f"{rate:.3g}") for rate in np.logspace(-3, 0.5, 15)],
            "decays": [0.5] if quick else [0.0, 0.5, 0.7, 0.8, 0.9, 0.95],
            "starts": 3 if quick else 50,
            "most": 20 if quick else 300,
        }
        found += [Cell("optimizers", "toy", name, seed, settings) for seed in seeds[:1]]
    for name in names:
        settings = {**model, "options": OPTIONS[name], "rate": RATES[name], "steps": 3 if quick else 120}
        found += [Cell("optimizers", "text", name, seed, settings) for seed in seeds]
    return found


def measure(cell: Cell) -> Measures:
    """By the cell's task: the toy loss, every rate on the validation text, or one rate on the test text."""
    settings = dict(cell.settings)
    if cell.task == "toy":
        return toy(cell.model, settings, cell.seed)
    split = text.split(text.load().data)
    if cell.task == "tuning":
        runs = [
            trained(cell, rate, split.train, split.validation)[1] | {"rate": rate}
            for rate in settings["rates"]
        ]
        return {f"rate{n}": found for n, found in enumerate(runs)}
    model, found = trained(cell, settings["rate"], split.train, split.test)
    matrices = sum(p.numel() for name, p in model.named_parameters() if is_matrix(name, p))
    return found | {
        "parameters": fitting.parameters(model),
        "matrices": matrices,
        "text": text.load().sha256[:8],
        **timed(cell, model, split.train),
    }


# --- the text model -------------------------------------------------------------------------------------------------


class TwoRates(Together):
    """One optimiser for the matrices at the rate that is set, AdamW for the rest at a fixed multiple of it."""

    def __init__(self, matrices: Optimizer, rest: Optimizer, ratio: float) -> None:
        super().__init__(matrices, rest)
        self.ratio = ratio

    def step(self) -> None:
        """One step of both, after all groups were set to the matrices' rate."""
        for group in self.optimizers[1].param_groups:
            group["lr"] *= self.ratio
        super().step()


def matrices_of(stack: Tensor) -> Sequence[Tensor]:
    """The matrices of a stack (..., rows, columns), views of it."""
    return stack.view(-1, *stack.shape[-2:]).unbind()


class MuonOnStacks(Muon):
    """PyTorch's Muon takes matrices alone: here every matrix of a stack is a parameter of its own, in the stack's memory."""

    def __init__(self, stacks: Sequence[Tensor], *arguments: Any, **options: Any) -> None:
        self.stacks = list(stacks)
        self.slices = [[nn.Parameter(one) for one in matrices_of(stack.detach())] for stack in stacks]
        super().__init__([one for slices in self.slices for one in slices], *arguments, **options)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step with the gradients of the stacks."""
        for stack, slices in zip(self.stacks, self.slices, strict=True):
            gradients = [None] * len(slices) if stack.grad is None else matrices_of(stack.grad)
            for one, gradient in zip(slices, gradients, strict=True):
                one.grad = gradient
        super().step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of stacks and slices."""
        for stack in self.stacks:
            stack.grad = None
        super().zero_grad(set_to_none)


def stepper(name: str, model: Hope, settings: dict[str, Any], rate: float) -> TwoRates:
    """The optimiser of that name for the matrices, without weight decay for anyone, and AdamW for all else."""
    matrices = [p for own, p in model.named_parameters() if is_matrix(own, p)]
    rest = [p for own, p in model.named_parameters() if not is_matrix(own, p)]
    options, betas = settings["options"], tuple(settings["betas"])
    made: Optimizer
    if name.startswith("M3"):
        made = M3(matrices, rate, (*betas, 0.9), **options)
    elif name == "Muon":
        # scaled by 0.2 √(longer side), so that its rates mean what AdamW's mean
        made = MuonOnStacks(matrices, rate, 0.0, adjust_lr_fn="match_rms_adamw", **options)
    elif name == "AdamW":
        made = AdamW(matrices, rate, betas, weight_decay=0.0)
    else:
        made = SGD(matrices, rate, **options)
    other = AdamW(rest, settings["rest_rate"], betas, weight_decay=0.0)
    return TwoRates(made, other, settings["rest_rate"] / rate)


def run_of(cell: Cell, rate: float) -> Run:
    """The model and its recipe."""
    settings = cell.settings
    run = PRESETS["tiny"].changed(config=settings["config"], blocks=settings["blocks"])
    recipe = {name: settings[name] for name in ("betas", "batch", "tokens", "steps")}
    return run.changed(lr=rate, seed=cell.seed, **recipe)


def loss_of(model: Hope, data: text.Bytes, run: Run) -> Callable[[int], Tensor]:
    """The mean loss on a step's own windows, the same for every optimiser."""
    training = run.training

    def loss(step: int) -> Tensor:
        drawn = text.windows(data, training.batch, training.tokens, (training.seed, step))
        window = torch.from_numpy(drawn)
        logits, _ = model(window[:, :-1])
        return cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())

    return loss


def trained(cell: Cell, rate: float, data: text.Bytes, held_out: text.Bytes) -> tuple[Hope, Measures]:
    """Train at this rate, test on the held-out text."""
    run = run_of(cell, rate)
    model = run.model()
    own = stepper(cell.model, model, dict(cell.settings), rate)
    fit = fitting.fit(model, loss_of(model, data, run), run.training, own)
    held_out = held_out[: cell.settings["test_bytes"]]
    last = fit.losses[-10:]
    return model, {
        "bits": bits_per_byte(model, held_out, run.training, torch.device("cpu")),
        "training_bits": sum(last) / len(last) / math.log(2) if last else None,
        "steps": fit.steps,
        "training_seconds": fit.seconds,
        "seconds_per_step": fit.seconds_per_step,
    }


def timed(cell: Cell, model: Hope, data: text.Bytes, repeats: int = 5) -> Measures:
    """Milliseconds of forward and backward, of this optimiser's step and of AdamW's, taken in turn; medians."""
    settings, rate = dict(cell.settings), cell.settings["rate"]
    model = copy.deepcopy(model)
    loss = loss_of(model, data, run_of(cell, rate))
    both = [stepper(cell.model, model, settings, rate), stepper("AdamW", model, settings, rate)]
    times: list[list[float]] = [[], [], []]
    for step in range(repeats + 1):
        for place in range(3):
            start = time.perf_counter()
            if place == 0:
                loss(step).backward()
            else:
                both[place - 1].step()
            times[place].append(1e3 * (time.perf_counter() - start))
            for group in (group for one in both for group in one.param_groups):
                group["lr"] = 0.0  # the time is the same, and nothing can diverge
        model.zero_grad()
    gradient, own, adamw = (median(found[1:]) for found in times)
    return {
        "gradient_ms": gradient,
        "optimizer_ms": own,
        "adamw_ms": adamw,
        "time_of_adamw": (gradient + own) / (gradient + adamw),
    }


# --- what was found -------------------------------------------------------------------------------------------------


def best_rate(record: Record) -> float | None:
    """The rate with the fewest bits on the validation text in a tuning record, among those that came to the end."""
    runs = [record.measures[f"rate{n}"] for n in range(len(record.cell.settings["rates"]))]
    whole = [run for run in runs if run["steps"] == record.cell.settings["steps"]]
    return min(whole, key=lambda run: run["bits"])["rate"] if whole else None


def tables(records: Records) -> list[Table]:
    """The text model, the rates that were tried, the toy loss."""
    found = []
    if records.of("text"):
        first = records.of("text")[0]
        settings, measures = first.cell.settings, first.measures
        rows = [_text_row(records, name) for name in OPTIONS if records.of("text", name)]
        header = (
            "matrices by",
            "rate",
            "bits per byte",
            "of the last 10 steps",
            "own step (ms)",
            "a step's time",
        )
        note = (
            f"A HOPE of {measures['parameters']} parameters, {measures['matrices']} of them in matrices and stacks of matrices: these alone are moved by the "
            f"optimiser named, all else by AdamW at {settings['rest_rate']:g}. {settings['steps']} steps, the same windows and clipping, "
            f"no weight decay. A step's time: of forward, backward and update, as a multiple of AdamW's in the same process. "
            f"[P 9.7] finds M3 ahead of AdamW and Muon on images, and slower than Muon; its figures print no numbers."
        )
        found.append(Table("HOPE on Python's manual, test text", header, tuple(rows), note))
    if records.of("tuning"):
        rows = []
        for name in OPTIONS:
            for record in records.of("tuning", name):
                tried = (record.measures[f"rate{n}"] for n in range(len(record.cell.settings["rates"])))
                texts = (
                    f"{run['rate']:g}: {run['bits']:.3f}"
                    + ("" if run["steps"] == record.cell.settings["steps"] else " †")
                    for run in tried
                )
                rows.append((name, ", ".join(texts), f"{RATES[name]:g}"))
        note = (
            f"Bits per byte of the validation text after {records.of('tuning')[0].cell.settings['steps']} steps, one seed that is "
            f"not used otherwise. †: stopped early, not finite."
        )
        found.append(
            Table("The rates that were tried", ("matrices by", "rate: bits", "taken"), tuple(rows), note)
        )
    if records.of("toy"):
        rows = [_toy_row(record) for name in TOY for record in records.of("toy", name)]
        header = ("method", "rate", "decay", "arrived (%)", "steps (median)", "least ψ (median)")
        first = records.of("toy")[0]
        note = (
            f"Steps from {first.cell.settings['starts']} fresh starts to ψ < 1e-6, at most {first.cell.settings['most']}, at the best of "
            f"{first.measures['tried']} settings each, chosen on other starts; constant rates. M3 and Muon take matrices: the two numbers "
            "are a column, whose orthogonalisation is its direction, so a step does not shrink with the gradient. Muon-like is M3's "
            "fast momentum without a second moment: Muon without Nesterov's look ahead."
        )
        found.append(Table("The oscillating toy loss", header, tuple(rows), note))
    return found


def _text_row(records: Records, name: str) -> tuple[str, ...]:
    runs = records.of("text", name)
    short = sum(run.measures["steps"] < run.cell.settings["steps"] for run in runs)
    rate = f"{runs[0].cell.settings['rate']:g}" + (f", {short} stopped early" if short else "")
    places = {"bits": 3, "training_bits": 3, "optimizer_ms": 0, "time_of_adamw": 2}
    return (name, rate, *(records.text("text", name, measure, digits) for measure, digits in places.items()))


def _toy_row(record: Record) -> tuple[str, ...]:
    found = record.measures
    steps = "never" if found["median_steps"] is None else f"{found['median_steps']:.0f}"
    share, least = f"{100 * found['arrived']:.0f}", f"{found['median_least']:.1g}"
    return (record.cell.model, f"{found['rate']:.2g}", f"{found['decay']:g}", share, steps, least)


def sentence(records: Records) -> str:
    """What M3's step costs, then M3 beside the others, seed by seed (`findings`)."""
    others = ("AdamW", "Muon", "SGD with momentum", "M3, fast momentum only")
    less = {name: _beside(records, name) for name in others}
    beside = {name: _compared(less[name], way) for name, way in findings(less).items()}
    if not beside:
        return "Not run yet, or with too few seeds."
    said = [f"{words} {name}" for name, words in beside.items() if name != others[-1]]
    cost = [
        f"{name} {spread(values, 2)}"
        for name in ("M3", "Muon")
        if (values := records.values("text", name, "time_of_adamw"))
    ]
    found = f"A step's time beside AdamW's: {', '.join(cost)}. On a small HOPE, bits per byte, M3 is {', '.join(said)}."
    if others[-1] in beside:
        found += f" Beside its own fast momentum alone, M3 is {beside[others[-1]]} it."
    lost = [record.cell.model for record in records.of("toy") if record.measures["arrived"] == 0]
    return found + (f" On the toy loss, never to 1e-6: {', '.join(lost)}." if lost else "")


def _beside(records: Records, name: str) -> list[float]:
    """By how many bits M3 is better than another, for every seed that both have."""
    own, other = (
        {run.cell.seed: run.measures["bits"] for run in records.of("text", model)} for model in ("M3", name)
    )
    return [other[seed] - own[seed] for seed in own if seed in other]


def _compared(less: Sequence[float], way: int) -> str:
    """ "better by … than", "worse by … than", or that no difference was found."""
    if way == 0:
        return f"not found to differ ({mean(less):+.3f} ± {stdev(less):.3f} better) from"
    return f"{'better' if way > 0 else 'worse'} by {abs(mean(less)):.3f} ± {stdev(less):.3f} than"


EXPERIMENT = Experiment(
    name="optimizers",
    question="Does M3 train a small HOPE better than AdamW, Muon and SGD with momentum, and what does its step cost?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
)
