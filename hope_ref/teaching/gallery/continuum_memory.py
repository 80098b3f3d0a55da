"""Figures of notebook 08: clocks of levels, echoes of one token, one step for a chunk, and what a level recalls by age."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.config import cms_options
from hope_ref.parallel import continuum_memory as in_torch
from hope_ref.parallel.layers import rms_norm
from hope_ref.reference.activations import silu
from hope_ref.reference.continuum_memory import (
    ContinuumState,
    Signal,
    chunk_step,
    continuum_memory,
    moved,
    random_levels,
    taken_in,
)
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, VERMILION, figure

STYLES = ((BLUE, "-", "o"), (VERMILION, "--", "s"), (GREEN, "-.", "^"))

# --- clocks -------------------------------------------------------------------------------------------------------


class Clocks(NamedTuple):
    """What figure ``level_clocks`` shows: which levels moved after which token."""

    moves: Array  # (levels, T), True where θ is another after token t than before it
    age: Array  # (levels, T), tokens since the newest one that the level knows; NaN while it knows none
    sizes: tuple[int, ...]


def level_clocks_data(sizes: tuple[int, ...] = (8, 32, 128), length: int = 256) -> Clocks:
    """Stream tokens one by one through random levels and look at their weights after each."""
    levels, x = random_levels(4, len(sizes), 0), np.random.default_rng(0).normal(size=(length, 4))
    state: ContinuumState | None = None
    before, moves = [level.w1 for level in levels], np.zeros((len(sizes), length), dtype=bool)
    age = np.full((len(sizes), length), np.nan)
    newest: list[int | None] = [None] * len(sizes)
    for t in range(length):
        for level, last in enumerate(newest):
            age[level, t] = np.nan if last is None else t - last
        _, state = continuum_memory(
            x[t : t + 1], levels, state, levels_chunk_sizes=sizes, signal="associative"
        )
        for level, (old, now) in enumerate(zip(before, state.levels, strict=True)):
            if (now.w1 != old).any():
                moves[level, t], newest[level] = True, t
        before = [now.w1 for now in state.levels]
    return Clocks(moves, age, sizes)


@figure(
    "level_clocks",
    alt="256 tokens, three levels with chunks of 8, 32 and 128. Above, ticks where each level moves, 32, 8 "
    "and 2 times; below, the age of the newest token that each knows, saw teeth that climb to its chunk "
    "size and fall back to 1.",
    caption="Three clocks over one stream: a level holds still, takes in its chunk, and moves once; in "
    "between it knows nothing of the tokens since its last move.",
)
def level_clocks(data: Clocks | None = None) -> Figure:
    """When levels move, and how old the newest thing is that they know."""
    data = data or level_clocks_data()
    picture, (above, below) = plt.subplots(2, 1, figsize=(8.4, 5.0), sharex=True, height_ratios=(1, 1.5))
    length = data.moves.shape[1]
    for level, (size, (color, line, _)) in enumerate(zip(data.sizes, STYLES, strict=True)):
        height = len(data.sizes) - level
        times = np.flatnonzero(data.moves[level])
        above.vlines(times + 1, height - 0.33, height + 0.33, color=color, linewidth=2.4)
        above.text(length + 5, height, f"C = {size}: {len(times)} moves", color=color, va="center")
        below.plot(np.arange(length), data.age[level], color=color, linestyle=line, linewidth=1.6)
        below.text(length + 5, 0.62 * size, f"C = {size}", color=color, va="center")
    above.set(ylim=(0.4, len(data.sizes) + 0.6), yticks=[], title="When each level moves")
    above.grid(False)
    below.set_yscale("log", base=2)
    below.set(xlabel="token", ylabel="tokens ago", xticks=range(0, length + 1, 32), xlim=(0, length + 1))
    below.set_yticks([1, 8, 32, 128], ["1", "8", "32", "128"])
    below.set_title("How long ago the newest token was that it knows")
    return picture


# --- echoes -------------------------------------------------------------------------------------------------------


class Echoes(NamedTuple):
    """What figure ``echoes`` shows: |change of output i| when token t is another, by which level moves."""

    change: dict[int, Array]  # chunk size of the only level that moves -> (T perturbed, T outputs)


def echoes_data(sizes: tuple[int, int] = (4, 12), length: int = 36) -> Echoes:
    """Two levels, of which one has the rate 0: change one token, run again, compare every output."""
    levels, rng = random_levels(4, 2, 1), np.random.default_rng(1)
    x, nudge = rng.normal(size=(length, 4)), rng.normal(size=4)

    def outputs(tokens: Array, rates: tuple[float, ...]) -> Array:
        return continuum_memory(
            tokens, levels, levels_chunk_sizes=sizes, cms_rate=rates, signal="associative"
        )[0]

    change = {}
    for mover, size in enumerate(sizes):
        rates = tuple(0.2 / size if level == mover else 0.0 for level in range(2))
        plain = outputs(x, rates)
        change[size] = np.stack(
            [
                np.abs(outputs(x + np.eye(length)[:, [t]] * nudge, rates) - plain).max(-1)
                for t in range(length)
            ]
        )
    return Echoes(change)


@figure(
    "echoes",
    alt="Two shaded maps, perturbed token upwards, output rightwards, chunks of 4 and 12. Left of the dark "
    "diagonal nothing moves, and right of it nothing up to the end of the perturbed token's chunk; from the "
    "next chunk on every output moves.",
    caption="Change one token: no earlier output moves, its own does, then there is silence until the level's next boundary, "
    "and from there on an echo in every output.",
)
def echoes(data: Echoes | None = None) -> Figure:
    """Perturbed tokens against outputs, for the fast and for the slow level."""
    data = data or echoes_data()
    picture, panels = plt.subplots(1, 2, figsize=(8.8, 4.3), sharey=True)
    image: Any = None
    for axes, (size, change) in zip(panels, data.change.items(), strict=True):
        length = len(change)
        with np.errstate(divide="ignore"):
            shown = np.where(change > 0, np.log10(change), np.nan)
        image = axes.imshow(shown, cmap="cividis_r", vmin=-4, vmax=0, origin="lower", aspect="equal")
        for place in range(size, length, size):
            axes.axvline(place - 0.5, color="0.6", linewidth=0.8, linestyle=":")
            axes.axhline(place - 0.5, color="0.6", linewidth=0.8, linestyle=":")
        axes.set(title=f"only the level with C = {size} moves", xlabel="output of token")
        axes.set(xticks=range(0, length, 12), yticks=range(0, length, 12))
        axes.grid(False)
    panels[0].set_ylabel("perturbed token")
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    panels[1].text(20, 5, "echo", ha="center", color=BLACK, bbox=box)
    panels[1].text(7.6, 2.4, "silence", ha="center", color="0.35", fontsize=9)
    bar = picture.colorbar(image, ax=panels, shrink=0.8, ticks=[-4, -2, 0])
    bar.ax.set_yticklabels(["1e-4", "1e-2", "1"])
    bar.set_label("change of the output")
    return picture


# --- one step for a chunk -----------------------------------------------------------------------------------------


class ChunkSteps(NamedTuple):
    """What figure ``chunk_steps`` shows."""

    strength: Array  # s = C d η, one input C times
    factor: dict[str, Array]  # rule -> what one chunk multiplies the distance from the resting point by
    left: dict[
        str, Array
    ]  # rule -> share of a trained level's answers left after n chunks with nothing to learn
    width: int


def chunk_steps_data(width: int = 16, size: int = 64, chunks: int = 30) -> ChunkSteps:
    """The factor from two memories that get the same chunk; the share left at the default rate 0.1/C, u = 0."""
    rng = np.random.default_rng(3)
    n = rng.normal(size=width)
    n *= np.sqrt(width) / np.linalg.norm(n)  # RMSNorm: ‖n‖² = d
    one, two, value = rng.normal(size=(3, width, width))
    strength, factor = np.linspace(0.0, 4.0, 17), {}
    for rule in ("gd", "dgd"):
        found = []
        for s in strength:
            moved_to = [
                chunk_step(
                    w,
                    size * np.outer((value - w) @ n, n),
                    size * np.outer(n, n),
                    float(s) / (size * width),
                    rule,
                )
                for w in (one, two)
            ]
            found.append(_along((moved_to[0] - moved_to[1]) @ n, (one - two) @ n))
        factor[rule] = np.array(found)
    left = {rule: _left(rule, width, size, chunks) for rule in ("gd", "dgd")}
    return ChunkSteps(strength, factor, left, width)


def _along(after: Array, before: Array) -> float:
    return float(after @ before / (before @ before))


def _left(rule: str, width: int, size: int, chunks: int) -> Array:
    """Size of f_θ on fresh inputs, relative to the start, while chunk after chunk asks for nothing."""
    rng = np.random.default_rng(4)
    (level,) = random_levels(width, 1, 4)
    _, state = continuum_memory(rng.normal(size=(0, width)), [level], levels_chunk_sizes=(size,))
    (now,) = state.levels
    fresh = _normed(rng.normal(size=(256, width)))

    def answers() -> float:
        return float(np.linalg.norm(silu(fresh @ now.w2.T) @ now.w1.T))

    start, course = answers(), [1.0]
    for _ in range(chunks):
        n = _normed(rng.normal(size=(size, width)))
        phi, nothing = silu(n @ now.w2.T), np.zeros((size, width))
        now = taken_in(now, Signal(nothing, phi, np.zeros_like(phi), n), rule)
        now = moved(now, 0.1 / size, rule)
        course.append(answers() / start)
    return np.array(course)


def _normed(z: Array) -> Array:
    return np.asarray(z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-6))


@figure(
    "chunk_steps",
    alt="Left, the factor that one chunk puts on the error, against C d eta: gradient descent's line leaves "
    "the stable band at 2, Delta Gradient Descent's curve stays inside. Right, over chunks with nothing to "
    "learn only the latter loses old answers.",
    caption="One step per chunk: gradient descent has a line that it must not cross; Delta Gradient Descent "
    "has none, but wears down what it is not asked to change.",
)
def chunk_steps(data: ChunkSteps | None = None) -> Figure:
    """What the implicit step buys, and what it costs."""
    data = data or chunk_steps_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.7))
    left.axhspan(-1, 1, color="0.92", zorder=0)
    smooth = np.linspace(0, 4, 200)
    for rule, curve, (color, line, marker) in (
        ("gd", 1 - smooth, STYLES[1]),
        ("dgd", (1 - smooth) / (1 + smooth), STYLES[0]),
    ):
        left.plot(smooth, curve, color=color, linestyle=line, linewidth=1.2)
        left.plot(data.strength, data.factor[rule], color=color, marker=marker, linestyle="none")
    left.text(2.55, -2.5, "gd: 1 − s", color=VERMILION, ha="right")
    left.text(2.1, -0.12, "dgd: (1 − s)/(1 + s)", color=BLUE)
    left.text(4.0, 0.94, "stable: between −1 and 1", color="0.35", ha="right", va="top", fontsize=9)
    left.set(
        xlabel="s = C d η, one input C times", ylabel="factor per chunk", xlim=(-0.1, 4.1), ylim=(-3.2, 1.25)
    )
    left.set_title("Does it settle?")
    steps = np.arange(len(data.left["gd"]))
    for rule, (color, line, marker) in (("gd", STYLES[1]), ("dgd", STYLES[0])):
        right.plot(steps, 100 * data.left[rule], color=color, linestyle=line, marker=marker, markevery=3)
    right.text(
        30, 92, "gd: nothing to learn, nothing moves", color=VERMILION, ha="right", va="top", fontsize=10
    )
    right.text(9.6, 26, "dgd: erased along every input", color=BLUE, fontsize=10)
    right.set(xlabel="chunks with nothing to learn", ylabel="share of the answers left (%)", ylim=(-4, 108))
    right.set_title(f"A trained level at η = 0.1/C, d = {data.width}")
    return picture


# --- recall by age ------------------------------------------------------------------------------------------------


class Recall(NamedTuple):
    """What figure ``recall_by_age`` shows: how much of every task a level still answers, the newest task first."""

    recall: dict[tuple[int, float], Array]  # (C, η) -> (tasks,), ⟨answer, wanted⟩ / ‖wanted‖² on fresh tokens
    length: int  # tokens per task


SIZES, RATES = (1, 16, 64), (2e-3, 5e-4, 1.25e-4)


@lru_cache(maxsize=1)
def recall_by_age_data(width: int = 16, tasks: int = 8, length: int = 512, lanes: int = 16) -> Recall:
    """One level alone, eight tasks in turn (a new orthogonal V each), for chunk sizes and rates; 16 lanes at once."""
    found = {size: recall(size, RATES, width, tasks, length, lanes) for size in SIZES}
    return Recall(
        {(size, rate): found[size][place] for place, rate in enumerate(RATES) for size in SIZES}, length
    )


def recall(size: int, rates: Sequence[float], width: int, tasks: int, length: int, lanes: int) -> Array:
    """Stream the tasks through one level that starts with W1 = 0, at all rates side by side; ask it for each: (rates, tasks)."""
    rng = np.random.default_rng(0)
    (drawn,) = random_levels(width, 1, 0)
    w1, w2, gain = (torch.from_numpy(p) for p in (np.zeros_like(drawn.w1), drawn.w2, drawn.gain))
    values = [torch.from_numpy(np.linalg.qr(rng.normal(size=(lanes, width, width))).Q) for _ in range(tasks)]
    each = torch.tensor(rates, dtype=torch.float64)[:, None, None, None]
    options = cms_options(1, (size,))._replace(rates=(each,))
    state = in_torch.initial_state([in_torch.Level(w1, w2, gain)], (len(rates), lanes))
    for value in values:
        x = torch.from_numpy(rng.normal(size=(lanes, length, width))).expand(len(rates), -1, -1, -1)
        level = in_torch.Level(w1, w2, gain, value)
        _, state = in_torch.stream(x, [level], state, options, "associative", "l2")
    fresh = torch.from_numpy(rng.normal(size=(lanes, 256, width)))
    n, (now,) = rms_norm(fresh, gain), state.levels
    answer = in_torch.level_function(fresh, now.w1, now.w2, gain)  # (rates, lanes, 256, d)
    wanted = [n @ value.mT for value in reversed(values)]
    return np.array([[float((own * v).sum() / v.square().sum()) for v in wanted] for own in answer])


@figure(
    "recall_by_age",
    alt="How much of a task a level still answers against how many tasks ago it learned it, three learning "
    "rates, three chunk sizes each. A large rate recalls the newest best and falls steeply, a small one is "
    "low and flat; chunk sizes coincide.",
    caption="The learning rate decides what a level recalls; whether it moves after every token or after "
    "64, at an equal rate per token, cannot be told from the curve.",
)
def recall_by_age(data: Recall | None = None) -> Figure:
    """Three rates, three clocks each."""
    data = data or recall_by_age_data()
    picture, axes = plt.subplots(figsize=(7.6, 4.0))
    for rate, (color, line, _) in zip(RATES, STYLES, strict=True):
        for size, marker, room in zip(SIZES, ("o", "s", "x"), (11, 7, 5), strict=True):
            course = data.recall[size, rate]
            axes.plot(
                np.arange(len(course)),
                100 * course,
                color=color,
                linestyle=line if size == 1 else "none",
                marker=marker,
                markersize=room,
                markerfacecolor="none",
                markeredgewidth=1.4,
                linewidth=1.2,
            )
    axes.text(0.62, 47, f"η = {RATES[0]:g}", color=BLUE)
    axes.text(2.35, 15.5, f"η = {RATES[1]:g}", color=VERMILION)
    axes.text(0.12, 2.2, f"η = {RATES[2]:g}", color=GREEN)
    for size, marker, room, height in zip(SIZES, ("o", "s", "x"), (11, 7, 5), (60, 53, 46), strict=True):
        axes.plot(
            5.3,
            height,
            color=BLACK,
            marker=marker,
            markersize=room,
            markerfacecolor="none",
            markeredgewidth=1.4,
        )
        axes.text(
            5.55, height, f"moves every {size} tokens" if size > 1 else "moves every token", va="center"
        )
    axes.set(
        xlabel=f"tasks since (of {data.length} tokens each)",
        ylabel="share still answered (%)",
        ylim=(-2, 68),
        xlim=(-0.3, 7.9),
    )
    axes.set_title("One level, eight tasks in turn: what is left of each")
    return picture
