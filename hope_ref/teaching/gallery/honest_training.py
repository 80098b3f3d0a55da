"""Figures of notebook 12: what three seeds show where nothing is to be shown, and a toy training by its words and by its time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.experiments import fitting
from hope_ref.tasks import formal_languages
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, VERMILION, figure
from hope_ref.teaching.gallery.experiments import rows
from hope_ref.training.settings import TrainingSettings

# --- luck -----------------------------------------------------------------------------------------------------------

COMPARISONS, SEEDS = 24, 3


class Luck(NamedTuple):
    """Differences of two models that are one model, a row for each comparison, in units of the spread over seeds."""

    differences: Array  # (comparisons, seeds)
    one_sided: Array  # whether all seeds fall on one side, (comparisons,)
    clear: Array  # whether the mean is, beside that, more than twice the spread, (comparisons,)


def luck_data(comparisons: int = COMPARISONS, seeds: int = SEEDS) -> Luck:
    """Normal numbers around 0: no model is better than another."""
    found = np.random.default_rng(0).normal(size=(comparisons, seeds))
    one_sided = np.abs(np.sign(found).sum(axis=1)) == seeds
    clear = abs(found.mean(axis=1)) > 2 * found.std(axis=1, ddof=1)
    return Luck(found, one_sided, one_sided & clear)


@figure(
    "three_seeds_of_luck",
    alt="Twenty-four rows of three marks, all from one distribution around zero. In seven rows all three "
    "marks lie on one side of the line and are filled; three of these, with a mean of more than twice the "
    "spread, carry a star.",
    caption="Twenty-four comparisons of a model with itself, three seeds each. Filled: all three seeds lie "
    "on one side. Star: in addition, their mean is more than twice their spread. None of the differences is "
    "real.",
)
def three_seeds_of_luck(data: Luck | None = None) -> Figure:
    """One row for each comparison."""
    data = data or luck_data()
    picture, axes = plt.subplots(figsize=(7.4, 4.6))
    for row, values in enumerate(data.differences):
        y, lucky = len(data.differences) - row, bool(data.one_sided[row])
        axes.plot([min(values), max(values)], [y, y], color=BLUE if lucky else "0.8", linewidth=1)
        face = BLUE if lucky else "white"
        axes.plot(
            values,
            [y] * len(values),
            "o",
            markersize=5,
            color=BLUE if lucky else "0.6",
            markerfacecolor=face,
            linestyle="none",
        )
        if data.clear[row]:
            axes.plot(3.2, y, "*", color=VERMILION, markersize=11)
    axes.axvline(0, color=BLACK, linewidth=0.8)
    axes.set_xlim(-3.5, 3.5)
    axes.set_yticks([])
    axes.set_ylabel("24 comparisons")
    axes.set_xlabel("difference of two models, in units of the spread between seeds")
    return picture


# --- the toy training -----------------------------------------------------------------------------------------------

STEPS, LONGEST, BATCH = 80, 8, 32
HOPE, DELTA, DELTA_START, DELTA_TWO, BOTH = (
    "HOPE, C = 1",
    "delta rule",
    "delta rule, start symbol",
    "delta rule, β < 2",
    "delta rule, β < 2, start symbol",
)
MODELS: dict[str, tuple[str, bool]] = {
    HOPE: ("HOPE", False),
    DELTA: ("delta rule", False),
    DELTA_START: ("delta rule", True),
    DELTA_TWO: ("delta rule, β < 2", False),
    BOTH: ("delta rule, β < 2", True),
}  # a name of `fitting.MODELS`, and whether words begin with a symbol of their own
STYLES = {HOPE: (BLUE, "-"), DELTA: (VERMILION, ":"), BOTH: (GREEN, "--")}


class Run(NamedTuple):
    """One training of the toy."""

    losses: Sequence[float]  # nats, step by step
    seconds: float  # of a step
    tokens: float  # right, of words of 9 to 16 symbols
    words: float  # right from the first token to the last


def config() -> HopeConfig:
    """HOPE as the experiments on formal languages have it, half as wide."""
    sizes: dict[str, Any] = {"width": 16, "heads": 2, "vocabulary": 3, "blocks": 1}
    sizes |= {"levels_chunk_sizes": (512,), "convolution_width": 0}
    letter: dict[str, Any] = {
        "input_projection": False,
        "read_skip": True,
        "memory_w1_std": 0.5 / math.sqrt(8),
    }
    letter |= {"step": "normalized", "erase": "deviation", "eta_init": (0.9, 0.1), "architecture": "linear"}
    return HopeConfig(**sizes, **letter, memory_chunk_size=1, projection_chunk_size=1)


def settings(steps: int = STEPS, seed: int = 0) -> TrainingSettings:
    """The recipe: AdamW without decay, one-cycle up to 0.01, gradients cut at 1."""
    return TrainingSettings(steps=steps, batch=BATCH, lr=1e-2, weight_decay=0.0, seed=seed)


def words(count: int, lengths: tuple[int, int], seed: Any, start: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and labels of parity, (B, T); with ``start`` symbol 2 stands in front, which has no label."""
    tokens, labels = formal_languages.draw("parity", count, lengths, seed)
    if start:
        tokens = np.pad(tokens, ((0, 0), (1, 0)), constant_values=2)
        labels = np.pad(labels, ((0, 0), (1, 0)), constant_values=-1)
    return torch.from_numpy(tokens), torch.from_numpy(labels)


