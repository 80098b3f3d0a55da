"""Associative recall: how many pairs does a memory of HOPE's kind hold, beside others, and which of its parts does that? [D]

Two trainings of the same small model. In the first, sequences have up to 16 pairs, and all models are compared on 4 to
32 pairs. The second is cut short, with up to 8 pairs, where a change to HOPE's recipe shows most: one change at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

import torch

from hope_ref.config import HopeConfig
from hope_ref.experiments import fitting
from hope_ref.experiments.cells import Cell, Experiment, Measures, Records, Table, spread
from hope_ref.experiments.findings import NONE, findings
from hope_ref.tasks import recall
from hope_ref.training.settings import TrainingSettings

MANY, FEW = "up to 16 pairs", "up to 8 pairs"  # the tasks
TEST_SEED = 1_000_003  # no training has it
LAST = 20  # steps whose mean loss is called the final one

# Rows of the first table: a name of `fitting.MODELS`, and what differs from `HopeConfig`'s defaults.
COMPARED: dict[str, tuple[str, dict[str, Any]]] = {
    "HOPE": ("HOPE", {}),
    "HOPE, erases all": ("HOPE", {"erase": "full"}),
    "HOPE, linear memories": ("HOPE", {"architecture": "linear"}),
    **{
        name: (name, {})
        for name in ("gated delta rule", "delta rule", "linear attention", "softmax attention", "Titans")
    },
}

# Rows of the second: one change to the default each.
DEFAULT = "default"
CHANGES: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "only `memory` writes": {"writing": ["memory"]},
    "one target for all, v": {"target": "shared"},
    "targets without gradient": {"target_gradient": "stop"},
    "no input projection": {"input_projection": False},
    "no surprise bound": {"surprise_bound": 0.0},
    "values of any length": {"value_norm": False},
    "neither bound nor unit values": {"surprise_bound": 0.0, "value_norm": False},
    "erases all": {"erase": "full"},
    "normalized step": {"step": "normalized"},
    "normalized step, erases all": {"step": "normalized", "erase": "full"},
    "erases nothing": {"erase": "none"},
    "forgetting in all memories": {"retention_scope": "all"},
    "dot-product objective": {"objective": "dot"},
    "memory starts filled, read with skip": {"read_skip": True, "memory_w1_std": 0.5},  # of 1/sqrt(h)
    "no convolution": {"convolution_width": 0},
}


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """All models on up to 16 pairs, the default first; then the changes, on up to 8."""
    quick = scale == "quick"
    sizes: dict[str, Any] = {"width": 64, "heads": 2, "levels_chunk_sizes": [512]}
    shared: dict[str, Any] = {
        "symbols": recall.SYMBOLS,
        "blocks": 2,
        "training": {"batch": 64, "lr": 3e-3, "betas": [0.9, 0.98], "weight_decay": 0.01},
        "test_sequences": 500,
    }
    many, few = {"most": 16, "test_pairs": [4, 8, 16, 32]}, {"most": 8, "test_pairs": [8, 16]}
    steps = {MANY: 400, FEW: 250}
    compared, changes = list(COMPARED), list(CHANGES)
    if quick:
        sizes |= {"width": 8, "memory_chunk_size": 4, "projection_chunk_size": 4}
        shared |= {"symbols": 8, "test_sequences": 6}
        shared["training"] = {**shared["training"], "batch": 4}
        many, few = {"most": 4, "test_pairs": [2, 4]}, {"most": 2, "test_pairs": [2, 4]}
        steps = {MANY: 3, FEW: 2}
        compared, changes = ["HOPE", "gated delta rule"], ["default", "only `memory` writes"]
    found: list[Cell] = []

    def add(task: str, name: str, model: str, different: dict[str, Any], own: dict[str, Any]) -> None:
        options = {**sizes, **different}
        if options.get("memory_w1_std"):
            hidden = HopeConfig.from_dict(options).hidden_width
            options["memory_w1_std"] = options["memory_w1_std"] / math.sqrt(hidden)
        config = fitting.memory_options(HopeConfig.from_dict(options))
        training = TrainingSettings.from_dict({**shared["training"], "steps": steps[task]})
        kept = ("steps", "batch", "lr", "betas", "weight_decay", "warmup", "schedule", "clip")
        recipe = json.loads(json.dumps({key: training.to_dict()[key] for key in kept}))
        settings = {**shared, **own, "training": recipe, "model": model, "config": config}
        found.extend(Cell("recall", task, name, seed, settings) for seed in seeds)

    for name in compared:
        model, different = COMPARED[name]
        add(MANY, name, model, different, many)
    for name in changes:
        add(FEW, name, "HOPE", CHANGES[name], few)
    return found


def measure(cell: Cell) -> Measures:
    """Train once; the share of queries, and of sequences with all queries, that are right: {"8": {"queries": …}, …}."""
    settings = dict(cell.settings)
    symbols = settings["symbols"]
    training = TrainingSettings.from_dict({**settings["training"], "seed": cell.seed})
    own = {"vocabulary": symbols, "blocks": settings["blocks"], "seed": cell.seed}
    model = fitting.build(settings["model"], HopeConfig.from_dict({**settings["config"], **own}))

    def loss(step: int) -> torch.Tensor:
        drawn = recall.training_batch(
            step, training.steps, settings["most"], training.batch, cell.seed, symbols
        )
        return fitting.labelled_loss(model, torch.from_numpy(drawn.tokens), torch.from_numpy(drawn.labels))

    fit = fitting.fit(model, loss, training)
    found: Measures = {
        "steps": fit.steps,
        "training_seconds": fit.seconds,
        "seconds_per_step": fit.seconds_per_step,
        "parameters": fitting.parameters(model),
        "width": model.config.width,
        "final_loss": mean(fit.losses[-LAST:]) if fit.losses else None,
    }
    for pairs in settings["test_pairs"]:
        test = recall.draw(settings["test_sequences"], pairs, (TEST_SEED, pairs), symbols)
        tokens, labels = torch.from_numpy(test.tokens), torch.from_numpy(test.labels)
        right = fitting.labelled_accuracy(model, tokens, labels)
        found[str(pairs)] = {"queries": right.tokens, "sequences": right.sequences}
    return found


# --- what the records say ---------------------------------------------------------------------------------------------


def differences(records: Records, task: str, model: str, other: str, measure: str) -> list[float]:
    """``model`` minus ``other``, in points of 100, seed by seed: both had the same batches."""
    found = []
    for record in records.of(task, model):
        same = [r for r in records.of(task, other) if r.cell.seed == record.cell.seed]
        pair = [Records([r]).values(task, r.cell.model, measure) for r in (record, *same)]
        if len(pair) == 2 and all(pair):
            found.append(100 * (pair[0][0] - pair[1][0]))
    return found


LEAST = 1.0  # point of 100: less is no finding, however sure it is


def beside_hope(records: Records) -> dict[tuple[str, str], list[float]]:
    """All that the first table's sentence judges: other models minus HOPE, by number of pairs and model."""
    return {
        (pairs, name): differences(records, MANY, name, "HOPE", f"{pairs}.queries")
        for pairs in ("32", "16")
        for name, (model, _) in COMPARED.items()
        if model != "HOPE" and records.values(MANY, name, f"{pairs}.queries")
    }


