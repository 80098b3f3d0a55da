"""Figures of notebook 10: one chunk step by step, and what a trained model makes of its own targets."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.laboratory.stability import random_stream
from hope_ref.reference import hope
from hope_ref.reference.activations import rms_norm
from hope_ref.reference.hope import PROJECTIONS, convolution, head_parameters, part, split
from hope_ref.reference.parameters import random_parameters
from hope_ref.reference.self_modifying_titans import (
    State,
    answer,
    associations,
    at_boundary,
    generate,
    initial_state,
    of,
    self_modifying_titans,
    write_all,
)
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, ORANGE, SKY, VERMILION, figure
from hope_ref.training.evaluation import SHIPPED, trained

Arrays = dict[str, Array]

# --- one chunk --------------------------------------------------------------------------------------------------------

SOURCES = ("boundary", "moving", "start")  # the copy at b(t), the state W_{t-1}, the parameter W_0
MADE = ("q", "k", "v", "η", "α", "v̂", "φ, u", "W", "o")


class Chunk(NamedTuple):
    """What figure ``one_chunk`` shows, of one token in the middle of a chunk."""

    reads: dict[str, dict[str, bool]]  # quantity -> source -> does it change when that source is changed?
    size: int


def one_chunk_data(size: int = 4, width: int = 5) -> Chunk:
    """Change one source of a token at a time, in every memory, and look what comes out differently."""
    config = HopeConfig(width=width, memory_chunk_size=size, projection_chunk_size=size)
    parameters = random_parameters(config, width, width, 0)
    x = random_stream(size + size // 2 + 1, width, 0)
    seen = x[:-1]
    _, state = self_modifying_titans(seen, seen, seen, parameters, config)  # half a chunk open
    rng = np.random.default_rng(0)

    def shaken(arrays: Arrays, which: bool) -> Arrays:
        weights = {name for name in arrays if name in state.weights}
        return {
            name: a + 0.1 * rng.normal(size=a.shape) if which and name in weights else a
            for name, a in arrays.items()
        }

    def token(source: str) -> Arrays:
        here = State(
            shaken(state.weights, source == "moving"),
            shaken(state.boundary, source == "boundary"),
            {},
            state.position,
        )
        return _made(x[-1], shaken(parameters, source == "start"), config, here)

    plain = token("")
    changed = {source: token(source) for source in SOURCES}
    reads = {
        name: {source: not np.array_equal(changed[source][name], plain[name]) for source in SOURCES}
        for name in MADE
    }
    return Chunk(reads, size)


def _made(x: Array, parameters: Arrays, config: HopeConfig, state: State) -> Arrays:
    """All that one token makes, each as one flat array."""
    frozen = at_boundary(state, config)
    made = generate(x, x, x, parameters, config, frozen)
    weights, _ = write_all(made, parameters, config, frozen, state)
    own = {memory: of(frozen, memory, config) for memory in config.memories}
    targets = {memory: answer(own[memory], made.v) for memory in own}
    pairs = [pair for m in own for pair in associations(own[m], made.k, targets[m], config)]
    return {
        "q": made.q,
        "k": made.k,
        "v": made.v,
        "η": np.array(list(made.eta.values())),
        "α": np.array(made.alpha),
        "v̂": np.concatenate(list(targets.values())),
        "φ, u": np.concatenate([array for pair in pairs for array in pair]),
        "W": np.concatenate([weight.ravel() for weight in weights.values()]),
        "o": answer(of(weights, "memory", config), made.q, skip=False),
    }


@figure(
    "one_chunk",
    alt="Left, seven tokens in chunks of four: each makes its write from a copy of the memories, renewed at "
    "the chunk's start, and writes into a moving state. Right, a table: keys, values and gates change with "
    "the copy alone, weights and output with all.",
    caption="What a token reads to make its write comes from the copy; what it changes is in the moving "
    "state. The table is measured: a dot where changing the source changes the quantity.",
)
def one_chunk(data: Chunk | None = None) -> Figure:
    """Two chunks on a time axis, and the table of who reads what."""
    data = data or one_chunk_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(9.8, 4.0), width_ratios=(2.3, 1))
    _draw_stream(left, data.size)
    _draw_table(right, data)
    return picture


def _draw_stream(axes: Axes, size: int, tokens: int = 7) -> None:
    thin = {"arrowstyle": "-|>", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    for first in range(0, tokens, size):
        last = min(first + size, tokens) - 1
        box = FancyBboxPatch(
            (first - 0.56, 3.0), last - first + 0.86, 0.42, boxstyle="round,pad=0.04", facecolor="#DCE9F5"
        )
        box.set_edgecolor(BLUE)
        axes.add_patch(box)
        axes.text((first + last) / 2 - 0.1, 3.2, f"copy, made before token {first}", ha="center", va="center")
        up = thin | {"color": BLUE, "linewidth": 2.6}
        axes.annotate("", (first - 0.5, 2.96), (first - 0.5, 1.13), arrowprops=up)
    for t in range(tokens):
        axes.annotate("", (t, 2.5), (t, 2.96), arrowprops=thin | {"color": BLUE})
        axes.text(
            t,
            2.17,
            "k v η α\nv̂  u",
            ha="center",
            va="center",
            fontsize=10.5,
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "0.35"},
        )
        axes.annotate("", (t, 1.03), (t, 1.82), arrowprops=thin | {"color": VERMILION})
        axes.annotate("", (t + 0.37, 1), (t - 0.37, 1), arrowprops=thin | {"color": BLACK})
        axes.annotate("", (t + 0.5, 0.4), (t + 0.5, 0.87), arrowprops=thin | {"color": GREEN})
        axes.text(t + 0.5, 0.2, f"o{chr(0x2080 + t)}", ha="center", va="center", color="#00664B")
        axes.text(t, -0.22, f"token {t}", ha="center", va="center", fontsize=9.5, color="0.3")
    for seen in range(tokens + 1):
        boundary = seen % size == 0
        axes.plot(seen - 0.5, 1, marker="o", markersize=17, color="#DCE9F5" if boundary else "white")
        axes.plot(
            seen - 0.5,
            1,
            marker="o",
            markersize=17,
            markerfacecolor="none",
            color=BLUE if boundary else "0.3",
        )
        axes.text(seen - 0.5, 0.99, str(seen), ha="center", va="center", fontsize=9.5)
    for height, words, colour in (
        (3.2, "is read", BLUE),
        (1.5, "writes", "#A03000"),
        (1.0, "moving\nstate", "0.2"),
        (0.2, "outputs", "#00664B"),
    ):
        axes.text(-1.55, height, words, color=colour, va="center", fontsize=10)
    axes.set(xlim=(-1.6, tokens - 0.2), ylim=(-0.4, 3.75))
    axes.set_title("The number in a circle: tokens that this state of W has seen. C = 4", fontsize=11)
    axes.set_axis_off()


def _draw_table(axes: Axes, data: Chunk) -> None:
    heads = {"boundary": "copy", "moving": "moving\nstate", "start": "W₀"}
    for column, source in enumerate(SOURCES):
        axes.text(column, -0.95, heads[source], ha="center", va="center", fontsize=8.5)
        for row, name in enumerate(MADE):
            if data.reads[name][source]:
                axes.plot(column, row, marker="o", color=BLUE, markersize=9)
            else:
                axes.plot(column, row, marker="_", color="0.65", markersize=9)
    words = {"q": "q = unit(W_q x)", "φ, u": "φ, u of each W", "W": "W after the token", "o": "output o"}
    words |= {"k": "key k", "v": "value v", "η": "rates η", "α": "retention α", "v̂": "targets v̂"}
    for row, name in enumerate(MADE):
        axes.text(-0.7, row, words[name], ha="right", va="center", fontsize=10)
    axes.set(xlim=(-4.4, 2.5), ylim=(len(MADE) - 0.4, -1.6))
    axes.set_title("changes with …", fontsize=11, loc="right")
    axes.set_axis_off()


# --- own targets ------------------------------------------------------------------------------------------------------

# Written for this figure, in the manner of the manual that the model was trained on, so that it is the same everywhere.
PASSAGE = """The "with" statement

