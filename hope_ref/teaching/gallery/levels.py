"""Figures of notebook 13: what moves when, measured and first without names; and what three answers leave open."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.parallel.delta_rule import delta_rule as in_chunks
from hope_ref.reference import hope, momentum
from hope_ref.reference.delta_rule import delta_rule
from hope_ref.reference.hope import AttentionState, TitansState
from hope_ref.reference.m3 import m3_step
from hope_ref.reference.self_modifying_titans import at_boundary
from hope_ref.reference.titans import start, titans
from hope_ref.teaching.figures import BLUE, ORANGE, VERMILION, figure
from hope_ref.teaching.gallery.linear_attention import unit_keys

LENGTH = 64  # tokens, and optimiser steps
SLOW_EVERY = 16  # of M3
SMALL = HopeConfig(
    width=4,
    vocabulary=16,
    blocks=1,
    memory_chunk_size=8,
    projection_chunk_size=8,
    levels_chunk_sizes=(16, 32),
    signal="associative",
    erase="full",
)


class Row(NamedTuple):
    """One component, after each of 64 tokens or steps."""

    inside: Array  # (64,), has any array that it carries changed?
    seen: Array  # (64,), has what the next read sees changed?
    clock: str  # "token" or "step"
    anew: bool = False  # worked out anew at every read


def changes(states: list[Any]) -> Array:
    """Whether each state differs from the one before it; a state is a list of arrays."""
    moved = [
        any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(now, before, strict=True))
        for before, now in pairwise(states)
    ]
    return np.array(moved, dtype=np.float64)


class Seen(NamedTuple):
    """What a component carries at one moment, and the part of it that the next read sees."""

    inside: list[Array]
    seen: list[Array]


def _hope_run(config: HopeConfig) -> Iterator[tuple[hope.BlockState, dict[str, Array]]]:
    """The state of a one-block model before its first token and after each of 64, with its parameters."""
    parameters = hope.init(config)
    tokens = np.random.default_rng(0).integers(config.vocabulary, size=LENGTH)
    state = hope.initial_state(parameters, config)
    yield state.blocks[0], parameters
    for t in range(LENGTH):
        state = hope.hope(tokens[t : t + 1], parameters, config, state)[1]
        yield state.blocks[0], parameters


def _hope_rows() -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {name: [] for name in ("M_memory", "M_k", "level 1", "level 2")}
    for block, _ in _hope_run(SMALL):
        assert isinstance(block.mixer, TitansState)
        (head,) = block.mixer.heads
        following = at_boundary(head, SMALL)  # what the next token reads of the makers
        for name, memory in (("M_memory", "memory"), ("M_k", "k")):
            own = [head.weights[f"{w}_{memory}"] for w in ("w1", "w2")]
            read = own if memory == "memory" else [following[f"{w}_{memory}"] for w in ("w1", "w2")]
            found[name].append(Seen(own, read))
        for index in (0, 1):
            level = block.continuum.levels[index]
            found[f"level {index + 1}"].append(Seen(list(level), [level.w1, level.w2]))
    return found


def _transformer_rows() -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {"attention": [], "MLP": []}
    config = SMALL.replace(mixer="softmax_attention", signal="none", levels_chunk_sizes=(1,))
    for block, parameters in _hope_run(config):
        assert isinstance(block.mixer, AttentionState)
        kept = [block.mixer.keys, block.mixer.values]
        found["attention"].append(Seen(kept, kept))
        weights = [parameters[f"blocks.0.levels.0.{w}"].copy() for w in ("w1", "w2")]
        found["MLP"].append(Seen(weights, list(block.continuum.levels[0][:2])))
    return found


def _titans_rows() -> dict[str, list[Seen]]:
    rng = np.random.default_rng(1)
    k, v = unit_keys(LENGTH, 4, rng), rng.normal(size=(LENGTH, 4))
    state = start(rng.normal(size=(4, 6)), rng.normal(size=(6, 4)))
    found = [Seen([*state.weights, *state.momentum], list(state.weights))]
    for t in range(LENGTH):
        state = titans(k[t : t + 1], k[t : t + 1], v[t : t + 1], 0.1, 0.99, 0.5, state)[1]
        found.append(Seen([*state.weights, *state.momentum], list(state.weights)))
    return {"Titans' memory": found}


def _optimiser_rows() -> dict[str, list[Seen]]:
    gradients = np.random.default_rng(2).normal(size=(LENGTH, 3, 2))
    zero, w = np.zeros((3, 2)), np.zeros((3, 2))
    adam, m3 = momentum.AdamState(zero, zero, 0), m3_step(w, zero, slow_every=SLOW_EVERY)[1]
    m3 = m3._replace(steps=0)
    found: dict[str, list[Seen]] = {"Adam's mean": [], "M3's slow momentum": []}
    for gradient in [None, *gradients]:
        if gradient is not None:
            adam = momentum.adam_step(w, gradient, adam)[1]
            m3 = m3_step(w, gradient, m3, slow_every=SLOW_EVERY)[1]
        found["Adam's mean"].append(Seen([adam.m], [adam.m]))
        found["M3's slow momentum"].append(Seen([m3.window, m3.m2, m3.o2], [m3.o2]))
    return found


@lru_cache(maxsize=1)
def clocks_data() -> dict[str, Row]:
    """Run everything for 64 tokens or steps, and compare what a read sees before and after each."""
    tokens = _hope_rows() | _transformer_rows() | _titans_rows()
    rows = {
        name: Row(changes([s.inside for s in states]), changes([s.seen for s in states]), "token")
        for name, states in tokens.items()
    }
    rows |= {
        name: Row(changes([s.inside for s in states]), changes([s.seen for s in states]), "step")
        for name, states in _optimiser_rows().items()
    }
    return rows | {"attention": rows["attention"]._replace(anew=True)}


def measured(row: Row) -> float:
    """Updates per tick of the clock, as a read sees them."""
    return math.inf if row.anew else float(row.seen.mean())


# A to H, so that neighbours differ: the figure without names is a riddle
RIDDLE = {
    "A": "level 2",
    "B": "MLP",
    "C": "Titans' memory",
    "D": "M_k",
    "E": "attention",
    "F": "level 1",
    "G": "M3's slow momentum",
    "H": "Adam's mean",
}


def _lane(axes: Any, height: float, row: Row) -> None:
    """A light mark where something inside has moved, a dark one where a read sees it; a band if it is made anew."""
    colour = BLUE if row.clock == "token" else VERMILION
    ticks = np.arange(1, LENGTH + 1)
    axes.plot([0.5, LENGTH + 0.5], [height] * 2, color="0.85", linewidth=1, zorder=1)
    light = ticks[row.inside > 0]
    axes.vlines(light, height - 0.16, height + 0.16, color="0.72", linewidth=1.2, zorder=2)
    if row.anew:
        axes.fill_between(
            [0.5, LENGTH + 0.5], height - 0.34, height + 0.34, color=ORANGE, zorder=1, linewidth=0
        )
        axes.vlines(light, height - 0.16, height + 0.16, color="0.35", linewidth=1.2, zorder=2)
        return
    axes.vlines(ticks[row.seen > 0], height - 0.36, height + 0.36, color=colour, linewidth=2.4, zorder=3)


def _raster(rows: dict[str, Row], names: dict[str, str], right: dict[str, str]) -> Figure:
    """One lane a component; `names` says what stands on the left of a lane, `right` what on its right."""
    picture, axes = plt.subplots(figsize=(8.4, 4.3))
    heights = np.arange(len(rows))[::-1] * 1.0
    split = [name for name, row in rows.items() if row.clock == "token"][-1]
    for height, (name, row) in zip(heights, rows.items(), strict=True):
        lift = 0.0 if row.clock == "token" else -0.7
        _lane(axes, height + lift, row)
        axes.text(-0.8, height + lift, names[name], ha="right", va="center", fontsize=11)
        axes.text(LENGTH + 1.8, height + lift, right.get(name, ""), va="center", fontsize=10, color="0.25")
        if name == split:
            axes.axhline(height - 0.68, color="0.5", linewidth=0.8, linestyle=":")
    for words, height in (("clock: tokens", heights[0] + 0.72), ("clock: optimiser steps", 0.98)):
        axes.text(0.5, height, words, va="center", fontsize=9.5, style="italic", color="0.35")
    axes.set(xlim=(0, LENGTH + 0.8), ylim=(-1.3, len(rows) - 0.1), yticks=[], xticks=[1, 16, 32, 48, 64])
    axes.set_xlabel("token, or optimiser step")
    axes.spines["left"].set_visible(False)
    axes.grid(False)
    return picture


@figure(
    "clocks_unnamed",
    alt="Eight lanes, A to H, over 64 tokens or optimiser steps, light marks where something inside moves "
    "and dark ones where what is read moves. Three are dark only every 8, 16 or 32 tokens, one every 16 "
    "steps, two at every tick, one never; one is a band.",
    caption="Eight components at work, without their names. Light: something inside has moved. Dark: what "
    "the next read sees has moved. The band: computed anew at every read. Say which is which.",
)
def clocks_unnamed(rows: dict[str, Row] | None = None) -> Figure:
    """The riddle."""
    rows = rows or clocks_data()
    shown = {name: rows[name] for name in RIDDLE.values()}
    return _raster(shown, {name: letter for letter, name in RIDDLE.items()}, {})


@figure(
    "clocks",
    alt="The eight lanes with names, fast to slow. In tokens: attention, Titans' memory, HOPE's maker of "
    "keys at 1/8, levels of the continuum memory at 1/16 and 1/32, a Transformer's MLP never; in optimiser "
    "steps: Adam's mean at 1, M3's slow momentum at 1/16.",
    caption="The same lanes, named and sorted. Almost everything moves inside at every tick; what tells the "
    "levels apart is when a read gets to see the change.",
)
def clocks(rows: dict[str, Row] | None = None) -> Figure:
    """The answers."""
    rows = rows or clocks_data()
    order = (
        "attention",
        "Titans' memory",
        "M_k",
        "level 1",
        "level 2",
        "MLP",
        "Adam's mean",
        "M3's slow momentum",
    )
    right = {name: _words(rows[name]) for name in order}
    return _raster({name: rows[name] for name in order}, {name: name for name in order}, right)


def _words(row: Row) -> str:
    frequency = measured(row)
    if frequency in (0, math.inf):
        return "∞" if frequency else "0"
    ticks = round(1 / frequency)
    return f"1 / {row.clock}" if ticks == 1 else f"1 / {ticks} {row.clock}s"


# --- what three answers leave open ------------------------------------------------------------------------------------


def _normalised(k: Array) -> Array:
    return np.asarray(k / np.linalg.norm(k, axis=-1, keepdims=True))


def left_open_data(length: int = 64, width: int = 8) -> dict[str, float]:
    """‖y - y′‖/‖y‖ of twins that give the same three answers: pairs (k, v), every token, the delta rule."""
    rng = np.random.default_rng(3)
    k, q, v = (_normalised(rng.normal(size=(length, width))) for _ in range(3))
    learned = rng.normal(size=(width, width)) / math.sqrt(width)
    eta = 0.5
    y, _ = delta_rule(q, k, v, eta)

    before, memory = np.zeros_like(v), np.zeros((width, width))
    for t in range(length):
        before[t] = memory @ q[t]
        memory = delta_rule(q[t : t + 1], k[t : t + 1], v[t : t + 1], eta, memory)[1]

    halves = [slice(0, width // 2), slice(width // 2, width)]
    heads = [delta_rule(_normalised(q[:, h]), _normalised(k[:, h]), v[:, h], eta)[0] for h in halves]

    weights = (
        rng.normal(size=(width, width)) * 0.5 / math.sqrt(width),
        rng.normal(size=(width, width)) / math.sqrt(width),
    )
    perceptron, _ = titans(q, k, v, eta, 1.0, 0.0, start(*weights))
    tensors = [torch.from_numpy(array) for array in (q, k, v)]
    chunked, _ = in_chunks(tensors[0], tensors[1], tensors[2], eta, chunk_size=16)
    twins = {
        "read before the write,\nnot after it": before,
        "two heads,\nnot one": np.concatenate(heads, axis=1),
        "an MLP,\nnot a matrix": perceptron,
        "starts from a learned state,\nnot from 0": delta_rule(q, k, v, eta, learned)[0],
        "step 0.9,\nnot 0.5": delta_rule(q, k, v, 0.9)[0],
        "computed in chunks,\nnot in a loop": chunked.numpy(),
    }
    return {name: float(np.linalg.norm(y - twin) / np.linalg.norm(y)) for name, twin in twins.items()}


@figure(
    "left_open",
    alt="Bars: how far, in percent, a twin's outputs are from a plain delta rule's. An MLP instead of a "
    "matrix 157, two heads 95, a step of 0.9 instead of 0.5 80, a learned start 71, reading before the "
    "write 41; computed in chunks, 0.",
    caption="Six twins that give the same three answers. Five are other memories; only how the result is "
    "computed, in chunks or in a loop, changes nothing.",
)
def left_open(twins: dict[str, float] | None = None) -> Figure:
    """One bar a twin."""
    twins = twins or left_open_data()
    picture, axes = plt.subplots(figsize=(7.6, 3.7))
    names = sorted(twins, key=lambda name: twins[name])
    for height, name in enumerate(names):
        axes.barh(height, 100 * twins[name], color=BLUE, height=0.55)
        axes.text(100 * twins[name] + 2, height, f"{100 * twins[name]:.0f} %", va="center")
    axes.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 182))
    axes.set_xlabel("distance from the outputs of the plain delta rule (%)")
    axes.set_title("Same context, same frequency, same rule")
    axes.grid(axis="y", visible=False)
    return picture