def beside_default(records: Records) -> dict[tuple[str, str], list[float]]:
    """All differences of the second table, by number of pairs and change."""
    return {
        (pairs, name): differences(records, FEW, name, DEFAULT, f"{pairs}.queries")
        for pairs in ("8", "16")
        for name in CHANGES
        if name != DEFAULT
    }


def _signed(found: Sequence[float]) -> str:
    text = spread(found)
    return f"+{text}" if found and mean(found) > 0 else text.replace("-", "−")


def _stopped(records: Records, task: str, model: str) -> str:
    """A mark for each training that was cut off by a loss or gradient that was not finite."""
    short = [
        str(r.measures["steps"])
        for r in records.of(task, model)
        if r.measures["steps"] < r.cell.settings["training"]["steps"]
    ]
    return f" († {', '.join(short)})" if short else ""


def _recipe(records: Records, task: str) -> str:
    """Steps and batch of a task's records."""
    of_task = [record.cell.settings for record in records.of(task)]
    if not of_task:
        return "Not run yet. "
    training = of_task[0]["training"]
    return (
        f"{training['steps']} steps of {training['batch']} sequences with up to {of_task[0]['most']} pairs, the number "
        "growing over the first half; AdamW, one-cycle up to "
        f"{training['lr']:g}, clipped at {training['clip']:g}; {of_task[0]['test_sequences']} test sequences, "
        "the same for all. "
    )


def tables(records: Records) -> list[Table]:
    """All models by number of pairs; every change beside the default."""
    return [_compared(records), _changed(records)]