The "with" statement runs a block of code between two calls of a context
manager.  The first call is made before the block, the second after it,
whether the block ends in the usual way or by an exception.  If the second
call returns a true value, the exception is not raised again:

   with open(name) as file:
       for line in file:
           print(line)

A class that has the methods "__enter__()" and "__exit__()" can be used as
a context manager.  The value of the first call is bound to the name after
"as", if there is one.  See also the "try" statement.
"""


class OwnTargets(NamedTuple):
    """What figure ``own_targets`` shows, of the shipped model on text that it was not trained on."""

    errors: dict[str, Array]  # by memory: ‖M(k_t) - v̂_t‖ at the boundary, (blocks · heads, T)
    alpha: Array  # the retention, (blocks · heads, T)
    blank: npt.NDArray[np.bool_]  # whether the byte is a blank or a new line, (T,)


@lru_cache(maxsize=1)
def own_targets_data(tokens: int = 512) -> OwnTargets:
    """The shipped model, weights as float64, reads `PASSAGE` through the NumPy floor."""
    model = trained(SHIPPED, "cpu").model
    config, parameters = model.config, model.to_reference()
    read = PASSAGE[:tokens]  # ASCII: a byte a character
    x = parameters["embedding"][np.array(list(read.encode()))]  # (T, d)
    found = []
    for index in range(len(model.blocks)):
        own = part(parameters, f"blocks.{index}")
        before = hope.initial_state(parameters, config).blocks[index]
        views = _views(x, own, config)
        for head in range(config.heads):
            found.append(_followed([v[:, head] for v in views], head_parameters(own, head, config), config))
        if index + 1 < len(model.blocks):  # nobody reads what the last one says
            x, _ = hope.block(x, own, config, before)
    errors = {memory: np.array([one[0][memory] for one in found]) for memory in config.memories}
    blank = np.array([character in " \n" for character in read])
    return OwnTargets(errors, np.array([one[1] for one in found]), blank)


def _views(x: Array, own: Arrays, config: HopeConfig) -> list[Array]:
    """Key, value and query view of every token, from a fresh state, (T, heads, d / heads) each."""
    n, found = rms_norm(x, own["norm"]), []
    empty = np.zeros((config.convolution_width - 1, config.width))
    for projection, kernel in zip(PROJECTIONS, ("conv_key", "conv_value", "conv_query"), strict=True):
        view, _ = convolution(n @ own[projection].T, own[kernel], empty)
        found.append(split(view, config.heads))
    return found


def _followed(
    views: list[Array], parameters: Arrays, config: HopeConfig
) -> tuple[dict[str, list[float]], list[float]]:
    """Inner errors by memory, and the retention, token by token, of one head."""
    state, alpha = initial_state(parameters, config), []
    errors: dict[str, list[float]] = {memory: [] for memory in config.memories}
    for t in range(len(views[0])):
        frozen = at_boundary(state, config)
        made = generate(views[0][t], views[1][t], views[2][t], parameters, config, frozen)
        for memory, along in errors.items():
            own = of(frozen, memory, config)
            along.append(float(np.linalg.norm(answer(own, made.k) - answer(own, made.v))))
        weights, momentum = write_all(made, parameters, config, frozen, state)
        state = State(weights, frozen, momentum, state.position + 1)
        alpha.append(made.alpha)
    return errors, alpha


def stretches(values: Array, size: int = 32) -> Array:
    """Means over heads and over stretches of tokens; values (heads, T)."""
    return np.asarray(values.mean(axis=0).reshape(-1, size).mean(axis=1))


@figure(
    "own_targets",
    alt="Left, distance of five memories' answers from the targets that they make, over 512 bytes: it falls "
    "along the stream, most for the memory of α. Right, retention of one head under each byte of a "
    "sentence: near 0 under blanks, high under most letters.",
    caption="The targets are hardest at the beginning and become easier; and one head of the trained model "
    "empties its memory at the end of every word.",
)
def own_targets(data: OwnTargets | None = None) -> Figure:
    """Inner errors over the stream, and the retention that a head makes."""
    data = data or own_targets_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(9.8, 3.7), width_ratios=(1, 1.35))
    styles = (
        (BLUE, "-", "o"),
        (SKY, "--", "s"),
        (ORANGE, "-.", "^"),
        (VERMILION, "-", "D"),
        (BLACK, ":", "v"),
    )
    for (memory, errors), (colour, line, marker) in zip(data.errors.items(), styles, strict=True):
        mean = stretches(errors)
        middle = 16 + 32 * np.arange(len(mean))
        left.plot(middle, mean, color=colour, linestyle=line, marker=marker, markersize=4.5)
        words = {"k": "M_k", "eta": "M_η, M_v", "alpha": "M_α", "memory": "M_memory"}.get(memory, "")
        tone = "#8A5A00" if colour == ORANGE else colour
        left.text(4, mean[0], words, color=tone, ha="right", va="center")
    left.set(xlabel="token", ylabel="mean ‖M(k) − v̂‖", xlim=(-190, 512), ylim=(0.9, None))
    left.set_xticks(range(0, 513, 128))
    left.set_title("How far from its own target")
    first = PASSAGE.index('The "with" statement runs')
    shown = np.arange(first, first + 52)
    right.bar(shown, data.alpha[0, shown], color=BLUE, width=0.75)
    for t in shown[data.blank[shown]]:
        right.axvspan(t - 0.5, t + 0.5, color="0.88", zorder=0)
    right.set_xticks(shown, [PASSAGE[t] for t in shown], fontfamily="monospace", fontsize=9)
    right.tick_params(axis="x", length=0)
    right.set(ylabel="retention α", xlim=(shown[0] - 0.7, shown[-1] + 0.7), ylim=(0, 1.05))
    right.grid(axis="x", visible=False)
    right.set_title("How much of `memory` one head keeps at this byte")
    return picture
