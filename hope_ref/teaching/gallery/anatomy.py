"""Figures of the three questions: the spectrum of update frequencies, and what a chunk of the self-modifying Titans costs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.laboratory.anatomy import Row, anatomy
from hope_ref.symbolic import counts
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, VERMILION, figure

WIDTH, LENGTH = 64, 8192  # of the models, and the tokens that attention has seen
RECOMPUTED, NEVER = (
    -1.25,
    5.1,
)  # where ∞ and 0 stand: the axis shows -log₁₀ of the frequency, and breaks before them
BREAKS = (-0.55, 4.5)
LANES = {"Transformer": 2.0, "Titans": 1.0, "HOPE": 0.0}
COLOURS = {"Transformer": VERMILION, "Titans": GREEN, "HOPE": BLUE}
AREA = 2000 / 2**20  # square points for one number of state


class Spectrum(NamedTuple):
    """What figure ``spectrum`` shows: the components of three models, one block and one head each."""

    rows: dict[str, tuple[Row, ...]]


def spectrum_data(width: int = WIDTH, length: int = LENGTH) -> Spectrum:
    """One block of each at the same width; projections, norms and embedding are one thing: what stays frozen."""
    sizes: dict[str, Any] = {"width": width, "blocks": 1, "vocabulary": 256}
    found = {
        "Transformer": anatomy("transformer", length=length, **sizes),
        "Titans": anatomy("titans", width=width, hidden=width),
        "HOPE": anatomy("hope", **sizes),
    }
    return Spectrum({name: found[name] for name in LANES})


class Mark(NamedTuple):
    """What stands at one place of one lane: components that change equally often, taken together."""

    words: str
    frequency: float
    state: int


def marks(model: str, rows: tuple[Row, ...]) -> list[Mark]:
    """One mark for each frequency of a model."""
    words = {
        ("Transformer", math.inf): "attention",
        ("Transformer", 0): "MLP, projections",
        ("Titans", 1): "memory and\nits momentum",
        ("HOPE", math.inf): "convolutions",
        ("HOPE", 1): "memory",
        ("HOPE", 1 / 16): "makers of\nk, v, η, α",
        ("HOPE", 0): "projections",
    }
    found = []
    for frequency in dict.fromkeys(row.frequency for row in rows):
        same = [row for row in rows if row.frequency == frequency]
        name = words.get((model, frequency), same[0].name.partition(",")[0])
        found.append(Mark(name, frequency, sum(row.state for row in same)))
    return found


def place(frequency: float) -> float:
    """Where a frequency stands on the axis."""
    if frequency == 0:
        return NEVER
    return RECOMPUTED if math.isinf(frequency) else -math.log10(frequency)


@figure(
    "spectrum",
    alt="Discs over updates per token, fast on the left, by numbers carried: Transformer, 1,048,576 at one "
    "end and none at the other; Titans, 24,576 at 1. HOPE spans the axis: 576, 16,384, 65,536, three levels "
    "of 167,936 each, and none at 0.",
    caption="How often what a token reads changes, and how much is carried for it (area of a disc; open: no "
    "state), for one block of width 64: a Transformer has the two ends, HOPE the spectrum between them.",
)
def spectrum(data: Spectrum | None = None) -> Figure:
    """Marks in three lanes, the ends of the axis broken off."""
    data = data or spectrum_data()
    picture, axes = plt.subplots(figsize=(8.6, 4.5))
    for model, rows in data.rows.items():
        height, colour = LANES[model], COLOURS[model]
        axes.plot([RECOMPUTED, NEVER], [height] * 2, color="0.85", linewidth=1.2, zorder=1)
        axes.text(RECOMPUTED - 0.62, height, model, ha="right", va="center", color=colour, fontweight="bold")
        for mark in marks(model, rows):
            x = place(mark.frequency)
            face, area = (colour, max(mark.state * AREA, 5)) if mark.state else ("white", 45)
            axes.scatter(x, height, s=area, color=face, edgecolors=colour, linewidths=1.6, zorder=3)
            away = max(0.27, 0.09 + math.sqrt(area) / 124)  # clear of the disc
            axes.text(x, height + away, mark.words, ha="center", va="bottom", fontsize=9.5, color=BLACK)
            said = f"{mark.state:,}" if mark.state else "no state"
            axes.text(x, height - away, said, ha="center", va="top", fontsize=9, color="0.35")
    axes.text(
        RECOMPUTED + 0.5,
        LANES["Transformer"] + 0.08,
        "grows with every token",
        fontsize=9.5,
        style="italic",
        color="0.35",
    )
    axes.text(
        NEVER + 0.5,
        2.95,
        "area of a disc: numbers carried along",
        ha="right",
        fontsize=9.5,
        style="italic",
        color="0.35",
    )
    levels = [place(1 / size) for size in HopeConfig().levels_chunk_sizes]
    left, right, top = levels[0] - 0.25, levels[-1] + 0.25, LANES["HOPE"] + 0.52
    axes.plot([left, left, right, right], [top - 0.05, top, top, top - 0.05], color="0.35", linewidth=1)
    axes.text((left + right) / 2, top + 0.04, "continuum memory", ha="center", va="bottom", fontsize=9.5)
    _broken_axis(axes, data)
    return picture


def _broken_axis(axes: Any, data: Spectrum) -> None:
    frequencies = sorted({row.frequency for rows in data.rows.values() for row in rows}, reverse=True)
    labels = {math.inf: "∞\nanew at\nevery read", 1.0: "1\nevery\ntoken", 0.0: "0\nonly in\npre-training"}
    axes.set_xticks([place(f) for f in frequencies])
    axes.set_xticklabels(
        [labels.get(f, f"1/{round(1 / f):,}" if f else "") for f in frequencies], fontsize=9.5
    )
    axes.set(
        xlim=(-1.75, 5.6),
        ylim=(-0.62, 3.05),
        yticks=[],
        xlabel="updates per token (log scale between the breaks)",
    )
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color="0.9")
    for x in BREAKS:
        axes.plot(
            [x],
            [-0.62],
            marker=(2, 0, -25),
            color="white",
            markersize=16,
            markeredgewidth=7,
            clip_on=False,
            zorder=4,
        )
        for side in (-0.05, 0.05):
            axes.plot(
                [x + side], [-0.62], marker=(2, 0, -25), color="black", markersize=12, clip_on=False, zorder=5
            )


class ChunkCosts(NamedTuple):
    """What figure ``chunk_costs`` shows, in FLOPs per token of one head, d = h."""

    sizes: Array  # C
    chunk: Array  # the exact chunk form
    token: float  # the token loop, as the equations read
    once: float  # the token loop, no product made twice
    crossing: float  # where the chunk form costs as much as the token loop
    width: int


def chunk_costs_data(width: int = WIDTH) -> ChunkCosts:
    """The counts of the default configuration, evaluated."""
    config = HopeConfig()
    parts = counts.token_flops(config)
    token = counts.number(counts.total(parts), d=width, h=width)
    once = token - counts.number(parts["repeated"], d=width, h=width)
    chunk = counts.total(counts.chunk_flops(config))
    sizes = np.array([2**power for power in range(1, 9)])
    where = counts.crossover(config)
    assert where is not None
    crossing = float(where.subs({counts.D: width, counts.HIDDEN: width}))
    per_token = np.array([counts.number(chunk, C=int(size), d=width, h=width) / size for size in sizes])
    return ChunkCosts(sizes, per_token, token, once, crossing, width)


@figure(
    "chunk_costs",
    alt="Thousand FLOPs per token of one head 64 wide against chunk size, 2 to 256: the token loop is a "
    "line at 582, or at 459 if nothing is computed twice. The chunk form starts at 471, crosses the upper "
    "line at C = 64, about d, and reaches 950.",
    caption="Up to C ≈ d the chunk form multiplies less than the token loop as the equations read, but "
    "never less than a token loop that computes no product twice: chunks save not arithmetic but waiting, "
    "T/C steps instead of T.",
)
def chunk_costs(data: ChunkCosts | None = None) -> Figure:
    """One curve and two levels, with their crossings."""
    data = data or chunk_costs_data()
    picture, axes = plt.subplots(figsize=(7.4, 3.9))
    thousand = 1e-3
    axes.plot(data.sizes, data.chunk * thousand, color=BLUE, marker="o")
    last = data.sizes[-1] * 1.12
    axes.text(last, data.chunk[-1] * thousand, "in chunks", color=BLUE, va="center")
    named = ((data.token, "token by token", "--"), (data.once, "the same, nothing\nmade twice", ":"))
    for level, words, style in named:
        axes.axhline(level * thousand, xmax=0.8, color=VERMILION, linestyle=style)
        axes.text(last, level * thousand, words, color=VERMILION, va="center")
    axes.plot(data.crossing, data.token * thousand, marker="D", color=BLACK, markersize=7, zorder=4)
    axes.annotate(
        f"C = {data.crossing:.0f} ≈ d",
        (data.crossing, data.token * thousand),
        xytext=(-8, 9),
        textcoords="offset points",
        ha="right",
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(data.sizes, [str(size) for size in data.sizes])
    axes.set(
        xlabel="chunk size C (tokens)",
        ylabel="thousand FLOPs per token",
        xlim=(1.8, 256 * 3.3),
        ylim=(0, 1020),
    )
    axes.set_title(f"One head, d = h = {data.width}: what a token costs")
    return picture
