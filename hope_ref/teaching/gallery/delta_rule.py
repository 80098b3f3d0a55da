"""Figures on the delta rule: the write as a projection, its stability, and an overwrite."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hope_ref.common.validation import Array
from hope_ref.reference.delta_rule import delta_rule
from hope_ref.reference.linear_attention import linear_attention
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, PURPLE, VERMILION, figure
from hope_ref.teaching.gallery.linear_attention import unit_keys


class Projections(NamedTuple):
    """What figure ``corrections`` shows: a memory of one row and two columns is a point in the plane."""

    key: Array  # (2,) the unit key of the left panel, with the wanted answer 1
    start: Array  # (2,) the memory before the step
    etas: Array  # (4,) learning rates
    ends: Array  # (4, 2) the memory after one step with each of them
    keys: Array  # (2, 2) the unit keys of the right panel
    values: Array  # (2,) and their values
    path: Array  # (13, 2) the memory, starting empty, after each write of six passes at η = 1
    summed: Array  # (2,) where linear attention ends
    both: Array  # (2,) the only memory that answers both keys


def corrections_data() -> Projections:
    """One step from one memory with four learning rates; and six passes over two pairs with η = 1."""
    angle = np.deg2rad([30.0, 5.0, 38.0])
    directions = np.column_stack([np.cos(angle), np.sin(angle)])  # (3, 2)
    key, keys = directions[0], directions[1:]
    start, etas = np.array([-0.6, 0.35]), np.array([0.5, 1.0, 1.5, 2.0])
    ends = [delta_rule(key[None], key[None], [[1.0]], eta, start[None])[1][0] for eta in etas]
    values, path = np.array([1.0, 1.5]), [np.zeros((1, 2))]
    for write in range(12):
        pair = slice(write % 2, write % 2 + 1)
        path.append(delta_rule(keys[pair], keys[pair], values[pair, None], 1.0, path[-1])[1])
    _, summed = linear_attention(keys, keys, values[:, None])
    both = np.linalg.solve(keys, values)
    return Projections(key, start, etas, np.array(ends), keys, values, np.concatenate(path), summed[0], both)


def _answer_line(axes: Any, key: Array, value: float, **style: Any) -> None:
    """The line of all memories that answer ``key`` with ``value``; it stands at a right angle on the key."""
    foot = value * key / (key @ key)
    axes.axline(foot, foot + np.array([-key[1], key[0]]), **style)


@figure(
    "corrections",
    alt="Two planes of memories with two entries. Left, steps along a key reach half way to the line of "
    "right answers at eta 0.5, the line at 1, its far side beyond. Right, writes zigzag to the crossing of "
    "two lines; linear attention misses both.",
    caption="Each write of the delta rule moves the memory along the key toward the line of right answers: η‖k‖² = 1 lands "
    "on it, 2 mirrors. Two pairs pull it back and forth, ever closer to the memory that answers both.",
)
def corrections(data: Projections | None = None) -> Figure:
    """The delta rule as a projection: one pair, then two."""
    data = data or corrections_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(7.8, 4.0))
    _answer_line(left, data.key, 1.0, color=BLUE, linewidth=2.2)
    left.text(1.12, 0.2, "all M with\nM k = v", color=BLUE)
    left.plot(*np.vstack([data.start, data.ends[-1]]).T, color="0.6", linewidth=1.2, linestyle="--", zorder=1)
    left.plot(*data.start, color=BLACK, marker="o", markersize=9)
    left.annotate("M before", data.start, (0, -18), textcoords="offset points", ha="center")
    for eta, end, marker in zip(data.etas, data.ends, "^sDv", strict=True):
        left.plot(*end, color=VERMILION, marker=marker, markersize=8, linestyle="none")
        left.annotate(f"{eta:g}", end, (9, -10), textcoords="offset points", color=VERMILION)
    left.text(0.75, 1.75, "after one write\nat this η‖k‖²", color=VERMILION, ha="center")
    left.set(
        xlim=(-1.0, 2.3), ylim=(-0.8, 2.2), title="One pair: a step along its key", ylabel="second entry of M"
    )

    for index, (key, value, style) in enumerate(zip(data.keys, data.values, ("-", "--"), strict=True)):
        _answer_line(right, key, float(value), color=BLUE, linestyle=style, linewidth=1.8)
        spot, align = [((1.1, -0.35), "left"), ((-0.6, 1.9), "left")][index]
        right.text(*spot, f"M k{'₁₂'[index]} = v{'₁₂'[index]}", color=BLUE, ha=align)
    right.plot(*data.path.T, color=VERMILION, marker="o", markersize=4, linewidth=1.4)
    right.annotate("empty", data.path[0], (-6, -4), textcoords="offset points", ha="right", va="center")
    right.plot(*data.both, color=BLACK, marker="*", markersize=15, zorder=5)
    right.annotate("answers both", data.both, (-10, 0), textcoords="offset points", ha="right")
    right.plot(*data.summed, color=GREEN, marker="s", markersize=9, linestyle="none")
    right.annotate(
        "linear\nattention", data.summed, (0, -34), textcoords="offset points", color=GREEN, ha="center"
    )
    right.set(xlim=(-0.7, 2.6), ylim=(-0.8, 2.2), title="Two pairs: back and forth")
    for axes in (left, right):
        axes.set(aspect="equal", xlabel="first entry of M")
    return picture


class Stability(NamedTuple):
    """What figure ``stability`` shows."""

    steps: Array  # (4,) η‖k‖²
    residuals: Array  # (4, repeats + 1) (M k - v) / (M_0 k - v) after each repeat


def stability_data(repeats: int = 8) -> Stability:
    """Write one pair again and again from an empty memory; the residual relative to the first one, with its sign."""
    rng = np.random.default_rng(0)
    key, value = 1.7 * unit_keys(1, 6, rng), rng.normal(size=(1, 4))
    steps = np.array([0.5, 1.0, 1.6, 2.1])
    residuals = np.ones((len(steps), repeats + 1))
    for row, step in enumerate(steps):
        memory = np.zeros((4, 6))
        for count in range(1, repeats + 1):
            _, memory = delta_rule(key, key, value, step / float((key**2).sum()), memory)
            error = (memory @ key[0] - value[0]) / -value[0]  # (4,), all entries equal
            residuals[row, count] = error.mean()
    return Stability(steps, residuals)


@figure(
    "stability",
    alt="Left, the eigenvalue 1 minus eta times the squared key norm, a line inside the stable band between "
    "0 and 2. Right, the residual over eight writes: halved each time at 0.5, gone at once at 1, "
    "alternating and shrinking at 1.6, growing at 2.1.",
    caption="Each repeat multiplies the residual by one number, the eigenvalue 1 − η‖k‖²: at zero one write "
    "stores the pair, below zero a write overshoots, and beyond η‖k‖² = 2 every correction makes it worse.",
)
def stability(data: Stability | None = None) -> Figure:
    """The eigenvalue line, and the residual of a pair written again and again."""
    data = data or stability_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.6), width_ratios=[1, 1.35])
    colours, markers = (BLUE, GREEN, PURPLE, VERMILION), "os^D"
    left.axvspan(0, 2, color="0.92", zorder=0)
    left.text(1.0, -1.38, "stable", ha="center", color="0.35")
    left.plot([0, 2.4], [1, -1.4], color="0.35", linewidth=1.6)
    for step, colour, marker in zip(data.steps, colours, markers, strict=True):
        left.plot(step, 1 - step, color=colour, marker=marker, markersize=9)
        left.annotate(f"{step:g}", (step, 1 - step), (7, 6), textcoords="offset points", color=colour)
    left.set(xlabel="η‖k‖²", ylabel="eigenvalue along k", ylim=(-1.5, 1.15), xlim=(0, 2.45))
    left.set_yticks([-1, 0, 1])
    left.set_title("1 − η‖k‖²")
    repeats = np.arange(data.residuals.shape[1])
    floor = 2e-3
    for step, row, colour, marker in zip(data.steps, data.residuals, colours, markers, strict=True):
        size = np.maximum(np.abs(row), floor / 100)  # one shot leaves the picture through its floor
        right.plot(repeats[size > floor / 10], size[size > floor / 10], color=colour, linewidth=1.4, zorder=1)
        for count, (length, sign) in enumerate(zip(size, np.sign(row), strict=True)):
            face = colour if sign > 0 else "white"
            right.plot(count, length, color=colour, marker=marker, markerfacecolor=face, markeredgewidth=1.6)
        if step != 1:
            end = (repeats[-1], size[-1])
            right.annotate(f"{step:g}", end, (9, -4), textcoords="offset points", color=colour)
    right.annotate(
        "", (1, floor), (0, 1), arrowprops={"arrowstyle": "->", "color": GREEN, "linewidth": 1.8}, zorder=2
    )
    right.text(1.2, floor * 1.25, "1: exactly stored", color=GREEN)
    right.text(0.5, 3.6, "open marker: the sign has turned", color="0.35", fontsize=10)
    right.set(xlabel="writes of the same pair", ylabel="|residual / first residual|", xlim=(-0.2, 9))
    right.set(yscale="log", ylim=(floor, 6))
    right.set_title("The same pair, again and again")
    return picture


class Overwrite(NamedTuple):
    """What figure ``overwrite`` shows: a memory before and after its second key gets a new value."""

    before: Array  # (4, 6)
    added: Array  # (4, 6) after linear attention's write
    replaced: Array  # (4, 6) after the delta rule's write
    column: int  # where the key points
    value: Array  # (4,) the new value


def overwrite_data() -> Overwrite:
    """Three pairs with orthogonal unit keys, then a new value for the second key, η = 1."""
    keys = np.eye(6)[[0, 2, 5]]
    values = np.array([[1.0, 0.5, -0.5, 0.0], [-1.0, 0.0, 0.5, 1.0], [0.5, -1.0, 1.0, -0.5]])
    new = np.array([0.5, -0.5, 0.0, -1.0])
    _, before = linear_attention(keys, keys, values)
    key = keys[1:2]
    _, added = linear_attention(key, key, new[None], memory=before)
    _, replaced = delta_rule(key, key, new[None], 1.0, memory=before)
    return Overwrite(before, added, replaced, 2, new)


@figure(
    "overwrite",
    alt="Three matrices of numbers, 4 by 6, with values in columns 1, 3 and 6. Writing a new value for "
    "column 3, linear attention leaves old plus new there and the delta rule the new value alone; the other "
    "columns do not change.",
    caption="A new value for an old key: linear attention adds it to the old one and answers with their "
    "sum; the delta rule takes the old one out first.",
)
def overwrite(data: Overwrite | None = None) -> Figure:
    """The memory before an overwrite, and after one by each rule."""
    data = data or overwrite_data()
    picture, axes = plt.subplots(1, 3, figsize=(7.8, 2.5))
    titles = ["before", "linear attention adds", "the delta rule replaces"]
    for axis, matrix, title in zip(axes, [data.before, data.added, data.replaced], titles, strict=True):
        heat_map(axis, matrix)
        axis.add_patch(
            Rectangle((data.column - 0.5, -0.5), 1, 4, fill=False, edgecolor=VERMILION, linewidth=3)
        )
        axis.set_title(title)
    axes[0].set(xlabel="key index", ylabel="value index")
    return picture


def heat_map(axis: Any, matrix: Array) -> None:
    """A small matrix with its numbers written in, so that it reads in greyscale and aloud."""
    axis.imshow(matrix, cmap="cividis", vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(matrix):
        axis.text(
            j, i, f"{value:g}", ha="center", va="center", fontsize=8, color="black" if value > 0 else "white"
        )
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
