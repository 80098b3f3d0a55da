"""The figures of RESULTS.md: what the committed records of `hope_ref.experiments` hold, every seed a mark. [D]"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hope_ref.experiments import Records, experiment, records
from hope_ref.experiments.ablations import DEFAULT
from hope_ref.experiments.formal_languages import MODELS as FORMAL_MODELS
from hope_ref.experiments.words import FIGURES
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, Drawing, figure
from hope_ref.teaching.layout import spread

FOLDER = Path(__file__).parents[3] / "results" / "experiments"
STYLES = (
    (BLUE, "-", "o"),
    (VERMILION, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, ":", "D"),
    (ORANGE, "-", "v"),
    (SKY, "--", "P"),
    (BLACK, "-.", "X"),
    ("#777777", ":", "*"),
)  # a colour is never alone: line and marker differ, too
MLP_STYLE = (BLACK, "-", "X")


def found(name: str, folder: Path = FOLDER) -> Records:
    """The committed records of an experiment, as far as they were run."""
    return records.load_all(folder, experiment(name).cells("full", range(3)))


def result(name: str) -> Callable[[Callable[..., Figure]], Callable[..., Drawing]]:
    """Register the figure of an experiment, with the words that RESULTS.md has for it."""
    alt, caption = FIGURES[name]
    return figure(f"results_{name}", alt=alt, caption=caption)


def rows(
    axes: Axes, named: Sequence[tuple[str, Sequence[float]]], style: int = 0, shift: float = 0.0
) -> None:
    """One row for each name, the first on top: every seed a mark, their mean a bar."""
    color, _, marker = STYLES[style]
    for place, (_, values) in enumerate(named):
        y = len(named) - 1 - place + shift
        axes.plot(
            values, [y] * len(values), marker, color=color, markersize=4.5, alpha=0.75, linestyle="none"
        )
        if values:
            axes.plot([mean(values)] * 2, [y - 0.16, y + 0.16], color=color)
    axes.set_yticks(range(len(named)), [name for name, _ in reversed(named)])
    axes.set_ylim(-0.6, len(named) - 0.4)


def labelled_lines(
    axes: Axes, lines: Sequence[tuple[str, Sequence[float], Sequence[float]]], gap: float
) -> None:
    """Lines with their names at the right end, moved apart by at least ``gap`` of the axis' height."""
    ends: list[tuple[float, str, str]] = []
    for (name, x, y), (color, line, marker) in zip(lines, STYLES, strict=False):
        axes.plot(x, y, line, marker=marker, color=color, markersize=4.5, linewidth=1.7)
        ends.append((float(y[-1]), name, color))
    low, high = axes.get_ylim()
    ends.sort()
    heights = spread([end for end, _, _ in ends], gap * (high - low), -np.inf, high)
    for (_, name, color), height in zip(ends, heights, strict=True):
        axes.annotate(
            name,
            (1.02, (height - low) / (high - low)),
            xycoords="axes fraction",
            color=color,
            fontsize=8.5,
            va="center",
            annotation_clip=False,
        )


def differences(data: Records, name: str) -> list[float]:
    """Bits per byte above the default's, seed by seed."""
    own = {record.cell.seed: record.measures["bits_per_byte"] for record in data.of(None, DEFAULT)}
    return [
        record.measures["bits_per_byte"] - own[record.cell.seed]
        for record in data.of(None, name)
        if record.cell.seed in own and record.measures["bits_per_byte"] is not None
    ]


def empty(axes: Axes) -> None:
    """Say that there is nothing to draw yet."""
    axes.text(0.5, 0.5, "not run yet", ha="center", va="center", transform=axes.transAxes)


@result("recall")
def results_recall(data: Records | None = None) -> Figure:
    """Queries right against pairs, the mean of the seeds."""
    data = found("recall") if data is None else data
    picture, axes = plt.subplots(figsize=(7.2, 4.2))
    task = "up to 16 pairs"
    models = data.models(task)
    if not models:
        empty(axes)
        return picture
    pairs = sorted(int(key) for key in data.of(task)[0].measures if key.isdigit())
    lines = [
        (name, pairs, [100 * mean(data.values(task, name, f"{n}.queries")) for n in pairs]) for name in models
    ]
    axes.set_xscale("log", base=2)
    axes.set_xticks(pairs, [str(n) for n in pairs])
    axes.set_ylim(0, 103)
    labelled_lines(axes, lines, 0.055)
    axes.axvline(16, color=BLACK, linewidth=0.8, linestyle=":")
    axes.annotate("trained up to here", (16, 2), (-4, 0), textcoords="offset points", ha="right", fontsize=8)
    axes.set_xlabel("pairs in a sequence")
    axes.set_ylabel("queries right (%)")
    return picture