def _compared(records: Records) -> Table:
    tested, rows = ("4", "8", "16", "32"), []
    for name in COMPARED:
        accuracies = [records.text(MANY, name, f"{pairs}.queries", scale=100) for pairs in tested]
        whole = records.text(MANY, name, "16.sequences", scale=100)
        count, width = (records.values(MANY, name, measure)[:1] for measure in ("parameters", "width"))
        seconds = records.text(MANY, name, "seconds_per_step", digits=2)
        size = f"{count[0]:,.0f} ({width[0]:.0f})" if count and width else "–"
        rows.append((name + _stopped(records, MANY, name), *accuracies, whole, size, seconds))
    for label, field in (("chance: any value", 0), ("chance: a value of the sequence", 1)):
        levels = [f"{100 * recall.chance(int(pairs))[field]:.1f}" for pairs in tested]
        rows.append((label, *levels, "–", "–", "–"))
    note = _recipe(records, MANY) + (
        "% of queries right; 32 pairs are twice what was trained. Equal: steps, batches, learning rate, blocks, "
        "parameters (baselines are wider; width in brackets). Not equal: the recipe was found for HOPE, and time: "
        "seconds per step were taken beside other work and are rough. Softmax attention has rotary positions and no "
        "convolution, all others have one. † steps taken before loss or gradient was not finite."
    )
    header = ("model", *(f"{pairs} pairs" for pairs in tested))
    header += ("16 pairs, whole sequences", "parameters (width)", "s per step")
    return Table("Recall, by number of pairs", header, tuple(rows), note)


def _changed(records: Records) -> Table:
    rows, beside = [], beside_default(records)
    judged = findings(beside, LEAST)
    for name in CHANGES:
        row = [name + _stopped(records, FEW, name)]
        for pairs in ("8", "16"):
            measure = f"{pairs}.queries"
            row.append(records.text(FEW, name, measure, scale=100))
            mark = "**" if judged.get((pairs, name)) else ""
            row.append("" if name == DEFAULT else f"{mark}{_signed(beside[pairs, name])}{mark}")
        rows.append((*row, records.text(FEW, name, "seconds_per_step", digits=2)))
    note = _recipe(records, FEW) + (
        "One change to the default at a time, in a training cut short while it still climbs: what slows learning shows here, "
        "what a longer training would reach does not. Differences in points, seed by seed, with their spread; "
        f"**bold**: better or worse, of {2 * (len(CHANGES) - 1)} comparisons, by a point or more. † steps taken before loss or gradient was not finite."
    )
    header = ("HOPE", "8 pairs", "difference", "16 pairs", "difference", "s per step")
    return Table("Recall, one change at a time", header, tuple(rows), note)


def sentence(records: Records) -> str:
    """Who is ahead of HOPE, what HOPE reaches, which changes cost most."""
    own = records.values(MANY, "HOPE", "16.queries")
    if not own:
        return "not run yet"
    said, beside = [], beside_hope(records)
    judged = findings(beside, LEAST)
    for pairs in ("32", "16"):
        measure = f"{pairs}.queries"
        if not any(of == pairs for of, _ in beside):
            continue
        ahead, behind = (
            [name for (of, name), found in judged.items() if of == pairs and found == way] for way in (1, -1)
        )
        level = records.text(MANY, "HOPE", measure, scale=100)
        where = f"with {pairs} pairs, {'twice what was trained' if pairs == '32' else 'the most that was trained'},"
        said.append(
            f"{where} HOPE recalls {level} %: ahead of it {_are(ahead, records, measure)}, behind it "
            f"{_are(behind, records, measure)}"
        )
    if not said:
        said.append(
            f"with 16 pairs HOPE recalls {spread([100 * value for value in own])} %; no baseline was run yet"
        )
    text = "; ".join(said)
    return text[0].upper() + text[1:] + "." + _not_learnt(records) + _costs(records)


def _are(names: Sequence[str], records: Records, measure: str) -> str:
    if not names:
        return "is none"
    listed = [f"{name} ({records.text(MANY, name, measure, scale=100)})" for name in names]
    return f"{'are' if len(listed) > 1 else 'is'} {', '.join(listed)}"


def _not_learnt(records: Records) -> str:
    """Models with a seed that stays below 90 % at 8 pairs, half of what was trained."""
    parts = []
    for name in COMPARED:
        values = records.values(MANY, name, "8.queries")
        below = sum(value < 0.9 for value in values)
        if below:
            parts.append(f"{name} in {below} of {len(values)} seeds")
    return f" Below 90 % even with 8 pairs: {', '.join(parts)}." if parts else ""


def _costs(records: Records) -> str:
    """The changes that make a difference at 8 pairs, worst first, and how many of the others there are."""
    beside = beside_default(records)
    judged = findings(beside, LEAST)  # of the table, so with those at 16 pairs
    found = {name: points for (pairs, name), points in beside.items() if pairs == "8" and points}
    if not found:
        return ""
    names = sorted((name for name in found if judged.get(("8", name))), key=lambda name: mean(found[name]))
    if not names:
        return f" Cut short, with 8 pairs, {NONE} for any of {len(found)} changes to the recipe."
    listed = ", ".join(f"{name} ({_signed(found[name])})" for name in names)
    rest = f"{NONE} for the other {len(found) - len(names)} of {len(found)} changes"
    return f" Cut short, with 8 pairs, what changes recall: {listed} points; {rest}."


EXPERIMENT = Experiment(
    name="recall",
    question="How many pairs of key and value does each memory recall, and which parts of HOPE's recipe does that need?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
)
