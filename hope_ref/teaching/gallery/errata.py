"""Figures of appendix A1: how large the slips are and what they do, and four prints run as they stand."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.symbolic.errata import ERRATA
from hope_ref.teaching.figures import BLUE, GREEN, ORANGE, VERMILION, figure

# What happens to somebody who implements the print. The first three are bugs, the last is another number.
CONSEQUENCES = {
    "the wrong way": (1, 3, 14, 15, 16, 25, 27),
    "blows up": (6, 23),
    "not the model": (7, 12, 17),
    "another number": (2, 5, 8, 24, 28, 29, 33, 36, 53),
}
STYLES = {  # colour, hatch
    "the wrong way": (VERMILION, ""),
    "blows up": (ORANGE, "//"),
    "not the model": (BLUE, "xx"),
    "another number": (GREEN, ".."),
}
WORDS = {
    1: "sign of u under the arg min",
    2: "stationarity of the step",
    3: "appendix: +∇, λ for λ²",
    5: "η′ for unit inputs only",
    6: "short version: erase without η",
    7: "0 between two updates",
    8: "C + 1 terms in a chunk",
    12: "state at the chunk's end",
    14: "sign of momentum's objective",
    15: "sign of the score",
    16: "dot product subtracts",
    17: "factor on the left",
    23: "delta momentum: erase without η",
    24: "Newton–Schulz with (O − g)",
    25: "W − η m* with g = −∇",
    27: "M3: minus, f + 1 terms",
    28: "6 and 43 gradients",
    29: "the 2 of ‖·‖²",
    33: "two averages of a table",
    36: "regression: inverse on the left",
    53: "Adam's rate times β₂",
}


class Slip(NamedTuple):
    """One wrong print: its row, its relative size, and what it does."""

    row: int
    size: float
    consequence: str


@lru_cache(maxsize=1)
def slip_sizes_data() -> tuple[Slip, ...]:
    """Every row that is wrong, the largest slip first."""
    does = {row: consequence for consequence, rows in CONSEQUENCES.items() for row in rows}
    sizes = {e.row: e.size() for e in ERRATA if e.kind == "wrong"}
    found = [Slip(row, size, does[row]) for row, size in sizes.items() if size is not None]
    return tuple(sorted(found, key=lambda slip: -slip.size))


@figure(
    "slip_sizes",
    alt="Twenty-one wrong prints as bars, by relative size on a log axis from 3 to 279 percent, marked by "
    "what they do. Signs that go the wrong way lie between 36 and 279; the two that blow up are at 9 and 41; "
    "other numbers lie anywhere from 3 to 120.",
    caption="How far off each print is at a random point (rows 12, 28 and 33: as they stand), and what it does to an "
    "implementation. Size and harm have little to do with each other.",
)
def slip_sizes(slips: tuple[Slip, ...] | None = None) -> Figure:
    """One bar a row."""
    slips = slips or slip_sizes_data()
    picture, axes = plt.subplots(figsize=(8.2, 5.6))
    for height, slip in enumerate(reversed(slips)):
        colour, hatch = STYLES[slip.consequence]
        axes.barh(height, 100 * slip.size, color=colour, hatch=hatch, edgecolor="white", height=0.7)
        axes.text(100 * slip.size * 1.06, height, f"{100 * slip.size:.0f} %", va="center", fontsize=9)
    axes.set(xscale="log", xlim=(1, 1000), ylim=(-0.6, len(slips) - 0.3), yticks=range(len(slips)))
    axes.set_yticklabels([f"{WORDS[slip.row]}  {slip.row}" for slip in reversed(slips)], fontsize=9.5)
    axes.set_xticks([1, 10, 100, 1000], ["1 %", "10 %", "100 %", "1000 %"])
    axes.set_xlabel("relative size of the slip (log scale)")
    axes.grid(axis="y", visible=False)
    handles = [
        plt.Rectangle((0, 0), 1, 1, facecolor=colour, hatch=hatch, edgecolor="white")
        for colour, hatch in STYLES.values()
    ]
    axes.legend(handles, STYLES, loc="lower right", fontsize=10, bbox_to_anchor=(1.0, 0.02))
    return picture


class Run(NamedTuple):
    """One print and its correction, run side by side; one number after each step, the start first."""

    row: int
    printed: Array
    corrected: Array
    shows: str


def as_printed_data(steps: int = 12) -> tuple[Run, ...]:
    """Rows 1, 6, 23 and 7, each by the loop that somebody would write who trusts the page."""
    rng = np.random.default_rng(0)
    return (
        _sign(rng, steps),
        _short_version(rng, steps),
        _delta_momentum(rng, steps),
        _otherwise(rng, steps),
    )


def _sign(rng: np.random.Generator, steps: int) -> Run:
    """W ← W ± η ∇_y L xᵀ on ½‖W x - y‖² with u = -∇_y L: [S 16] is minimised by W - η u xᵀ."""
    x, y = np.array([0.6, 0.8]), rng.normal(size=2)
    runs = []
    for sign in (-1, 1):
        w, losses = np.zeros((2, 2)), []
        for _ in range(steps + 1):
            u = y - w @ x
            losses.append(0.5 * u @ u)
            w = w + sign * 0.2 * np.outer(u, x)
        runs.append(np.array(losses))
    return Run(1, runs[0], runs[1], "loss")


def _short_version(rng: np.random.Generator, steps: int) -> Run:
    """[P20 28-29] and [P 57] on one repeated input with ‖x‖² = 3, nothing to write: what is left of W x."""
    x, start = np.sqrt([1.0, 2.0]), rng.normal(size=(2, 2))
    runs = []
    for step in (1.0, 0.5 / (1 + 0.5 * 3)):
        w, left = start, []
        for _ in range(steps + 1):
            left.append(np.linalg.norm(w @ x))
            w = w - step * np.outer(w @ x, x)
        runs.append(np.array(left) / left[0])
    return Run(6, runs[0], runs[1], "‖W x‖, relative")


def _delta_momentum(rng: np.random.Generator, steps: int) -> Run:
    """[P 49] under one repeated gradient with ‖g‖² = 3, P = 1, μ = 0.9, η = 0.2: the size of m."""
    g = np.sqrt([[1.0, 2.0]])
    runs = []
    for erase in (1.0, 0.2):
        m, size = -0.2 * g, []
        for _ in range(steps + 1):
            size.append(float(np.linalg.norm(m)))
            m = 0.9 * m - erase * (m @ g.T) @ g - 0.2 * g
        runs.append(np.array(size))
    return Run(23, runs[0], runs[1], "‖m‖")


def _otherwise(rng: np.random.Generator, steps: int) -> Run:
    """[S 15] for a level with C = 4, one number θ that is to follow a target of 1: θ after each token."""
    runs = []
    for keeps in (False, True):
        theta, asked, seen = 0.2, 0.0, [0.2]
        for token in range(1, steps + 1):
            asked += 0.15 * (1 - theta)
            theta = theta + asked if token % 4 == 0 else theta * keeps
            asked = 0.0 if token % 4 == 0 else asked
            seen.append(theta)
        runs.append(np.array(seen))
    return Run(7, runs[0], runs[1], "θ")


TITLES = {
    1: "row 1: the sign of u",
    6: "row 6: erase without η, ‖x‖² = 3",
    23: "row 23: delta momentum, ‖g‖² = 3",
    7: "row 7: 0 between two updates",
}


@figure(
    "as_printed",
    alt="Four panels over twelve steps, the print dashed, its correction solid. With the print the loss of "
    "row 1 grows, W x of row 6 doubles and m of row 23 grows a thousandfold; the level of row 7 is zero at "
    "three tokens in four.",
    caption="Four prints as they stand (dashed, crosses) and corrected (solid, dots): one climbs, two blow up, one forgets everything three "
    "tokens out of four.",
)
def as_printed(runs: tuple[Run, ...] | None = None) -> Figure:
    """One panel a row."""
    runs = runs or as_printed_data()
    picture, panels = plt.subplots(2, 2, figsize=(8.4, 5.4), sharex=True)
    for axes, run in zip(panels.flat, runs, strict=True):
        steps = np.arange(len(run.printed))
        axes.plot(steps, run.printed, color=VERMILION, linestyle="--", marker="x", markersize=6)
        axes.plot(steps, run.corrected, color=BLUE, marker="o", markersize=4.5)
        axes.set(ylabel=run.shows, title=TITLES[run.row])
        if run.row != 7:
            axes.set_yscale("log")
    panels[0, 0].text(6.3, runs[0].printed[7] * 3, "as printed", color=VERMILION, ha="right")
    panels[0, 0].text(6.5, runs[0].corrected[5] * 2.2, "corrected", color=BLUE)
    for axes in panels[1]:
        axes.set_xlabel("step, or token")
    return picture