@result("text")
def results_text(data: Records | None = None) -> Figure:
    """Worth by model, and by place."""
    data = found("text") if data is None else data
    picture, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.2), width_ratios=(1, 1.3))
    if not len(data):
        empty(left)
        empty(right)
        return picture
    names = data.models("equal steps")
    for style, task in enumerate(("equal steps", "equal time")):
        rows(
            left,
            [(name, data.values(task, name, "bits_per_byte")) for name in names],
            style,
            (0.12, -0.22)[style],
        )
        left.plot([], [], STYLES[style][2], color=STYLES[style][0], label=task)
    left.legend(fontsize=8)
    left.set_xlabel("bits per byte, unseen text")
    places = list(data.all[0].measures["places"])
    middles = [sum(map(int, place.split("-"))) / 2 for place in places]
    lines = [
        (name, middles, [mean(data.values("equal steps", name, f"places.{place}")) for place in places])
        for name in names
    ]
    right.set_xscale("log", base=2)
    ticks = [32, 128, 512]
    right.set_xticks(ticks, list(map(str, ticks)))
    values = [value for _, _, line in lines for value in line]
    right.set_ylim(min(values) - 0.1, max(values) + 0.1)
    labelled_lines(right, lines, 0.06)
    right.axvline(128, color=BLACK, linewidth=0.8, linestyle=":")
    right.set_xlabel("place in the window (bytes)")
    right.set_ylabel("bits per byte")
    return picture


@result("formal_languages")
def results_formal_languages(data: Records | None = None) -> Figure:
    """Sequences right, model by language and bin."""
    data = found("formal_languages") if data is None else data
    tasks = [name for name in ("parity", "(aa)*", "(abab)*", "a^n b^n", "a^n b^n c^n", "shuffle-2")]
    models = [name for name in FORMAL_MODELS if name in data.models()]
    picture, axes = plt.subplots(figsize=(10, 0.42 * max(len(models), 3) + 1.4))
    if not models:
        empty(axes)
        return picture
    columns = [(task, split) for task in tasks for split in ("bin0", "bin1")]
    table = np.full((len(models), len(columns)), np.nan)
    for i, model in enumerate(models):
        for j, (task, split) in enumerate(columns):
            values = data.values(task, model, f"{split}.sequences")
            if values:
                table[i, j] = 100 * mean(values)
                shown = f"{table[i, j]:.0f}" if table[i, j] < 99.95 else "100"
                shown = f"{table[i, j]:.1f}" if 99 < table[i, j] < 99.95 else shown
                axes.text(
                    j,
                    i,
                    shown,
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if table[i, j] > 55 else "black",
                )
    axes.imshow(table, cmap="Blues", vmin=0, vmax=115, aspect="auto")
    axes.set_yticks(range(len(models)), models, fontsize=8.5)
    axes.set_xticks(
        range(len(columns)),
        [
            f"{task.replace('^n', 'ⁿ').replace(' ', '')}\n{'≤ 40' if split == 'bin0' else '41–80'}"
            for task, split in columns
        ],
        fontsize=8,
    )
    axes.grid(False)
    return picture


@result("ablations")
def results_ablations(data: Records | None = None) -> Figure:
    """Difference to the default, seed by seed."""
    data = found("ablations") if data is None else data
    named = [(name, [1000 * d for d in differences(data, name)]) for name in data.models() if name != DEFAULT]
    picture, axes = plt.subplots(figsize=(8.5, 0.36 * max(len(named), 3) + 1.2))
    if not named:
        empty(axes)
        return picture
    rows(axes, named)
    axes.axvline(0, color=BLACK, linewidth=0.8)
    axes.set_xlabel("bits per byte above the default's (thousandths)")
    return picture


@result("chunk_size")
def results_chunk_size(data: Records | None = None) -> Figure:
    """Quality and time by size."""
    data = found("chunk_size") if data is None else data
    picture, panels = plt.subplots(1, 2, figsize=(9, 3.6))
    names = sorted(data.models(), key=_size)
    for axes, (measure, label), style in zip(panels, CHUNK_MEASURES, STYLES, strict=False):
        axes.set_ylabel(label)
        axes.set_xlabel("tokens in a chunk")
        points: list[tuple[int, list[float]]] = [
            (_size(name), data.values(data.tasks()[0], name, measure)) for name in names
        ]
        points = [(size, values) for size, values in points if values]
        if not points:
            empty(axes)
            continue
        color, line, marker = style
        for size, values in points:
            axes.plot([size] * len(values), values, marker, color=color, alpha=0.6, markersize=4.5)
        axes.plot([size for size, _ in points], [mean(values) for _, values in points], line, color=color)
        axes.set_xscale("log", base=2)
        axes.set_xticks([size for size, _ in points], [str(size) for size, _ in points])
    return picture


CHUNK_MEASURES = (("bits_per_byte", "bits per byte"), ("time_beside_default", "time of a step, C = 16 is 1"))


def _size(name: str) -> int:
    return int("".join(filter(str.isdigit, name)))