def longest(step: int) -> int:
    """The longest word of a step: 4 symbols, then one more every five steps."""
    return min(LONGEST, 4 + step // 5)


@cache
def toy_data(seeds: tuple[int, ...] = (0, 1, 2), steps: int = STEPS) -> dict[str, tuple[Run, ...]]:
    """Every model trained with every seed, and tested on words of 9 to 16 symbols; some seconds each."""
    found: dict[str, list[Run]] = {name: [] for name in MODELS}
    test = (LONGEST + 1, 2 * LONGEST)
    for name, (model_name, start) in MODELS.items():
        for seed in seeds:
            model = fitting.build(model_name, config().replace(seed=seed))

            def loss(step: int, model: Any = model, start: bool = start, seed: int = seed) -> torch.Tensor:
                return fitting.labelled_loss(model, *words(BATCH, (1, longest(step)), (seed, step), start))

            run = fitting.fit(model, loss, settings(steps, seed))
            right = fitting.labelled_accuracy(model, *words(200, test, (1_000_003, 1), start))
            found[name].append(Run(run.losses, run.seconds_per_step, right.tokens, right.sequences))
    return {name: tuple(runs) for name, runs in found.items()}


@figure(
    "toy_parity",
    alt="Left, share of words of 9 to 16 symbols right, a mark per seed: HOPE and the delta rule with β < 2 "
    "and a start symbol near 100, β < 2 alone near 75, others near 0. Right, loss against seconds: the "
    "plain delta rule stays high.",
    caption="Left: the share of words right, one mark per seed. Right: the same trainings against the "
    "clock, losses averaged over 8 steps.",
)
def toy_parity(data: Mapping[str, Sequence[Run]] | None = None) -> Figure:
    """Words right by model, and losses by time."""
    data = toy_data() if data is None else data
    picture, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.8), width_ratios=(1, 1.2))
    rows(left, [(name, [100 * run.words for run in runs]) for name, runs in data.items()])
    left.set_xlim(-4, 104)
    left.set_xlabel("words of 9 to 16 symbols right (%)")
    for name, (color, line) in STYLES.items():
        for run in data.get(name, ()):
            smooth = (
                np.convolve(run.losses, np.full(8, 1 / 8), mode="valid")
                if len(run.losses) >= 8
                else run.losses
            )
            seconds = run.seconds * np.arange(1, len(smooth) + 1)
            right.plot(seconds, smooth, line, color=color, linewidth=1.3)
        right.plot([], [], line, color=color, label=name)
    right.legend(fontsize=8, loc="upper right")
    right.set_ylim(-0.03, 1.1)
    right.set_xlabel("seconds of training, on one thread")
    right.set_ylabel("loss (nats)")
    return picture
