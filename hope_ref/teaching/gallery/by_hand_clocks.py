"""Figures to move by hand: the chunk size of a memory, and the clocks of a continuum memory (`interactive("chunk_size")`, "clocks").

For each: what it measures at one setting, how that is drawn, the same in words, and six settings side by side.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hope_ref.common.validation import Array
from hope_ref.reference.chunks import frozen_gradients
from hope_ref.reference.continuum_memory import ContinuumState, continuum_memory, random_levels
from hope_ref.teaching.figures import BLUE, GREEN, VERMILION, figure
from hope_ref.teaching.gallery.linear_attention import unit_keys
from hope_ref.teaching.layout import side_by_side, spread

# --- chunk size ---------------------------------------------------------------------------------------------------


class ChunkSize(NamedTuple):
    """What `chunk_size` shows at one setting, for gradients that are taken at the start of each chunk."""

    recall: dict[
        str, Array
    ]  # relative recall error of all pairs after 0 … T tokens, (T + 1,); an empty memory has 1
    moved: dict[str, float]  # max|y_C - y_1| / max|y_1| of the outputs
    chunk_size: int
    eta: float
    pairs: int


LOSS_NAMES = {"l2": "½‖M k − v‖²", "dot": "−⟨M k, v⟩"}
TOKEN_BY_TOKEN = "½‖M k − v‖² at C = 1"


@lru_cache(maxsize=32)
def chunk_size_data(chunk_size: int = 16, eta: float = 1.0, pairs: int = 16, rounds: int = 4) -> ChunkSize:
    """Pairs with random unit keys, each round in a new order; after every token, how well are all of them answered?"""
    rng, width = np.random.default_rng(0), 2 * pairs
    keys, values = unit_keys(pairs, width, rng), rng.normal(size=(pairs, 8))
    order = np.concatenate([rng.permutation(pairs) for _ in range(rounds)])
    k, v = keys[order], values[order]  # (T, d_k), (T, d_v)

    def recall(size: int, objective: str) -> Array:
        """Ask for one key after every token, then for the next key: outputs, but not the memory, depend on queries."""
        wrong = np.zeros(len(k))
        for key, value in zip(keys, values, strict=True):
            asked = np.tile(key, (len(k), 1))
            answers, _ = frozen_gradients(asked, k, v, eta, chunk_size=size, objective=objective)
            wrong += ((answers - value) ** 2).sum(-1)  # (T,)
        return np.sqrt(np.append(1.0, wrong / (values**2).sum()))

    curves, moved = {TOKEN_BY_TOKEN: recall(1, "l2")}, {}
    for objective, name in LOSS_NAMES.items():
        curves[name] = recall(chunk_size, objective)
        outputs, one = (
            frozen_gradients(k[::-1], k, v, eta, chunk_size=size, objective=objective)[0]
            for size in (chunk_size, 1)
        )
        moved[name] = float(np.abs(outputs - one).max() / np.abs(one).max())
    return ChunkSize(curves, moved, chunk_size, eta, pairs)


def chunk_size_words(data: ChunkSize) -> str:
    """The result in words."""
    base, l2, dot = (curve[-1] for curve in data.recall.values())
    tokens = len(data.recall[TOKEN_BY_TOKEN]) - 1
    change = {name: f"{100 * by:.0f} %" for name, by in data.moved.items()}
    return (
        f"C = {data.chunk_size}, η = {data.eta:g}. After {tokens} tokens ({tokens // data.pairs} rounds of {data.pairs} pairs) the "
        f"recall error, 1 for an empty memory, is {l2:.2f} with the squared error, {dot:.2f} with the dot product, and {base:.2f} "
        f"with the squared error token by token. Outputs differ from those at C = 1 by up to {change[LOSS_NAMES['l2']]} of the "
        f"largest with the squared error, {change[LOSS_NAMES['dot']]} with the dot product."
    )


CURVES: dict[str, tuple[str, Any, float]] = {
    TOKEN_BY_TOKEN: ("0.55", "-", 5.0),
    LOSS_NAMES["l2"]: (VERMILION, "-", 1.8),
    LOSS_NAMES["dot"]: (GREEN, "--", 1.8),
}


def draw_chunk_size(axes: Axes, data: ChunkSize, small: bool = False) -> None:
    """Recall error over the tokens; thin lines are boundaries of chunks."""
    length = len(data.recall[TOKEN_BY_TOKEN]) - 1
    for start in range(data.chunk_size, length + 1, data.chunk_size):
        axes.axvline(start, color="0.85", linewidth=0.7 if data.chunk_size < 4 else 1.2, zorder=0)
    ends = {}
    for name, (colour, line, width) in CURVES.items():
        axes.plot(
            data.recall[name], color=colour, linestyle=line, linewidth=width, alpha=0.6 if width > 4 else 1
        )
        ends[name] = float(np.log10(data.recall[name][-1]))
    axes.axhline(1, color="0.3", linewidth=1, linestyle=":")
    if not small:
        for name, place in zip(ends, spread(list(ends.values()), 0.14, -1.0, 1.0), strict=True):
            colour = "0.35" if CURVES[name][0] == "0.55" else CURVES[name][0]
            axes.text(length + 1.5, 10**place, name, color=colour, va="center")
        axes.set(xlabel="token", ylabel="relative recall error")
    axes.set(yscale="log", ylim=(0.08, 12), xlim=(0, length if small else length + 22))
    axes.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes.set_yticks([], minor=True)
    axes.set_xticks(range(0, length + 1, 16))
    axes.grid(False, axis="x")
    axes.set_title(f"C = {data.chunk_size}, η = {data.eta:g}")


CHUNK_SIZE_SETTINGS = ((1, 1.0), (8, 1.0), (16, 1.0), (32, 1.0), (64, 1.0), (32, 0.25))


@figure(
    "chunk_size_by_hand",
    alt="Six panels: recall error over 64 tokens, log axis, for chunk sizes 1 to 64 at eta 1, and 32 at eta "
    "0.25. As chunks grow the squared error leaves the curve of single tokens, and at 64 it is on the dot "
    "product's; at eta 0.25 it stays close.",
    caption="Within a chunk the squared error (solid) writes what was missing at the last boundary (thin lines), whatever it has written since; "
    "in the first chunk that is what the dot product (dashed) writes. With a whole round in a chunk, η = 1 overshoots.",
)
def chunk_size_by_hand(data: tuple[ChunkSize, ...] | None = None) -> Figure:
    """Six settings of `interactive("chunk_size")`."""
    data = data or tuple(chunk_size_data(size, eta) for size, eta in CHUNK_SIZE_SETTINGS)
    picture = side_by_side(draw_chunk_size, data, "token", "relative recall error", 5.4)
    lines = [Line2D([], [], color=c, linestyle=line, linewidth=width) for c, line, width in CURVES.values()]
    picture.legend(lines, list(CURVES), loc="outside upper center", ncols=3, handlelength=3)
    return picture


# --- the clocks of a continuum memory -----------------------------------------------------------------------------


class Frequencies(NamedTuple):
    """What `clocks` shows at one setting."""

    moved: npt.NDArray[np.bool_]  # (levels, T): is θ another after token t than before it?
    distance: Array  # ‖θ - θ_0‖ / ‖θ_0‖ after 0 … T tokens, (levels, T + 1)
    sizes: tuple[int, ...]
    variant: str


RATE = 0.01  # η of every level, so that they differ in their clocks alone


@lru_cache(maxsize=32)
def frequencies_data(
    first: int = 4, second: int = 2, third: int = 2, variant: str = "sequential", length: int = 48
) -> Frequencies:
    """Stream tokens through three levels one by one, and look at their weights after each.

    ``first`` is the fastest level's chunk size; the next level's is ``second`` times as long, the last one's ``third`` times that.
    """
    sizes = (first, first * second, first * second * third)
    levels, x = random_levels(4, 3, 0), np.random.default_rng(0).normal(size=(length, 4))
    starts = [np.concatenate([level.w1.ravel(), level.w2.ravel()]) for level in levels]
    before: list[Array] = list(starts)
    state: ContinuumState | None = None
    moved, distance = np.zeros((3, length), dtype=bool), np.zeros((3, length + 1))
    for t in range(length):
        _, state = continuum_memory(
            x[t : t + 1],
            levels,
            state,
            levels_chunk_sizes=sizes,
            cms_rate=RATE,
            nested_rate=0.5,
            variant=variant,
            signal="associative",
        )
        for index, level in enumerate(state.levels):
            now = np.concatenate([level.w1.ravel(), level.w2.ravel()])
            moved[index, t] = (now != before[index]).any()
            distance[index, t + 1] = np.linalg.norm(now - starts[index]) / np.linalg.norm(starts[index])
            before[index] = now
    return Frequencies(moved, distance, sizes, variant)


def times(count: int) -> str:
    """Never, once, or so many times."""
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def frequencies_words(data: Frequencies) -> str:
    """The result in words; tokens are counted from 1, as a reader counts."""
    parts = []
    for name, size, moved in zip(("first", "second", "third"), data.sizes, data.moved, strict=True):
        when = np.flatnonzero(moved) + 1
        did = f"moved {times(len(when))}, first after token {when[0]}" if len(when) else "never moved"
        parts.append(f"the {name} level (C = {size}) {did}")
    return f"{data.moved.shape[1]} tokens, {data.variant} levels: {'; '.join(parts)}."


LANES = ((BLUE, "-", "o"), (VERMILION, "-", "s"), (GREEN, "-", "^"))


def draw_frequencies(axes: Axes, data: Frequencies, small: bool = False) -> None:
    """A lane for each level: how far its weights are from their start, with a marker wherever they move."""
    length, most = data.moved.shape[1], data.distance.max() or 1.0
    for index, (colour, _, marker) in enumerate(LANES):
        floor, height = 2 - index, 0.72 * data.distance[index] / most
        axes.axhline(floor, color="0.85", linewidth=0.8)
        axes.step(np.arange(length + 1), floor + height, where="post", color=colour, linewidth=1.6)
        when = np.flatnonzero(data.moved[index]) + 1
        axes.plot(
            when,
            floor + height[when],
            color=colour,
            marker=marker,
            linestyle="none",
            markersize=4 if small else 6,
        )
        says = f"C = {data.sizes[index]}: {times(int(data.moved[index].sum()))}"
        axes.text(0.6, floor + 0.78, says, color=colour, va="center", fontsize=9 if small else 11)
    axes.set(ylim=(-0.12, 3.0), yticks=[], xlim=(0, length + 0.6), xticks=range(0, length + 1, 12))
    axes.grid(False)
    axes.set_title(f"{data.variant}, C = {', '.join(map(str, data.sizes))}", fontsize=10 if small else 12)
    if not small:
        axes.set(xlabel="tokens read", ylabel="distance from the start")


FREQUENCY_SETTINGS = (
    (1, 1, 1, "sequential"),
    (1, 4, 4, "sequential"),
    (4, 2, 2, "sequential"),
    (8, 3, 2, "sequential"),
    (8, 3, 4, "sequential"),
    (2, 3, 4, "nested"),
)


@figure(
    "clocks_by_hand",
    alt="Six panels of three staircases: how far each level of a continuum memory is from its start over 48 "
    "tokens, a marker at each move. Larger chunks mean fewer and larger steps; a chunk of 96 never moves; "
    "nested levels fall back when a slower one moves.",
    caption="With one η for all, slower levels take fewer, larger steps and get about as far. A chunk "
    "longer than the stream never ends; a nested level starts again whenever the slower one moves.",
)
def clocks_by_hand(data: tuple[Frequencies, ...] | None = None) -> Figure:
    """Six settings of `interactive("clocks")`."""
    data = data or tuple(frequencies_data(*setting) for setting in FREQUENCY_SETTINGS)
    picture = side_by_side(draw_frequencies, data, "tokens read", "distance from the start", 5.4)
    return picture
